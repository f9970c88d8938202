-- SPDX-License-Identifier: MIT
--
-- editor.lua: where the prompt's lines come from: libedit (bindings/editor.lua), else lua-readline, else plain reading of
-- standard input; and the file that keeps the lines between sessions.
--
--   local lines = editor.open { history = PATH, plain = false, complete = ..., candidates = ... }     as of complete.lua
--   lines:read(prompt) -> line, or nil and "end" or "interrupted"
--   lines:close()
--
-- The history's file is only ever appended to, a line as it is entered, so that nothing is lost with a process; what
-- follows itself is kept once. Where it has grown to twice LINES, the newest LINES stay.

local system = require "bindings.system"
local writing = require "moonbow.io.writing"

local M = {}

local LINES = 1000

-- ----- history ----------------------------------------------------------------------------------------------

---Where the history is kept unless another file is named; nil without a home.
---@return string?
function M.default_history()
  local state = os.getenv "XDG_STATE_HOME"
  if state and state:sub(1, 1) == "/" then return state .. "/moonbow/history" end
  local home = os.getenv "HOME"
  return home and home ~= "" and home .. "/.local/state/moonbow/history" or nil
end

-- The newest lines of a file, oldest first, cut to LINES on the disk where they are many more.
local function load_history(path)
  local file = path and io.open(path, "rb")
  if not file then return {} end
  local all = {}
  for line in file:lines() do all[#all + 1] = line end
  file:close()
  local kept = {}
  for i = math.max(1, #all - LINES + 1), #all do kept[#kept + 1] = all[i] end
  if #all > 2 * LINES then
    pcall(writing.whole_file, path, function(aside) writing.text(aside, table.concat(kept, "\n") .. "\n") end)
  end
  return kept
end

-- A file to append to, or nil and why not: a session goes on without.
local function open_history(path)
  if not path then return nil end
  local folder = path:match "^(.*)/[^/]*$"
  if folder and folder ~= "" then
    local ok, problem = pcall(system.make_folder, folder)
    if not ok then return nil, tostring(problem) end
  end
  return io.open(path, "ab")
end

-- ----- the three kinds ----------------------------------------------------------------------------------------

-- lua-readline, which asks for all that the piece from..to of a line may become.
local function open_readline(candidates)
  local ok, readline = pcall(require, "readline")
  if not ok then return nil end
  readline.set_options { keeplines = LINES, histfile = "", auto_add = false }
  readline.set_completion_append_character ""
  readline.set_complete_function(function(text, from, to)
    local piece, found = text:sub(from, to), {}
    local stem, list = candidates(text:sub(1, to))
    if #stem > #piece then return found end
    for i, name in ipairs(list) do found[i] = piece:sub(1, #piece - #stem) .. name end
    return found
  end)
  return {
    read = function(_, prompt)
      local line = readline.readline((prompt:gsub("\1(.-)\1", "\1%1\2"))) -- its marks around what takes no room
      if line and system.interrupted() ~= 0 then
        system.interrupt_clear()
        return nil, "interrupted"
      end
      if line then return line end
      return nil, "end"
    end,
    remember = function(_, line) readline.add_history(line) end,
    close = function() end,
  }
end

-- Lines of standard input as they are. A prompt is shown to a terminal only.
local function open_plain()
  local is_terminal = system.is_terminal(0)
  local kept -- a line that was typed after Ctrl-C
  local function read_line(prompt)
    if kept then
      local line = kept
      kept = nil
      return line
    end
    if is_terminal then
      io.stdout:write(prompt)
      io.stdout:flush()
    end
    return io.stdin:read "*l"
  end
  return {
    is_plain = true,
    read = function(_, prompt)
      local line = read_line(prompt)
      if is_terminal and line and system.interrupted() ~= 0 then
        -- The terminal forgets what was typed before Ctrl-C, and the reading goes on: this line is all of the next.
        system.interrupt_clear()
        kept = line
        return nil, "interrupted"
      end
      if line then return (line:gsub("\r$", "")) end
      if is_terminal then io.stdout:write "\n" end
      return nil, "end"
    end,
    remember = function() end,
    close = function() end,
  }
end

-- ----- the editor ---------------------------------------------------------------------------------------------

---@class moonbow.repl.Lines
---@field is_plain boolean? lines without editing
---@field problem string? why there is no history, to be said once
local Lines = {}
Lines.__index = Lines

---@param prompt string
---@return string? line
---@return "end"|"interrupted"|nil why there is none
function Lines:read(prompt)
  return self.inner:read(prompt, self.complete)
end

---Keeps a line for the arrow keys and for later sessions.
---@param line string
function Lines:remember(line)
  if self.inner.is_plain or line:find "^%s*$" or line == self.last then return end
  self.last = line
  self.inner:remember(line)
  if self.file then
    self.file:write(line, "\n")
    self.file:flush()
  end
end

function Lines:close()
  self.inner:close()
  if self.file then self.file:close() end
  self.file = nil
end

---@param o { history?: string, plain?: boolean, complete: fun(text: string, cursor: integer): string?, string?,
---  candidates: fun(before: string): string, string[] }
---@return moonbow.repl.Lines
function M.open(o)
  local inner
  local can_edit = system.is_terminal(0) and system.is_terminal(1) and os.getenv "TERM" ~= "dumb"
  if can_edit and not o.plain then
    inner = require("bindings.editor").open { history_size = LINES } or open_readline(o.candidates)
  end
  inner = inner or open_plain()
  local self = setmetatable({ inner = inner, complete = o.complete, is_plain = inner.is_plain }, Lines)
  if not inner.is_plain then
    for _, line in ipairs(load_history(o.history)) do
      inner:remember(line)
      self.last = line
    end
    self.file, self.problem = open_history(o.history)
  end
  return self
end

return M
