-- SPDX-License-Identifier: MIT
--
-- host.lua: between tensors and what Lua holds: numbers, nested tables, C memory, text.
--
-- Nested tables are read and written row by row, {{1, 2}, {3, 4}} being a (2, 2) tensor; {} is refused, as
-- every size must be at least 1. A tensor without dimensions is a plain number.

local ffi = require "ffi"
local handle = require "bindings.handle"
local load = require "bindings.load"
local status = require "bindings.status"
local types = require "bindings.types"

local C = load.C
local produce, act, fail = handle.produce, handle.act, status.fail

local M = {}

-- ----- into tensors -----------------------------------------------------------------------------------

-- Sizes along the first element of each level.
local function nested_shape(values)
  local shape = {}
  while type(values) == "table" do
    shape[#shape + 1] = #values
    if #shape > 6 then fail("mb.tensor: tables are nested more than 6 deep") end
    values = values[1]
  end
  return shape
end

local function place(path)
  local text = {}
  for i = 1, #path do text[i] = "[" .. path[i] .. "]" end
  return table.concat(text)
end

local function fill_level(values, shape, level, dtype, buffer, at, path)
  if level > #shape then
    if type(values) ~= "number" then
      fail("mb.tensor: value%s must be a number, not %s", place(path), types.describe(values))
    end
    if dtype.min and (values ~= math.floor(values) or values < dtype.min or values > dtype.max) then
      fail("mb.tensor: value%s is %s, which is no %s", place(path), tostring(values), dtype.name)
    end
    buffer[at] = values
    return at + 1
  end
  if type(values) ~= "table" or #values ~= shape[level] then
    local found = type(values) == "table" and #values .. " values" or types.describe(values)
    fail("mb.tensor: value%s has %s, where %d values were expected: all rows must be of one length",
         place(path), found, shape[level])
  end
  for i = 1, shape[level] do
    path[level] = i
    at = fill_level(values[i], shape, level + 1, dtype, buffer, at, path)
  end
  path[level] = nil
  return at
end

--- A tensor of the numbers in nested tables, or of one number.
---@param values number|table
---@param dtype string
---@param device string
---@return moonbow.Tensor
function M.from_table(values, dtype, device)
  local kind, shape = types.dtype(dtype), nested_shape(values)
  local numel = 1
  for i = 1, #shape do
    if shape[i] == 0 then fail("mb.tensor: an empty table is no tensor, every size must be at least 1") end
    numel = numel * shape[i]
  end
  local written = kind.wide and types.dtype(kind.wide) or kind
  local buffer = written.array(numel)
  fill_level(values, shape, 1, written, buffer, 0, {})
  local n, sizes = types.shape("mb.tensor", shape)
  local t = produce("mb_from_host", written.code, n, sizes, types.device(device), buffer)
  return kind.wide and produce("mb_cast", t, kind.code) or t
end

--- A tensor with a copy of the elements a pointer points to.
---@param pointer ffi.cdata*
---@param dtype? string nil: that of the pointer's elements
---@param device string
---@param shape integer[]
function M.from_pointer(pointer, dtype, device, shape)
  local kind = dtype and types.dtype(dtype) or types.dtype_of_pointer(pointer)
  if not kind then
    fail("mb.tensor: a pointer to float, double, int32_t, uint16_t or uint8_t was expected, not %s",
         types.describe(pointer))
  end
  local n, sizes = types.shape("mb.tensor", shape)
  return produce("mb_from_host", kind.code, n, sizes, types.device(device), pointer)
end

--- A tensor of the bytes of a string, or of the little-endian numbers they hold.
---@param bytes string
---@param dtype string
---@param device string
---@param shape? integer[] nil: one dimension
function M.from_string(bytes, dtype, device, shape)
  local kind = types.dtype(dtype)
  if #bytes == 0 or #bytes % kind.size ~= 0 then
    fail("mb.tensor: a string of %d bytes is no whole number of %s elements, at least one", #bytes, dtype)
  end
  local count = #bytes / kind.size
  shape = shape or { count }
  local numel = 1
  for i = 1, #shape do numel = numel * shape[i] end
  if numel ~= count then
    fail("mb.tensor: the string holds %d elements, the shape %s has %d",
         count, types.shape_text(shape), numel)
  end
  local n, sizes = types.shape("mb.tensor", shape)
  return produce("mb_from_host", kind.code, n, sizes, types.device(device), ffi.cast("const char *", bytes))
end

-- ----- out of tensors ---------------------------------------------------------------------------------

-- A tensor whose elements Lua can read: itself, or a copy in another dtype.
local function readable(t)
  local wide = types.dtype_of(t).wide
  return wide and produce("mb_cast", t, types.dtype(wide).code) or t
end

-- Makes every NaN in a buffer the plain one of its sign: LuaJIT marks its own references with the bits of other NaNs, and would
-- take such numbers for these. The highest 32-bit word of a number says whether it may be one.
local function plain_nans(buffer, numel, dtype)
  local words = ffi.cast("uint32_t *", buffer)
  if dtype.name == "f32" then
    for i = 0, numel - 1 do
      if bit.band(words[i], 0x7fffffff) > 0x7f800000 then words[i] = bit.bor(bit.band(words[i], 0x80000000), 0x7fc00000) end
    end
  elseif dtype.name == "f64" then
    for i = 1, 2 * numel - 1, 2 do
      local high = bit.band(words[i], 0x7fffffff)
      if high > 0x7ff00000 or high == 0x7ff00000 and words[i - 1] ~= 0 then
        words[i], words[i - 1] = bit.bor(bit.band(words[i], 0x80000000), 0x7ff80000), 0
      end
    end
  end
end
M.plain_nans = plain_nans

-- A copy of all elements in row-major order, and their number.
local function host_copy(t)
  t = readable(t)
  local numel = tonumber(C.mb_tensor_numel(t))
  local buffer = types.dtype_of(t).array(numel)
  act("mb_tensor_to_host", buffer, t)
  plain_nans(buffer, numel, types.dtype_of(t))
  return buffer, numel
end
M.host_copy = host_copy

--- The elements as a string of little-endian numbers.
---@return string
function M.bytes(t)
  local bytes = tonumber(C.mb_tensor_numel(t)) * types.dtype_of(t).size
  local buffer = ffi.new("unsigned char[?]", bytes)
  act("mb_tensor_to_host", buffer, t)
  return ffi.string(buffer, bytes)
end

local function read_level(buffer, shape, level, at)
  if level > #shape then return tonumber(buffer[at]), at + 1 end
  local values = {}
  for i = 1, shape[level] do
    values[i], at = read_level(buffer, shape, level + 1, at)
  end
  return values, at
end

--- The elements as nested tables; a number for a tensor without dimensions.
---@return table|number
function M.totable(t)
  local values = read_level(host_copy(t), types.shape_of(t), 1, 0)
  return values
end

local number_out, pointer_out = ffi.new "double[1]", ffi.new "void *[1]"

--- The value of a tensor with one element.
---@return number
function M.item(t)
  act("mb_tensor_item", number_out, t)
  return number_out[0]
end

--- Address of the first element of a tensor on the CPU, typed, valid while the tensor is held.
---@return ffi.cdata*
function M.data(t)
  act("mb_tensor_data", pointer_out, t)
  if C.mb_tensor_is_contiguous(t) == 0 then
    fail("data: the tensor is not contiguous; take t:contiguous():data()")
  end
  return ffi.cast(types.dtype_of(t).pointer, pointer_out[0])
end

-- ----- comparing --------------------------------------------------------------------------------------

local function same_shape(a, b)
  local n = C.mb_tensor_ndim(a)
  if n ~= C.mb_tensor_ndim(b) then return false end
  local sa, sb = C.mb_tensor_shape(a), C.mb_tensor_shape(b)
  for i = 0, n - 1 do
    if sa[i] ~= sb[i] then return false end
  end
  return true
end

--- Same shape, dtype and values? NaN is unequal to all.
---@param b moonbow.Tensor
---@return boolean
function M.equal(a, b)
  if not types.is_tensor(b) then fail("equal: b must be a tensor, not %s", types.describe(b)) end
  if not same_shape(a, b) or types.dtype_of(a) ~= types.dtype_of(b) then return false end
  local x, numel = host_copy(a)
  local y = host_copy(b)
  for i = 0, numel - 1 do
    if x[i] ~= y[i] then return false end
  end
  return true
end

--- Same shape, and |a - b| <= atol + rtol |b| everywhere? Dtypes may differ.
---@param b moonbow.Tensor
---@param options? { rtol?: number, atol?: number } default 1e-5, 1e-8
---@return boolean
---@return string? where it differs most
function M.allclose(a, b, options)
  if not types.is_tensor(b) then fail("allclose: b must be a tensor, not %s", types.describe(b)) end
  local rtol, atol = options and options.rtol or 1e-5, options and options.atol or 1e-8
  if not same_shape(a, b) then
    local sa, sb = types.shape_text(types.shape_of(a)), types.shape_text(types.shape_of(b))
    return false, ("shapes %s and %s differ"):format(sa, sb)
  end
  local x, numel = host_copy(a)
  local y = host_copy(b)
  local worst, at, over = -1, 0, 0
  for i = 0, numel - 1 do
    local u, v = tonumber(x[i]), tonumber(y[i])
    local excess = u == v and 0 or math.abs(u - v) - atol - rtol * math.abs(v)
    if excess ~= excess then excess = math.huge end -- one is NaN
    if excess > 0 then
      over = over + 1
      if excess > worst then worst, at = excess, i end
    end
  end
  if over == 0 then return true end
  return false, ("%d of %d elements differ, the worst is element %d: %.9g and %.9g")
    :format(over, numel, at, tonumber(x[at]), tonumber(y[at]))
end

-- ----- text -------------------------------------------------------------------------------------------

local SHOWN = 6

-- The first elements: in place where the CPU can reach them, so that a big tensor prints at once.
local function first_values(t, count)
  if types.device_of(t) ~= "cpu" or types.dtype_of(t).wide then return host_copy(t) end
  act("mb_tensor_data", pointer_out, t)
  local kind, shape, strides = types.dtype_of(t), types.shape_of(t), C.mb_tensor_stride(t)
  local from, buffer = ffi.cast(kind.pointer, pointer_out[0]), kind.array(count)
  for i = 0, count - 1 do
    local rest, at = i, 0
    for d = #shape, 1, -1 do
      at = at + (rest % shape[d]) * tonumber(strides[d - 1])
      rest = math.floor(rest / shape[d])
    end
    ffi.copy(buffer + i, from + at, kind.size)
  end
  plain_nans(buffer, count, kind)
  return buffer
end

local function text_of(t)
  if C.mb_tensor_is_live(t) == 0 then return "tensor (released)" end
  local dtype = types.dtype_of(t)
  local head = ("tensor %s %s %s"):format(types.shape_text(types.shape_of(t)), dtype.name, types.device_of(t))
  local numel = tonumber(C.mb_tensor_numel(t))
  local n = math.min(numel, SHOWN)
  local buffer, values = first_values(t, n), {}
  for i = 0, n - 1 do
    values[i + 1] = (dtype.is_float and "%.5g" or "%d"):format(tonumber(buffer[i]))
  end
  return head .. " [" .. table.concat(values, ", ") .. (numel > SHOWN and ", ...]" or "]")
end
M.text = text_of

return M
