-- SPDX-License-Identifier: MIT
--
-- logs_spec.lua: what a run leaves for other programs: TensorBoard's event files agree with the log, also across a resume.

local mb = require "moonbow"
local runner = require "tests.smoke.runner"

local SMALL = "--plain --n_layer 2 --n_head 2 --n_embd 16 --block_size 16 --batch_size 2 --warmup 0 --eval_iters 1 "
  .. "--sample_tokens 0 "

local function train(arguments)
  local code, said, complaint = runner.script("train_gpt2", SMALL .. arguments)
  assert.are.equal(0, code, complaint)
  return said
end

-- The log has nine digits, event files have floats.
local function same(expected, found, what)
  assert.is_true(math.abs(found - expected) <= 2e-7 * math.abs(expected), ("%s: %.9g, %.9g"):format(what, expected, found))
end

local function event_files(folder)
  local found = {}
  for _, name in ipairs(mb.system.list(folder)) do
    if name:find "^events%.out%.tfevents%." then found[#found + 1] = folder .. "/" .. name end
  end
  return found
end

-- Scalars and histograms of a run by step, as TensorBoard keeps them: a session takes away what was there of its step and later.
local function events_of(folder)
  local scalars, histograms = {}, {}
  for _, path in ipairs(event_files(folder)) do
    local list, cut = mb.tensorboard.read(path)
    assert.is_nil(cut)
    for _, event in ipairs(list) do
      if event.session then
        for step in pairs(scalars) do
          if step >= event.step then scalars[step], histograms[step] = nil, nil end
        end
      end
      scalars[event.step], histograms[event.step] = scalars[event.step] or {}, histograms[event.step] or {}
      for tag, value in pairs(event.scalars) do scalars[event.step][tag] = value end
      for tag, value in pairs(event.histograms) do histograms[event.step][tag] = value end
    end
  end
  return scalars, histograms
end

describe("event files of a run", function()
  local folder
  before_each(function() folder = runner.folder() end)
  after_each(runner.clean)

  it("agree with its log", function()
    local run = folder .. "/run"
    train(("--steps 6 --eval_every 4 --save_every 3 --tensorboard --out '%s'"):format(run))
    train(("--steps 8 --eval_every 4 --resume '%s/step_00000003' --tensorboard"):format(run))
    assert.are.equal(2, #event_files(run))
    local scalars, histograms = events_of(run)
    local steps, matrices = 0, 0
    for _, record in ipairs(runner.records(run .. "/log.jsonl")) do
      local seen = scalars[record.step]
      if record.loss then
        steps = steps + 1
        for _, name in ipairs { "loss", "lr", "grad_norm" } do
          same(record[name], seen[name], name)
        end
        assert.is_true(seen.tokens_per_second > 0)
        same(record.clip.clipped / record.clip.matrices, seen["clip/share"], "clip/share")
        for name, row in pairs(record.clip.sigma_tau_clipped) do
          matrices = matrices + 1
          same(row[1], seen["sigma_max/" .. name], name)
          if row[2] then same(row[2], seen["tau/" .. name], name) else assert.is_nil(seen["tau/" .. name]) end
        end
      elseif record.val_loss then
        same(record.val_loss, seen.val_loss, "val_loss")
      end
    end
    assert.are.same({ 8, 8 * 26 }, { steps, matrices })
    for _, step in ipairs { 4, 8 } do
      assert.are.equal(16 * 48, histograms[step]["weights/h.1.attn.c_attn.weight"].num)
      assert.are.equal(16 * 48, histograms[step]["gradients/h.1.attn.c_attn.weight"].num)
      assert.are.equal(16, histograms[step]["spectrum_of_weights/h.1.attn.c_attn.weight"].num)
      assert.are.equal(16, histograms[step]["spectrum_of_gradients/h.1.attn.c_attn.weight"].num)
      assert.is_truthy(histograms[step]["weights/wte.weight"])
      assert.is_nil(histograms[step]["spectrum_of_weights/wte.weight"])
    end
  end)

  it("are there with other clippers, and only where they are asked for", function()
    train(("--steps 2 --clip norm --tensorboard --out '%s/norm'"):format(folder))
    train(("--steps 2 --clip none --tensorboard --out '%s/none'"):format(folder))
    train(("--steps 2 --out '%s/plain'"):format(folder))
    local scalars = events_of(folder .. "/norm")
    assert.are.equal(1, scalars[2]["clip/tau"])
    assert.is_truthy(scalars[2]["clip/share"])
    scalars = events_of(folder .. "/none")
    assert.is_truthy(scalars[2].loss)
    assert.is_nil(scalars[2]["clip/tau"])
    assert.are.same({}, event_files(folder .. "/plain"))
  end)
end)
