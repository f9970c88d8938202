-- SPDX-License-Identifier: MIT
--
-- sweep_spec.lua: scripts/sweep.lua over a small script, and over train_gpt2.lua; the values it draws; what it refuses.

local helper = require "tests.helper"
local runner = require "tests.smoke.runner"
local process = require "bindings.process"
local sweep = require "moonbow.experiment.sweep"
local system = require "bindings.system"

-- Logs val = (log10 lr + 2)^2, with 0.1 more for mode b; diverges at lr above 1; takes its time; goes on from a checkpoint.
local script = [[
local o = { lr = "1", mode = "a", seed = "0", wait = "0" }
for _, word in ipairs(arg) do
  if word == "--help" then
    print "A script.\n\nOptions:\n  --lr NUMBER  rate\n  --mode a|b   mode\n  --seed N  seed\n  --out DIR  folder"
    print "  --wait S  seconds\n  --resume DIR  goes on"
    os.exit(0)
  end
  local name, value = word:match "^%-%-([%w_]+)=(.*)$"
  o[name or word] = value or true
end
local folder = o.resume or o.out
local marks = io.open(folder .. "/../marks", "a")
marks:write(o.resume and "resumed" or "begun", "\n")
marks:close()
if o.mode == "odd" and o.seed == "2" then error "it cannot do both" end
if o.mode == "broken" then error "this mode is broken" end
if o.mode == "torn" then
  io.stderr:write "it: this mode is torn\nit: the state after step 1 is in s\n"
  os.exit(1)
end
if tonumber(o.lr) > 1 then os.exit(3) end
os.execute(("mkdir -p '%s/step_00000001'"):format(folder))
if o.resume then
  o.lr = io.open(folder .. "/step_00000001/lr"):read "*a"
else
  local saved = io.open(folder .. "/step_00000001/lr", "w")
  saved:write(o.lr)
  saved:close()
  os.execute("sleep " .. o.wait)
end
local log = io.open(folder .. "/log.jsonl", "w")
for step = 1, 3 do
  local value = (math.log10(tonumber(o.lr)) + 2) ^ 2 + (o.mode == "b" and 0.1 or 0) + (3 - step) + tonumber(o.seed)
  log:write(('{"step":%d,"val":%.6f}\n'):format(step, value))
end
log:close()
print("score", 5)
]]

