-- SPDX-License-Identifier: MIT
--
-- create.lua: making tensors, with the defaults that bindings/ does not have.
--
-- Shapes are given as arguments or as one array, options as a last table:
--   mb.zeros(2, 3)   mb.zeros({2, 3}, { dtype = "f64" })   mb.randn(4, { requires_grad = true })
-- Options of every function here: dtype ("f32"), device (mb.device()), requires_grad (false).

local create = require "bindings.create"
local host = require "bindings.host"
local options = require "moonbow.options"
local runtime = require "bindings.runtime"
local types = require "bindings.types"

local M = {}

-- ----- the default device -------------------------------------------------------------------------------

local default_device

--- The device that new tensors and models are put on; sets it when one is named. At first it is "cuda"
--- where there is such a device, else "cpu".
---@param name? "cpu"|"cuda"
---@return "cpu"|"cuda"
function M.device(name)
  if name ~= nil then
    runtime.check_device(name)
    default_device = name
  elseif not default_device then
    default_device = runtime.has_device "cuda" and "cuda" or "cpu"
  end
  return default_device
end

---@class moonbow.CreateOptions
---@field dtype? "f32"|"f64"|"bf16"|"i32"|"u16"|"u8" default "f32"
---@field device? "cpu"|"cuda" default mb.device()
---@field requires_grad? boolean default false

---@class moonbow.LikeOptions
---@field dtype? "f32"|"f64"|"bf16"|"i32"|"u16"|"u8" default: that of t
---@field device? "cpu"|"cuda" default: that of t
---@field requires_grad? boolean default false

-- ----- options ------------------------------------------------------------------------------------------

local row_dtype = { choices = { "f32", "f64", "bf16", "i32", "u16", "u8" }, default = "f32" }
local row_device = { choices = { "cpu", "cuda" } }
local row_grad = { type = "boolean", default = false }
local common = { dtype = row_dtype, device = row_device, requires_grad = row_grad }
local shaped = { dtype = { choices = row_dtype.choices }, device = row_device, requires_grad = row_grad,
                 shape = { type = "table" } }

local function check(who, given, spec)
  local o = options.check(who, given, spec or common)
  o.device = o.device or M.device()
  return o
end

local function finish(t, o)
  if o.requires_grad then t.requires_grad = true end
  return t
end

-- Shape and options out of (2, 3, {options}) or ({2, 3}, {options}).
local function shape_and_options(who, ...)
  local n = select("#", ...)
  local first = ...
  if type(first) == "table" and (first[1] ~= nil or next(first) == nil) then
    if n > 2 then
      options.fail("%s: a shape and a table of options were expected, not %d arguments", who, n)
    end
    local _, given = ...
    return first, check(who, given)
  end
  local shape, given = { ... }, nil
  if type(shape[n]) == "table" then
    given = shape[n]
    shape[n] = nil
    n = n - 1
  end
  for i = 1, n do
    if type(shape[i]) ~= "number" then
      options.fail("%s: sizes are integers, argument %d is %s", who, i, options.describe(shape[i]))
    end
  end
  return shape, check(who, given)
end

-- ----- from values --------------------------------------------------------------------------------------

--- A tensor of numbers: nested tables (rows first), one number, a string of little-endian elements, or what
--- a cdata pointer points to (`shape` is needed then; dtype is that of the pointer unless named).
---@param values number|table|string|ffi.cdata*
---@param given? { dtype?: string, device?: "cpu"|"cuda", shape?: integer[], requires_grad?: boolean }
---@return moonbow.Tensor
function M.tensor(values, given)
  local o = check("mb.tensor", given, shaped)
  local t
  if type(values) == "table" or type(values) == "number" then
    t = host.from_table(values, o.dtype or "f32", o.device)
    if o.shape then t = t:reshape(o.shape) end
  elseif type(values) == "string" then
    t = host.from_string(values, o.dtype or "u8", o.device, o.shape)
  elseif types.is_tensor(values) then
    options.fail("mb.tensor: the value is a tensor already; t:clone() copies it")
  elseif type(values) == "cdata" then
    if not o.shape then options.fail("mb.tensor: option 'shape' is missing, a pointer has no sizes") end
    t = host.from_pointer(values, o.dtype, o.device, o.shape)
  else
    options.fail("mb.tensor: nested tables of numbers, a number, a string or a pointer were expected, not %s",
                 options.describe(values))
  end
  return finish(t, o)
end

--- Ids as a tensor of i32, from nested tables; a tensor is returned as it is.
---@param values table|moonbow.Tensor
---@param device? "cpu"|"cuda"
---@return moonbow.Tensor
function M.ids(values, device)
  if types.is_tensor(values) then return values end
  return host.from_table(values, "i32", device or M.device())
end

-- ----- from nothing -------------------------------------------------------------------------------------

--- A tensor of one value: mb.full({ 2, 3 }, 0.5).
---@param shape integer|integer[]
---@param value number
---@param given? moonbow.CreateOptions
---@return moonbow.Tensor
function M.full(shape, value, given)
  if type(shape) == "number" then shape = { shape } end
  if type(value) ~= "number" then
    options.fail("mb.full: the value must be a number, not %s", options.describe(value))
  end
  local o = check("mb.full", given)
  return finish(create.full(shape, value, o.dtype, o.device), o)
end

--- Zeros: mb.zeros(2, 3), mb.zeros({ 2, 3 }, { dtype = "f64" }).
---@param ... integer|integer[]|moonbow.CreateOptions sizes, or one array of them; then options
---@return moonbow.Tensor
function M.zeros(...)
  local shape, o = shape_and_options("mb.zeros", ...)
  return finish(create.full(shape, 0, o.dtype, o.device), o)
