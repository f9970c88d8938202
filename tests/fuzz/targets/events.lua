-- SPDX-License-Identifier: MIT
--
-- events.lua: a fuzz target for the reader of event files: it gives events, or says at which byte what is wrong. Most inputs
-- have right checks around wrong data, which bytes changed at random would never have.

local mb = require "moonbow"
local bytes = require "bindings.bytes"
local events = require "moonbow.io.events"
local protobuf = require "moonbow.io.protobuf"
local random = require "tests.fuzz.random"

local M = {
  sources = { "lua/moonbow/io/tensorboard.lua", "lua/moonbow/io/events.lua", "lua/moonbow/io/protobuf.lua",
              "lua/moonbow/io/crc32c.lua" },
  is_file = true,
}

local varints = { 0, 1, 2, 127, 128, 2 ^ 31, 2 ^ 32, 2 ^ 53 }

-- A length, now and then not the right one.
local function length(r, n)
  if not r:once_in(25) then return protobuf.varint(n) end
  return r:pick { protobuf.varint(n + 1), protobuf.varint(math.max(0, n - 1)), protobuf.varint(r:pick(varints)),
                  ("\255"):rep(9) .. "\1", ("\128"):rep(r:to(12)), "" }
end

local field -- forward

local function message(r, depth)
  local parts = {}
  for i = 1, r:to(5) - 1 do parts[i] = field(r, depth + 1) end
  return table.concat(parts)
end

-- A field of one of the numbers that mean something somewhere, with a value of any kind.
function field(r, depth)
  local number = r:once_in(20) and r:pick { 0, 2 ^ 29 - 1, 2 ^ 29, 99 } or r:to(8)
  local kind = r:once_in(40) and r:pick { 3, 4, 6, 7 } or r:pick { 0, 1, 2, 2, 2, 5 }
  local head = protobuf.varint(number * 8 + kind)
  if kind == 0 then return head .. (r:once_in(20) and r:bytes(r:to(11)) or protobuf.varint(r:pick(varints))) end
  if kind == 1 then return head .. bytes.f64(r:pick { 0, 1, -1, 0 / 0, math.huge, 1e308 }):sub(1, r:once_in(30) and 5 or 8) end
  if kind == 5 then return head .. bytes.f32(r:pick { 0, 0.5, 0 / 0 }):sub(1, r:once_in(30) and 3 or 4) end
  local inner = depth < 5 and not r:once_in(4) and message(r, depth)
    or r:pick { "", "loss", ("\0"):rep(8 * r:to(4)), r:bytes(r:to(20)) }
  return head .. length(r, #inner) .. inner
end

-- An event as it should be, or fields at random.
local function event(r)
  if r:once_in(2) then return message(r, 0) end
  if r:once_in(6) then return events.version(r:to(9)) end
  if r:once_in(6) then return events.start(1, r:to(99)) end
  local h = { min = 0, max = 1, num = 2, sum = 3, sum_squares = 4, limits = { 0, 1 }, counts = { 0, 2 } }
  return events.summary(1, r:to(9), { events.scalar("loss", r:to(9)), events.histogram("h", h) })
end

function M.generate(r)
  local parts = {}
  for i = 1, r:to(4) do
    local data = event(r)
    if r:once_in(3) then data = random.mutate(r, data, "") end
    parts[i] = events.record(data)
  end
  local text = table.concat(parts)
  if r:once_in(8) then text = text:sub(1, r:to(#text)) end
  return text
end

--- Changes the data of one record and makes its checks right again, or changes any bytes.
function M.mutate(r, text, other)
  local offset = 0
  while r:once_in(2) and #text - offset >= 16 do
    local size = bytes.read_u64(text, offset + 1)
    if size > #text - offset - 16 then break end
    if r:once_in(2) then
      local data = random.mutate(r, text:sub(offset + 13, offset + 12 + size), other)
      return text:sub(1, offset) .. events.record(data) .. text:sub(offset + 17 + size)
    end
    offset = offset + 16 + size
  end
  return random.mutate(r, text, other)
end

function M.check(text, path)
  local list, cut = mb.tensorboard.read(path)
  for _, e in ipairs(list) do
    assert(type(e.wall_time) == "number" and e.step >= 0 and e.step <= 2 ^ 53, "an event without time or step")
    for _, h in pairs(e.histograms) do assert(#h.limits <= #text / 8 and #h.counts <= #text / 8, "more buckets than bytes") end
  end
  assert(not cut or type(cut) == "string" and cut:find "^at byte %d+: %d+ bytes of a record of ", tostring(cut))
  return cut and "cut" or #list > 0 and "events" or "nothing"
end

return M
