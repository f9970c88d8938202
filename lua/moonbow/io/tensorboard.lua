-- SPDX-License-Identifier: MIT
--
-- tensorboard.lua: event files for TensorBoard, written and read without it.
--
--   local log = mb.tensorboard.open "runs/mine"            a folder is a run; its files are in the order of their names
--   log:scalar("loss", 2.5, 1)                             "/" in a tag makes groups: "tau/h.0.attn.c_attn.weight"
--   log:histogram("weights/wte", model:parameter("wte.weight").value, 1)     a tensor or a list of numbers
--   log:flush()   log:close()
--
-- A scalar that is NaN or infinite is written as it is: TensorBoard marks it. Such values of a histogram are left out; one that
-- has no others is not written. A run that goes on writes a new file, whose first event says from which step: TensorBoard
-- drops what the files before it have of that step and later ones.

local bytes = require "bindings.bytes"
local crc32c = require "moonbow.io.crc32c"
local events = require "moonbow.io.events"
local histogram = require "moonbow.io.histogram"
local options = require "moonbow.options"
local status = require "bindings.status"
local system = require "bindings.system"
local types = require "bindings.types"

local M = {}

local PREFIX = "events.out.tfevents."

-- ----- writing ------------------------------------------------------------------------------------------

---@class moonbow.EventLog an open event file
---@field path string
local Log = {}
Log.__index = Log

local function hostname()
  local file = io.open("/proc/sys/kernel/hostname", "rb")
  local name = file and file:read "*l" or os.getenv "HOSTNAME" or ""
  if file then file:close() end
  name = name:gsub("[^%w%-_]", "-")
  return name ~= "" and name or "localhost"
end

-- A name behind those of the folder's other event files: they are read in the order of their names, by seconds.
local function new_name(folder)
  local seconds = os.time()
  for _, name in ipairs(system.list(folder)) do
    local other = tonumber(name:match "^events%.out%.tfevents%.(%d+)")
    if other and other < 2 ^ 53 then seconds = math.max(seconds, other + 1) end
  end
  return ("%s%010d.%s.%d"):format(PREFIX, seconds, hostname(), system.process_id())
end

---@class moonbow.EventLogOptions
---@field resume_after? integer what other files of the folder have of later steps counts no more

--- Opens a new event file in a folder, which is made if it is not there.
---@param folder string
---@param given? moonbow.EventLogOptions
---@return moonbow.EventLog
---@usage local log = mb.tensorboard.open "runs/mine"; log:scalar("loss", 2.5, 1); log:close()
function M.open(folder, given)
  options.value("mb.tensorboard.open", "the folder", folder, { type = "string" })
  local o = options.check("mb.tensorboard.open", given, { resume_after = { type = "integer", min = 0, max = 2 ^ 52 } })
  system.make_folder(folder)
  local path = folder .. "/" .. new_name(folder)
  local file, problem = io.open(path, "ab")
  if not file then status.fail("tensorboard: cannot write: %s", problem) end
  local self = setmetatable({ path = path, file = file, waiting = {}, epoch = os.time() - system.time() }, Log)
  self:put(events.version(self:now()))
  if o.resume_after then self:put(events.start(self:now(), o.resume_after + 1)) end
  self:flush()
  return self
end

-- Seconds since 1970, never going back within a file.
function Log:now() return self.epoch + system.time() end

