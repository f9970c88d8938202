-- The plan of a run's memory (moonbow/report/memory.lua) beside what the engine measures of the same run, on the CPU and,
-- in bf16 too, on the CUDA device; and scripts/train_gpt2.lua when a run does not fit.
local helper = require "tests.helper"
local mb = require "moonbow"
local plan = require "moonbow.report.memory"
local runner = require "tests.smoke.runner"

local MIB = 2 ^ 20

-- Most bytes that a few steps of a run have had at once, without the work memory of operations; with s.graphs as graphs, those of
-- scripts/train_gpt2.lua.
local function measured(s)
  mb.collect()
  mb.memory_trim()
  local before = mb.memory(helper.device).bytes_live
  local model = mb.models[s.model] {
    vocab_size = s.vocab_size, block_size = s.block_size, n_layer = s.n_layer, n_head = s.n_head, n_embd = s.n_embd,
    dropout = s.dropout, dtype = s.dtype, seed = 1,
    head_chunks = s.head_chunks, recompute = s.recompute,
  }
  local optimizer = s.optimizer and mb.optim[s.optimizer](model) or s.states == 2 and mb.optim.adamw(model)
    or mb.optim.sgd(model, { momentum = 0.9 })
  local clip = s.clip == "none" and mb.clip.norm { max_norm = math.huge }
    or mb.clip.spectral { threshold = 0.01, method = s.method, on = s.clip_on }
  local rows = {}
  for b = 1, s.batch_size do
    rows[b] = {}
    for t = 1, s.block_size do rows[b][t] = (31 * b + 7 * t) % s.vocab_size end
  end
  local ids = mb.ids(rows)
  mb.collect()
  mb.memory_reset_peak()
  local function wrap(fn) return s.graphs and mb.graph(fn) or fn end
  local gradient = wrap(function(batch)
    local loss = model:loss(batch)
    loss:backward()
    return loss
  end)
  local update = wrap(function() return optimizer:step(clip) end)
  for _ = 1, s.graphs and 4 or 2 do
    optimizer:zero_grad()
    mb.scope(function() gradient { inputs = ids, targets = ids } end)
    if s.graph_of_sums then mb.scope(function() gradient { inputs = ids, targets = ids } end) end
    update()
  end
  if s.graphs then assert.is_true(gradient:graphs() > 0) end
  local memory = mb.memory(helper.device)
  return memory.bytes_peak - memory.bytes_scratch - before
end

local function case(changes)
  local s = { model = "gpt2", vocab_size = 65, block_size = 128, batch_size = 4, n_layer = 2, n_head = 4, n_embd = 256,
              dropout = 0, dtype = "f32", states = 2, clip = "none", clip_on = "grad", method = "randomized",
              rank = 8, oversample = 5 }
  for name, value in pairs(changes) do s[name] = value end
  return s
end