end

--- Ones: mb.ones(2, 3), mb.ones({ 2, 3 }, { dtype = "f64" }).
---@param ... integer|integer[]|moonbow.CreateOptions sizes, or one array of them; then options
---@return moonbow.Tensor
function M.ones(...)
  local shape, o = shape_and_options("mb.ones", ...)
  return finish(create.full(shape, 1, o.dtype, o.device), o)
end

--- Undefined contents, to be filled.
---@param ... integer|integer[]|moonbow.CreateOptions sizes, or one array of them; then options
---@return moonbow.Tensor
function M.empty(...)
  local shape, o = shape_and_options("mb.empty", ...)
  return finish(create.empty(shape, o.dtype, o.device), o)
end

--- Normal numbers of mean 0 and standard deviation 1; takes one random stream.
---@param ... integer|integer[]|moonbow.CreateOptions sizes, or one array of them; then options
---@return moonbow.Tensor
function M.randn(...)
  local shape, o = shape_and_options("mb.randn", ...)
  return finish(create.randn(shape, o.dtype, o.device), o)
end

--- Uniform numbers in [0, 1); takes one random stream.
---@param ... integer|integer[]|moonbow.CreateOptions sizes, or one array of them; then options
---@return moonbow.Tensor
function M.rand(...)
  local shape, o = shape_and_options("mb.rand", ...)
  return finish(create.uniform(shape, 0, 1, o.dtype, o.device), o)
end

--- Uniform numbers in [low, high); takes one random stream.
---@param shape integer|integer[]
---@param low number
---@param high number
---@param given? moonbow.CreateOptions
---@return moonbow.Tensor
function M.uniform(shape, low, high, given)
  if type(shape) == "number" then shape = { shape } end
  local o = check("mb.uniform", given)
  return finish(create.uniform(shape, low, high, o.dtype, o.device), o)
end

--- arange(stop): 0, 1, ... below stop. arange(start, stop, step): start, start + step, ... below stop.
---@param ... number|moonbow.CreateOptions numbers, then options
---@return moonbow.Tensor
function M.arange(...)
  local n = select("#", ...)
  local numbers, given = { ... }, nil
  if type(numbers[n]) == "table" then
    given, numbers[n] = numbers[n], nil
    n = n - 1
  end
  for i = 1, n do options.value("mb.arange", "argument " .. i, numbers[i], { type = "number" }) end
  if n < 1 or n > 3 then options.fail("mb.arange: stop, or start, stop and step were expected") end
  local o = check("mb.arange", given)
  local start, stop, step = 0, numbers[1], 1
  if n > 1 then start, stop, step = numbers[1], numbers[2], numbers[3] or 1 end
  local count = math.ceil((stop - start) / step) -- not a number if the step is 0
  if count ~= count or count < 1 or count == math.huge then
    options.fail("mb.arange: there is no number from %g below %g in steps of %g", start, stop, step)
  end
  return finish(create.arange(start, step, count, o.dtype, o.device), o)
end

--- The identity matrix, or one with ones on the diagonal of n rows and m columns.
---@param n integer
---@param m? integer default n
---@param given? moonbow.CreateOptions may come second
---@return moonbow.Tensor
function M.eye(n, m, given)
  if type(m) == "table" then m, given = nil, m end
  m = m or n
  options.value("mb.eye", "n", n, { type = "integer", min = 1 })
  options.value("mb.eye", "m", m, { type = "integer", min = 1 })
  local o = check("mb.eye", given)
  local rows = create.arange(0, 1, n, "f64", o.device):reshape(n, 1)
  local columns = create.arange(0, 1, m, "f64", o.device):reshape(1, m)
  return finish(rows:eq(columns):to(o.dtype), o)
end

-- fn(t, options): a new tensor of t's shape, dtype and device. Of a traced value of mb.fuse: another traced value.
---@return fun(t: moonbow.Tensor, given?: moonbow.LikeOptions): moonbow.Tensor
local function like(name, make)
  local who = "mb." .. name
  return function(t, given)
    local meta = type(t) == "table" and getmetatable(t)
    if type(meta) == "table" and rawget(meta, "fuse_apply") then return meta.fuse_apply(name, t, given) end
    options.value(who, "the argument", t, { type = "tensor" })
    local o = options.check(who, given, { dtype = { choices = row_dtype.choices, default = t.dtype },
                                          device = { choices = row_device.choices, default = t.device },
                                          requires_grad = row_grad })
    return finish(make(t.shape, o), o)
  end
end

--- Zeros in the shape, dtype and device of t.
M.zeros_like = like("zeros_like", function(shape, o) return create.full(shape, 0, o.dtype, o.device) end)
--- Ones in the shape, dtype and device of t.
M.ones_like = like("ones_like", function(shape, o) return create.full(shape, 1, o.dtype, o.device) end)
--- Undefined contents in the shape, dtype and device of t.
M.empty_like = like("empty_like", function(shape, o) return create.empty(shape, o.dtype, o.device) end)
--- Normal numbers of mean 0 and standard deviation 1 in the shape, dtype and device of t.
M.randn_like = like("randn_like", function(shape, o) return create.randn(shape, o.dtype, o.device) end)
--- Uniform numbers in [0, 1) in the shape, dtype and device of t.
M.rand_like = like("rand_like", function(shape, o) return create.uniform(shape, 0, 1, o.dtype, o.device) end)

return M
