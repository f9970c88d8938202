-- SPDX-License-Identifier: MIT
--
-- tensor.lua: how a handle becomes an object. A tensor is the bare pointer; this file gives its type
-- properties, methods and operators.
--
-- Properties: shape (Lua array), ndim, numel, dtype, device, requires_grad (can be set), grad (a tensor or
-- nil), id, is_contiguous, is_live. Methods are the functions of ops.lua (pure), inplace.lua (trailing
-- underscore) and host.lua (numbers, tables, memory). `a == b` compares addresses: a:equal(b) compares
-- tensors, a:eq(b) their elements.

local ffi = require "ffi"
local handle = require "bindings.handle"
local host = require "bindings.host"
local inplace = require "bindings.inplace"
local load = require "bindings.load"
local ops = require "bindings.ops"
local status = require "bindings.status"
local types = require "bindings.types"

local C = load.C
local fail = status.fail

---@class moonbow.Tensor: ffi.cdata* a tensor of the engine: element type, sizes and strides over memory of a device
---@field shape integer[] sizes, a new table in each reading
---@field ndim integer number of dimensions
---@field numel integer number of elements
---@field dtype "f32"|"f64"|"bf16"|"i32"|"u16"|"u8"
---@field device "cpu"|"cuda"
---@field requires_grad boolean can be set, of leaves
---@field grad moonbow.Tensor? what backward added up; nil before the first
---@field id integer of the engine's tensor, another one for each
---@field is_contiguous boolean elements lie in the order of rows, without gaps
---@field is_live boolean false once its memory has been given back
---@operator add(moonbow.Tensor|number): moonbow.Tensor
---@operator sub(moonbow.Tensor|number): moonbow.Tensor
---@operator mul(moonbow.Tensor|number): moonbow.Tensor
---@operator div(moonbow.Tensor|number): moonbow.Tensor
---@operator pow(moonbow.Tensor|number): moonbow.Tensor
---@operator unm: moonbow.Tensor
local methods = {}
for name, fn in pairs(ops) do methods[name] = fn end
for name, fn in pairs(inplace) do methods[name] = fn end
for _, name in ipairs { "totable", "item", "data", "bytes", "equal", "allclose" } do
  methods[name] = host[name]
end
methods.pointers, methods.cross_entropy_options, methods.concat, methods.stack = nil, nil, nil, nil

--- Exempts the tensor from the scopes that are open.
---@return moonbow.Tensor t
function methods.keep(t)
  return handle.keep(t)
end

local properties = {
  shape = types.shape_of,
  ndim = function(t) return C.mb_tensor_ndim(t) end,
  numel = function(t) return tonumber(C.mb_tensor_numel(t)) end,
  dtype = function(t) return types.dtype_of(t).name end,
  device = types.device_of,
  requires_grad = function(t) return C.mb_requires_grad(t) ~= 0 end,
  grad = function(t) return handle.produce_or_nil("mb_grad", t) end,
  id = function(t) return tonumber(C.mb_tensor_id(t)) end,
  is_contiguous = function(t) return C.mb_tensor_is_contiguous(t) ~= 0 end,
  is_live = function(t) return C.mb_tensor_is_live(t) ~= 0 end,
}

local meta = {}

function meta.__index(t, key)
  local method = methods[key]
  if method then return method end
  local property = properties[key]
  if property then return property(t) end
  fail("a tensor has no method or property '%s'", tostring(key))
end

function meta.__newindex(t, key, value)
  if key ~= "requires_grad" then
    local hint = key == "grad" and "; t:zero_grad() clears a gradient" or ""
    fail("'%s' of a tensor cannot be set%s", tostring(key), hint)
  end
  inplace.requires_grad_(t, value)
end

meta.__add, meta.__sub, meta.__mul, meta.__div, meta.__pow = ops.add, ops.sub, ops.mul, ops.div, ops.pow
meta.__unm = function(t) return ops.neg(t) end
meta.__tostring = host.text
meta.__concat = function(a, b) return tostring(a) .. tostring(b) end

function meta.__len(t)
  if C.mb_tensor_ndim(t) == 0 then fail("a tensor without dimensions has no length") end
  return tonumber(C.mb_tensor_shape(t)[0])
end

-- A type's metatable is for the life of the process: a second load of this file refills the first one.
local registry = debug.getregistry()
local installed = registry["moonbow.tensor"]
if installed then
  for key, value in pairs(meta) do installed[key] = value end
else
  registry["moonbow.tensor"] = meta
  ffi.metatype("mb_tensor", meta)
end

return { methods = methods, properties = properties, is_tensor = types.is_tensor }
