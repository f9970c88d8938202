-- SPDX-License-Identifier: MIT
--
-- events.lua: the records of TensorBoard's event files. A record is
--   length, 8 bytes | masked CRC-32C of these | data | masked CRC-32C of the data, 4 bytes
-- and its data are one message (tensorboard/compat/proto/event.proto, summary.proto):
--   Event            wall_time 1 double, step 2, file_version 3, summary 5, session_log 7
--   Summary          value 1, repeated
--   Summary.Value    tag 1, simple_value 2 float, histo 5
--   HistogramProto   min 1, max 2, num 3, sum 4, sum_squares 5, bucket_limit 6, bucket 7: doubles
--   SessionLog       status 1: START = 1

local bytes = require "bindings.bytes"
local crc32c = require "moonbow.io.crc32c"
local protobuf = require "moonbow.io.protobuf"

local M = {}

M.VERSION = "brain.Event:2"
M.START = 1

-- ----- writing ------------------------------------------------------------------------------------------

--- A record of these data.
---@param data string
---@return string
function M.record(data)
  local length = bytes.u64(#data)
  return length .. bytes.u32(crc32c.masked(length)) .. data .. bytes.u32(crc32c.masked(data))
end

---@param tag string
---@param value number
---@return string Summary.Value
function M.scalar(tag, value) return protobuf.text(1, tag) .. protobuf.float(2, value) end

---@param tag string
---@param h moonbow.Histogram
---@return string Summary.Value
function M.histogram(tag, h)
  return protobuf.text(1, tag) .. protobuf.text(5, protobuf.double(1, h.min) .. protobuf.double(2, h.max)
    .. protobuf.double(3, h.num) .. protobuf.double(4, h.sum) .. protobuf.double(5, h.sum_squares)
    .. protobuf.doubles(6, h.limits) .. protobuf.doubles(7, h.counts))
end

--- An event with a summary of some values.
---@param wall_time number seconds since 1970
---@param step integer
---@param values string[] as scalar() and histogram() make them
---@return string data
function M.summary(wall_time, step, values)
  local parts = {}
  for i, value in ipairs(values) do parts[i] = protobuf.text(1, value) end
  return protobuf.double(1, wall_time) .. protobuf.integer(2, step) .. protobuf.text(5, table.concat(parts))
end

--- The event that a file begins with.
function M.version(wall_time) return protobuf.double(1, wall_time) .. protobuf.text(3, M.VERSION) end

--- The event that a session goes on with `step`: what earlier files have of this step and later ones counts no more.
function M.start(wall_time, step)
  return protobuf.double(1, wall_time) .. protobuf.integer(2, step) .. protobuf.text(7, protobuf.integer(1, M.START))
end

-- ----- reading ------------------------------------------------------------------------------------------

local histogram_fields = { "min", "max", "num", "sum", "sum_squares" }

local function read_histogram(s, first, last)
  local h = { min = 0, max = 0, num = 0, sum = 0, sum_squares = 0, limits = {}, counts = {} }
  protobuf.each(s, first, last, function(number, kind, from, to)
    local name = histogram_fields[number]
    if name then
      h[name] = protobuf.read_double(name, s, kind, from)
    elseif number == 6 then
      protobuf.read_doubles("bucket_limit", s, kind, from, to, h.limits)
    elseif number == 7 then
      protobuf.read_doubles("bucket", s, kind, from, to, h.counts)
    end
  end)
  return h
end

local function read_value(s, first, last, event)
  local tag, scalar, histogram = "", nil, nil
  protobuf.each(s, first, last, function(number, kind, from, to)
    if number == 1 then
      tag = protobuf.read_text("tag", s, kind, from, to)
    elseif number == 2 then
      scalar = protobuf.read_float("simple_value", s, kind, from)
    elseif number == 5 then
      protobuf.want_message("histo", kind, from)
      histogram = read_histogram(s, from, to)
    end
  end)
  if scalar then event.scalars[tag] = scalar end
  if histogram then event.histograms[tag] = histogram end
end

local function read_event(s)
  local event = { wall_time = 0, step = 0, scalars = {}, histograms = {} }
  protobuf.each(s, 1, #s, function(number, kind, from, to, value)
    if number == 1 then
      event.wall_time = protobuf.read_double("wall_time", s, kind, from)
    elseif number == 2 then
      event.step = protobuf.read_integer("step", kind, from, value)
    elseif number == 3 then
      event.file_version = protobuf.read_text("file_version", s, kind, from, to)
    elseif number == 5 then
      protobuf.want_message("summary", kind, from)
      protobuf.each(s, from, to, function(field, field_kind, first, last)
        if field ~= 1 then return end
        protobuf.want_message("value", field_kind, first)
        read_value(s, first, last, event)
      end)
    elseif number == 7 then
      protobuf.want_message("session_log", kind, from)
      protobuf.each(s, from, to, function(field, field_kind, first, _, status)
        if field == 1 then event.session = protobuf.read_integer("status", field_kind, first, status) end
      end)
    end
  end)
  return event
end

---@class moonbow.Event one record of an event file
---@field wall_time number
---@field step integer
---@field scalars table<string, number>
---@field histograms table<string, moonbow.Histogram>
---@field file_version? string
---@field session? integer 1: a session begins with this step

--- The event in a record's data, or nil, what is wrong with it, and where, counted from the first byte of the data. Fields
--- that this file does not name are passed over.
---@param data string
---@return moonbow.Event?
---@return string? problem
---@return integer? offset
function M.parse(data)
  local ok, result, at = protobuf.try(read_event, data)
  if ok then return result end
  return nil, result, at
end

return M
