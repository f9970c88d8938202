-- SPDX-License-Identifier: MIT
--
-- read_spec.lua: the reader of runs: what a log holds, runs that were resumed or still go on, and files that are no logs.

local mb = require "moonbow"
local compare = require "moonbow.report.compare"
local helper = require "tests.helper"
local page = require "moonbow.report.page"
local read = require "moonbow.report.read"
local runs_page = require "moonbow.report.runs_page"
local scratch = require "tests.scratch"

describe("the reader of runs", function()
  local folder
  before_each(function() folder = scratch.folder() end)
  after_each(scratch.clean)

  local function log(text) return scratch.write(folder .. "/log.jsonl", text) end

  -- Writes records as the training script does, and reads them.
  local function written(records)
    local logger = mb.jsonl.open(folder .. "/log.jsonl")
    for _, record in ipairs(records) do logger:write(record) end
    logger:close()
    return read.run(folder)
  end

  local function says(text)
    local got = helper.error_of(read.run, folder)
    assert.is_truthy(got:find(text, 1, true), got)
    assert.is_nil(got:find "\n")
  end

  it("gives what was logged", function()
    local run = written {
      { step = 0, config = { steps = 2, seed = 5, clip = "spectral" }, build = "b", version = "v" },
      { step = 1, spectra = { of = "grad", matrices = { a = { norm = 2, exact = true, sigma = { 2, 0.5 } } } } },
      { step = 1, loss = 4.5, lr = 0.1, grad_norm = 3, time_ms = 10, tokens = 64, clip = { clipped = 1, matrices = 2,
        saturated = 0, sigma_tau_clipped = { ["h.10.a"] = { 2, 1, 1 }, ["h.9.a"] = { 0.5, false, 0 } } } },
      { step = 1, val_loss = 4.25 }, { step = 1, sample = "text" },
      { step = 2, loss = 4, time_ms = 30, tokens = 128, clip = { clipped = 0, matrices = 1,
        sigma_tau_clipped = { b = { 7, 8, 0 } } } },
      { step = 2, val_loss = 4.125 }, { step = 2, accuracy = 0.5 }, { step = 2, done = true, word = "x" },
    }
    assert.are.same({ 1, 2 }, run.steps)
    assert.are.same({ 4.5, 4 }, run.loss)
    assert.are.same({ 0.5, 0 }, run.clip_rate)
    assert.are.equal(0.1, run.lr[1])
    assert.is_true(run.lr[2] ~= run.lr[2])
    assert.are.same({ steps = { 1, 2 }, loss = { 4.25, 4.125 } }, run.val)
    assert.are.same({ "b", "h.9.a", "h.10.a" }, { run.matrices[1].name, run.matrices[2].name, run.matrices[3].name })
    local b, h = run.matrices.b, run.matrices["h.10.a"]
    assert.is_true(b.sigma[1] ~= b.sigma[1] and b.sigma[2] == 7 and b.tau[2] == 8 and #b.clipped == 2)
    assert.is_true(h.sigma[1] == 2 and h.clipped[1] == 1 and h.sigma[2] ~= h.sigma[2])
    assert.is_true(run.matrices["h.9.a"].tau[1] ~= run.matrices["h.9.a"].tau[1])
    assert.are.same({ 2, 0.5 }, run.spectra[1].matrices.a.sigma)
    assert.are.same({ { step = 1, text = "text" } }, run.samples)
    assert.are.same({ name = "accuracy", steps = { 2 }, values = { 0.5 } }, run.others[1])
    assert.are.same({ 5, "b", "v", "finished" }, { run.config.seed, run.build, run.version, run.state })
    assert.are.equal(folder:match "[^/]+$", run.name)
    assert.are.same({}, run.notes)
    local s = compare.summary(run)
    assert.are.same({ 2, 4, 4.125, 4.125, 2, 0.25 }, { s.steps, s.loss, s.val_loss, s.best, s.best_step, s.clip_rate })
    assert.are.equal((6400 + 64 / 0.03) / 2, s.tokens_per_second)
  end)

  it("knows clipping by norm, skipped steps, a stop, and numbers that are not finite", function()
    local run = written {
      { step = 0, config = { steps = 9 } }, { step = 1, loss = 1, clipped = true, tau = 2 },
      { step = 2, skipped = "the loss is nan" },
      { step = 3, loss = 0 / 0, clipped = false, grad_norm = 1 / 0 },
      { step = 4, nonfinite = "the gradient of w is not finite" },
    }
    assert.are.same({ 1, 0 }, run.clip_rate)
    assert.are.same({ { step = 2, text = "the loss is nan" } }, run.skipped)
    assert.are.same({ 1, 3 }, run.steps)
    assert.is_true(run.loss[2] ~= run.loss[2] and run.grad_norm[2] == 1 / 0 and run.tau[1] == 2)
    assert.are.equal("stopped", run.state)
    assert.are.equal(4, run.nonfinite.step)
  end)

  it("leaves out what a resumed run did anew", function()
    log('{"step":0,"config":{"steps":4}}\n{"step":1,"loss":1}\n{"step":2,"loss":2}\n{"step":3,"loss":3}\n'
      .. '{"step":3,"val_loss":9}\n')
    local file = assert(io.open(folder .. "/log.jsonl", "ab"))
    file:write '{"step":1,"config":{"steps":4,"seed":1}}\n{"step":2,"loss":22}\n{"step":3,"loss":33}\n'
    file:close()
    local run = read.run(folder)
    assert.are.same({ 1, 22, 33 }, run.loss)
    assert.are.same({}, run.val.loss)
    assert.are.equal(1, run.config.seed)
    assert.is_truthy(run.notes[1]:find("resumed after step 1, 2 later steps in the log are left out", 1, true))
    assert.is_truthy(run.notes[2]:find("3 of 4 steps are in the log", 1, true))
    assert.are.equal("unfinished", run.state)
    -- A log of another script that goes back, without a word.
    log('{"step":1,"loss":1,"clip":{"clipped":0,"matrices":1,"sigma_tau_clipped":{"w":[1,2,0]}}}\n{"step":2,"loss":2}\n'
      .. '{"step":2,"loss":3}\n')
    run = read.run(folder)
    assert.are.same({ 1, 3 }, run.loss)
    assert.are.equal(2, #run.matrices.w.sigma)
    assert.is_truthy(run.notes[1]:find("goes back to step 2, 1 later steps", 1, true))
  end)

  it("reads a run that still goes on: a line cut off, one step, none", function()
    log '{"step":0,"config":{"steps":4}}\n{"step":1,"loss":1}\n{"step":2,"lo'
    local run = read.run(folder)
    assert.are.same({ 1 }, run.loss)
    assert.is_truthy(run.notes[1]:find("line 3 is cut off", 1, true))
    log '{"step":0,"config":{"steps":4}}\n{"step":1,"loss":1}' -- whole, but for its end
    assert.are.same({ 1 }, read.run(folder).loss)
    log '{"step":0,"config":{"steps":4}}\n'
    assert.are.same({}, read.run(folder).steps)
    assert.are.equal("unfinished", read.run(folder).state)
  end)

  it("reads lines longer than its pieces, other line ends, and empty lines", function()
    local sigma = {}
    for i = 1, 200000 do sigma[i] = "0.0000123456789" end
    log('{"step":0,"config":{}}\r\n\n{"step":1,"spectra":{"matrices":{"a":{"sigma":[' .. table.concat(sigma, ",")
      .. ']}}}}\n  \n{"step":1,"loss":2}\r\n')
    local run = read.run(folder .. "/log.jsonl")
    assert.are.equal(200000, #run.spectra[1].matrices.a.sigma)
    assert.are.same({ 2 }, run.loss)
  end)

  it("names file and line of what is no log", function()
    for text, complaint in pairs {
      ["hello\nworld\n"] = "log.jsonl:1: at byte 0",
      ['{"step":1,"loss":1}\n{"step":2,"loss":\n{"step":3}\n'] = "log.jsonl:2: at byte",
      ['{"step":1,"loss":1}\n[1,2]\n'] = "log.jsonl:2: a table, not an object",
      ["null\n"] = "log.jsonl:1:", ["3\n"] = "log.jsonl:1:", ["[]\n"] = "log.jsonl:1:",
      ['{"a":1}\n'] = "log.jsonl:1: the first record has no step",
      ['{"step":-1,"loss":1}\n'] = "log.jsonl:1: step is ", ['{"step":1.5}\n'] = "log.jsonl:1: step is ",
      ['{"step":"1"}\n'] = "log.jsonl:1: step is ", ['{"step":1e300}\n'] = "log.jsonl:1: step is ",
      ['{"step":1,"loss":"low"}\n'] = "log.jsonl:1: loss is ", ['{"step":1,"loss":{}}\n'] = "log.jsonl:1: loss is ",
      ['{"step":1,"val_loss":[]}\n'] = "log.jsonl:1: val_loss is ",
      ['{"step":1,"config":3}\n'] = "log.jsonl:1: config is ",
      ['{"step":1,"sample":3}\n'] = "log.jsonl:1: sample is ",
      ['{"step":1,"loss":1,"clip":{"sigma_tau_clipped":7}}\n'] = "log.jsonl:1: clip.sigma_tau_clipped is ",
      ['{"step":1,"loss":1,"clip":{"sigma_tau_clipped":{"w":[1]}}}\n'] = "log.jsonl:1: clip.sigma_tau_clipped of 'w'",
      ['{"step":1,"loss":1,"clip":{"sigma_tau_clipped":{"w":["x",1,0]}}}\n'] = "log.jsonl:1: sigma of w is ",
      ['{"step":1,"spectra":[]}\n'] = "log.jsonl:1: spectra are not",
      ['{"step":1,"spectra":{"matrices":{"a":[]}}}\n'] = "log.jsonl:1: spectra are not",
      ['{"step":1,"spectra":{"matrices":{"a":{"sigma":["x"]}}}}\n'] = "log.jsonl:1: spectra are not",
      [""] = "the log is empty", ["\n\n"] = "the log is empty", ["\0\1\2\n"] = "log.jsonl:1: at byte 0",
    } do
      log(text)
      says(complaint)
    end
    os.remove(folder .. "/log.jsonl")
    says "the folder holds no log.jsonl"
    assert.is_truthy(helper.error_of(read.run, folder .. "/none"):find("there is no such file or folder", 1, true))
  end)

  it("takes any damage with one line, or reads on", function()
    local whole = '{"step":0,"config":{"steps":2}}\n{"step":1,"loss":1.5,"clip":{"clipped":1,"matrices":1,'
      .. '"sigma_tau_clipped":{"w":[2,1,1]}}}\n{"step":1,"val_loss":3}\n{"step":2,"skipped":"x"}\n'
      .. '{"step":2,"spectra":{"matrices":{"w":{"sigma":[1]}}}}\n'
    math.randomseed(helper.seed)
    for _ = 1, 400 do
      local at, kind = math.random(#whole), math.random(3)
      if kind == 1 then
        log(whole:sub(1, at))
      elseif kind == 2 then
        log(whole:sub(1, at - 1) .. string.char(math.random(0, 255)) .. whole:sub(at + 1))
      else
        log(whole:sub(1, math.random(at)) .. whole:sub(at))
      end
      local ok, problem = pcall(read.run, folder)
      if not ok then
        assert.is_truthy(problem:find("log.jsonl:%d+: ") or problem:find "the log is empty", problem)
      else
        assert.is_truthy(page.html(runs_page.page({ problem }, {})):find("</html>", 1, true))
      end
    end
  end)
end)

describe("groups of runs", function()
  local function run(name, config, losses)
    return { name = name, config = config, steps = { 10 }, loss = { 1 }, clip_rate = {}, time_ms = { 1 }, tokens = { 1 },
      skipped = {}, val = { steps = { 10 }, loss = losses or { 1 } } }
  end

  it("differ in nothing but seeds and what changes no number", function()
    local groups = compare.groups {
      run("a", { seed = 1, lr = 0.1, clip = "norm", max_norm = 1, out = "x" }),
      run("b", { seed = 1, lr = 0.1, clip = "spectral", out = "y", quiet = true }),
      run("c", { seed = 2, lr = 0.1, clip = "norm", max_norm = 1, out = "z", save_every = 5 }),
      run("d", {}), run("e", {}),
    }
    assert.are.equal(4, #groups)
    assert.are.same({ "a", "c" }, { groups[1].runs[1].name, groups[1].runs[2].name })
    assert.are.equal("A: clip=norm lr=0.1 max_norm=1", groups[1].title)
    assert.are.equal("C: d", groups[3].title)
    local one = compare.groups { run("a", { seed = 1, lr = 0.1 }), run("b", { seed = 2, lr = 0.1 }) }
    assert.are.same({ 1, "a" }, { #one, one[1].title })
  end)

  it("are of one group if they were trained on the same, wherever it lay", function()
    local function on(name, seed, path, sha256)
      local r = run(name, { seed = seed, data = path }, { 3 })
      r.data = sha256 and { sha256 = sha256:rep(64), train_tokens = 5 } or nil
      return r
    end
    local groups = compare.groups { on("a", 1, "x", "0"), on("b", 2, "y", "0"), on("c", 3, "x", "1") }
    assert.are.same({ 2, 2, 1 }, { #groups, #groups[1].runs, #groups[2].runs })
    assert.are.equal("B: data=sha256 111111111111, 5 tokens", groups[2].title)
    assert.are.equal(2, #compare.groups { on("a", 1, "x"), on("b", 2, "y") })
    assert.are.equal(1, #compare.groups { on("a", 1, nil), on("b", 2, nil) })
  end)

  it("count once for a seed", function()
    local groups = compare.groups { run("a", { seed = 1 }, { 3.0 }), run("b", { seed = 2 }, { 3.2 }),
      run("c", { seed = 1 }, { 3.0 }) }
    for _, r in ipairs(groups[1].runs) do r.val.steps = { 10 } end
    local losses, step, left_out = compare.final_losses(groups[1])
    assert.are.same({ { 3.0, 3.2 }, 10, 1, "c" }, { losses, step, #left_out, left_out[1].run.name })
    assert.matches("it has the seed of `a`, 1", left_out[1].reason)
  end)

  it("say what differs", function()
    assert.are.same({ "lr", "seed", "t" }, compare.differing { { config = { seed = 1, lr = 1, a = { 1, 2 } } },
      { config = { seed = 2, lr = 2, a = { 1, 2 }, t = false } } })
    assert.are.same({ "–", "0.1", "{1, x=2}", "false" }, { compare.text(nil), compare.text(0.1), compare.text { 1, x = 2 },
      compare.text(false) })
  end)

  it("are tested against each other, where steps allow it", function()
    local function group(seed, lr, loss, step)
      local r = run("r" .. seed .. lr, { seed = seed, lr = lr }, { loss })
      r.val.steps = { step }
      return r
    end
    local groups = compare.groups { group(1, 1, 3.0, 100), group(2, 1, 3.1, 100), group(1, 2, 2.9, 90), group(2, 2, 2.8, 90) }
    local tests = compare.tests(groups, 2.95, 0.01)
    local pair = tests.pairs[1]
    assert.are.same({ "B", "A", 10, 0.1 }, { pair.a.letter, pair.b.letter, pair.fewer, pair.saved })
    assert.is_true(math.abs(pair.track3.value - 0.3) < 1e-12) -- (0.2 + 0.1) / sqrt(1/2 + 1/2)
    assert.is_true(math.abs(pair.welch.difference + 0.2) < 1e-12)
    assert.is_true(tests.groups[2].track3.passes and not tests.groups[1].track3.passes)
    assert.is_nil(compare.tests(groups).pairs[1].track3)
    groups[1].runs[2].val.steps = { 50 } -- it did not come as far
    tests = compare.tests(groups, 2.95, 0.01)
    assert.are.same({ 3.0 }, tests.groups[1].losses)
    assert.are.equal(groups[1].runs[2], tests.groups[1].left_out[1].run)
    assert.matches("is not of step 100", tests.groups[1].left_out[1].reason)
    assert.are.same({ 2, 1 }, { tests.pairs[1].n1, tests.pairs[1].n2 })
    assert.is_truthy(tests.pairs[1].reason:find "n = 1")
    assert.is_nil(compare.tests(groups).groups[1].below)
  end)
end)
