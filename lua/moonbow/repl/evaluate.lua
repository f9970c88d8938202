-- SPDX-License-Identifier: MIT
--
-- evaluate.lua: what is typed at a prompt, compiled and run in a session of its own.
--
--   local session = evaluate.new { commands = { who = fn }, print = print }
--   session:compile "1 + 1"      -> chunk; or nil and "incomplete"; or nil, "error" and its text
--   session:run(chunk)           -> true, results with n; false and a text; false and "interrupted"
--
-- Globals of a session are in session.globals, which what is typed, and the scripts it loads, write to; behind it are the
-- commands, then Lua's own globals. What is typed may not read a name that nobody has set: the error names the nearest.
-- Scripts may, as Lua has it.
--
-- Ctrl-C. Code that LuaJIT has compiled runs no hooks, so that a loop in it cannot be ended: what is typed, and every script
-- it loads by dofile, loadfile or require, stays interpreted. A hook looks at the flag of SIGINT, and ends what runs where
-- it is the user's own code: the library's functions are never left half done. Where the library calls what the user gave it,
-- a policy of a clipper within a step, that may finish, unless it goes on and on: PATIENCE.

local options = require "moonbow.options"
local show = require "moonbow.repl.show"
local system = require "bindings.system"

local M = {}

local CHUNK = "=input"
local INSTRUCTIONS = 1000 -- between two looks at the flag
local PATIENCE = 1000     -- looks that find the user's code within held running on after Ctrl-C; the next ends it
local interrupted = setmetatable({}, { __tostring = function() return "interrupted" end })

-- Folder of the library's own Lua files, "@.../lua/moonbow/", and of its bindings.
local here = debug.getinfo(1, "S").source:match "^(@.*)repl/[^/]*$" or "@"
local bindings = debug.getinfo(system.time, "S").source:match "^(@.*[/\\])" or "@"

