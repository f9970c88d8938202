-- SPDX-License-Identifier: MIT
--
-- status.lua: from a status of the engine to a Lua error at the line of the user's script.
--
-- The position is that of the first stack level that lies outside the library's own folders, however many
-- of the library's functions lie between. Running out of memory, and changing in place what only a dropped
-- graph still holds, are given a second chance after a collection: Lua's collector does not see big buffers.

local ffi = require "ffi"
local load = require "bindings.load"

local C = load.C
local OK, NOMEM, STATE = tonumber(C.MB_OK), tonumber(C.MB_ERR_NOMEM), tonumber(C.MB_ERR_STATE)

local M = { OK = OK }

-- Prefixes of debug.getinfo's `source` that belong to the library.
local own_folders = {}

--- Counts the files below the folder of `source` (as debug.getinfo gives it, "@.../file.lua") as the
--- library's: errors are never reported at their lines.
---@param source string
function M.add_library(source)
  own_folders[#own_folders + 1] = source:match "^(@.*[/\\])" or "@"
end
M.add_library(debug.getinfo(1, "S").source)

local function is_library(source)
  for i = 1, #own_folders do
    if source:sub(1, #own_folders[i]) == own_folders[i] then return true end
  end
  return source == "=[C]"
end

local MOST = 1000 -- bytes of a text

local escapes = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

--- A text as one line that a terminal can show, whatever was read from files into it.
---@param text string
---@return string
function M.one_line(text)
  if #text > MOST then text = text:sub(1, MOST):gsub("[\192-\255]?[\128-\191]*$", "") .. " ..." end
  return (text:gsub("[%c\127]", function(c) return escapes[c] or ("\\%d"):format(c:byte()) end))
end

--- Raises `message`, as one line, at the user's line.
---@param message string
function M.raise(message)
  message = M.one_line(message)
  local level = 2
  while true do
    local info = debug.getinfo(level, "S")
    if not info then error(message, 0) end
    if not is_library(info.source) then error(message, level) end
    level = level + 1
  end
end

--- Raises a formatted message at the user's line.
---@param format string
function M.fail(format, ...)
  M.raise(format:format(...))
end

local function last_error()
  return ffi.string(C.mb_last_error())
end

local function may_help(status)
  return status == NOMEM
    or (status == STATE and last_error():find("still needed by the backward", 1, true) ~= nil)
end

local explain -- how the engine's texts are put, within M.explained

local function finish(before, ok, ...)
  explain = before
  if not ok then error((...), 0) end
  return ...
end

--- Calls fn(...); what the engine complains of meanwhile is put as explain(text) says.
---@param how fun(text: string): string
---@param fn fun(...): ...
function M.explained(how, fn, ...)
  local before = explain
  explain = how
  return finish(before, pcall(fn, ...))
end

--- Raises the engine's text if `status` is not OK.
function M.check(status)
  status = tonumber(status)
  if status == OK then return end
  local text = last_error()
  M.raise(explain and explain(text) or text)
end

--- Deals with a status that is not OK: collects and calls C[name](...) once more where that may help, and
--- raises the engine's text otherwise.
---@param status any of the first call
---@param name string function to call again
function M.second_chance(status, name, ...)
  status = tonumber(status)
  if may_help(status) then
    collectgarbage()
    collectgarbage()
    status = tonumber(C[name](...))
  end
  M.check(status)
end

return M
