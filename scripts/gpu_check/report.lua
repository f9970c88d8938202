-- SPDX-License-Identifier: MIT
--
-- report.lua: the results of gpu_check.sh, from the files that its rows leave in a folder, as a table, a JSON file and one log:
--   luajit scripts/gpu_check/report.lua FOLDER OUT
-- FOLDER holds `head` (lines "key value"), `rows` (one name a line, first word), and of each row that has ended NAME.result
-- (status, seconds, exit code), NAME.log and perhaps NAME.json. Written after every row: what has not ended is "not run".
-- A rehearsal goes into rehearsal.json, not gpu_check.json.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local json = require "moonbow.io.json"

-- Longest part of a row's log that is kept: its end.
local LOG_BYTES = 100000

local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  return text
end

-- Aside first: a reader, or a run that is killed here, sees the old file or the new one.
local function write(path, text)
  local file = assert(io.open(path .. ".tmp", "wb"))
  file:write(text)
  file:close()
  assert(os.rename(path .. ".tmp", path))
end

-- Bytes that are not plain text would make the JSON invalid.
local function plain(text) return (text:gsub("[^\32-\126]", "?")) end

local folder, out = arg[1], arg[2]
local head = {}
for key, value in (read(folder .. "/head") or ""):gmatch "(%S+) ?([^\n]*)\n" do head[key] = plain(value) end
local is_rehearsal = head.kind ~= "GPU"

local rows, logs, failures = {}, {}, 0
for name in (read(folder .. "/rows") or ""):gmatch "([^%s]+)[^\n]*\n?" do
  local row = { name = name, status = "not run" }
  local status, seconds = (read(("%s/%s.result"):format(folder, name)) or ""):match "^([^\t]*)\t([^\t]*)"
  if status then
    local log = read(("%s/%s.log"):format(folder, name)) or ""
    row.status, row.seconds = status, tonumber(seconds)
    row.said = plain(log:match "([^\n]*)\n*$" or "")
    local data = read(("%s/%s.json"):format(folder, name))
    if data then
      local ok, value = pcall(json.decode, data)
      row.data = ok and value or nil
    end
    if status ~= "passed" and status ~= "skipped" then failures = failures + 1 end
    logs[#logs + 1] = ("===== %s: %s, %s s\n%s\n"):format(name, status, seconds, log:sub(-LOG_BYTES))
  end
  if is_rehearsal then row.rehearsal = true end
  rows[#rows + 1] = row
end

-- One row a line, so that two results can be compared by diff.
local lines = { "{", ('"rehearsal": %s,'):format(tostring(is_rehearsal)), ('"failures": %d,'):format(failures) }
for _, key in ipairs { "kind", "gpu", "memory", "driver", "nvcc", "cpu", "commit", "date" } do
  lines[#lines + 1] = ("%s: %s,"):format(json.encode(key), json.encode(head[key] or ""))
end
lines[#lines + 1] = '"rows": ['
for i, row in ipairs(rows) do lines[#lines + 1] = json.encode(row) .. (i < #rows and "," or "") end
lines[#lines + 1] = "]}"
write(("%s/%s.json"):format(out, is_rehearsal and "rehearsal" or "gpu_check"), table.concat(lines, "\n") .. "\n")

local text, counts = {}, {}
for _, row in ipairs(rows) do
  counts[row.status] = (counts[row.status] or 0) + 1
  text[#text + 1] = ("%-28s %-10s %9s   %s"):format(row.name, row.status, row.seconds and ("%.1f s"):format(row.seconds) or "",
    (row.said or ""):sub(1, 120)):gsub("%s+$", "")
end
local sums = {}
for _, status in ipairs { "passed", "FAILED", "timed out", "skipped", "not run" } do
  if counts[status] then sums[#sums + 1] = counts[status] .. " " .. status end
end
local title = ("%s: %s; %s; commit %s; %s"):format(head.kind or "", head.gpu or "", head.cpu or "",
  (head.commit or ""):sub(1, 12), head.date or "")
write(out .. "/table.txt", ("%s\n\n%s\n\n%s\n"):format(title, table.concat(text, "\n"), table.concat(sums, ", ")))
write(out .. "/gpu_check.log", table.concat(logs, "\n"))