describe("scripts/sweep.lua", function()
  local out, path

  before_each(function()
    out = runner.folder()
    path = out .. "/it.lua"
    local file = io.open(path, "wb")
    file:write(script)
    file:close()
  end)
  after_each(runner.clean)

  local function run(more)
    return runner.script("sweep", ("--script '%s' --metric val --jobs 2 --plain --device cpu --out '%s/s' %s"):format(path, out,
      more))
  end

  local function count(word)
    return select(2, runner.read(out .. "/s/runs/marks"):gsub(word, ""))
  end

  it("ranks all combinations, those that diverge last, and repeats none", function()
    local rc, stdout, stderr = run "--grid lr=1e-3,1e-2,1e-1,10 --grid mode=a,b"
    assert(rc == 0, stdout .. stderr)
    assert(stdout:find "1 +0 +1e%-2 +a\n +2 +0.1 +1e%-2 +b\n", stdout)
    assert(stdout:find "8 +%-?nan +10 +[ab]", stdout)
    assert.equal(8, count "begun")
    assert(runner.read(out .. "/s/sweep.svg"):find("val over lr", 1, true))
    assert(runner.read(out .. "/s/sweep.svg"):find("best val of each mode", 1, true))
    rc, stdout = run "--grid lr=1e-3,1e-2,1e-1,10 --grid mode=a,b"
    assert.equal(0, rc)
    assert(stdout:find(", 0 to make", 1, true))
    assert.equal(8, count "begun")
    assert.equal(0, (run "--grid lr=1e-3,1e-2,1e-1,1,10 --grid mode=a,b")) -- two more
    assert.equal(10, count "begun")
  end)

  it("draws at random, ranks by the mean over seeds, upwards too", function()
    local rc, stdout = run "--random lr=log:1e-3:1e-1 --random mode=choice:a,b --runs 5 --seeds 1,3 --goal max --pick most"
    assert.equal(0, rc)
    assert.equal(10, count "begun")
    local values = {}
    for rank, mean, std in stdout:gmatch "\n +(%d) +(%S+) +(%S+) +%S+ +[ab]" do
      values[tonumber(rank)] = tonumber(mean)
      assert.equal(1, tonumber(std))
    end
    assert.equal(5, #values)
    for k = 2, 5 do assert(values[k] <= values[k - 1]) end
    assert(values[1] >= 4) -- the first of three values, 2 more, and a mean seed of 2
  end)

  it("takes a metric from the last lines of the output", function()
    local rc, stdout = run "--grid lr=0.1 --metric score"
    assert.equal(0, rc)
    assert(stdout:find "1 +5 +0.1", stdout)
  end)

  it("says which run failed, and with what", function()
    local rc, _, stderr = run "--grid mode=a,broken"
    assert.equal(1, rc)
    assert(stderr:find("mode=broken failed", 1, true) and stderr:find("this mode is broken", 1, true), stderr)
    rc, _, stderr = run "--grid mode=torn"
    assert.equal(1, rc)
    assert(stderr:find("this mode is torn", 1, true) and not stderr:find("the state after", 1, true), stderr)
    rc, _, stderr = run "--grid lr=0.1 --metric nothing"
    assert.equal(1, rc)
    assert(stderr:find("there is no 'nothing' in", 1, true), stderr)
    assert(stderr:find("numbers there: step, val)", 1, true), stderr)
  end)

  it("ranks what has a result where others failed", function()
    local rc, stdout = run "--grid mode=a,broken --grid lr=1e-2"
    assert.equal(1, rc)
    assert(stdout:find "1 +0 +a +1e%-2\n" and stdout:find("note: 1 of 2 runs have no result.", 1, true), stdout)
    rc, stdout = run "--grid mode=a,odd --grid lr=1e-2 --seeds 1,2" -- one of the odd ones has a result
    assert.equal(1, rc)
    assert(stdout:find("the best 1 of 1", 1, true) and not stdout:find("  odd  ", 1, true), stdout)
    rc, stdout = run "--grid mode=odd --grid lr=1e-2 --seeds 1,2"
    assert.equal(1, rc)
    assert(stdout:find("the best 0 of 0", 1, true), stdout)
  end)

  it("ranks by another metric without making the runs again", function()
    assert.equal(0, (run "--grid lr=1e-3,1e-2"))
    local rc, stdout = run "--grid lr=1e-3,1e-2 --metric step --goal max --pick most"
    assert.equal(0, rc)
    assert(stdout:find "1 +3 +1e%-3", stdout)
    assert.equal(2, count "begun")
    assert.equal(1, (run "--grid lr=1e-3,1e-2 --metric nothing"))
    assert.equal(2, count "begun")
  end)

  it("makes runs again when the script has changed", function()
    assert.equal(0, (run "--grid lr=1e-3,1e-2"))
    local file = io.open(path, "ab")
    file:write "-- another text\n"
    file:close()
    assert.equal(0, (run "--grid lr=1e-3,1e-2 --keep"))
    assert.equal(2, count "begun")
    assert.equal(0, (run "--grid lr=1e-3,1e-2"))
    assert.equal(4, count "begun")
  end)

  it("draws each combination once, and takes values with spaces", function()
    local rc, stdout = run "--random mode=choice:a,b --random seed=int:1:2 --runs 40"
    assert.equal(0, rc)
    assert(stdout:find("the best 4 of 4", 1, true), stdout)
    assert.equal(4, count "begun")
    rc, stdout = run "--grid 'mode=x y,z=1 2'"
    assert.equal(0, rc)
    assert(stdout:find "1 +4 +x y\n +2 +4 +z=1 2\n", stdout)
  end)

  it("takes its runs along at Ctrl-C, and goes on from their checkpoints", function()
    local arguments = { "luajit", runner.root .. "/scripts/sweep.lua", "--script", path, "--metric", "val", "--jobs", "2",
      "--plain", "--device", "cpu", "--out", out .. "/s", "--grid", "lr=0.1,0.01", "--set", "wait=60" }
    local child = process.spawn(arguments, { log = out .. "/log" })
    local stop = system.time() + 30
    while count "begun" < 2 and not child:poll() and system.time() < stop do process.wait_any({}, 0.05) end
    process.wait_any({}, 0.3)
    child:kill(process.INT)
    local ended = child:wait()
    child.channel:close()
    assert.equal(130, ended.code, runner.read(out .. "/log"))
    local rc, stdout = run "--grid lr=0.1,0.01 --set wait=60"
    assert.equal(0, rc)
    assert(stdout:find "1 +0 +0.01", stdout)
    assert.equal(2, count "resumed")
  end)

  it("refuses what makes no sense", function()
    local function wrong(more, text, code)
      local rc, _, stderr = run(more)
      assert.equal(code or 2, rc)
      assert(stderr:find(text, 1, true), stderr)
    end
    wrong("", "nothing is swept")
    wrong("--grid lr", "NAME=... was expected")
    wrong("--grid lrr=1,2", "has no option --lrr, did you mean 'lr'?")
    wrong("--grid lr=1,1", "1 is there twice")
    wrong("--grid lr=1,2 --grid lr=3", "--grid lr=3: --grid gives lr already")
    wrong("--grid lr=1,2 --set lr=3", "--set lr=3: --grid gives lr already")
    wrong("--grid out=a,b", "every run has a folder of its own")
    wrong("--grid seed=1,2 --seeds 3", "--seeds gives the seeds")
    wrong("--random mode=choice:a,", "an empty value")
    wrong("--grid lr=1,2 --runs 5", "there is no --random")
    wrong("--random lr=log:0:1", "two numbers above 0")
    wrong("--random lr=normal:0:1", "choice:A,B,C was expected")
    wrong("--random lr=int:1:2.5", "without a fraction")
    wrong("--grid lr=1 --set mode", "NAME=VALUE was expected")
    wrong("--grid lr=1 --script /no/such.lua", "there is no file /no/such.lua", 1)
  end)

  it("sweeps train_gpt2.lua", function()
    local text = runner.corpus(out .. "/text", 5000)
    local rc, stdout, stderr = runner.script("sweep", ("--script '%s/scripts/train_gpt2.lua' --set 'data=%s' --set steps=3 "
      .. "--set n_layer=1 --set n_head=1 --set n_embd=8 --set block_size=8 --set sample_tokens=0 --set eval_iters=1 "
      .. "--grid lr=1e-3,1e-1 --jobs 2 --threads 1 --device cpu --plain --out '%s/t'"):format(runner.root, text, out))
    assert(rc == 0, stdout .. stderr)
    assert(stdout:find("rank  val_loss", 1, true))
    for _, name in ipairs(system.list(out .. "/t/runs")) do
      assert(runner.read(("%s/t/runs/%s/log.jsonl"):format(out, name)):find("val_loss", 1, true))
    end
  end)
end)

describe("values to try", function()
  it("are each value with each, and the same draws for the same seed", function()
    local grids = { sweep.grid "a=1,2", sweep.grid "b=x,y,z" }
    local list, seen = sweep.combinations(grids, {}, 10, 1), {}
    assert.equal(6, #list)
    for _, one in ipairs(list) do seen[sweep.name_of(one)] = true end
    assert(seen["a=1 b=x"] and seen["a=2 b=z"])
    local randoms = { sweep.random "c=uniform:0:1" }
    local first, again, other = sweep.combinations(grids, randoms, 3, 5), sweep.combinations(grids, randoms, 3, 5),
      sweep.combinations(grids, randoms, 3, 6)
    assert.equal(18, #first)
    assert.same(first, again)
    assert.is_false(first[1].c == other[1].c)
  end)

  it("are drawn evenly, on the axis that is asked for", function()
    math.randomseed(helper.seed)
    local n = 4000
    local function share_below(text, bound)
      local random, below = sweep.random(text), 0
      for _ = 1, n do
        local x = tonumber(random.draw())
        below = below + (x <= bound and 1 or 0)
      end
      return below / n
    end
    local function near(expected, got)
      assert(math.abs(expected - got) < 5 * math.sqrt(0.25 / n), ("%g, not %g; MB_SEED=%d"):format(expected, got, helper.seed))
    end
    near(0.5, share_below("x=log:1e-4:1", 0.01))
    near(0.25, share_below("x=log:1e-4:1", 0.001))
    near(0.3, share_below("x=uniform:-1:1", -0.4))
    near(2 / 5, share_below("x=int:1:5", 2))
    assert.equal(1, share_below("x=int:1:5", 5))
    near(1 / 3, share_below("x=choice:1,2,3", 1))
  end)
end)
