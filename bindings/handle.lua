-- SPDX-License-Identifier: MIT
--
-- handle.lua: ownership of tensor handles, and the two ways to call the engine.
--
-- A handle is a cdata reference, mb_tensor &, whose finalizer is the bare C function mb_tensor_release. Functions of the
-- engine take it as the pointer that it is. A pointer itself would not do: LuaJIT 2.1 compiles pointer + number to pointer
-- arithmetic, even where the interpreter calls the type's __add because the struct is opaque. Lua's
-- collector sees 16 bytes of a tensor of any size, so every new handle looks at the engine's counts of live
-- bytes and live handles, and collects when either has grown too far above the least it was since the last
-- collection. What a collection finds in use sets how far "too far" is: twice the growth that was real,
-- and at least MIN_BYTES (MIN_HANDLES).
--
--   produce(name, ...)  C[name](out, ...) -> a new handle
--   act(name, ...)      C[name](...)
--   act_once(name, ...) the same for a call that may have done half of its work when it fails
--
-- All raise errors at the user's line; the first two give a call that ran out of memory a second chance. With
-- MB_GC_STRESS=1 every call collects first, which finds handles that nobody holds.

local ffi = require "ffi"
local load = require "bindings.load"
local status = require "bindings.status"

local C = load.C
local OK, second_chance = status.OK, status.second_chance
local stress = os.getenv "MB_GC_STRESS" == "1"

local M = {}

local reference = ffi.typeof "mb_tensor &"

local MIN_BYTES, MIN_HANDLES = 64 * 2 ^ 20, 8192

local stats = ffi.new "mb_memory_stats"
local least_bytes, least_handles = 0, 0
local byte_budget, handle_budget = MIN_BYTES, MIN_HANDLES

-- ----- scopes -----------------------------------------------------------------------------------------

-- The innermost scope: { parent = , count = , list = weak array of handles, kept = ids that outlive it }.
local scope

local weak = { __mode = "v" }

local function compact(s)
  local list, count = setmetatable({}, weak), 0
  for i = 1, s.count do
    local handle = s.list[i]
    if handle ~= nil then
      count = count + 1
      list[count] = handle
    end
  end
  s.list, s.count = list, count
end

-- ----- accounting -------------------------------------------------------------------------------------

local function collect()
  collectgarbage()
  C.mb_memory(stats)
  local bytes, handles = tonumber(stats.bytes_live), tonumber(stats.live_tensors)
  byte_budget = math.max(MIN_BYTES, 2 * (bytes - least_bytes))
  -- A collection costs time in proportion to the Lua heap (1 handle for each KiB of it) and the live handles.
  handle_budget = math.max(MIN_HANDLES, 2 * (handles - least_handles), collectgarbage "count")
  least_bytes, least_handles = bytes, handles
  local s = scope
  while s do
    compact(s)
    s = s.parent
  end
end

local function account()
  C.mb_memory(stats)
  local bytes, handles = tonumber(stats.bytes_live), tonumber(stats.live_tensors)
  if bytes < least_bytes then least_bytes = bytes end
  if handles < least_handles then least_handles = handles end
  if bytes - least_bytes > byte_budget or handles - least_handles > handle_budget then collect() end
end

--- Takes over one reference of a tensor.
---@param pointer ffi.cdata* mb_tensor *
---@return moonbow.Tensor
local function own(pointer)
  local handle = ffi.gc(ffi.cast(reference, pointer), C.mb_tensor_release)
  if scope then
    scope.count = scope.count + 1
    scope.list[scope.count] = handle
  end
  account()
  return handle
end
M.own = own

-- ----- calls ------------------------------------------------------------------------------------------

local out = ffi.new "mb_tensor *[1]"

--- Calls C[name](out, ...) and returns the new handle.
---@param name string
---@return moonbow.Tensor
function M.produce(name, ...)
  if stress then collectgarbage() end
  local code = C[name](out, ...)
  if code ~= OK then second_chance(code, name, out, ...) end
  return own(out[0])
