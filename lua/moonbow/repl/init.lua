-- SPDX-License-Identifier: MIT
--
-- init.lua: the prompt itself: reads lines until they are whole, runs them, shows what they are worth. What the session
-- offers beside Lua is in commands.lua, what belongs to a model that trains in training.lua.
--
--   > 1 + 1            shown, and kept as _           > x = mb.randn(3)   nothing to show
--   > 1 + 1;           not shown                      > ? mb.clip.norm    documentation
--   > $ ls             a shell command                > :help             more of these
--
-- Results go to standard output, errors to standard error. Lines that come from no terminal are run without prompts, and
-- an error among them makes the exit code 1.

local commands = require "moonbow.repl.commands"
local complete = require "moonbow.repl.complete"
local editor = require "moonbow.repl.editor"
local evaluate = require "moonbow.repl.evaluate"
local show = require "moonbow.repl.show"
local system = require "bindings.system"
local training = require "moonbow.repl.training"

local M = {}

---@class moonbow.Repl
---@field session moonbow.repl.Session
---@field lines moonbow.repl.Lines
---@field failed boolean whether there was an error
local Repl = {}
Repl.__index = Repl

local SIGTERM = 15

-- ----- output -----------------------------------------------------------------------------------------------

---Columns there are to write in.
---@return integer
function Repl.width() return system.is_terminal(1) and math.max(20, system.terminal_width(1)) or 100 end

local function has_colours()
  return system.is_terminal(1) and os.getenv "TERM" ~= "dumb" and (os.getenv "NO_COLOR" or "") == ""
end

---Prints a line.
---@param text string
function Repl.say(_, text)
  io.stdout:write(text, "\n")
  io.stdout:flush()
end

function Repl:complain(text)
  io.stdout:flush()
  io.stderr:write(self.colours and ("\27[31merror\27[0m %s\n"):format(text) or ("error %s\n"):format(text))
  self.failed = true
end

-- ----- a line -----------------------------------------------------------------------------------------------

-- Values of an expression, but for a lone nil; the last one is _.
function Repl:print_results(results)
  if results.n == 0 or results.n == 1 and results[1] == nil then return end
  for i = 1, results.n do self:say(show.text(results[i], self:width())) end
end

function Repl:run(chunk, source)
  local ok, results = self.session:run(chunk, source)
  if ok then
    if results.n > 0 then self.session.globals._ = results[1] end
    if not evaluate.is_muted(source) then
      -- Showing is the user's code too, where an object has a __tostring of its own.
      ok, results = self.session:run(function() self:print_results(results) end)
    end
  end
  if not ok and results == "interrupted" then
    self:say(self.is_interactive and "\ninterrupted" or "interrupted") -- below the terminal's ^C
  elseif not ok then
    self:complain(results)
  end
end

-- What is no Lua: help, shell, commands with a colon. True if it was that.
local function special(self, line)
  local shell = line:match "^%s*%$%s*(.*)$"
  if shell then
    io.stdout:flush()
    local code = os.execute(shell)
    if code ~= 0 then self:complain(("the command ended with code %d"):format(code > 255 and code / 256 or code)) end
    return true
  end
  local asked = line:match "^%s*%?%s*(.-)%s*$" or line:match "^%s*(.-)%s*%?%s*$"
  if asked then
    self:run(function() self.commands.help(asked) end, ";")
    return true
  end
  local name, rest = line:match "^%s*:(%a+)%s*(.-)%s*$"
  if name then
    self:run(function() commands.colon(self, name, rest) end, ";")
    return true
  end
end

---Reads until something whole has been typed and runs it. False when there is no more.
---@return boolean
function Repl:turn()
  local source, prompt = nil, self.prompt
  while true do
    local line, why = self.lines:read(prompt)
    if why == "end" then
      if source then self:complain "the input ends in the middle" end
      return false
    end
    if why == "interrupted" then return true end
    self.lines:remember(line)
    if not source and (line:find "^%s*$" or special(self, line)) then return not self.left end
    source = source and source .. "\n" .. line or line
    local chunk, problem, text = self.session:compile(source)
    if chunk then
      self:run(chunk, source)
      return not self.left
    elseif problem == "error" then
      self:complain(text)
      return true
    end
    prompt = self.continues
  end
end

---Turns until the user leaves.
---@return integer exit code
function Repl:loop()
  if self.lines.problem then self:complain("no history is kept: " .. self.lines.problem) end
  while self:turn() do
    if system.interrupted() == SIGTERM then break end
    system.interrupt_clear()
    collectgarbage() -- tensors that nobody holds any more give their memory back
  end
  self:close()
  if (self.left or 0) ~= 0 then return self.left end
  return not self.is_interactive and self.failed and 1 or 0
end

function Repl:close() self.lines:close() end

---Runs a script; its globals are the session's.
---@param path string
---@param ... string arguments
function Repl:load(path, ...)
  local ok, problem = self.session:load(path, ...)
  if ok then return end
  if problem == "interrupted" then
    system.interrupt_clear()
    return self:say "interrupted"
  end
  self:complain(problem)
end

-- ----- making -----------------------------------------------------------------------------------------------

---@param o { history?: string, plain?: boolean }
---@return moonbow.Repl
function M.new(o)
  local self = setmetatable({ failed = false, colours = has_colours() }, Repl)
  self.is_interactive = system.is_terminal(0)
  system.interrupt_install()
  system.interrupt_patient(true)
  evaluate.watch_require()
  self.is_plain = o.plain
  self.training = training.new(self)
  self.commands = commands.new(self)
  self.session = evaluate.new { commands = self.commands, on_hidden = function(name)
    io.stdout:flush()
    io.stderr:write(("note '%s' is a variable now and hides the command; `%s = nil` gives that back\n"):format(name, name))
  end }
  self.session.globals.mb = require "moonbow"
  self.lines = editor.open { history = o.history, plain = o.plain, complete = function(text, cursor)
    return complete.at(self.session, text, cursor, self:width())
  end, candidates = function(before) return complete.candidates(self.session, before) end }
  local mark = self.colours and not self.lines.is_plain
  self.prompt, self.continues = mark and "\1\27[1m\1mb>\1\27[0m\1 " or "mb> ", "... "
  if not self.is_interactive then self.prompt, self.continues = "", "" end
  return self
end

return M