local function is_library(source)
  return source == "=[C]" or source:sub(1, #here) == here or source:sub(1, #bindings) == bindings
end

-- ----- Ctrl-C -----------------------------------------------------------------------------------------------

local look
local patience = 0 -- looks that are left

-- Once the flag is set every instruction is looked at, so that a loop around pcall ends too.
function look()
  if system.interrupted() == 0 then return end
  local info = debug.getinfo(2, "S")
  if not info or is_library(info.source) then return end
  if patience > 0 then
    patience = patience - 1
    return
  end
  debug.sethook(look, "", 1)
  error(interrupted, 0)
end

---Runs fn(...) with Ctrl-C left to it: fn looks at system.interrupted() itself, between what must be whole. A function of the
---user's that it calls and that does not come back is ended, as if it had failed.
function M.held(fn, ...)
  local before = patience
  patience = PATIENCE
  local function give_back(ok, ...)
    patience = before
    if not ok then error((...), 0) end
    return ...
  end
  return give_back(pcall(fn, ...))
end

-- ----- loading ----------------------------------------------------------------------------------------------

-- A chunk that stays interpreted, with the functions in it.
local function prepare(chunk, environment)
  jit.off(chunk, true)
  return setfenv(chunk, environment)
end

-- Lua's functions that load code, for the session: their chunks have its globals and can be ended.
local function loaders(globals)
  local own = {}
  local function through(load)
    return function(...)
      local chunk, problem = load(...)
      if not chunk then return nil, problem end
      return prepare(chunk, globals)
    end
  end
  own.loadfile, own.loadstring = through(loadfile), through(loadstring)
  own.load = function(source, name, mode, environment)
    local chunk, problem = load(source, name, mode)
    if not chunk then return nil, problem end
    return prepare(chunk, environment or globals)
  end
  own.dofile = function(path)
    local chunk, problem = loadfile(path)
    if not chunk then error(problem, 0) end
    return prepare(chunk, globals)()
  end
  return own
end

-- Modules that are not the library's stay interpreted too; their globals are Lua's.
local function watch_require()
  local load = package.loaders[2]
  package.loaders[2] = function(name)
    local chunk, more = load(name)
    if type(chunk) == "function" and not is_library(debug.getinfo(chunk, "S").source) then jit.off(chunk, true) end
    return chunk, more
  end
end

-- ----- names ------------------------------------------------------------------------------------------------

---@class moonbow.repl.Session
---@field globals table what the user has set
---@field commands table the session's own functions
---@field strict table the globals as what is typed sees them
---@field once_local table<string, boolean> names that an earlier line made local
---@field hidden table<string, boolean> commands that a variable took the name of
---@field on_hidden? fun(name: string) is told of the first such variable of a name
---@field trace string? stack of the last error
local Session = {}
Session.__index = Session

---Names that can be read, sorted: of the user, of the commands and of Lua.
---@return string[]
function Session:names()
  local seen = {}
  for _, t in ipairs { self.globals, self.commands, _G } do
    for key in pairs(t) do
      if type(key) == "string" then seen[key] = true end
    end
  end
  return options.keys(seen)
end

-- ", did you mean 'model'?", for a name that nothing has.
local function advice(self, name)
  if self.once_local[name] then return "; a local ends with the line that it was typed in: leave out `local`" end
  local near = #name > 2 and options.nearest(name, self:names())
  return near and (", did you mean '%s'?"):format(near) or ""
end

local function strict_of(self)
  local globals, set = self.globals, {}
  return setmetatable({}, {
    __index = function(_, name)
      local value = globals[name]
      if value == nil and not set[name] then
        error(("there is no '%s'%s"):format(tostring(name), advice(self, tostring(name))), 2)
      end
      return value
    end,
    __newindex = function(_, name, value)
      set[name] = true
      if self.on_hidden and value ~= nil and type(value) ~= "function" and not self.hidden[name]
        and type(rawget(self.commands, name)) == "function" then
        self.hidden[name] = true
        self.on_hidden(name)
      end
      globals[name] = value
    end,
  })
end

-- ----- compiling --------------------------------------------------------------------------------------------

-- A method's name alone is a mistake, nobody breaks a line before the arguments; and so is a string that the line cuts off.
-- Nor does one end a line before the = of an assignment.
local function is_unfinished(problem)
  return problem:find "near '<eof>'$" ~= nil and not problem:find("function arguments expected", 1, true)
    and not problem:find("unfinished string", 1, true) and not problem:find("'=' expected", 1, true)
end

-- "x = 1; x": statements, then an expression, whose values are the results. A `return` is put after a semicolon, a line or an
-- `end` where what is before it is whole by itself. A chunk, or nil and whether more has to come.
local function statements_then_expression(source)
  local places = {}
  for at in source:gmatch "[;\n]()" do places[#places + 1] = at end
  for at in source:gmatch "%f[%w_]end%f[^%w_]()" do places[#places + 1] = at end
  table.sort(places, function(a, b) return a > b end)
  for _, at in ipairs(places) do
    if source:find("%S", at) and loadstring(source:sub(1, at - 1), CHUNK) then
      local chunk, problem = loadstring(source:sub(1, at - 1) .. " return " .. source:sub(at), CHUNK)
      if chunk then return chunk end
      if is_unfinished(problem) then return nil, true end
    end
  end
  return nil, false
end

---A chunk of what was typed: an expression's values are its results. nil and "incomplete" where more has to come, nil and
---"error" with a text where nothing could help.
---@param source string
---@return function? chunk
---@return "incomplete"|"error"|nil
---@return string? text
function Session:compile(source)
  local expression = source:match "^%s*=(.*)$" or source
  local chunk, of_expression = loadstring("return " .. expression, CHUNK)
  local problem
  if not chunk then chunk, problem = loadstring(source, CHUNK) end
  local has_more
  if not chunk then chunk, has_more = statements_then_expression(source) end
  if chunk then
    for names in source:gmatch "%f[%w_]local%s+([%a_][%w_%s,]*)" do
      for name in names:gmatch "[%a_][%w_]*" do self.once_local[name] = true end
    end
    return prepare(chunk, self.strict)
  end
  if has_more or is_unfinished(problem) or is_unfinished(of_expression) then return nil, "incomplete" end
  return nil, "error", M.tidy(problem, source)
end

---Does the text end in a semicolon, which keeps its values from being shown?
---@param source string
---@return boolean
function M.is_muted(source) return source:find ";%s*$" ~= nil end

---An error's text in one line, without the place where there is only one line to be at.
---@param problem any
---@param source? string
---@return string
function M.tidy(problem, source)
  local meta = getmetatable(problem)
  if type(problem) == "table" and not (type(meta) == "table" and rawget(meta, "__tostring")) then
    return show.text(problem, 100)
  end
  local text = tostring(problem):gsub("%s*\n%s*", "; ")
  if not source or not source:find "\n" then text = text:gsub("^input:%d+: ", "") end
  return text
end

-- ----- running ----------------------------------------------------------------------------------------------

-- "attempt to call global 'foo' (a nil value)", of scripts, with the nearest name.
local function with_advice(self, text)
  local name = text:match "global '([%a_][%w_]*)' %(a nil value%)$"
  return name and text .. advice(self, name) or text
end

-- A stack without the functions that only hand a call on, or raise what another one has found.
local function without_own_frames(stack)
  local lines = {}
  for line in stack:gmatch "[^\n]+" do
    local is_own = line:find("moonbow/repl/evaluate.lua:", 1, true) or line:find("bindings/status.lua:", 1, true)
      or line:find("moonbow/options.lua:", 1, true) or line:find("[C]: in function 'error'", 1, true)
    if not is_own then lines[#lines + 1] = line end
  end
  return table.concat(lines, "\n")
end

local function pack(...) return { n = select("#", ...), ... } end

local function pack_call(ok, ...) return ok, pack(...) end

---Runs a chunk.
---@param chunk function
---@param source? string what was typed, for the text of an error
---@return boolean ok
---@return table|string results with n, or the error's text, or "interrupted"
function Session:run(chunk, source)
  local function explain(problem)
    if problem ~= interrupted then
      -- What called the prompt is not of interest.
      local stack = debug.traceback("", 2):gsub("^\n", ""):gsub("\n%s*%[C%]: in function 'xpcall'\n[^\n]*evaluate%.lua.*$", "")
      self.trace = M.tidy(problem) .. "\n" .. without_own_frames(stack)
    end
    return problem
  end
  debug.sethook(look, "", INSTRUCTIONS)
  local ok, results = pack_call(xpcall(chunk, explain))
  debug.sethook()
  if ok then return true, results end
  if system.interrupted() ~= 0 then return false, "interrupted" end
  return false, with_advice(self, M.tidy(results[1], source))
end

---Runs a script's file, whose globals are the session's.
---@param path string
---@param ... string its arguments
---@return boolean ok
---@return table|string results or the error's text
function Session:load(path, ...)
  local chunk, problem = loadfile(path)
  if not chunk then return false, M.tidy(problem) end
  prepare(chunk, self.globals)
  self.globals.arg = { [0] = path, ... }
  local arguments = pack(...)
  return self:run(function() return chunk(unpack(arguments, 1, arguments.n)) end)
end

---@param o { commands: table<string, any>, on_hidden?: fun(name: string) }
---@return moonbow.repl.Session
function M.new(o)
  local self = setmetatable({ commands = o.commands, once_local = {}, hidden = {}, on_hidden = o.on_hidden }, Session)
  self.globals = {}
  local own = loaders(self.globals)
  own._G = self.globals
  for name, value in pairs(own) do self.commands[name] = value end
  -- Where reading an unset global of Lua is an error (strict.lua), it is not read.
  setmetatable(self.commands, { __index = getmetatable(_G) and function(_, name) return rawget(_G, name) end or _G })
  setmetatable(self.globals, { __index = self.commands })
  self.strict = strict_of(self)
  return self
end

M.watch_require = watch_require

return M