describe("the plan of a run's memory is within 5 % of what is measured", function()
  local cases = {
    ["small vocabulary"] = {},
    ["dropout"] = { dropout = 0.1 },
    ["more layers"] = { n_layer = 5, batch_size = 3 },
    ["the modern GPT"] = { model = "gpt_modern", n_layer = 3, clip = "spectral" },
    ["the modern GPT, dropout"] = { model = "gpt_modern", dropout = 0.1, vocab_size = 3000 },
    ["large vocabulary"] = { vocab_size = 6000, batch_size = 2 },
    ["many tokens"] = { batch_size = 12, n_embd = 128 },
    ["few tokens"] = { block_size = 32, batch_size = 1, vocab_size = 4000 },
    ["a head in chunks"] = { vocab_size = 6000, batch_size = 4, head_chunks = 5 },
    ["a head in many chunks, dropout"] = { vocab_size = 3000, batch_size = 6, n_embd = 64, head_chunks = 64, dropout = 0.1 },
    ["the modern GPT, a head in chunks"] = { model = "gpt_modern", vocab_size = 5000, head_chunks = 4 },
    ["GELUs again, a head in chunks"] = { vocab_size = 2000, recompute = true, head_chunks = 2 },
    ["sgd"] = { states = 1 },
    ["spectral"] = { clip = "spectral" },
    ["exact"] = { clip = "spectral", method = "exact" },
    ["polar of momenta"] = { clip = "spectral", method = "polar", clip_on = "momentum", states = 1, n_layer = 3 },
    ["soft, few tokens"] = { clip = "spectral", method = "soft", block_size = 16, n_layer = 4 },
  }
  if helper.device == "cuda" then -- on the host, kernels of the device are slow: fewer
    cases = {
      ["small vocabulary"] = {},
      ["large vocabulary"] = { vocab_size = 3000, batch_size = 1 },
      ["bf16"] = { dtype = "bf16" },
      ["bf16, a head in chunks"] = { dtype = "bf16", vocab_size = 3000, batch_size = 2, head_chunks = 4 },
      ["bf16, GELUs kept, a head in chunks"] = { dtype = "bf16", vocab_size = 3000, batch_size = 2, head_chunks = 3,
        recompute = false },
      ["bf16, few tokens"] = { dtype = "bf16", block_size = 32, batch_size = 1, vocab_size = 3000 },
      ["bf16, large vocabulary"] = { dtype = "bf16", vocab_size = 3000, batch_size = 3, dropout = 0.1 },
    }
  end
  for name, changes in pairs(cases) do
    it(name, function()
      local s = case(changes)
      local needs = plan.needs(s, helper.device)
      local expected = needs.total
      for _, part in ipairs(needs.parts) do
        if part.name == "work memory" then expected = expected - part.bytes end
      end
      local got = measured(s)
      assert(math.abs(expected / got - 1) < 0.05, ("%.3f MiB planned, %.3f measured: %.3f"):format(expected / MIB, got / MIB,
        expected / got))
    end)
  end
end)

-- Blocks are used again for their own size alone, which may be that of the logits: then less is kept.
describe("the plan of a run with graphs is what they keep at most, and up to 5 % more", function()
  if helper.device == "cpu" then return end
  local cases = {
    ["small vocabulary"] = { n_layer = 1, batch_size = 2 },
    ["bf16"] = { dtype = "bf16", block_size = 48, batch_size = 3, n_embd = 192, vocab_size = 900 },
    ["the modern GPT, a head in chunks"] = { model = "gpt_modern", n_layer = 1, batch_size = 2, vocab_size = 1500,
      head_chunks = 3 },
    ["sums of gradients, dropout, sgd"] = { n_layer = 1, batch_size = 2, dropout = 0.1, states = 1, graph_of_sums = true },
    ["spectral"] = { clip = "spectral", n_layer = 1, batch_size = 2 },
    ["muon"] = { optimizer = "muon", n_layer = 1, batch_size = 2 },
    ["logits of a size that is needed again"] = { vocab_size = 1024, n_layer = 1, batch_size = 2 },
  }
  for name, changes in pairs(cases) do
    it(name, function()
      local s = case(changes)
      s.graphs = true
      local expected = 0
      for _, part in ipairs(plan.needs(s, "cuda").parts) do
        if part.name ~= "work memory" then expected = expected + part.bytes end
      end
      local got = measured(s)
      local most = name:find "^logits" and 1.1 or 1.05
      assert(expected >= got and expected <= most * got, ("%.3f MiB planned, %.3f measured: %.3f"):format(expected / MIB,
        got / MIB, expected / got))
    end)
  end
end)

