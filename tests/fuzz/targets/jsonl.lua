-- SPDX-License-Identifier: MIT
--
-- jsonl.lua: a fuzz target for logs that a resumed run goes on with: whatever the file holds, what stays is whole records of
-- the steps so far, in their order, and the next record follows on a line of its own.

local json = require "moonbow.io.json"
local jsonl = require "moonbow.io.jsonl"
local runner = require "tests.smoke.runner"
local targets = require "tests.fuzz.targets.json"

local M = { sources = { "lua/moonbow/io/jsonl.lua" }, is_file = true }

function M.generate(r)
  local lines = {}
  for i = 1, r:to(6) do
    lines[i] = r:once_in(3) and targets.generate(r):gsub("\n", r:once_in(4) and "\n" or " ")
      or ('{"step":%s,"loss":%g}'):format(r:once_in(8) and r:pick { "null", '"1"', "-1", "1e300", "[]" } or r:to(9), r:to(9))
  end
  return table.concat(lines, r:once_in(9) and "\r\n" or "\n") .. (r:once_in(3) and "" or "\n")
end

function M.check(text, path)
  local log = jsonl.open(path, { resume_after = 5 })
  log:write { step = 6 }
  log:close()
  local after = runner.read(path)
  assert(after:sub(-11) == '{"step":6}\n', "the new record is not at the end")
  local from, kept = 1, 0
  for line in after:sub(1, -12):gmatch "([^\n]*)\n" do
    local at, stop = text:find(line .. "\n", from, true)
    assert(at, "a line is there that was not")
    local record = json.decode(line)
    assert(type(record) == "table", "a line that is no record has stayed")
    assert(type(record.step) ~= "number" or record.step <= 5, "a later step has stayed")
    from, kept = stop + 1, kept + 1
  end
  return kept > 0 and "records stay" or "none stays"
end

return M
