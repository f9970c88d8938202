-- SPDX-License-Identifier: MIT
--
-- resume_spec.lua: runs that go on although something around them has changed: the project's own files, which are their text,
-- or the file of their threshold policy; and runs of a user's own script.

local runner = require "tests.smoke.runner"
local scratch = require "tests.scratch"
local system = require "bindings.system"

local small = "--plain --quiet --n_layer 1 --n_head 2 --n_embd 16 --block_size 16 --batch_size 2 --sample_tokens 0 "
  .. "--eval_iters 1 --warmup 0 --schedule const "

local POLICY = "return function(p)\n  p.state.bar = 0.9 * (p.state.bar or p.sigma) + 0.1 * p.sigma\n  return p.state.bar\nend\n"

-- A checkout of few files, to change.
local function checkout()
  local folder, root = runner.folder(), system.absolute(runner.root)
  os.execute(("cd '%s' && cp -r bindings lua models scripts '%s' && mkdir '%s/engine' && cp -r engine/include '%s/engine'")
    :format(root, folder, folder, folder))
  return folder
end

-- Runs a script of a checkout in its folder.
local function script(folder, name, arguments)
  local lib = system.absolute(require("bindings.load").path)
  return runner.shell(("cd '%s' && unset MOONBOW_ROOT LUA_PATH && export MOONBOW_LIB='%s' && luajit scripts/%s.lua %s")
    :format(folder, lib, name, arguments))
end

local function ok(...)
  local code, said, complaint = script(...)
  assert.are.equal(0, code, complaint)
  return said .. complaint
end

local function refused(part, ...)
  local code, _, complaint = script(...)
  assert.are.equal(1, code, complaint)
  assert.is_truthy(complaint:find(part, 1, true), complaint)
  assert.are.equal(1, select(2, complaint:gsub("\n", "")), complaint)
end

describe("a run on the project's own text", function()
  after_each(runner.clean)

  it("goes on after an edit of the project's files, as its folder keeps the text", function()
    local here = checkout()
    ok(here, "train_gpt2", small .. "--steps 5 --out whole")
    ok(here, "train_gpt2", small .. "--steps 3 --out part")
    scratch.write(here .. "/lua/more.lua", "-- a character that is new: \206\191\n")
    ok(here, "train_gpt2", "--resume part --steps 5 --quiet")
    assert.are.same(runner.losses(here .. "/whole"), runner.losses(here .. "/part"))
    for _, folder in ipairs { "part", "part/step_00000005", "part/step_00000003" } do
      if system.path_kind(here .. "/" .. folder) == "folder" then
        local said = ok(here, "repl", ("--no_history '%s' < /dev/null"):format(folder))
        assert.is_truthy(said:find("after step", 1, true), said)
      end
    end
    os.execute(("mv '%s/part' '%s/moved'"):format(here, here))
    scratch.write(here .. "/typed", "optimizer.updates\n")
    local shown = ok(here, "repl", "moved < typed")
    assert.is_truthy(shown:find("\n5\n", 1, true), shown)
    ok(here, "train_gpt2", "--resume moved --steps 6 --quiet")
    ok(here, "sample", "moved --tokens 3")
  end)

  it("says what has changed where the folder keeps none", function()
    local here = checkout()
    ok(here, "train_gpt2", small .. "--steps 2 --out run")
    os.remove(here .. "/run/corpus.txt")
    ok(here, "train_gpt2", "--resume run --steps 3 --quiet") -- the same files: the text is kept again
    assert.are.equal("file", system.path_kind(here .. "/run/corpus.txt"))
    os.remove(here .. "/run/corpus.txt")
    scratch.write(here .. "/lua/more.lua", "-- \206\191\n")
    refused("'run': the run's text is the project's own files, and they have changed since (an edit, or git pull)", here,
      "train_gpt2", "--resume run --steps 4")
  end)

  it("does not read what an earlier try left in its folder", function()
    local here = checkout()
    os.execute(("mkdir '%s/run'"):format(here))
    runner.corpus(here .. "/run/corpus.txt", 3000)
    ok(here, "train_gpt2", small .. "--steps 1 --out run")
    assert.is_true(system.path_size(here .. "/run/corpus.txt") > 100000)
  end)
end)

