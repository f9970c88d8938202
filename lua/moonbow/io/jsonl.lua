-- SPDX-License-Identifier: MIT
--
-- jsonl.lua: a log of one JSON object a line, only ever appended to and flushed at each line, so that it can
-- be followed while it grows and holds all that was said before a crash. NaN and infinities are the strings
-- "NaN", "Infinity", "-Infinity". A resumed run first takes out what lies after its checkpoint, so that
-- no step is there twice.

local status = require "bindings.status"
local system = require "bindings.system"
local json = require "moonbow.io.json"
local lines = require "moonbow.io.lines"
local check = require("moonbow.options").check
local writing = require "moonbow.io.writing"

local M = {}

---@class moonbow.JsonLog an open log
---@field path string
---@field digits integer
local Log = {}
Log.__index = Log

-- Calls take(line, whole) for every line of a file.
local function each_line(path, take)
  local file, problem = io.open(path, "rb")
  if not file then status.fail("jsonl: cannot open: %s", problem) end
  lines.each(file, take)
  file:close()
end

-- Is a line a record that was written whole, of no later step?
local function stays(line, whole, last_step)
  local record = whole and json.decode(line)
  return type(record) == "table" and not (type(record.step) == "number" and record.step > last_step)
end

-- Rewrites the file without records of a later step and without a line that a crash cut off.
local function truncate(path, last_step)
  local all_stay = true
  each_line(path, function(line, whole)
    all_stay = stays(line, whole, last_step)
    return all_stay
  end)
  if all_stay then return end
  writing.whole_file(path, function(aside)
    writing.pieces(aside, function(put)
      each_line(path, function(line, whole)
        if stays(line, whole, last_step) then put(line .. "\n") end
      end)
    end)
  end)
end

---@class moonbow.JsonLogOptions
---@field resume_after? integer keep records up to this step only
---@field digits? integer significant digits of numbers: 9 (default) for f32, 17 for f64

--- Opens a log for appending; it is made if it is not there.
---@param path string
---@param options? moonbow.JsonLogOptions
---@return moonbow.JsonLog
---@usage local log = mb.jsonl.open "log.jsonl"; log:write { step = 1, loss = 2.5 }; log:close()
function M.open(path, options)
  options = check("mb.jsonl.open", options, {
    resume_after = { type = "number" }, digits = { type = "integer", default = 9, min = 1, max = 17 } })
  if options.resume_after and system.path_kind(path) == "file" then truncate(path, options.resume_after) end
  local file, problem = io.open(path, "ab")
  if not file then status.fail("jsonl: cannot write: %s", problem) end
  return setmetatable({ path = path, file = file, digits = options.digits }, Log)
end

--- Appends one record. `step`, if it is there, comes first, then the other keys in alphabetical order.
---@param record table<string, any>
function Log:write(record)
  if not self.file then status.fail("jsonl: '%s' is closed", self.path) end
  local step, rest = record.step, {}
  for key, value in pairs(record) do
    if key ~= "step" then rest[key] = value end
  end
  local options = { digits = self.digits, nonfinite = true }
  local text, problem = json.encode(rest, options)
  if not text then status.fail("jsonl: '%s': the record cannot be written: %s", self.path, problem) end
  if step ~= nil then
    local head = '{"step":' .. json.encode(step, options)
    text = text == "{}" and head .. "}" or head .. "," .. text:sub(2)
  end
  local ok
  ok, problem = self.file:write(text, "\n")
  if ok then ok, problem = self.file:flush() end
  if not ok then status.fail("jsonl: cannot write to '%s': %s", self.path, problem) end
end

--- Ends the log; writing to it is an error from then on.
function Log:close()
  if not self.file then return end
  self.file:close()
  self.file = nil
end

return M
