-- SPDX-License-Identifier: MIT
--
-- experiment_spec.lua: what scripts of many runs share: processes and channels, records, statistics, claims, contexts.

local helper = require "tests.helper"
local scratch = require "tests.scratch"
local claims = require "moonbow.experiment.claims"
local code = require "moonbow.experiment.code"
local process = require "bindings.process"
local records = require "moonbow.experiment.records"
local statistics = require "moonbow.experiment.statistics"
local system = require "bindings.system"
local worker = require "moonbow.experiment.worker"

local function near(expected, got, tolerance)
  assert(math.abs(expected - got) <= (tolerance or 1e-12), ("%.17g was expected, not %.17g"):format(expected, got))
end

describe("processes", function()
  after_each(scratch.clean)

  local function shell(text, folder)
    return process.spawn({ "sh", "-c", text }, { log = (folder or scratch.folder()) .. "/log" })
  end

  local function next_line(child)
    local stop = system.time() + 20
    repeat
      process.wait_any({ child.channel }, 0.5)
      local line = child.channel:receive()
      if line then return line end
    until child.channel.closed or system.time() > stop
  end

  it("talk over a channel, line by line, and end with a code", function()
    local folder = scratch.folder()
    local child = shell("read a <&3; read b <&3; printf 'half' >&3; echo \" of $a\" >&3; echo $b >&3; "
      .. "echo out; echo err >&2; exit 7", folder)
    assert.is_true(child.channel:send "one")
    assert.is_true(child.channel:send(("x"):rep(100000)))
    assert.equal("half of one", next_line(child))
    assert.equal(100000, #next_line(child))
    assert.is_nil(next_line(child))
    assert.is_true(child.channel.closed)
    assert.same({ code = 7 }, child:wait())
    assert.same({ code = 7 }, child:poll())
    assert.equal("out\nerr\n", scratch.read(folder .. "/log"))
    assert.is_false(child.channel:send "nobody is there" and child.channel:send "nobody is there")
    child.channel:close()
    assert.is_false(child.channel:send "closed")
    child:kill(process.KILL) -- one that has ended is left alone
  end)

  it("are ended by signals", function()
    local child = shell "sleep 100"
    assert.is_nil(child:poll())
    child:kill(process.TERM)
    assert.same({ signal = 15 }, child:wait())
    child.channel:close()
  end)

  it("say why they cannot be started", function()
    helper.says("cannot start 'moonbow-has-no-such-program'", process.spawn, { "moonbow-has-no-such-program" },
      { log = scratch.folder() .. "/log" })
    helper.says("the log cannot be written: /no/such/folder/log", process.spawn, { "true" }, { log = "/no/such/folder/log" })
    helper.says("argument 2", process.spawn, { "true", "a\0b" }, { log = "/no/such/folder/log" })
  end)

  it("know their cores and their parents", function()
    assert(process.cores() >= 1)
    local pipe = io.popen "nproc"
    local count = pipe:read "*n"
    pipe:close()
    if count then assert.equal(count, process.cores()) end
  end)
end)

describe("statistics", function()
  it("are the textbook's", function()
    local values = { 2, 4, 4, 4, 5, 5, 7, 9 }
    near(5, statistics.mean(values))
    near(2, statistics.std(values))
    near(4.5, statistics.median(values))
    near(4, statistics.quantile(values, 0.25))
    near(2, statistics.quantile(values, 0))
    near(9, statistics.quantile(values, 1))
    near(2, statistics.geometric_mean { 1, 2, 4 })
    near(3, statistics.median { 5, 3, 1 })
    assert(statistics.median {} ~= statistics.median {})
    assert.same({ 2, 4, 4, 4, 5, 5, 7, 9 }, values)
  end)

  it("fit lines", function()
    local line = statistics.line({ 1, 2, 3, 4 }, { 3, 5, 7, 9 })
    near(2, line.slope)
    near(1, line.intercept)
    near(0, line.error)
    line = statistics.line({ 0, 1, 2 }, { 0, 1, 1 }) -- residuals -1/6, 1/3, -1/6
    near(0.5, line.slope)
    near(math.sqrt(1 / 6 / 2), line.error)
  end)

  it("choose steps on a logarithmic axis", function()
    assert.same({ 1, 2, 3, 4, 5 }, statistics.log_spaced(5, 50))
    assert.same({ 1, 10, 100, 1000 }, statistics.log_spaced(1000, 4))
    assert.same({ 1, 7, 10, 100 }, statistics.log_spaced(100, 3, 7))
    assert.same({ 1, 10, 100 }, statistics.log_spaced(100, 3, 101))
    assert.same({ 1 }, statistics.log_spaced(1, 10))
  end)
end)

describe("records", function()
  after_each(scratch.clean)

  it("bring NaN, infinities and all digits back", function()
    local value = records.decode(records.encode { a = { 1 / 3, 0 / 0, -math.huge }, b = math.huge, name = "x" })
    assert.equal(1 / 3, value.a[1])
    assert(value.a[2] ~= value.a[2])
    assert.equal(-math.huge, value.a[3])
    assert.equal(math.huge, value.b)
    assert.equal("x", value.name)
  end)

  it("are found again by name, seed and all settings, whole lines only", function()
    local folder = scratch.folder()
    local run = { name = "a", seed = 3, settings = { lr = 1 / 3, steps = 10, rule = "ema" } }
    local log = records.open(folder)
    log:write(run, { loss = 0.5 }, 1.5)
    log:close()
    local file = io.open(folder .. "/results.jsonl", "ab")
    file:write '{"name":"b","seed":3,"settin'
    file:close()

    log = records.open(folder) -- takes out the half line
    log:write({ name = "c" }, { loss = 0 / 0 }, 2)
    log:close()
    local found, count = records.read(folder)
    assert.equal(2, count)
    assert.equal(0.5, found[records.key(run)].result.loss)
    assert.equal(1.5, found[records.key(run)].seconds)
    local other = found[records.key { name = "c", settings = {} }]
    assert(other.result.loss ~= other.result.loss)
    assert.is_nil(found[records.key { name = "a", seed = 4, settings = run.settings }])
    assert.is_nil(found[records.key { name = "a", seed = 3, settings = { lr = 0.1, steps = 10, rule = "ema" } }])
    assert.equal("a, seed 3", records.label(run))
    assert.equal("c", records.label { name = "c" })
    assert.same({}, (records.read(scratch.folder())))
  end)
end)

describe("records of another text of the script", function()
  after_each(scratch.clean)

  local run = { name = "a", seed = 1, settings = { lr = 1 } }

  -- The result that a reader finds, after these were written, each { code, device, value }.
  local function found(list, by)
    local folder = scratch.folder()
    for _, one in ipairs(list) do
      local log = records.open(folder, { code = one[1], device = one[2] })
      log:write(run, { value = one[3] }, 1)
      log:close()
    end
    local records_found, count, others = records.read(folder, by)
    local record = records_found[records.key(run)]
    return record and record.result.value, count, others[records.key(run)]
  end

  it("are used if that is wanted, where there are no others", function()
    local new, keep = { code = "new", device = "cpu" }, { code = "new", device = "cpu", keep = true }
    assert.same({ nil, 0, "code" }, { found({ { "old", "cpu", 5 } }, new) })
    assert.same({ nil, 0, "code" }, { found({ { nil, nil, 5 } }, new) })
    assert.same({ 5, 1 }, { found({ { "old", "cpu", 5 } }, keep) })
    for _, by in ipairs { new, keep } do
      assert.same({ 6, 1 }, { found({ { "old", "cpu", 5 }, { "new", "cpu", 6 } }, by) })
      assert.same({ 6, 1 }, { found({ { "new", "cpu", 6 }, { "old", "cpu", 5 } }, by) })
    end
  end)

  it("or of another device are not used", function()
    local by = { code = "new", device = "cpu" }
    assert.same({ nil, 0, "device" }, { found({ { "new", "cuda", 5 } }, by) })
    by.keep = true
    assert.same({ nil, 0, "device" }, { found({ { "new", "cuda", 5 } }, by) })
    assert.same({ 6, 1 }, { found({ { "new", "cpu", 6 }, { "new", "cuda", 5 } }, by) })
  end)
end)

describe("the text of a script", function()
  after_each(scratch.clean)

  local function write(path, text)
    local file = assert(io.open(path, "wb"))
    file:write(text)
    file:close()
  end

  it("is its own and that of what it requires, but for Moonbow's", function()
    local folder = scratch.folder()
    local script, part, deep = folder .. "/script.lua", folder .. "/part_of_it.lua", folder .. "/deep_in_it.lua"
    write(script, 'require "moonbow" require("bindings.system") require "part_of_it" require "part_of_it" require "ffi"\n')
    write(part, "local deep = require('deep_in_it')\n")
    write(deep, "return 1\n")
    local paths = {}
    for i, file in ipairs(code.files(script)) do paths[i] = file.path:match "[^/]+$" end
    assert.same({ "script.lua", "part_of_it.lua", "deep_in_it.lua" }, paths)
    local before = code.of(script)
    assert(before:find "^%x%x%x%x%x%x%x%x%x%x%x%x$")
    assert.equal(before, code.of(script))
    write(deep, "return 2\n")
    assert.is_false(before == code.of(script))
    write(deep, "return 1\n")
    assert.equal(before, code.of(script))
  end)

  it("is found of every script of the papers", function()
    local names, root = {}, os.getenv "MOONBOW_ROOT" or "."
    for _, file in ipairs(code.files(root .. "/scripts/reproduce/gpt2.lua")) do names[file.path:match "[^/]+$"] = true end
    assert.same({ ["gpt2.lua"] = true, ["comparison.lua"] = true, ["language.lua"] = true }, names)
  end)
end)

describe("claims", function()
  local function verdict(holds)
    return claims.of({ claim = "c", source = "s", measured = "m", expected = "e", holds = holds }).verdict
  end

  it("are judged by their parts alone", function()
    assert.equal("reproduced", verdict(true))
    assert.equal("not reproduced", verdict(false))
    assert.equal("reproduced", verdict { true, true })
    assert.equal("partly", verdict { true, false })
    assert.equal("not reproduced", verdict { false, false })
  end)

  it("hold a number within bounds; NaN is in none", function()
    local claim = claims.within("c", "s", 0.25, 0.2, 0.33)
    assert.equal("reproduced", claim.verdict)
    assert.equal("0.25", claim.measured)
    assert.equal("0.2 to 0.33", claim.expected)
    assert.equal("not reproduced", claims.within("c", "s", 0.34, 0.2, 0.33).verdict)
    assert.equal("at least 0.6", claims.within("c", "s", 0.7, 0.6, nil).expected)
    assert.equal("not reproduced", claims.within("c", "s", 0.7, nil, 0.6).verdict)
    assert.equal("not reproduced", claims.within("c", "s", 0 / 0, 0.1, nil).verdict)
  end)

  it("are printed in columns, long texts in several lines", function()
    local text = claims.text { claims.within(("word "):rep(20) .. "end", "s", 1, 0, 2) }
    assert(text:find "reproduced")
    for line in text:gmatch "[^\n]+" do assert(#line < 125, line) end
    assert.equal(20, select(2, text:gsub("word", "")))
  end)

  it("refuse what is no claim", function()
    helper.says("option 'expected' is missing", claims.of, { claim = "c", source = "s", measured = "m", holds = true })
    helper.says("unknown option 'verdict'", claims.of, { verdict = "reproduced" })
    helper.says("has no part", claims.of, { claim = "c", source = "s", measured = "m", expected = "e", holds = {} })
    helper.says("claims.within: the value of 'c' must be a number", claims.within, "c", "s", nil, 1, 2)
    helper.says("neither bound is given", claims.within, "c", "s", 1)
  end)
end)

describe("a run", function()
  after_each(scratch.clean)

  local function make(fn, settings)
    local shares = {}
    local answer = worker.make({ make = fn }, settings or { out = scratch.folder() }, { name = "r", seed = 1, settings = {} },
      function(share) shares[#shares + 1] = share end)
    return answer, shares
  end

  it("answers with its result and the time it took", function()
    local answer, shares = make(function(run, context)
      for i = 1, 1000 do context:progress(i / 1000) end
      return { name = run.name, out = context.settings.out ~= nil }
    end)
    assert.same({ name = "r", out = true }, answer.result)
    assert(answer.seconds >= 0 and #shares >= 1 and #shares < 100)
  end)

  it("that fails, or gives nothing, is a problem", function()
    local stderr = io.stderr
    io.stderr = io.tmpfile() -- luacheck: ignore 122
    local answer = make(function() error "it broke" end)
    io.stderr = stderr -- luacheck: ignore 122
    assert(answer.problem:find("it broke", 1, true))
    assert(make(function() end).problem:find("no result", 1, true))
    assert.equal("experiment: the result cannot be written: a function has no JSON",
      make(function() return { print } end).problem)
    helper.says("experiment: what run 'r' is cannot be written", records.key, { name = "r", settings = { f = print } })
  end)

  it("goes on from its last checkpoint, with the log up to there", function()
    local mb = require "moonbow"
    local settings = { out = scratch.folder() }
    local function train(stop_at)
      return function(_, context)
        mb.seed(5)
        local model = mb.models.mlp { n_input = 3, n_hidden = 4, n_layer = 1, n_output = 1, seed = 1 }
        local optimizer = mb.optim.sgd(model, { lr = 0.1, momentum = 0.9 })
        local first = context:resume { model = model, optimizer = optimizer }
        for step = first + 1, 10 do
          if step == stop_at then error "the power went" end
          optimizer:zero_grad()
          model:logits({ inputs = mb.ones { 2, 3 } }):square():mean():backward()
          optimizer:step()
          context:log { step = step, value = model:parameters()[1].value:sum():item() }
          if step % 4 == 0 then context:save(step) end
        end
        return { first = first, records = #context:history(), last = context:history()[10].value }
      end
    end
    local whole = make(train(), { out = scratch.folder() }).result
    assert.equal(0, whole.first)
    local stderr = io.stderr
    io.stderr = io.tmpfile() -- luacheck: ignore 122
    assert(make(train(7), settings).problem)
    io.stderr = stderr -- luacheck: ignore 122
    local resumed = make(train(), settings).result
    assert.equal(4, resumed.first)
    assert.equal(10, resumed.records)
    assert.equal(whole.last, resumed.last)
    for _, name in ipairs(system.list(settings.out .. "/runs")) do assert(name:find "%.jsonl$", name .. " is left") end
  end)

  it("brings back what was noted with a checkpoint, and begins again if the script has changed since", function()
    local mb = require "moonbow"
    local out = scratch.folder()
    local function first_of(settings)
      settings.out = out
      local first, books, seconds
      local stderr = io.stderr
      io.stderr = io.tmpfile() -- luacheck: ignore 122
      make(function(_, context)
        local model = mb.models.mlp { n_input = 2, n_hidden = 2, n_layer = 1, n_output = 1, seed = 1 }
        first, books = context:resume { model = model }
        seconds = context:seconds()
        context.started = context.started - 1000
        context:save(first + 3, { sum = first + 0.1 })
        error "the power went"
      end, settings)
      io.stderr = stderr -- luacheck: ignore 122
      return first, books and books.sum, seconds
    end
    local old, new, kept = { code = "old", device = "cpu" }, { code = "new", device = "cpu" },
      { code = "new", device = "cpu", keep = true }
    assert.equal(0, (first_of(old)))
    local first, sum, seconds = first_of(old)
    assert.same({ 3, 0.1 }, { first, sum })
    assert(seconds >= 1000 and seconds < 1100)
    assert.same({ 0 }, { first_of(new), nil })
    assert.equal(3, (first_of { code = "newer", device = "cpu", keep = true }))
    assert.equal(0, (first_of(old)))
    assert.equal(3, (first_of(kept)))
    assert.equal(0, (first_of { code = "new", device = "cuda" }))
  end)
end)

describe("a training", function()
  after_each(scratch.clean)

  it("that was interrupted ends as one that was not", function()
    local mb = require "moonbow"
    local language = require "scripts.reproduce.problems.language"
    local run = { name = "r", seed = 2, settings = { n_layer = 1, n_head = 1, n_embd = 8, block_size = 8, batch_size = 2,
      steps = 9, eval_every = 4, eval_iters = 1, grad_accum = 2, clip = "spectral", threshold = 0.02, rank = 2, oversample = 2,
      power_iters = 1 } }
    local settings

    -- One start of the run, until it is interrupted after step `stop`.
    local function start(stop)
      return worker.make({ make = function(_, context)
        mb.seed(run.seed)
        local data = language.open(run, context)
        local model = language.model(mb.models.gpt2, run, data)
        local clip, done = language.clip(run.settings), 0
        local optimizer = mb.optim.sgd(model, { lr = 0.1, momentum = 0.9 })
        context.interrupted = function() return done == stop end
        return (language.train(run, context, { model = model, optimizer = optimizer, clip = clip, data = data }, {
          update = function(step, journal)
            done = step
            journal:add("seconds", 100)
            return optimizer:step(clip)
          end }))
      end }, settings, run, function() end)
    end

    settings = { out = scratch.folder(), device = "cpu", threads = 1, code = "a" }
    local whole = start().result
    settings = { out = scratch.folder(), device = "cpu", threads = 1, code = "a" }
    assert.is_true(start(2).stopped)
    assert.is_true(start(6).stopped)
    local resumed = start().result
    for i, point in ipairs(whole.curve) do
      local other = resumed.curve[i]
      assert.same({ point.step, point.train, point.val }, { other.step, other.train, other.val })
      assert(math.abs(point.seconds - other.seconds) < 50, "seconds before the interruption are not counted")
    end
    assert.equal(#whole.curve, #resumed.curve)
    assert.same({ whole.final, whole.clipped, whole.saturated }, { resumed.final, resumed.clipped, resumed.saturated })
    assert(whole.clipped > 0 and whole.saturated > 0, "nothing is tested")
  end)
end)
