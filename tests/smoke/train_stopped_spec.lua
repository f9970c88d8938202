-- SPDX-License-Identifier: MIT
--
-- train_stopped_spec.lua: what is left of a run of scripts/train_gpt2.lua that did not end by itself: interrupted in an
-- evaluation, or by an error in the script, in a policy of one's own, or in the update.

local runner = require "tests.smoke.runner"

local small = "--plain --n_layer 1 --n_head 2 --n_embd 16 --block_size 16 --batch_size 4 --sample_tokens 8 --warmup 2 "
  .. "--schedule const "

-- Losses and validation losses by step, and how many samples there are.
local function made(folder)
  local result = { loss = {}, val_loss = {}, samples = {} }
  for _, record in ipairs(runner.records(folder .. "/log.jsonl")) do
    if record.loss then result.loss[record.step] = record.loss end
    if record.val_loss then
      assert.is_nil(result.val_loss[record.step])
      result.val_loss[record.step] = record.val_loss
    end
    if record.sample then table.insert(result.samples, record.sample) end
  end
  return result
end

describe("train_gpt2.lua stopped", function()
  local text

  setup(function() text = runner.corpus(runner.folder() .. "/text", 6000) end)
  teardown(runner.clean)

  describe("in an evaluation", function()
    -- A run that gets SIGTERM when its log, or its folder, says that an evaluation goes on.
    local function stopped(out, arguments, is_there)
      return runner.shell(([[cd '%s'; luajit scripts/train_gpt2.lua %s --data '%s' --out '%s' --eval_iters 100000000 %s & pid=$!
        for i in $(seq 400); do %s && break; sleep 0.05; done; sleep 0.2; kill -TERM $pid; wait $pid]]):format(runner.root, small,
        text, out, arguments, is_there))
    end

    for what, arguments in pairs { ["at the end"] = "--steps 5", ["on the way"] = "--steps 5 --eval_every 3 --sample_every 3" } do
      it(what .. " ends at once, and a resumed run makes it", function()
        local out, whole = runner.folder() .. "/run", runner.folder() .. "/whole"
        local last = what == "at the end" and 5 or 3
        local code, said, complaint = stopped(out, arguments, ("grep -q '\"step\":%d,.*\"loss\"' '%s/log.jsonl' 2>/dev/null")
          :format(last, out))
        assert.are.equal(130, code, said .. complaint)
        for _, part in ipairs { ("interrupted, step %d goes without its validation loss; a resumed run makes it"):format(last),
          ("interrupted after step %d; continue with --resume"):format(last) } do
          assert.is_truthy(said:find(part, 1, true), said)
        end
        assert.are.same({ {}, {} }, { made(out).val_loss, made(out).samples })
        code, said, complaint = runner.script("train_gpt2", ("--plain --resume '%s' --eval_iters 2"):format(out))
        assert.are.equal(0, code, said .. complaint)
        assert.are.equal(0, (runner.script("train_gpt2", small .. ("--data '%s' --out '%s' --eval_iters 2 %s")
          :format(text, whole, arguments))))
        assert.are.same(made(whole), made(out))
        local log = runner.read(out .. "/log.jsonl")
        code, said, complaint = runner.script("train_gpt2", ("--plain --resume '%s' --eval_iters 2"):format(out))
        assert.are.equal(0, code, said .. complaint)
        assert.is_truthy(said:find("nothing to do: the run already has 5 steps", 1, true), said)
        assert.are.equal(log, runner.read(out .. "/log.jsonl"))
      end)
    end
  end)

  describe("by an error", function()
    local policy = [[
      local clip = mb.clip.spectral { method = "exact", threshold = function(p)
        p.state.mean = 0.9 * (p.state.mean or p.sigma) + 0.1 * p.sigma
        TROUBLE
        return p.state.mean
      end }]]

    -- A script of one's own: train_gpt2.lua with other lines in the place of some.
    local function script(lines)
      local path = runner.folder() .. "/own.lua"
      local source = runner.read(runner.root .. "/scripts/train_gpt2.lua")
      lines['(arg[0] or ""):match("^(.*)/[^/]*$") or "."'] = ("%q"):format(runner.root .. "/scripts")
      for old, new in pairs(lines) do
        local from, to = source:find(old, 1, true)
        assert(from, old)
        source = source:sub(1, from - 1) .. new .. source:sub(to + 1)
      end
      local file = assert(io.open(path, "w"))
      file:write(source)
      file:close()
      return path
    end

    local function with_policy(trouble)
      return { ["local clip = run.clip(settings)"] = (policy:gsub("TROUBLE", function() return trouble end)) }
    end

    local function train(path, arguments) return runner.shell(("luajit '%s' %s"):format(path, arguments)) end

    local function fresh(out, more)
      return ("%s --data '%s' --eval_iters 2 --steps 6 --out '%s' %s"):format(small, text, out, more or "")
    end

    local after_backward = "    if job:is_finite(loss) then"
    local cases = {
      ["in a policy of one's own"] = { with_policy 'if p.step == 3 and p.name:find "c_proj" then error "no idea" end',
        "no idea", 3 },
      ["in the loop, before the update"] = {
        { [after_backward] = "if step == 5 then error 'out of ideas' end\n" .. after_backward }, "out of ideas", 4 },
      ["in the loop, after the update"] = {
        { ["job:log(loss, report)"] = "job:log(loss, report)\nlocal x = step == 5 and nil .. 1" },
        "attempt to concatenate a nil value", 5 },
      ["for want of memory"] = {
        { [after_backward] = "if step == 3 then mb.memory_budget(mb.memory().bytes_live + 2 ^ 16) mb.zeros(1e6) end\n"
          .. after_backward }, "out of memory", 2 },
    }
    for what, case in pairs(cases) do
      it(what .. " costs no other step", function()
        local lines, problem, last = unpack(case)
        local bad = script(lines)
        local good = what:find "policy" and script(with_policy "") or runner.root .. "/scripts/train_gpt2.lua"
        local out, whole = runner.folder() .. "/run", runner.folder() .. "/whole"
        local code, said, complaint = train(bad, fresh(out, "--dropout 0.1"))
        assert.are.equal(1, code, said .. complaint)
        local first, second, third = complaint:match "^([^\n]*)\n([^\n]*)\n(.*)$"
        assert.is_truthy(first:find("train_gpt2: ", 1, true) == 1 and first:find(problem, 1, true), complaint)
        assert.are.equal(("train_gpt2: the state after step %d is in %s/step_%08d, continue with --resume %s"):format(last, out,
          last, out), second)
        assert.are.equal("", third)
        code, said, complaint = train(good, ("--plain --resume '%s'"):format(out))
        assert.are.equal(0, code, said .. complaint)
        assert.are.equal(0, (train(good, fresh(whole, "--dropout 0.1"))))
        assert.are.same(made(whole), made(out))
      end)
    end

    local function nothing_saved(lines, arguments, ...)
      local out = runner.folder() .. "/run"
      local code, said, complaint = train(script(lines), fresh(out, arguments))
      assert.are.equal(1, code, said .. complaint)
      for _, part in ipairs { ... } do assert.is_truthy(complaint:find(part, 1, true), complaint) end
      assert.is_nil(complaint:find("the state after", 1, true), complaint)
      assert.are_not.equal(0, os.execute(("ls -d '%s'/step_* >/dev/null 2>&1"):format(out)))
      return out
    end

    it("is one of the gradient where that is the optimizer's state: nothing is saved, exit code 3", function()
      local path = script { [after_backward] = "if step == 3 then model:parameters()[1].grad:fill_(0 / 0) end\n"
        .. after_backward }
      local code, _, complaint = train(path, fresh(runner.folder() .. "/run", "--optimizer scion_light --clip none"))
      assert.are.equal("train_gpt2: step 3: the gradient of wte.weight is not finite; nothing was updated, there is no "
        .. "checkpoint\n", complaint)
      assert.are.equal(3, code)
    end)

    it("within the update saves nothing", function()
      local step = "local report = update()"
      nothing_saved({ [step] = "if step == 3 then optimizer.runs[1].run = function() error 'half' end end\n" .. step }, "",
        "half", "\ntrain_gpt2: step 3 failed within its update, nothing was saved; there is no checkpoint\n")
      nothing_saved({ [after_backward] = "if step == 2 then error 'here' end\n" .. after_backward },
        "--optimizer scion_light --clip none", "here", "which failed, are in the optimizer's state, nothing was saved")
    end)

    it("of a policy whose state no checkpoint can hold is found in the first step", function()
      local out = nothing_saved(with_policy "p.state.f = print", "", "checkpoint.save: clip: states.",
        ".f is a function, which cannot be saved")
      assert.are.same({}, made(out).loss)
      nothing_saved(with_policy "p.state.me = p.state", "", "checkpoint.save: clip: states.", ".me contains itself")
    end)
  end)
end)
