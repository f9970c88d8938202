-- SPDX-License-Identifier: MIT
--
-- types.lua: what the engine's numbers are called in Lua (dtypes, devices), and the one place where Lua's
-- counting from 1 becomes the engine's counting from 0.

local ffi = require "ffi"
local load = require "bindings.load"
local status = require "bindings.status"

local C = load.C

local M = {}

M.tensor = ffi.typeof "mb_tensor"

--- Is `x` a tensor?
---@return boolean
function M.is_tensor(x)
  return type(x) == "cdata" and ffi.istype(M.tensor, x)
end

---@class moonbow.DType
---@field name string
---@field code integer the engine's number
---@field array ffi.ctype* variable-length array of elements
---@field pointer ffi.ctype*
---@field const_pointer ffi.ctype*
---@field size integer bytes of an element
---@field is_float boolean
---@field wide? string dtype that its elements are read and written through, where Lua has no such number
---@field min? integer
---@field max? integer

local function dtype(name, code, ctype, min, max)
  return { name = name, code = tonumber(code), array = ffi.typeof(ctype .. "[?]"),
           pointer = ffi.typeof(ctype .. "*"), const_pointer = ffi.typeof("const " .. ctype .. "*"),
           size = ffi.sizeof(ctype),
           is_float = min == nil, min = min, max = max }
end

M.dtypes = { -- ORDER DTYPE
  f32 = dtype("f32", C.MB_F32, "float"),
  f64 = dtype("f64", C.MB_F64, "double"),
  i32 = dtype("i32", C.MB_I32, "int32_t", -2 ^ 31, 2 ^ 31 - 1),
  u16 = dtype("u16", C.MB_U16, "uint16_t", 0, 2 ^ 16 - 1),
  u8 = dtype("u8", C.MB_U8, "uint8_t", 0, 2 ^ 8 - 1),
  bf16 = dtype("bf16", C.MB_BF16, "uint16_t"),
}
M.dtypes.bf16.wide = "f32"

local dtype_of_code = {}
for _, d in pairs(M.dtypes) do dtype_of_code[d.code] = d end

--- The dtype called `name`, or an error.
---@param name string
---@return moonbow.DType
function M.dtype(name)
  return M.dtypes[name]
    or status.fail("unknown dtype '%s': expected f32, f64, bf16, i32, u16 or u8", tostring(name))
end

---@return moonbow.DType
function M.dtype_of(t)
  return dtype_of_code[tonumber(C.mb_tensor_dtype(t))]
end

--- The dtype whose elements a pointer or array of numbers has, or nil.
---@param pointer ffi.cdata*
---@return moonbow.DType?
function M.dtype_of_pointer(pointer)
  local ok, first = pcall(function() return pointer + 0 end) -- an array becomes a pointer
  if not ok then return nil end
  for _, d in pairs(M.dtypes) do
    if not d.wide and (ffi.istype(d.pointer, first) or ffi.istype(d.const_pointer, first)) then return d end
  end
end

local devices = { cpu = tonumber(C.MB_CPU), cuda = tonumber(C.MB_CUDA) }
local device_names = { [devices.cpu] = "cpu", [devices.cuda] = "cuda" }

--- The engine's number of a device, or an error.
---@param name string
---@return integer
function M.device(name)
  return devices[name] or status.fail("unknown device '%s': expected cpu or cuda", tostring(name))
end

--- The name of the engine's number of a device, or of a dtype.
---@return string
function M.device_name(code) return device_names[tonumber(code)] end
---@return string
function M.dtype_name(code) return dtype_of_code[tonumber(code)].name end

---@return string
function M.device_of(t)
  return device_names[tonumber(C.mb_tensor_device(t))]
end

local function is_integer(x)
  return type(x) == "number" and x == math.floor(x) and x > -2 ^ 53 and x < 2 ^ 53
end
M.is_integer = is_integer

--- A dimension or position as the engine counts it: 1..n -> 0..n-1, -n..-1 (from the end) -> 0..n-1.
---@param who string for the error's text
---@param what string "dimension" or "position"
---@param index integer
---@param n integer how many there are
---@return integer
function M.from_one(who, what, index, n)
  if not is_integer(index) then
    status.fail("%s: %s must be an integer, not %s", who, what, tostring(index))
  end
  if index == 0 or index > n or index < -n then
    local text = "%s: %s %d does not exist, there are %d, counted from 1 (or from the end, -1)"
    status.fail(text, who, what, index, n)
  end
  return index > 0 and index - 1 or index + n
end

--- A dimension of `t`, counted from 0.
---@return integer
function M.dim(who, dim, t)
  return M.from_one(who, "dimension", dim, C.mb_tensor_ndim(t))
end

local int_array, int64_array = ffi.typeof "int[?]", ffi.typeof "int64_t[?]"

--- Dimensions as a C array and their number; nil is none.
---@param dims integer|integer[]|nil
function M.dims(who, dims, t)
  if dims == nil then return 0, nil end
  if type(dims) ~= "table" then dims = { dims } end
  local array = int_array(math.max(#dims, 1))
  for i = 1, #dims do array[i - 1] = M.dim(who, dims[i], t) end
  return #dims, array
end

--- A shape as a C array and its number of dimensions.
---@param who string
---@param shape integer[]
function M.shape(who, shape)
  if type(shape) ~= "table" then
    status.fail("%s: a shape is an array of integers, not %s", who, tostring(shape))
  end
  local array = int64_array(math.max(#shape, 1))
  for i = 1, #shape do
    if not is_integer(shape[i]) then
      status.fail("%s: size %d of the shape must be an integer, not %s", who, i, tostring(shape[i]))
    end
    array[i - 1] = shape[i]
  end
  return #shape, array
end

--- t's shape as a Lua array.
---@return integer[]
function M.shape_of(t)
  local sizes, shape = C.mb_tensor_shape(t), {}
  for i = 1, C.mb_tensor_ndim(t) do shape[i] = tonumber(sizes[i - 1]) end
  return shape
end

--- "(2, 3)"
---@param shape integer[]
---@return string
function M.shape_text(shape)
  return "(" .. table.concat(shape, ", ") .. ")"
end

--- What a value is, for texts of errors: "a f32 tensor of shape (2, 3)", "nil", "the string 'x'".
---@return string
function M.describe(x)
  if M.is_tensor(x) then
    return ("a %s tensor of shape %s"):format(M.dtype_of(x).name, M.shape_text(M.shape_of(x)))
  elseif type(x) == "string" then
    return ("the string '%s'"):format(x)
  elseif type(x) == "number" then
    return "the number " .. tostring(x)
  elseif type(x) == "cdata" then
    return "a " .. tostring(ffi.typeof(x))
  elseif type(x) == "nil" or type(x) == "boolean" then
    return tostring(x)
  end
  return "a " .. type(x)
end

return M
