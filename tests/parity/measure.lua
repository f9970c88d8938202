-- SPDX-License-Identifier: MIT
--
-- measure.lua: how far one device is from another: NMSE(a, b) = sum((a - b)^2) / sum(b^2), b the CPU's, gathered row by
-- row. A row is an op, a decomposition, a method, an optimizer or a model in one dtype; its figure is the NMSE of all
-- its cases together, forward or one gradient, the largest of them. The limits are 1e-7 in f32 and 1e-4 in bf16; a row
-- with another says why.
--
-- bf16 on the device is held against float32 on the CPU, from inputs that bf16 can hold.

local json = require "moonbow.io.json"
local mb = require "moonbow"

local M = {}

M.limits = { f32 = 1e-7, bf16 = 1e-4 }

local rows, order = {}, {}

---Fails unless the shapes are the same; returns sum((got - want)^2) and sum(want^2).
---@param got moonbow.Tensor
---@param want moonbow.Tensor
---@return number, number
function M.squares(got, want)
  local a, b = got:detach():to("cpu"):to "f64", want:detach():to("cpu"):to "f64"
  local shapes = { table.concat(a.shape, ", "), table.concat(b.shape, ", ") }
  if shapes[1] ~= shapes[2] then error(("shape (%s), the CPU has (%s)"):format(shapes[1], shapes[2]), 0) end
  return (a - b):square():sum():item(), b:square():sum():item()
end

local function ratio(difference, size)
  if size > 0 then return difference / size end
  return difference -- of what must be zero
end

---The row `name` in `dtype`; the first call makes it.
---@param name string
---@param dtype string
---@param given? { limit?: number, reason?: string }
function M.row(name, dtype, given)
  local key = name .. " " .. dtype
  if not rows[key] then
    given = given or {}
    assert(not given.limit or given.reason, name .. ": a limit of its own needs a reason")
    rows[key] = { name = name, dtype = dtype, limit = given.limit or M.limits[dtype], reason = given.reason, parts = {},
      cases = 0 }
    order[#order + 1] = rows[key]
  end
  return rows[key]
end

---Adds one comparison to a row: `part` is "forward", "gradient 1", ...
function M.add(row, part, got, want)
  local difference, size = M.squares(got, want)
  local sum = row.parts[part] or { 0, 0 }
  row.parts[part] = { sum[1] + difference, sum[2] + size }
  row.cases = row.cases + 1
end

---The row's NMSE and the part that has it. NaN is worse than any number.
---@return number, string
function M.worst(row)
  local worst, at = -1, ""
  for part, sum in pairs(row.parts) do
    local value = ratio(sum[1], sum[2])
    if value ~= value then return value, part end
    if value > worst or value == worst and part < at then worst, at = value, part end
  end
  return worst, at
end

---Fails, with the figure, if the row is above its limit.
function M.check(row)
  local nmse, part = M.worst(row)
  row.nmse, row.part = nmse, part
  assert(row.cases > 0, row.name .. ": nothing was compared")
  if nmse ~= nmse or nmse > row.limit then
    error(("%s in %s: NMSE of %s is %.3g, %.1g is allowed"):format(row.name, row.dtype, part, nmse, row.limit), 0)
  end
end

---Prints the `count` rows of each dtype that are nearest to their limits.
function M.print(count)
  for _, dtype in ipairs { "f32", "bf16" } do
    local list = {}
    for _, row in ipairs(order) do
      if row.dtype == dtype and row.nmse then list[#list + 1] = row end
    end
    local function share(row) return row.nmse == row.nmse and row.nmse / row.limit or math.huge end
    table.sort(list, function(a, b) return share(a) > share(b) end)
    io.stdout:write(("# %d rows in %s; the nearest to their limits:\n"):format(#list, dtype))
    for i = 1, math.min(count, #list) do
      local row = list[i]
      io.stdout:write(("#   %-34s %-12s %.2e of %.0e%s\n"):format(row.name, row.part, row.nmse, row.limit,
        row.reason and ": " .. row.reason or ""))
    end
  end
end

---Writes all rows as JSON.
---@param path string
function M.write(path)
  local list = setmetatable({}, json.array)
  for _, row in ipairs(order) do
    if row.nmse then
      list[#list + 1] = { name = row.name, dtype = row.dtype, part = row.part, limit = row.limit, reason = row.reason,
        cases = row.cases, nmse = row.nmse == row.nmse and row.nmse < math.huge and row.nmse or "not finite" }
    end
  end
  local file = assert(io.open(path, "wb"))
  file:write(json.encode { device = mb.device(), rows = list })
  file:close()
end

return M
