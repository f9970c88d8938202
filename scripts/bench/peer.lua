-- SPDX-License-Identifier: MIT
--
-- peer.lua: what the benchmarks share: asking a peer in a process of its own, and leaving a record.

local cjson = require "cjson"
local cli = require "moonbow.cli"

local M = {}

---A word for the shell.
---@param word string
---@return string
function M.quoted(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

---The last line of a command's output, which is a JSON object.
---@param command string
---@return table
function M.ask(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read("*a")
  pipe:close()
  local json = text:match("({[^\n]*})%s*$")
  if not json then cli.fail(1, "no result from: %s", command) end
  return cjson.decode(json)
end

---Writes `value` as JSON.
---@param path string
---@param value table
function M.record(path, value)
  local file, problem = io.open(path, "wb")
  if not file then cli.fail(1, "%s", problem) end
  file:write(cjson.encode(value), "\n")
  file:close()
end

return M
