-- SPDX-License-Identifier: MIT
--
-- reproduce_spec.lua: every script of scripts/reproduce at its smallest, and what happens to such a script when runs fail,
-- workers die, and when it is stopped in the middle.

local runner = require "tests.smoke.runner"
local cjson = require "cjson"
local process = require "bindings.process"
local system = require "bindings.system"

local folder = runner.root .. "/scripts/reproduce"

local function summary_of(out)
  local summary = cjson.decode(runner.read(out .. "/summary.json"))
  for _, claim in ipairs(summary.claims) do
    assert(claim.claim and claim.source and claim.measured and claim.expected)
    assert(claim.verdict == "reproduced" or claim.verdict == "partly" or claim.verdict == "not reproduced")
  end
  return summary
end

describe("scripts/reproduce", function()
  after_each(runner.clean)

  for _, file in ipairs(system.list(folder)) do
    local name = file:match "^(.*)%.lua$"
    if name and name ~= "all" then
      it(name .. " runs at its smallest, once", function()
        local out = runner.folder()
        local rc, stdout, stderr = runner.script("reproduce/" .. name, ("--smoke --jobs 2 --plain --out '%s'"):format(out))
        assert(rc == 0, ("exit code %s\n%s%s"):format(tostring(rc), stdout, stderr))
        local summary = summary_of(out)
        assert.equal(name, summary.name)
        assert.equal("smoke", summary.size)
        assert(#summary.figures > 0, "it draws nothing")
        for _, figure in ipairs(summary.figures) do
          assert(runner.read(out .. "/" .. figure.file):find("<svg", 1, true), figure.file)
        end
        for _, claim in ipairs(summary.claims) do assert(stdout:find(claim.verdict, 1, true)) end
        assert(runner.read(out .. "/report.html"):find("<h1>" .. name .. "</h1>", 1, true))
        local count = #runner.records(out .. "/results.jsonl")
        assert(count > 0)
        for _, left in ipairs(system.list(out)) do assert(not left:find "^worker", left .. " is left") end

        rc, stdout = runner.script("reproduce/" .. name, ("--smoke --jobs 2 --plain --out '%s'"):format(out))
        assert.equal(0, rc)
        assert(stdout:find(", 0 to make", 1, true), stdout)
        assert.equal(count, #runner.records(out .. "/results.jsonl"))
      end)
    end
  end
end)

describe("scripts/reproduce", function()
  after_each(runner.clean)

  it("refuse what their runs could not be judged by, before any is made", function()
    local out = runner.folder()
    local function wrong(name, arguments, text, code)
      local rc, stdout, stderr = runner.script("reproduce/" .. name, ("--smoke --plain --out '%s' %s"):format(out, arguments))
      assert.equal(code or 2, rc, stdout)
      assert(stderr:find(text, 1, true), stderr)
      assert.equal("", runner.read(out .. "/results.jsonl"))
    end
    wrong("heatmap", "--min_lr 1 --max_lr 0.1", "--min_lr 1 is not below --max_lr 0.1")
    wrong("heatmap", "--min_threshold 10", "--min_threshold 10 is not below --max_threshold 10")
    wrong("spectra_under_noise", "--shares 0.5,0.5", "0.5 is there twice")
    wrong("spectra_under_noise", "--batch_sizes 2.5", "2.5 is not a whole number")
    wrong("spectra_under_noise", "--batch_sizes 4,1", "--batch_sizes 1: the shares 0.5 and 1 are as many sequences")
    wrong("spectra_under_noise", "--data x --weights /no/such", "--weights: there is no '/no/such'", 1)
    wrong("shakespeare", "--taus 0.1,0.1", "--taus 0.1,0.1: 0.1 is there twice")
    wrong("shakespeare", "--taus inf", "'inf' is no number above 0")
    wrong("shakespeare", ("--data '%s'"):format(out), "is a folder; characters are those of one text", 1)
  end)
end)

describe("scripts/reproduce/all.lua", function()
  after_each(runner.clean)

  it("runs the scripts that are asked for, and makes one page of them", function()
    local out = runner.folder()
    local rc, stdout, stderr = runner.script("reproduce/all",
      ("--smoke --plain --only trace,theory --jobs 2 --out '%s'"):format(out))
    assert(rc == 0, ("exit code %s\n%s%s"):format(tostring(rc), stdout, stderr))
    assert(stdout:find("----- trace_regression: done", 1, true))
    local _, _, count = stdout:find "(%d+) claims: %d+ reproduced, %d+ partly, %d+ not reproduced"
    local claims = 0
    for _, name in ipairs { "trace_regression", "theory" } do claims = claims + #summary_of(out .. "/" .. name).claims end
    assert.equal(claims, tonumber(count))
    local html = runner.read(out .. "/report.html")
    assert(html:find("trace_regression", 1, true) and html:find("theory", 1, true) and not html:find("heatmap", 1, true))
  end)

  it("passes a signal on that it alone has got", function()
    local out = runner.folder()
    local child = process.spawn({ "luajit", folder .. "/all.lua", "--full", "--only", "theory", "--plain", "--jobs", "2", "--out",
      out .. "/r" }, { log = out .. "/log" })
    local stop = system.time() + 60
    while runner.read(out .. "/r/theory/results.jsonl") == "" and not child:poll() and system.time() < stop do
      process.wait_any({}, 0.05)
    end
    child:kill(process.INT)
    local ended = child:wait()
    child.channel:close()
    local said = runner.read(out .. "/log")
    assert.equal(130, ended.code, said)
    assert(said:find("the same command goes on from here", 1, true), said)
  end)

  it("names what there is, and what failed", function()
    local rc, _, stderr = runner.script("reproduce/all", "--smoke --only theory,nonsense")
    assert.equal(2, rc)
    assert(stderr:find("there is no 'nonsense' among ", 1, true) and stderr:find("trace_regression", 1, true), stderr)
    rc, _, stderr = runner.script("reproduce/all", "--smoke --full")
    assert.equal(2, rc)
    assert(stderr:find("--smoke and --full: one of them", 1, true), stderr)
    local out = runner.folder()
    runner.shell(("mkdir '%s/trace_regression' && echo > '%s/trace_regression/results.jsonl' && mkdir '%s/trace_regression/lock'"
      ):format(out, out, out))
    rc, _, stderr = runner.script("reproduce/all", ("--smoke --plain --only trace --out '%s'"):format(out))
    assert.equal(1, rc)
    assert(stderr:find("trace_regression: no result", 1, true), stderr)
  end)
end)

-- A script of six runs that says on a file when one is made; what `fault` names happens in run 3.
local script = [[
package.path = os.getenv "LUA_PATH" or package.path
require("moonbow.experiment").main {
  name = "example", about = "An example.", source = "here",
  options = { { "fault", "none", "what goes wrong" }, { "seconds", 0, "of each run" }, { "marks", "", "file", kind = "string" } },
  sizes = { smoke = { scale = 1 }, quick = { scale = 10 }, full = { scale = 100 } }, seeds = { 7 },
  runs = function(s)
    local list = {}
    for i = 1, 6 do list[i] = { name = "run " .. i, seed = s.seeds[1], settings = { i = i, scale = s.scale } } end
    return list
  end,
  make = function(run, context)
    local s, i = context.settings, run.settings.i
    local file = io.open(s.marks, "a")
    file:write(i, "\n")
    file:close()
    if i == 3 and s.fault == "error" then error "something is wrong with three" end
    if i == 3 and s.fault == "exit" then
      io.stderr:write "three says goodbye\n"
      os.exit(9)
    end
    if i == 3 and s.fault == "kill" then os.execute("kill -9 " .. require("bindings.system").process_id()) end
    local stop = os.clock() + s.seconds
    while os.clock() < stop do context:progress(0.5) end
    return { value = i * s.scale, nothing = 0 / 0 }
  end,
  report = function(results)
    local sum = 0
    for _, r in ipairs(results) do sum = sum + r.result.value end
    return { claims = { require("moonbow.experiment.claims").within("the sum is 21", "here", sum, 21, 21) },
      figures = { { name = "values", title = "Values", charts = { { series = { { name = "v", points = { { 1, sum } } } } } } } },
      tables = { { title = "sum", rows = { { "sum" }, { tostring(sum) } } } }, notes = { "a note" } }
  end,
}
]]

describe("an experiment", function()
  local out, path, marks

  before_each(function()
    out = runner.folder()
    path, marks = out .. "/example.lua", out .. "/marks"
    local file = io.open(path, "wb")
    file:write(script)
    file:close()
  end)
  after_each(runner.clean)

  local function command(more)
    return ("luajit '%s' --smoke --plain --jobs 2 --marks '%s' --out '%s/r' %s"):format(path, marks, out, more or "")
  end

  local function count(file)
    return select(2, runner.read(file):gsub("\n", ""))
  end

  it("makes all its runs, writes what came of them, and does not repeat them", function()
    local rc, stdout = runner.shell(command())
    assert.equal(0, rc)
    assert(stdout:find "the sum is 21 +21 +21 to 21 +reproduced")
    assert(stdout:find("note: a note", 1, true))
    assert.equal(6, count(marks))
    assert.equal("reproduced", summary_of(out .. "/r").claims[1].verdict)
    assert.equal(0, (runner.shell(command())))
    assert.equal(6, count(marks))
    assert.equal(0, (runner.shell(command "--seeds 8"))) -- other runs, beside the first ones
    assert.equal(12, count(marks))
    assert.equal(0, (runner.shell(command())))
    assert.equal(12, count(marks))
  end)

  it("makes a part of its runs, and the report when all are there", function()
    local rc, stdout = runner.shell(command "--only 'run 2'")
    assert.equal(0, rc)
    assert(stdout:find("5 of 6 runs have no result", 1, true))
    assert.equal(1, count(marks))
    assert.equal("", runner.read(out .. "/r/summary.json"))
    assert.equal(0, (runner.shell(command())))
    assert.equal(6, count(marks))
    assert.equal("reproduced", summary_of(out .. "/r").claims[1].verdict)
    local code, _, stderr = runner.shell(command "--only 'run 7'")
    assert.equal(2, code)
    assert(stderr:find("--only run 7: none of the 6 runs has that in its name, such as 'run 1, seed 7'", 1, true), stderr)
  end)

  it("makes its runs again when its text has changed, unless the old results are to be kept", function()
    local function rewrite(from, to)
      local text = script:gsub(from, to)
      local file = io.open(path, "wb")
      file:write(text)
      file:close()
    end
    assert.equal(0, (runner.shell(command())))
    rewrite("value = i %* s.scale", "value = 2 * i * s.scale")
    local rc, stdout = runner.shell(command "--keep")
    assert.equal(0, rc)
    assert.equal(6, count(marks))
    assert(stdout:find("note: 6 of 6 results were made by an earlier text of the script", 1, true), stdout)
    assert.equal("reproduced", summary_of(out .. "/r").claims[1].verdict)
    rc, stdout = runner.shell(command())
    assert.equal(0, rc)
    assert.equal(12, count(marks))
    assert(stdout:find("6 results are of an earlier text of the script", 1, true), stdout)
    assert.equal("not reproduced", summary_of(out .. "/r").claims[1].verdict)
    assert.equal(0, (runner.shell(command "--keep"))) -- the new ones are better
    assert.equal("not reproduced", summary_of(out .. "/r").claims[1].verdict)
    assert.equal(12, count(marks))
    rewrite("nothing here", "")
    assert.equal(0, (runner.shell(command()))) -- back again: its own results are still there
    assert.equal(12, count(marks))
    assert.equal("reproduced", summary_of(out .. "/r").claims[1].verdict)
  end)

  it("says on its page what is not as its size has it", function()
    local rc, stdout = runner.shell(command "--seconds 0.01")
    assert.equal(0, rc)
    local summary = summary_of(out .. "/r")
    assert.equal(0.01, summary.options.seconds)
    assert.equal("none", summary.options.fault)
    assert.equal("cpu", summary.device)
    local _, short = runner.shell(command "--seconds 0.01 --quiet")
    assert(short:find "^claim +measured" and short:find "the sum is 21" and not short:find("note: a note", 1, true), short)
    assert(stdout:find("note: Not all is as --smoke has it: --seconds 0.01 (0)", 1, true), stdout)
    assert(runner.read(out .. "/r/report.html"):find("--seconds 0.01 (0)", 1, true))
  end)

  for fault, says in pairs {
    error = "something is wrong with three", exit = "ended with code 9", kill = "was ended by signal 9" } do
    it("goes on with the others when a run ends by " .. fault, function()
      local rc, stdout, stderr = runner.shell(command("--fault " .. fault))
      assert.equal(1, rc)
      assert(stderr:find("run 3, seed 7 failed", 1, true), stderr)
      assert(stderr:find(says, 1, true), stderr)
      if fault == "exit" then assert(stderr:find("| three says goodbye", 1, true), stderr) end
      assert(stdout:find("1 of 6 runs have no result, 1 failed", 1, true), stdout)
      assert.equal(6, count(marks))
      assert.equal(5, count(out .. "/r/results.jsonl"))
      assert.equal(0, (runner.shell(command())))
      assert.equal(7, count(marks)) -- the third alone was made again
      assert.equal("reproduced", summary_of(out .. "/r").claims[1].verdict)
    end)
  end

  -- Starts the script in slow motion and calls act(process) when two runs are done.
  local function in_the_middle(act)
    local child = process.spawn({ "luajit", path, "--smoke", "--plain", "--jobs", "2", "--marks", marks, "--seconds", "0.3",
      "--out", out .. "/r" }, { log = out .. "/log" })
    local stop = system.time() + 60
    while count(out .. "/r/results.jsonl") < 2 and not child:poll() and system.time() < stop do
      process.wait_any({}, 0.05)
    end
    act(child)
    local ended = child:wait()
    child.channel:close()
    return ended, runner.read(out .. "/log")
  end

  -- Whether a process still has the script's name and this test's folder in its command line.
  local function workers_left()
    local _, lines = runner.shell(("grep -lsaF -- '%s' /proc/[0-9]*/cmdline"):format(path))
    return select(2, lines:gsub("\n", ""))
  end

  local function nothing_left()
    local stop = system.time() + 20
    while workers_left() > 1 and system.time() < stop do process.wait_any({}, 0.1) end -- the shell that looks is one
    assert(workers_left() <= 1, "processes are left")
  end

  it("stops at Ctrl-C, says how to go on, and goes on", function()
    local ended, said = in_the_middle(function(child)
      assert(workers_left() > 2)
      child:kill(process.INT)
    end)
    assert.equal(130, ended.code, said)
    assert(said:find "interrupted: %d of 6 runs are done; the same command goes on")
    nothing_left()
    local done = count(out .. "/r/results.jsonl")
    local made = count(marks)
    assert(done >= 2 and done < 6)
    assert.equal(0, (runner.shell(command())))
    assert.equal(made + 6 - done, count(marks))
    assert.equal("reproduced", summary_of(out .. "/r").claims[1].verdict)
  end)

  it("takes its workers along when it is killed, and goes on", function()
    local ended = in_the_middle(function(child) child:kill(process.KILL) end)
    assert.equal(9, ended.signal)
    nothing_left()
    local done = count(out .. "/r/results.jsonl")
    assert(done >= 2 and done < 6)
    assert.equal(0, (runner.shell(command())))
    assert.equal("reproduced", summary_of(out .. "/r").claims[1].verdict)
  end)

  it("refuses a second one in the same folder", function()
    in_the_middle(function(child)
      local rc, _, stderr = runner.shell(command())
      assert.equal(1, rc)
      assert(stderr:find "^example: %-%-out: .*lock' is locked by process %d+\n$", stderr)
      child:kill(process.KILL)
    end)
  end)

  it("checks its command line", function()
    local rc, stdout = runner.shell(command "--help")
    assert.equal(0, rc)
    for _, word in ipairs { "An example.", "Source: here.", "--full", "--seeds", "--jobs", "--only", "--fault",
      "runs/reproduce/example" } do
      assert(stdout:find(word, 1, true), word)
    end
    local function shown(more)
      local code, text = runner.shell(("luajit '%s/scripts/reproduce/trace_regression.lua' --help %s"):format(runner.root, more))
      assert.equal(0, code)
      return text
    end
    assert(shown "":find "%-%-steps NUMBER +iterations %[2000%]\n" and shown "--full":find "iterations %[100000%]\n")
    local failed, _, complaint = runner.shell(command "--out /dev/null/r")
    assert.equal(1, failed)
    assert(complaint:find "^example: %-%-out: mb_path_make_folder: cannot make '/dev/null", complaint)
    local function wrong(more, text)
      local code, _, stderr = runner.shell(command(more))
      assert.equal(2, code)
      assert(stderr:find(text, 1, true), stderr)
    end
    wrong("--full", "--smoke and --full: one of them")
    local own = runner.folder() .. "/own.lua"
    local file = io.open(own, "wb")
    file:write((script:gsub("full = { scale = 100 }", "")))
    file:close()
    local refused, _, why = runner.shell(("luajit '%s' --full --out '%s/own'"):format(own, out))
    assert.equal(2, refused)
    assert(why:find("--full: example has no such size", 1, true), why)
    wrong("--seeds 1,x", "--seeds: 'x' is no whole number")
    wrong("--seeds 1,2,1", "--seeds 1,2,1: 1 is there twice")
    wrong("--job 3", "did you mean --jobs?")
  end)
end)
