-- SPDX-License-Identifier: MIT
--
-- help.lua: what `? name` and `:help` show: the session's own commands, the library's documentation (moonbow.doc), and for
-- what has neither, what the value itself says.

local doc = require "moonbow.doc"
local format = require "moonbow.report.format"
local show = require "moonbow.repl.show"
local types = require "bindings.types"

local M = {}

local keys = [[
at the prompt
  1 + 1              is shown, and kept as _; with ; at its end it is only kept
  ? mb.clip.norm     documentation of a function, a method (? model:loss) or a command
  $ ls               a command of the shell
  :load FILE [ARG…]  runs a script; its globals stay
  :trace             the stack of the last error
  :help              this text        :quit or Ctrl-D  leaves
  TAB completes, Ctrl-C ends what runs and keeps everything, Ctrl-R searches in earlier lines]]

---@class moonbow.repl.Command
---@field [1] string how it is called: 'step(n)'
---@field [2] string what it does, in a line
---@field [3]? string more

---All commands, a line each.
---@param rows moonbow.repl.Command[]
---@return string
function M.overview(rows)
  local lines = {}
  for i, row in ipairs(rows) do lines[i] = { "  " .. row[1], row[2] } end
  return keys .. "\n\nfunctions of the prompt\n" .. format.columns(lines)
end

local function command_text(row)
  return row[1] .. "\n\n" .. row[2] .. (row[3] and "\n" .. row[3] or "")
end

-- The value that names and dots lead to, without running anything but the library's lookups.
local function value_of(session, name)
  local value = session.globals
  for part in name:gmatch "[^%.:]+" do
    if type(value) ~= "table" then return nil end
    local ok, found = pcall(function(t) return t[part] end, value)
    value = ok and found or nil
  end
  return value
end

-- What the overview says of a command with a colon.
local function colon_text(name)
  for part in (keys .. "\n"):gmatch "[^\n]+" do
    local from = part:find(name .. "%f[%W]")
    if from and #name > 1 then return (part:sub(from):gsub("%s%s+", "  "):gsub("  or Ctrl%-D", " or Ctrl-D")) end
  end
  return ("there is no '%s'; :help lists the commands"):format(name)
end

-- Where a value of the library is documented, by what it says of itself; or nil.
local function class_of(value)
  if types.is_tensor(value) then return "Tensor" end
  if type(value) ~= "table" or not getmetatable(value) then return nil end
  if rawget(value, "handle") and rawget(value, "list") then return "Model" end
  return tostring(value):match "^mb%.[%w_%.]+"
end

local function variable_text(name, value)
  local text = ("%s is a variable: %s"):format(name, show.cell(value))
  local class = class_of(value)
  local entry = class and doc.find(class)
  return entry and text .. "\n\n" .. doc.text(entry) or text
end

local function is_of_lua(fn) return debug.getinfo(fn, "S").what == "C" end

---The text of `? asked`.
---@param session moonbow.repl.Session
---@param rows moonbow.repl.Command[]
---@param asked string
---@return string
function M.about(session, rows, asked)
  if asked == "" then return M.overview(rows) end
  if asked:find "^:" then return colon_text(asked:match "^:%a*") end
  if tonumber(asked) then return asked .. " is a number" end
  if not loadstring("local " .. asked) and asked:find "^%l+$" then return asked .. " is a word of Lua's grammar" end
  local plain = asked:gsub("%s*[%({\"'].*$", "")
  for _, row in ipairs(rows) do
    if row[1]:match "^[%w_%.]+" == plain then return command_text(row) end
  end
  local own = plain ~= "mb" and rawget(session.globals, plain)
  if own ~= nil and own ~= false then return variable_text(plain, own) end
  if plain:find "^[%a_][%w_%.]*$" and not rawget(session.globals, plain:match "^[%w_]+") then
    local value = value_of(session, plain)
    if type(value) == "function" and is_of_lua(value) then return plain .. " is a function of Lua's own" end
  end
  local entry, near = doc.find(asked)
  if entry then return doc.text(entry) end
  local value = value_of(session, plain)
  if value ~= nil then return plain .. "\n\n" .. show.text(value, 100) end
  if #near > 0 then return ("there is no '%s'; there is %s"):format(asked, table.concat(near, ", ")) end
  return ("there is no '%s' with documentation"):format(asked)
end

return M
