-- SPDX-License-Identifier: MIT
--
-- records.lua: the results of an experiment's runs, one JSON object a line in OUT/results.jsonl:
--   { "name": "ema", "seed": 11, "settings": {...}, "result": {...}, "seconds": 2.5, "code": "0f3c...", "device": "cpu" }
-- A run is the same as a recorded one if name, seed and all settings are the same, and it was made by the same text of the
-- script (code.lua) on the same kind of device; other results stay in the file and are not used. The file is only appended
-- to, each line flushed at once; a line that a crash cut off is dropped.
-- NaN and infinities are numbers here and the strings "NaN", "Infinity", "-Infinity" in JSON.

local json = require "moonbow.io.json"
local jsonl = require "moonbow.io.jsonl"
local system = require "bindings.system"

local M = {}

local nonfinite = { NaN = 0 / 0, Infinity = math.huge, ["-Infinity"] = -math.huge }

-- The value with its strings for NaN and infinities as numbers again.
local function revive(value)
  if type(value) == "string" then return nonfinite[value] or value end
  if value == json.null then return nil end
  if type(value) == "table" then
    for key, inner in pairs(value) do value[key] = revive(inner) end
  end
  return value
end

---@param value any
---@param what? string for the text of an error
---@return string one line
function M.encode(value, what)
  local text, problem = json.encode(value, { nonfinite = true })
  if not text then error(("experiment: %s cannot be written: %s"):format(what or "a result", problem), 0) end
  return text
end

---@param text string
---@return any value nil if it is no JSON
function M.decode(text)
  return revive((json.decode(text)))
end

---What makes two runs the same.
---@param run moonbow.Run
---@return string
function M.key(run)
  return M.encode({ name = run.name, seed = run.seed, settings = run.settings or {} },
    ("what run '%s' is"):format(tostring(run.name)))
end

---A run's name for people.
---@param run moonbow.Run
---@return string
function M.label(run)
  return run.seed and ("%s, seed %d"):format(run.name, run.seed) or run.name
end

---Records of a folder by key: those that the text of the script and the device `by` would give. With `by.keep`, those of
---another text are as good where there are no others.
---@param folder string
---@param by? { code?: string, device?: string, keep?: boolean } nil: any
---@return table<string, table> records
---@return integer count
---@return table<string, "code"|"device"> others keys of which there are only records that are not good, and what differs
function M.read(folder, by)
  by = by or { keep = true }
  local path, found, others, count = folder .. "/results.jsonl", {}, {}, 0
  if system.path_kind(path) ~= "file" then return found, 0, others end
  for line in io.lines(path) do
    local record = M.decode(line)
    if type(record) == "table" and record.name and type(record.result) == "table" then
      local key, is_old = M.key(record), record.code ~= by.code
      if by.device and record.device and record.device ~= by.device then
        others[key] = others[key] or "device"
      elseif is_old and not by.keep then
        others[key] = "code"
      elseif not (is_old and found[key] and found[key].code == by.code) then
        found[key] = record
      end
    end
  end
  for key in pairs(found) do
    others[key], count = nil, count + 1
  end
  return found, count, others
end

---@class moonbow.experiment.Log
local Log = {}
Log.__index = Log

---A log to append records to; what a crash left of a line is taken out first.
---@param folder string
---@param by? { code?: string, device?: string } what its records are made by
---@return moonbow.experiment.Log
function M.open(folder, by)
  local path = folder .. "/results.jsonl"
  jsonl.open(path, { resume_after = math.huge }):close()
  local file, problem = io.open(path, "ab")
  if not file then error("experiment: cannot write: " .. problem, 0) end
  return setmetatable({ file = file, path = path, by = by or {} }, Log)
end

---@param run moonbow.Run
---@param result table
---@param seconds number
---@return table record
function Log:write(run, result, seconds)
  local record = { name = run.name, seed = run.seed, settings = run.settings or {}, result = result, seconds = seconds,
    code = self.by.code, device = self.by.device }
  local ok, problem = self.file:write(M.encode(record), "\n")
  if ok then ok, problem = self.file:flush() end
  if not ok then error(("experiment: cannot write to '%s': %s"):format(self.path, problem), 0) end
  return record
end

function Log:close() self.file:close() end

return M