describe("the plan's advice", function()
  local s = case { vocab_size = 50257, block_size = 1024, batch_size = 64, n_layer = 12, n_head = 12, n_embd = 768 }

  local function followed_by(changes)
    local changed = {}
    for name, value in pairs(s) do changed[name] = value end
    for name, value in pairs(changes) do changed[name] = value end
    return changed
  end

  -- The needs with what a line of advice says.
  local function followed(line)
    local changed = {}
    for name, value in pairs(s) do changed[name] = value end
    for name, value in line:gmatch "%-%-([%w_]+) ([%w]+)" do changed[name] = tonumber(value) or value end
    return plan.needs(changed, "cuda").total, changed
  end

  it("fits when it is followed, and the batch is the largest that does", function()
    local free = 24 * 2 ^ 30
    assert.is_true(plan.needs(s, "cuda").total > free)
    local lines = plan.advice(s, "cuda", free, 2)
    assert.is_true(#lines >= 2)
    for _, line in ipairs(lines) do assert.is_true(followed(line) <= free, line) end
    local _, changed = followed(lines[1])
    assert.is_true(changed.batch_size * changed.grad_accum >= 64 * 2)
    assert.is_true(followed(("--batch_size %d"):format(changed.batch_size + 1)) > free)
  end)

  -- GPT-2 at 64 x 1024: 64 * 12 matrices of 2 MiB are 1.5 GiB; a quarter of them is what 400 MiB hold.
  it("counts what cuDNN's attention works with, in slices", function()
    local without = plan.needs(followed_by { dtype = "bf16" }, "cuda").total
    local fixed = plan.needs(followed_by { dtype = "bf16", cudnn = "fixed order" }, "cuda").total
    local any = plan.needs(followed_by { dtype = "bf16", cudnn = "any order" }, "cuda").total
    assert.are.equal(384 * MIB + 16 * 12 * 1024 * 4, fixed - without)
    assert.are.equal(64 * 1024 * (12 + 768) * 4, any - without)
    assert.are.equal(plan.needs(s, "cuda").total, plan.needs(followed_by { cudnn = "any order" }, "cuda").total)
  end)

  it("names the fewest chunks of the head with which the run fits", function()
    local half = followed_by { dtype = "bf16" }
    local whole, four = plan.needs(half, "cuda").total, plan.needs(followed_by { dtype = "bf16", head_chunks = 4 }, "cuda").total
    local chunks
    for _, line in ipairs(plan.advice(half, "cuda", four, 1)) do
      chunks = chunks or tonumber(line:match "^%-%-head_chunks (%d+): ")
    end
    assert.are.equal(4, chunks)
    -- A quarter of the logits, and both gradients of the head at once, of which dx was there before too.
    assert.is_true(math.abs(whole - four - (0.75 * 64 * 1024 * 50304 * 2 - 4 * 50257 * 768)) < 2 ^ 20)
  end)

  it("names GELUs computed again where they are kept and the run fits with them", function()
    local kept = case { batch_size = 64, block_size = 256 }
    local again = plan.needs(case { batch_size = 64, block_size = 256, recompute = true }, "cpu").total
    local function named(needs, free)
      return table.concat(plan.advice(needs, "cpu", free, 1), "\n"):find("--recompute on: ", 1, true) ~= nil
    end
    -- 4 C of a block's 16 C numbers a token.
    assert.are.equal(2 * 4 * 64 * 256 * 256 * 4, plan.needs(kept, "cpu").total - again)
    assert.is_true(named(kept, again))
    assert.is_false(named(kept, again - 1))
    assert.is_false(named(case { batch_size = 64, block_size = 256, model = "gpt_modern" }, 2 ^ 50))
    assert.is_false(named(case { batch_size = 64, block_size = 256, recompute = true }, 2 ^ 50))
    assert.is_false(named(case { batch_size = 64, block_size = 256, dtype = "bf16" }, 2 ^ 50))
  end)

  it("names a smaller model when nothing else helps", function()
    local lines = plan.advice(s, "cuda", 2 ^ 20, 1)
    assert.are.equal(1, #lines)
    assert.matches("a smaller model", lines[1], 1, true)
  end)

  it("counts GPT-2's parameters as they are", function()
    local model = mb.models.gpt2 { vocab_size = 65, block_size = 32, n_layer = 3, n_head = 2, n_embd = 24, device = "cpu" }
    local count = 0
    for _, p in ipairs(model:parameters()) do count = count + p.value.numel end
    assert.are.equal(count, plan.needs(case { block_size = 32, n_layer = 3, n_embd = 24 }, "cpu").weights)
  end)
end)

describe("train_gpt2.lua", function()
  teardown(runner.clean)
  local device = helper.device

  local function train(limit, arguments)
    local command = "MOONBOW_MEMORY_LIMIT=%s luajit '%s/scripts/train_gpt2.lua' --plain --device %s --sample_tokens 0 %s"
    return runner.shell(command:format(limit, runner.root, device, arguments))
  end

  it("prints the plan with --memory and writes nothing", function()
    local out = runner.folder() .. "/run"
    local code, said, complaint = train("4G", ("--memory --out '%s'"):format(out))
    assert.are.equal(0, code, complaint)
    for _, part in ipairs { "weights", "gradients", "states of the optimizer (2)", "activations of 4 layers", "in all",
      "of 4.00 GiB" } do
      assert.is_truthy(said:find(part, 1, true), said)
    end
    assert.are.equal("none", mb.system.path_kind(out))
  end)

  it("plans with --recompute", function()
    local bytes = {}
    for _, how in ipairs { "auto", "on", "off" } do
      local _, said = train("4G", "--memory --recompute " .. how)
      bytes[how] = tonumber(said:match "activations of 4 layers%s+([%d.]+) MiB")
    end
    -- 16, 12 and 16 C numbers of a token and a block, 2 C after the blocks.
    assert.is_true(math.abs(bytes.on / bytes.off - (4 * 12 + 2) / (4 * 16 + 2)) < 0.02, ("%g of %g"):format(bytes.on, bytes.off))
    assert.are.equal(bytes.auto, bytes.off)
  end)

  it("counts what graphs keep, if there are any, and has none where they would not fit", function()
    if device == "cpu" then return end
    local common = "--n_layer 1 --n_embd 64 --block_size 32 --batch_size 4 --clip norm "
    local function total(arguments)
      local _, said = train("4G", "--memory " .. common .. arguments)
      return tonumber(said:match "in all +([%d.]+) MiB"), said
    end
    local auto, said = total ""
    local off, other = total "--graph off"
    assert.is_true(auto > off)
    assert.matches("kept for graphs, at most", said, 1, true)
    assert.is_falsy(other:find("kept for graphs", 1, true))
    assert.are.equal(auto, (total "--graph on"))
    local limit = ("%dK"):format((auto + off) / 2 * 1024)
    local out = runner.folder() .. "/run"
    local rest = ("--steps 4 --eval_iters 1 --out '%s' "):format(out)
    local code, text, complaint = train(limit, common .. rest)
    assert.are.equal(0, code, text .. complaint)
    assert.matches("graphs  none: with them the run may need", text, 1, true)
    assert.is_falsy(text:find("from step 3 on", 1, true))
    code, text, complaint = train(limit, "--graph on " .. common .. rest:gsub("/run'", "/other'"))
    assert.are.equal(1, code, text)
    assert.matches("the run needs", complaint, 1, true)
    assert.matches("\n  --graph off: ", text, 1, true)
    code, text, complaint = train("4G", common .. rest:gsub("/run'", "/third'"))
    assert.are.equal(0, code, text .. complaint)
    assert.matches("graphs  clipping and update: 1, from step 3 on", text, 1, true)
  end)

  it("stops before anything is written when the run does not fit, and fits with its advice", function()
    local out = runner.folder() .. "/run"
    local common = ("--n_layer 1 --n_embd 64 --block_size 32 --steps 1 --eval_iters 1 --out '%s' "):format(out)
    local limit = device == "cuda" and "46M" or "14M"
    local code, said, complaint = train(limit, common .. "--batch_size 300")
    assert.are.equal(1, code, said)
    assert.matches("^train_gpt2: the run needs [%d.]+ MiB of memory, %w+ has [%d.]+ MiB free; nothing was written\n$", complaint)
    assert.are.equal("none", mb.system.path_kind(out))
    local smaller = said:match "(%-%-batch_size %d+ %-%-grad_accum %d+)"
    assert.is_truthy(smaller, said)
    code, said, complaint = train(limit, common .. smaller .. " --head_chunks 3 --recompute on")
    assert.are.equal(0, code, said .. complaint)
    assert.matches("\nhead    in 3 chunks: logits of %d+ tokens at once\n", said)
  end)
end)
