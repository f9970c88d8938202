-- SPDX-License-Identifier: MIT
--
-- commands.lua: the functions that a prompt offers beside Lua's and the library's, for variables, time and help. Those of a
-- model that trains are in training.lua, and what looks at its numbers in look.lua; the lists of rows { call, what it does,
-- more } are what help shows.

local create = require "moonbow.create"
local format = require "moonbow.report.format"
local help = require "moonbow.repl.help"
local options = require "moonbow.options"
local runtime = require "bindings.runtime"
local show = require "moonbow.repl.show"
local types = require "bindings.types"

local M = {}

-- ----- variables ----------------------------------------------------------------------------------------------

-- What a value is and how much of memory is its own, if that is known.
local function describe(value)
  if types.is_tensor(value) then
    if not value.is_live then return "tensor", "released", 0 end
    return "tensor", ("%s %s %s"):format(types.shape_text(value.shape), value.dtype, value.device),
      value.numel * types.dtype(value.dtype).size
  end
  if type(value) == "table" and rawget(value, "handle") and rawget(value, "list") then
    local bytes = 0
    for _, p in ipairs(value.list) do bytes = bytes + 2 * p.value.numel * types.dtype(p.value.dtype).size end
    return "model", ("%s, %s weights with gradients"):format(value.name, format.count(value:count())), bytes
  end
  return type(value), show.cell(value), nil
end

local MOST = 40 -- rows of who()

-- Names so that v2 is before v10.
local function by_number(names)
  local function key(name)
    return (name:gsub("%d+", function(d) return ("0"):rep(20 - #d) .. d end))
  end
  table.sort(names, function(a, b)
    local x, y = key(a), key(b)
    return x < y or x == y and a < b
  end)
  return names
end

local function who(repl)
  return function()
    local rows, globals, n = { { "name", "kind", "what", "memory" } }, repl.session.globals, 0
    for _, name in ipairs(by_number(options.keys(globals))) do
      if name ~= "mb" and name ~= "_" and name ~= "arg" then
        n = n + 1
        if n <= MOST then
          local kind, what, bytes = describe(globals[name])
          rows[#rows + 1] = { name, kind, format.cut(what, math.max(20, repl:width() - 40)), bytes and format.bytes(bytes) or "" }
        end
      end
    end
    if n > MOST then rows[#rows + 1] = { ("… %d more"):format(n - MOST) } end
    if #rows == 1 then return repl:say "there are no variables yet" end
    repl:say(format.columns(rows, { [4] = true }))
    local memory = runtime.memory()
    repl:say(("tensors alive: %d, %s"):format(memory.live_tensors, format.bytes(memory.bytes_live)))
  end
end

-- ----- time -------------------------------------------------------------------------------------------------

local function seconds_text(s)
  if s < 1e-3 then return ("%.3g us"):format(s * 1e6) end
  if s < 1 then return ("%.3g ms"):format(s * 1e3) end
  return ("%.3g s"):format(s)
end

-- One call and its seconds, the device's work included.
local function timed(fn, ...)
  runtime.synchronize(create.device())
  local started = runtime.time()
  local function finish(...)
    runtime.synchronize(create.device())
    return runtime.time() - started, ...
  end
  return finish(fn(...))
end

local function time(repl)
  local function report(seconds, ...)
    repl:say(seconds_text(seconds))
    return ...
  end
  return function(n, fn, ...)
    if type(n) ~= "number" then
      if n == nil or type(n) == "string" then
        options.fail("time: a function was expected, not %s: time(f, arguments)", options.describe(n))
      end
      return report(timed(n, fn, ...))
    end
    options.value("time", "the number of calls", n, { type = "integer", min = 1 })
    options.value("time", "what to call", fn, { type = "function" })
    local all = {}
    for i = 1, n do all[i] = (timed(fn, ...)) end
    table.sort(all)
    repl:say(("%s at least, %s in the middle, %s at most, of %d calls"):format(seconds_text(all[1]),
      seconds_text(all[math.floor((n + 1) / 2)]), seconds_text(all[n]), n))
  end
end

local rows = {
  { "who()", "the variables of the session, with shapes and memory" },
  { "time(f, ...)", "calls f(...) and says how long it took; time(20, f, ...) calls it 20 times",
    "time(f, ...) returns what f returns. The device's work is waited for." },
  { "help(name)", "the documentation of a name, as ? does" },
}

-- ----- colon ------------------------------------------------------------------------------------------------

local colon = {
  help = function(repl, rest) repl.commands.help(rest) end,
  quit = function(repl) repl.left = 0 end,
  trace = function(repl) repl:say(repl.session.trace or "there was no error yet") end,
  load = function(repl, rest)
    local words = {}
    for word in rest:gmatch "%S+" do words[#words + 1] = word end
    if #words == 0 then options.fail "a file is missing; :load FILE" end
    repl:load(unpack(words))
  end,
}

---Runs `:name rest`.
---@param repl moonbow.Repl
---@param name string
---@param rest string
function M.colon(repl, name, rest)
  local command = colon[name]
  if not command then
    options.fail("there is no ':%s'%s", name, options.suggest(name, options.keys(colon)))
  end
  command(repl, rest)
end

---The functions of the prompt by name.
---@param repl moonbow.Repl
---@return table<string, function> commands
function M.new(repl)
  local commands, all = { who = who(repl), time = time(repl) }, {}
  for _, part in ipairs { require "moonbow.repl.training", require "moonbow.repl.look" } do
    for name, fn in pairs(part.commands(repl)) do commands[name] = fn end
    for _, row in ipairs(part.rows) do all[#all + 1] = row end
  end
  for _, row in ipairs(rows) do all[#all + 1] = row end
  commands.help = function(name) repl:say(help.about(repl.session, all, name or "")) end
  commands.exit = function() repl.left = 0 end
  commands.quit = commands.exit
  return commands
end

return M
