-- SPDX-License-Identifier: MIT
--
-- mb.profile: where the time of a computation goes, kernel by kernel, and how near each comes to what the machine can do.
--
--   print(mb.profile(function() train_a_step() end))
--   local p = mb.profile(step, { ceilings = { bytes = 4.2e12, bf16 = 7e14, f32 = 4e13 } })   -- bytes/s, FLOP/s
--   for _, row in ipairs(p) do print(row.name, row.shape, row.calls, row.seconds) end
--   local plain = p:totable()
--
-- A row is one kernel, copy or fill in one dtype and of one shape:
--   name, shape, device, dtype
--   calls, launches   launches: kernels started on a GPU, a library's product counting as one
--   seconds           of all calls: on a GPU between two events around each, which nothing waits for; else by the clock
--   bytes, flops      the least that must move between memory and cores when every input is read once and every output written
--                     once, and the operations of the result (products 2 m n k, causal attention half); of all calls
--   is_product        the operations are those of matrix products
--   floor             seconds that the ceilings leave: max(bytes / ceiling, flops / ceiling of its products); nil without them
--   share             floor / seconds: 1 is as fast as the machine can
--   part              of the time of all rows
-- The report has also: seconds (by the clock, until the devices were done), busy (sum of the rows'), launches, ceilings, device.
--
-- Ceilings are those of the device in use. By default they are measured, once a process: the fastest copy of a large array, and
-- the fastest of a few large products in each dtype that the rows have products in. Give numbers to spare that, or false.
--
-- What matters on a GPU: profile the second or third call of fn, for the first one compiles and times what the later ones use;
-- profile the function and not what mb.graph makes of it, because a replay is a single row without a cost; small kernels that
-- the host cannot start quickly enough include the time it takes to start them.

local create = require "moonbow.create"
local format = require "moonbow.report.format"
local handle = require "bindings.handle"
local ops = require "bindings.ops"
local options = require "moonbow.options"
local profile = require "bindings.profile"
local rng = require "bindings.create"
local runtime = require "bindings.runtime"

local WHO = "mb.profile"
local MOST_ROWS = 40 -- in print

-- ----- what the machine can do --------------------------------------------------------------------------------

local measured = {} -- by device, then "bytes" or a dtype

-- Least seconds of a few calls.
local function least(fn, device)
  local best = math.huge
  for _ = 1, 4 do
    runtime.synchronize(device)
    local start = runtime.time()
    fn()
    runtime.synchronize(device)
    best = math.min(best, runtime.time() - start)
  end
  return best
end

-- The rate of what `make(n)` returns, a function and its amount, at the first n, doubling, that takes long enough to be timed.
local function rate_of(device, n, most, seconds, make)
  local best = 0
  repeat
    local fn, amount = make(n)
    local time = least(fn, device)
    best = math.max(best, amount / time)
    n = 2 * n
  until time > seconds or n > most
  return best
end

local function measure_copy(device)
  return rate_of(device, 2 ^ 20, 2 ^ 28, 0.01, function(n)
    local from, to = create.zeros({ n }, { device = device }), create.zeros({ n }, { device = device })
    return function() to:copy_(from) end, 2 * 4 * n
  end)
end

local function measure_product(device, dtype)
  return rate_of(device, 256, 8192, 0.02, function(n)
    local a = create.zeros({ n, n }, { device = device }):to(dtype)
    return function() ops.matmul(a, a):discard() end, 2 * n ^ 3
  end)
end

local function ceiling(device, what)
  local known = measured[device] or {}
  measured[device] = known
  if not known[what] then
    known[what] = handle.no_grad(function()
      return handle.scope(function()
        if what == "bytes" then return measure_copy(device) end
        return measure_product(device, what)
      end)
    end)
  end
  return known[what]
end

local function measure(rows, device)
  local found = { bytes = ceiling(device, "bytes") }
  for _, row in ipairs(rows) do
    if row.is_product and row.device == device and not found[row.dtype] then found[row.dtype] = ceiling(device, row.dtype) end
  end
  return found
end

-- ----- the report -----------------------------------------------------------------------------------------------

---@class moonbow.ProfileRow one kernel, copy or fill in one dtype and of one shape
---@field name string
---@field shape string
---@field device string
---@field dtype string
---@field is_product boolean
---@field calls integer
---@field launches integer
---@field seconds number
---@field bytes number
---@field flops number
---@field floor? number
---@field share? number
---@field part number

---@class moonbow.Profile rows, and sums over them
---@field seconds number
---@field busy number
---@field launches integer
---@field device string
---@field ceilings? table<string, number>
local Profile = {}
Profile.__index = Profile

--- A plain table of numbers and texts: rows, seconds, busy, launches, device, ceilings.
---@return table
function Profile:totable()
  local rows = {}
  for i, row in ipairs(self) do
    rows[i] = {}
    for key, value in pairs(row) do rows[i][key] = value end
  end
  return { rows = rows, seconds = self.seconds, busy = self.busy, launches = self.launches, device = self.device,
           ceilings = self.ceilings }
end

local function rate(amount, seconds, unit)
  return amount > 0 and seconds > 0 and ("%.4g"):format(amount / seconds / unit) or ""
end
local function percent(x) return x and ("%.0f %%"):format(100 * x) or "" end

--- The report as a table, the slowest rows first.
---@param most? integer rows; default 40
---@return string
function Profile:table(most)
  local lines = { { "kernel", "dtype", "shape", "calls", "launches", "ms", "GB", "GFLOP", "GB/s", "TFLOP/s", "of ceiling",
                    "of all" } }
  local rest, count = { calls = 0, launches = 0, seconds = 0, bytes = 0, flops = 0, part = 0 }, 0
  local function add(row)
    lines[#lines + 1] = {
      row.name, row.dtype or "", row.shape or "", ("%d"):format(row.calls), ("%d"):format(row.launches),
      ("%.3f"):format(1e3 * row.seconds), ("%.4g"):format(row.bytes / 1e9), ("%.4g"):format(row.flops / 1e9),
      rate(row.bytes, row.seconds, 1e9), rate(row.flops, row.seconds, 1e12), percent(row.share), percent(row.part),
    }
  end
  for i, row in ipairs(self) do
    if i <= (most or MOST_ROWS) then
      add(row)
    else
      count = count + 1
      for key, value in pairs(rest) do rest[key] = value + row[key] end
    end
  end
  if count > 0 then
    rest.name = ("%d more"):format(count)
    add(rest)
  end
  local right = {}
  for column = 4, 12 do right[column] = true end
  local text = ("%d kernels' rows, %d launches, %.3f ms on the devices, %.3f ms by the clock\n%s"):format(
    #self, self.launches, 1e3 * self.busy, 1e3 * self.seconds, format.columns(lines, right))
  if not self.ceilings then return text end
  local parts = {}
  for _, name in ipairs(options.keys(self.ceilings)) do
    local value = self.ceilings[name]
    parts[#parts + 1] = name == "bytes" and ("%.4g GB/s"):format(value / 1e9)
      or ("%s products %.4g TFLOP/s"):format(name, value / 1e12)
  end
  return text .. ("\nceilings of %s: %s"):format(self.device, table.concat(parts, ", "))
end

Profile.__tostring = function(self) return self:table() end

local function add_ceilings(report, ceilings)
  report.ceilings = ceilings
  for _, row in ipairs(report) do
    local floor = row.device == report.device and ceilings.bytes and row.bytes / ceilings.bytes
    if floor and row.is_product then
      floor = ceilings[row.dtype] and math.max(floor, row.flops / ceilings[row.dtype])
    end
    if floor and (floor > 0 or row.bytes == 0) then
      row.floor = floor
      if row.seconds > 0 then row.share = floor / row.seconds end
    end
  end
end

-- Rates of the caller's: those that a row can be compared with, and numbers above zero.
local function check_ceilings(given)
  local row = { type = "number", above = 0 }
  return options.check(WHO .. ": ceilings", given, { bytes = row, f32 = row, f64 = row, bf16 = row })
end

---@class moonbow.ProfileOptions
---@field ceilings? table<string, number>|boolean true: measured; numbers: bytes in bytes/s, and FLOP/s by dtype; false: none

---@param fn function
---@param given? moonbow.ProfileOptions
---@return moonbow.Profile
return function(fn, given)
  options.value(WHO, "the first argument", fn, { type = "function" })
  local o = options.check(WHO, given, { ceilings = { type = "table|boolean", default = true } })
  if type(o.ceilings) == "table" then o.ceilings = check_ceilings(o.ceilings) end
  local device = create.device()
  runtime.synchronize(device)
  local start = runtime.time()
  local report, ok, problem = profile.record(fn)
  local seconds = runtime.time() - start
  if not ok then error(problem, 0) end
  report.seconds, report.device, report.busy, report.launches = seconds, device, 0, 0
  for _, row in ipairs(report) do
    report.busy, report.launches = report.busy + row.seconds, report.launches + row.launches
  end
  for _, row in ipairs(report) do row.part = report.busy > 0 and row.seconds / report.busy or 0 end
  if type(o.ceilings) == "table" then
    add_ceilings(report, o.ceilings)
  elseif o.ceilings then
    local seed, step, stream = rng.rng_get()
    add_ceilings(report, measure(report, device))
    rng.rng_set(seed, step, stream)
  end
  return setmetatable(report, Profile)
end