function Log:put(data)
  if not self.file then status.fail("tensorboard: '%s' is closed", self.path) end
  self.waiting[#self.waiting + 1] = events.record(data)
end

local function check_place(who, tag, step)
  options.value(who, "the tag", tag, { type = "string" })
  if not tag:find "^[%w_.%-/]+$" then
    status.fail("%s: the tag '%s' is not made of letters, digits and _.-/", who, (tag:gsub("%c", "?")))
  end
  options.value(who, "the step", step, { type = "integer", min = 0, max = 2 ^ 53 })
end

--- Adds a number of a step.
---@param tag string letters, digits and _.-/
---@param value number
---@param step integer
function Log:scalar(tag, value, step)
  check_place("log:scalar", tag, step)
  if type(value) ~= "number" then
    status.fail("log:scalar: the value of '%s' must be a number, not %s", tag, types.describe(value))
  end
  self:put(events.summary(self:now(), step, { events.scalar(tag, value) }))
end

--- Adds many numbers of a step in one record.
---@param values table<string, number> by tag
---@param step integer
function Log:scalars(values, step)
  local list = {}
  for i, tag in ipairs(options.keys(values)) do
    check_place("log:scalars", tag, step)
    if type(values[tag]) ~= "number" then
      status.fail("log:scalars: the value of '%s' must be a number, not %s", tag, types.describe(values[tag]))
    end
    list[i] = events.scalar(tag, values[tag])
  end
  if #list > 0 then self:put(events.summary(self:now(), step, list)) end
end

--- Adds how values are distributed: eight buckets from each power of two to the next.
---@param tag string letters, digits and _.-/
---@param values moonbow.Tensor|number[]
---@param step integer
---@return integer nonfinite values that were left out
function Log:histogram(tag, values, step)
  check_place("log:histogram", tag, step)
  if not types.is_tensor(values) and type(values) ~= "table" then
    status.fail("log:histogram: the values of '%s' must be a tensor or a list of numbers, not %s", tag, types.describe(values))
  end
  local h = histogram.of(values)
  if not h then return types.is_tensor(values) and values.numel or #values end
  self:put(events.summary(self:now(), step, { events.histogram(tag, h) }))
  return h.nonfinite
end

--- Hands what was added to the operating system: once a step is enough for those who look on.
function Log:flush()
  if not self.file or #self.waiting == 0 then return end
  local ok, problem = self.file:write(table.concat(self.waiting))
  if ok then ok, problem = self.file:flush() end
  if not ok then status.fail("tensorboard: cannot write to '%s': %s", self.path, problem) end
  self.waiting = {}
end

--- Ends the file; adding to it is an error from then on.
function Log:close()
  if not self.file then return end
  self:flush()
  self.file:close()
  self.file = nil
end

-- ----- reading ------------------------------------------------------------------------------------------

-- The data of the record at `offset` of a file that ends at `size`, and the offset behind it; nil and a text where the file
-- ends within the record.
local function read_record(fail, file, offset, size)
  if size - offset < 12 then return nil, ("%d bytes of a record of at least 16"):format(size - offset) end
  local head = file:read(12)
  if not head or #head < 12 then fail(offset, "cannot read 12 bytes") end
  if crc32c.masked(head:sub(1, 8)) ~= bytes.read_u32(head, 9) then fail(offset, "the check of a record's length is wrong") end
  local length = bytes.read_u64(head, 1)
  if length > size - offset - 16 then
    return nil, ("%d bytes of a record of %.0f"):format(size - offset, length + 16)
  end
  local data = length > 0 and file:read(length) or ""
  local check = file:read(4)
  if #(data or "") ~= length or #(check or "") ~= 4 then fail(offset, "cannot read %d bytes", length + 4) end
  if crc32c.masked(data) ~= bytes.read_u32(check, 1) then fail(offset + 12, "the check of a record's data is wrong") end
  return data, offset + 16 + length
end

--- Reads an event file. Lengths and checks must be right: an error says where they are not. A record at the end that was not
--- written whole, as a crash or a run that still writes leaves it, is no error: the second result says so.
---@param path string
---@return moonbow.Event[] events
---@return string? cut what is left of the last record
function M.read(path)
  options.value("mb.tensorboard.read", "the path", path, { type = "string" })
  local size = system.path_size(path)
  local file, problem = io.open(path, "rb")
  if not file then status.fail("tensorboard: cannot open: %s", problem) end
  local function fail(offset, format, ...)
    file:close()
    status.fail("tensorboard: '%s' at byte %d: " .. format, path, offset, ...)
  end
  local list, offset = {}, 0
  while offset < size do
    local data, after = read_record(fail, file, offset, size)
    if not data then
      file:close()
      return list, ("at byte %d: %s"):format(offset, after)
    end
    local event, wrong, at = events.parse(data)
    if not event then fail(offset + 12 + at, "the event cannot be read: %s", wrong) end
    list[#list + 1], offset = event, after
  end
  file:close()
  return list
end

return M
