-- SPDX-License-Identifier: MIT
--
-- model.lua: the handle of a model: named parameters in one arena, gradients and states of one layout.
-- Thin, without policy; lua/moonbow/models/base.lua is what scripts see. Parameters and groups are numbered
-- from 1.
--
--   new(name) -> handle                      empty, for add and build
--   add(h, name, shape, role, init, scale)   role "matrix"|"embedding"|"head"|"vector"|"conv",
--                                            init "zeros"|"ones"|"normal"|"uniform"
--   build(h, dtype, device, seed)
--   count(h) -> n                            find(h, name) -> index or nil
--   name(h, i), role(h, i) -> text           range(h, i) -> begin, end   elements of the arena, from 0
--   parameter(h, i), gradient(h, i)          tensors; the parameter is a leaf, in place changes are allowed
--   values(h), gradients(h)                  the flat buffers (N)
--   state(h)                                 a new flat buffer (N) of zeros
--   view(h, flat, i)                         parameter i of a flat buffer
--   group_count(h), group_of(h, i)           groups of equal-shaped parameters of one role
--   group_view(h, flat, g)                   (L, shape...)
--   forgive(h)                               gradients were zeroed one by one: what a clipper refused of them is over
--   zero_grad(h)  settle_gradients(h)        the second writes the zeros that the first only noted
--   set_training(h, on)  training(h) -> boolean
--   set_rounding(h, rounding)  rounding(h)   "nearest"|"stochastic", of weights to bf16
--   find_nonfinite(h, flat) -> index or nil  first parameter with NaN or Inf in that buffer
--   own(pointer) -> handle                   takes over a reference

local ffi = require "ffi"
local graphs = require "bindings.graph"
local handle = require "bindings.handle"
local load = require "bindings.load"
local status = require "bindings.status"
local types = require "bindings.types"

local C = load.C
local act, produce, fail = handle.act, handle.produce, status.fail

local M = {}

local roles, role_names = {}, {} -- ORDER ROLE
for name, code in pairs { matrix = C.MB_ROLE_MATRIX, embedding = C.MB_ROLE_EMBEDDING, head = C.MB_ROLE_HEAD,
                          vector = C.MB_ROLE_VECTOR, conv = C.MB_ROLE_CONV } do
  roles[name], role_names[tonumber(code)] = tonumber(code), name
end
local inits = { zeros = tonumber(C.MB_INIT_ZEROS), ones = tonumber(C.MB_INIT_ONES),
                normal = tonumber(C.MB_INIT_NORMAL), uniform = tonumber(C.MB_INIT_UNIFORM) }

local out = ffi.new "mb_model *[1]"

--- Takes over one reference of a model.
function M.own(pointer)
  return ffi.gc(pointer, C.mb_model_release)
end

--- Calls C[name](out, ...) for a function that makes a model.
---@param name string
function M.produce(name, ...)
  act(name, out, ...)
  return M.own(out[0])
end

---@param name string
function M.new(name) return M.produce("mb_model_new", name) end

function M.add(h, name, shape, role, init, scale)
  local n, sizes = types.shape("add '" .. tostring(name) .. "'", shape)
  act("mb_model_add", h, name, n, sizes,
      roles[role] or fail("add '%s': unknown role %s", name, types.describe(role)),
      inits[init] or fail("add '%s': unknown init %s", name, types.describe(init)), scale)
end

function M.build(h, dtype, device, seed)
  act("mb_model_build", h, types.dtype(dtype).code, types.device(device), seed)
end

---@return integer
function M.count(h) return tonumber(C.mb_model_count(h)) end

---@return integer?
function M.find(h, name)
  local index = tonumber(C.mb_model_find(h, name))
  return index >= 0 and index + 1 or nil
end

local function index_of(who, h, i)
  return types.from_one(who, "parameter", i, M.count(h))
end

---@return string
function M.name(h, i) return ffi.string(C.mb_model_name(h, index_of("name", h, i))) end

---@return string
function M.role(h, i) return role_names[tonumber(C.mb_model_role(h, index_of("role", h, i)))] end

function M.parameter(h, i) return produce("mb_model_parameter", h, index_of("parameter", h, i)) end
function M.gradient(h, i) return produce("mb_model_gradient", h, index_of("gradient", h, i)) end
function M.values(h) return produce("mb_model_values", h) end
function M.gradients(h) return produce("mb_model_gradients", h) end
function M.state(h) return produce("mb_model_state", h) end
function M.view(h, flat, i) return produce("mb_model_view", h, flat, index_of("view", h, i)) end

local range = ffi.new "int64_t[2]"

---@return integer begin
---@return integer end_
function M.range(h, i)
  act("mb_model_range", range, range + 1, h, index_of("range", h, i))
  return tonumber(range[0]), tonumber(range[1])
end

---@return integer
function M.group_count(h) return tonumber(C.mb_model_group_count(h)) end

---@return integer
function M.group_of(h, i) return tonumber(C.mb_model_group_of(h, index_of("group_of", h, i))) + 1 end

function M.group_view(h, flat, group)
  return produce("mb_model_group_view", h, flat, types.from_one("group_view", "group", group, M.group_count(h)))
end

function M.zero_grad(h) act("mb_model_zero_grad", h) end
function M.forgive(h) act("mb_model_forgive", h) end
function M.settle_gradients(h) act("mb_model_settle_gradients", h) end

local numbers, last_number = setmetatable({}, { __mode = "k" }), 0

-- A graph that is captured while a model evaluates is another one; a number of its own tells which model it was.
function M.set_training(h, on)
  local was = C.mb_model_training(h) ~= 0
  C.mb_model_set_training(h, on and 1 or 0)
  if was == (on and true or false) then return end
  if not numbers[h] then numbers[h], last_number = last_number - 1, last_number - 1 end
  graphs.mark(numbers[h], was)
end

local roundings = { nearest = tonumber(C.MB_ROUND_NEAREST), stochastic = tonumber(C.MB_ROUND_STOCHASTIC) }

---@param rounding "nearest"|"stochastic"
function M.set_rounding(h, rounding)
  act("mb_model_set_rounding", h, roundings[rounding] or fail("set_rounding: unknown rounding %s", types.describe(rounding)))
end
---@return "nearest"|"stochastic"
function M.rounding(h) return tonumber(C.mb_model_rounding(h)) == roundings.stochastic and "stochastic" or "nearest" end
---@return boolean
function M.training(h) return C.mb_model_training(h) ~= 0 end

local index_out = ffi.new "int64_t[1]"

---@return integer?
function M.find_nonfinite(h, flat)
  act("mb_model_find_nonfinite", index_out, h, flat)
  local index = tonumber(index_out[0])
  return index >= 0 and index + 1 or nil
end

return M
