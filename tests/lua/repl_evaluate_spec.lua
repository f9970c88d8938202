-- SPDX-License-Identifier: MIT
--
-- repl_evaluate_spec.lua: what is typed at the prompt: when it is whole, what it is worth, which names it sees.

local helper = require "tests.helper"
local evaluate = require "moonbow.repl.evaluate"

local function new(commands) return evaluate.new { commands = commands or {} } end

-- Runs a text; its results, or false and the error's text.
local function run(session, source)
  local chunk, problem, text = session:compile(source)
  if not chunk then return false, text or problem end
  local ok, results = session:run(chunk, source)
  if not ok then return false, results end
  return unpack(results, 1, results.n)
end

describe("what is typed", function()
  it("has the values of an expression, and of a statement none", function()
    local session = new()
    assert.are.equal(2, run(session, "1 + 1"))
    assert.are.equal(6, run(session, "= 2 * 3"))
    assert.are.same({ 1, nil, 3 }, { run(session, "1, nil, 3") })
    assert.are.equal(0, select("#", run(session, "x = 5")))
    assert.are.equal(5, run(session, "x"))
    assert.are.equal(5, run(session, "x;"))
    assert.is_true(evaluate.is_muted "x; ")
    assert.is_false(evaluate.is_muted "x = ';'")
  end)

  it("has the values of an expression after statements", function()
    local session = new { f = function() return 7, 8 end }
    for source, wanted in pairs {
      ["x = 1; x"] = { 1 }, ["a = f(); a, 2"] = { 7, 2 }, ["x = 'p; q'; x"] = { "p; q" }, ["x = 1; x -- one; two"] = { 1 },
      ["for i = 1, 3 do n = i end n"] = { 3 }, ["local function g() return 4 end g() + 1"] = { 5 },
      ["x = 2; x = 3"] = {}, ["x = 3; f()"] = {}, ["x = 1\nx + 1"] = { 2 }, ["x = 5; x;"] = { 5 },
    } do
      assert.are.same(wanted, { run(session, source) }, source)
    end
    for source, wanted in pairs {
      ["x = 1; x +"] = "incomplete", ["x = 1; f("] = "incomplete", ["if f then x = 1; x end"] = "error",
      ["for i = 1, 2 do x = 1; x end"] = "error", ["x = 1; x y"] = "error", ["x = 1 -- one; two\nx y"] = "error",
    } do
      assert.are.same({ nil, wanted }, { (session:compile(source)), (select(2, session:compile(source))) }, source)
    end
  end)

  it("says which command a variable hides, once", function()
    local said = {}
    local session = evaluate.new { commands = { losses = function() return "all" end },
      on_hidden = function(name) said[#said + 1] = name end }
    run(session, "other = 1; losses = 3")
    run(session, "losses = 4")
    assert.are.equal(4, run(session, "losses"))
    run(session, "losses = nil")
    assert.are.equal("all", run(session, "losses()"))
    assert.are.same({ "losses" }, said)
  end)

  it("shows an error that is a table, and a stack of the user's own calls", function()
    local session = new()
    local _, text = run(session, "error { code = 1 }")
    assert.are.equal("{ code = 1 }", text)
    _, text = run(session, "error(setmetatable({}, { __tostring = function() return 'own' end }))")
    assert.are.equal("own", text)
    run(session, "mb = require 'moonbow'; (function() mb.zeros(2):transpose(9, 9) end)()")
    assert(session.trace:find("input:1", 1, true), session.trace)
    assert(not session.trace:find("status.lua", 1, true), session.trace)
  end)

  it("waits for what is not whole", function()
    local session = new()
    for _, source in ipairs { "for i = 1, 2 do", "f(", "1 +", "x =", "return {", "[[ a", "function f()",
      "if x then y()" } do
      local chunk, problem = session:compile(source)
      assert.is_nil(chunk)
      assert.are.equal("incomplete", problem, source)
    end
    for source, text in pairs {
      ["x y"] = "'=' expected near 'y'", ["'abc"] = "unfinished string", ["end"] = "near 'end'",
      ["t:name"] = "function arguments", ["if x then end y z"] = "'=' expected near 'z'",
    } do
      local chunk, problem, said = session:compile(source)
      assert.is_nil(chunk)
      assert.are.equal("error", problem, source)
      assert(said:find(text, 1, true), said)
      assert(not said:find("input:", 1, true), said)
    end
    assert.are.equal(3, run(session, "(function()\n  return 3\nend)()"))
  end)

  it("sees the session's globals, the commands and Lua's, and no others", function()
    local session = new { step = function() return "stepped" end }
    run(session, "learning_rate = 0.1")
    assert.is_nil(rawget(_G, "learning_rate"))
    assert.are.equal("stepped", run(session, "step()"))
    assert.are.equal(math, run(session, "math"))
    assert.are.equal(0.1, run(session, "_G.learning_rate"))
    assert.are.same({ false, "there is no 'lerning_rate', did you mean 'learning_rate'?" }, { run(session, "lerning_rate + 1") })
    assert.are.same({ false, "there is no 'stap', did you mean 'step'?" }, { run(session, "stap(3)") })
    run(session, "learning_rate = nil")
    assert.is_nil(run(session, "learning_rate")) -- it was named once
  end)

  it("says where a local has gone", function()
    local session = new()
    run(session, "local width, depth = 3, 4")
    local _, text = run(session, "width * 2")
    assert.are.equal("there is no 'width'; a local ends with the line that it was typed in: leave out `local`", text)
  end)

  it("says one line about an error and keeps the stack", function()
    local session = new()
    local ok, text = run(session, "error('first\\nsecond')")
    assert.is_false(ok)
    assert.are.equal("first; second", text)
    assert(session.trace:find "stack traceback", session.trace)
    assert(not session.trace:find("evaluate.lua", 1, true), session.trace)
    ok, text = run(session, "local a = 1\nerror('here')")
    assert.is_false(ok)
    assert.are.equal("input:2: here", text)
    ok, text = run(session, "mb = require 'moonbow'; mb.zeros(0)")
    assert.is_false(ok)
    assert(text:find "^mb_empty" or text:find "size", text)
  end)
end)

describe("scripts", function()
  local path = os.tmpname()
  local function script(text)
    local file = assert(io.open(path, "wb"))
    file:write(text)
    file:close()
  end

  it("leave their globals, and read unset ones as Lua has it", function()
    local session = new()
    script "found = unset_name == nil\ngiven = { ... }\nname = arg[1]\nfunction double(x) return 2 * x end"
    assert.is_true((session:load(path, "a", "b")))
    assert.is_true(run(session, "found"))
    assert.are.same({ "a", "b" }, run(session, "given"))
    assert.are.equal("a", run(session, "name"))
    assert.are.equal(8, run(session, "double(4)"))
    script "another = 7"
    run(session, ("dofile %q"):format(path))
    assert.are.equal(7, run(session, "another"))
    script "return misspelt_double(1)"
    session.globals.misspelt_doubles = 1
    local ok, text = session:load(path)
    assert.is_false(ok)
    assert(text:find("did you mean 'misspelt_doubles'?", 1, true), text)
    script "x = = 1"
    ok, text = session:load(path)
    assert.is_false(ok)
    assert(text:find("unexpected symbol", 1, true), text)
    os.remove(path)
  end)
end)

describe("Ctrl-C", function()
  local system = require "bindings.system"

  -- Lets this process get a SIGINT while what follows runs.
  local function interrupt() os.execute(("{ sleep 0.1; kill -INT %d; } &"):format(system.process_id())) end

  it("ends loops of what is typed, also around pcall, but no call of the library", function()
    system.interrupt_install()
    system.interrupt_patient(true)
    local session = new { interrupt = interrupt, pressed = function() return system.interrupted() ~= 0 end }
    for _, source in ipairs {
      "interrupt() while true do end", "interrupt() while true do pcall(function() while true do end end) end",
      "interrupt() local f = loadstring('while true do end') f()", "interrupt() repeat local t = {} until false",
      "coroutine.wrap(function() interrupt() while true do end end)()",
    } do
      local ok, text = run(session, source)
      system.interrupt_clear()
      assert.are.same({ false, "interrupted" }, { ok, text }, source)
    end
    local finished
    session.commands.held = function()
      evaluate.held(function()
        interrupt()
        while system.interrupted() == 0 do finished = nil end
        local n = 0
        for _ = 1, 1e5 do n = n + 1 end
        finished = n
      end)
      return "whole"
    end
    assert.are.equal("interrupted", select(2, run(session, "held() while true do end")))
    assert.are.equal(1e5, finished)
    system.interrupt_clear()
    -- What the library calls of the user's may finish within held, and is ended where it does not come back.
    session.commands.call = function(fn)
      return evaluate.held(function() return fn(), "whole" end)
    end
    run(session, "call(function() interrupt() while not pressed() do end for i = 1, 1e4 do count = i end end)")
    assert.are.equal(1e4, session.globals.count)
    system.interrupt_clear()
    assert.are.same({ false, "interrupted" }, { run(session, "call(function() interrupt() while true do end end)") })
    system.interrupt_clear()
    system.interrupt_patient(false)
    assert.are.equal(4, run(session, "2 + 2"))
  end)
end)

describe("memory", function()
  it("is given back with the last name of a tensor", function()
    local mb = require "moonbow"
    local session = new()
    session.globals.mb = mb
    helper.no_leaks(function()
      run(session, "kept = mb.randn(10, 10)")
      run(session, "mb.randn(10, 10) + kept")
      run(session, "kept = nil")
    end)
  end)
end)