end

--- The same for a function whose result may be NULL: nil then.
---@param name string
---@return moonbow.Tensor?
function M.produce_or_nil(name, ...)
  if stress then collectgarbage() end
  local code = C[name](out, ...)
  if code ~= OK then second_chance(code, name, out, ...) end
  local pointer = out[0]
  if pointer == nil then return nil end
  return own(pointer)
end

--- Calls C[name](...), a function that returns a status alone.
---@param name string
function M.act(name, ...)
  if stress then collectgarbage() end
  local code = C[name](...)
  if code ~= OK then second_chance(code, name, ...) end
end

--- Calls C[name](...), which cannot be called again after a failure.
---@param name string
function M.act_once(name, ...)
  if stress then collectgarbage() end
  local code = C[name](...)
  if code ~= OK then status.check(code) end
end

-- ----- scopes, the public part ------------------------------------------------------------------------

--- Calls `visit` for every tensor in `value`, which may be a tensor or a table that holds some.
local function each_tensor(value, visit, seen)
  if type(value) == "cdata" then
    if ffi.istype("mb_tensor", value) then visit(value) end
  elseif type(value) == "table" and not seen[value] then
    seen[value] = true
    for _, item in next, value do each_tensor(item, visit, seen) end
  end
end

local function id_of(handle) return tonumber(C.mb_tensor_id(handle)) end

-- The engine keeps the pointer to this text: it lives as long as this module.
local ENDED = "its mb.scope has ended; return the tensor from the scope, or keep it with mb.keep(t)"

-- Discards what was made in `s`, unless it is kept or somebody else holds it too (a model, a graph, an
-- older handle): its references are then more than the handles in the list.
local function close(s, kept)
  local handles = {}
  for i = 1, s.count do
    local handle = s.list[i]
    if handle ~= nil then
      local id = id_of(handle)
      handles[id] = (handles[id] or 0) + 1
    end
  end
  for i = s.count, 1, -1 do
    local handle = s.list[i]
    if handle ~= nil then
      local id = id_of(handle)
      if kept[id] or s.kept[id] then
        if s.parent and not s.kept[id] then
          s.parent.count = s.parent.count + 1
          s.parent.list[s.parent.count] = handle
        end
      elseif C.mb_tensor_refs(handle) <= handles[id] then
        C.mb_tensor_discard(handle, ENDED)
      end
    end
  end
end

local function finish(s, ok, ...)
  scope = s.parent
  local kept = {}
  if ok then
    local seen = {}
    for i = 1, select("#", ...) do
      each_tensor(select(i, ...), function(t) kept[id_of(t)] = true end, seen)
    end
  end
  close(s, kept)
  if not ok then error((...), 0) end
  return ...
end

--- Runs fn(...); tensors made inside and neither returned nor kept give their memory back when it ends.
function M.scope(fn, ...)
  local s = { parent = scope, count = 0, list = setmetatable({}, weak), kept = {} }
  scope = s
  return finish(s, pcall(fn, ...))
end

--- Exempts the tensors in `value` from every scope that is open.
function M.keep(value)
  each_tensor(value, function(t)
    local s, id = scope, id_of(t)
    while s do
      s.kept[id] = true
      s = s.parent
    end
  end, {})
  return value
end

-- The engine keeps the pointer to this text, too.
local RELEASED = "who made it has given it back"

--- Gives the memory of the tensors in `value` back now; nobody may use them any more.
function M.release(value)
  each_tensor(value, function(t) C.mb_tensor_discard(t, RELEASED) end, {})
end

local function finish_mode(mode, ok, ...)
  C.mb_grad_mode(mode)
  if not ok then error((...), 0) end
  return ...
end

--- Runs fn(...) without recording for backward.
function M.no_grad(fn, ...)
  return finish_mode(C.mb_grad_mode(0), pcall(fn, ...))
end

--- Frees every tensor handle that nothing refers to.
function M.collect()
  collectgarbage()
  collect()
end

return M