describe("a threshold of one's own", function()
  local text
  before_each(function() text = runner.corpus(runner.folder() .. "/text", 4000) end)
  after_each(runner.clean)

  for _, clip in ipairs { "spectral", "norm" } do
    it("is a file, and goes on bit for bit with --clip " .. clip, function()
      local here = checkout()
      scratch.write(here .. "/bar.lua", POLICY)
      local common = small .. ("--data '%s' --threshold bar.lua --clip %s "):format(text, clip)
      ok(here, "train_gpt2", common .. "--steps 6 --out whole")
      ok(here, "train_gpt2", common .. "--steps 4 --out part")
      ok(here, "train_gpt2", "--resume part --steps 5 --quiet --threshold bar.lua")
      ok(here, "train_gpt2", "--resume part --steps 6 --quiet")
      assert.are.same(runner.losses(here .. "/whole"), runner.losses(here .. "/part"))
      local config = runner.records(here .. "/part/log.jsonl")[1].config
      assert.are.equal(("%s/bar.lua@%s"):format(system.absolute(here), system.sha256(POLICY):sub(1, 16)), config.threshold)
      scratch.write(here .. "/typed", "clip.threshold\nstep(1)\n")
      local said = ok(here, "repl", "--no_history part < typed")
      assert.is_truthy(said:find("\nbar.lua\n", 1, true) and said:find("step 7, loss", 1, true), said)
      scratch.write(here .. "/bar.lua", POLICY .. "-- changed\n")
      refused("/bar.lua' has changed since the run began: its SHA-256 began with ", here, "train_gpt2", "--resume part --steps 7")
      refused("the checkpoint has threshold = ", here, "train_gpt2", "--resume part --steps 7 --threshold bar.lua")
    end)
  end

  it("is refused where its file is no policy", function()
    local here = checkout()
    local function fails(part, source)
      scratch.write(here .. "/bar.lua", source)
      refused(part, here, "train_gpt2", "--threshold bar.lua --out run")
    end
    fails("bar.lua: the file returns nothing, a policy was expected", "local x = 1\n")
    fails("bar.lua: threshold is the string 'x', a number, a schedule, a policy", "return 'x'\n")
    fails("bar.lua:1: unexpected symbol near '='", "x = = 1\n")
    fails("bar.lua:1: no such luck", "error 'no such luck'\n")
    assert.are.equal("none", system.path_kind(here .. "/run"))
    local code, _, complaint = script(here, "train_gpt2", "--threshold none.lua")
    assert.are.equal(2, code)
    assert.is_truthy(complaint:find("--threshold none.lua: there is no such file", 1, true), complaint)
  end)

  it("is a script's, and the others say so", function()
    local here = checkout()
    scratch.write(here .. "/bar.lua", POLICY)
    local source = runner.read(here .. "/scripts/train_gpt2.lua")
    local mine, count = source:gsub("local clip = run%.clip%(settings%)",
      'settings.threshold = "bar"\n  local clip = mb.clip.spectral { threshold = require "bar" }')
    assert.are.equal(1, count)
    scratch.write(here .. "/scripts/mine.lua", mine)
    ok(here, "mine", small .. ("--data '%s' --steps 2 --out run"):format(text))
    ok(here, "mine", "--resume run --steps 3 --quiet")
    local note = "this run has a threshold of its own, 'bar': resume it with the script that made it (scripts/moonbow mine.lua"
    refused(note, here, "train_gpt2", "--resume run --steps 4")
    local run = require "moonbow.report.run"
    local clip, said = run.clip({ clip = "spectral", threshold = "bar" }, { own = true })
    assert.is_nil(clip)
    assert.is_truthy(said:find(note, 1, true), said)
    scratch.write(here .. "/typed", "step(1);\noptimizer.updates\n")
    said = ok(here, "repl", "run < typed")
    assert.is_truthy(said:find(note, 1, true) and said:find("\n4\n", 1, true), said)
  end)

  it("keeps its rule, where rules are written down", function()
    local here = runner.folder()
    scratch.write(here .. "/bar.lua", POLICY)
    local rule = require "moonbow.report.rule"
    local settled = rule.settled(here .. "/bar.lua")
    assert.are.equal(settled, rule.settled(settled))
    assert.are.equal(settled, rule.of(rule.threshold(settled)))
    assert.are.equal("ema:0.5", rule.of(rule.threshold "ema:0.5"))
    assert.is_nil(rule.of(function() end))
  end)
end)
