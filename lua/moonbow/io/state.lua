-- SPDX-License-Identifier: MIT
--
-- state.lua: between a state table, as state_dict() gives it, and what files can hold. A state is nested
-- tables of tensors and plain Lua values; pack() takes the tensors out, by a name that is their path, and
-- leaves a tree for JSON in which marks stand for what JSON lacks:
--   {"$tensor": name}   {"$number": "NaN" | "Infinity" | "-Infinity"}   {"$pairs": [[key, value], ...]}
-- $pairs is for tables whose keys are not all strings, nor 1..n. unpack() gives an equal state back.

local types = require "bindings.types"
local json = require "moonbow.io.json"

local M = {}

-- ----- packing ----------------------------------------------------------------------------------------

local pack_value -- forward

local function join(path, key) return path == "" and tostring(key) or path .. "." .. tostring(key) end

-- A name for the tensor at `path` that no other one has.
local function free_name(tensors, path)
  local name, n = path, 1
  while tensors[name] do
    n = n + 1
    name = path .. "#" .. n
  end
  return name
end

-- "array" (keys 1..n), "object" (strings without a leading $), or "pairs".
local function kind_of_table(t)
  local count, strings = 0, true
  for key in pairs(t) do
    count = count + 1
    if type(key) ~= "string" or key:sub(1, 1) == "$" then strings = false end
  end
  if count == #t and count > 0 then return "array" end
  return strings and "object" or "pairs"
end

local function key_order(a, b)
  local x, y = type(a), type(b)
  if x ~= y then return x < y end
  if x == "boolean" then return a and not b end
  return a < b
end

local function pack_pairs(value, path, context)
  local keys, result = {}, setmetatable({}, json.array)
  for key in pairs(value) do
    local kind = type(key)
    if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
      error({ state = ("%s has a key that is a %s"):format(path, kind) }, 0)
    end
    keys[#keys + 1] = key
  end
  table.sort(keys, key_order)
  for i, key in ipairs(keys) do
    result[i] = { pack_value(key, path, context), pack_value(value[key], join(path, key), context) }
  end
  return { ["$pairs"] = result }
end

local function pack_table(value, path, context)
  if context.open[value] then error({ state = path .. " contains itself" }, 0) end
  context.open[value] = true
  local kind, result = kind_of_table(value), {}
  if kind == "array" then
    setmetatable(result, json.array)
    for i, item in ipairs(value) do result[i] = pack_value(item, join(path, i), context) end
  elseif kind == "object" then
    local keys = {}
    for key in pairs(value) do keys[#keys + 1] = key end
    table.sort(keys) -- so that names of tensors do not depend on the order of pairs()
    for _, key in ipairs(keys) do result[key] = pack_value(value[key], join(path, key), context) end
  else
    result = pack_pairs(value, path, context)
  end
  context.open[value] = nil
  return result
end

function pack_value(value, path, context)
  local kind = type(value)
  if kind == "table" then return pack_table(value, path, context) end
  if kind == "string" or kind == "boolean" then return value end
  if kind == "number" then
    return value - value == 0 and value or { ["$number"] = json.nonfinite(value) }
  end
  if types.is_tensor(value) then
    local name = free_name(context.tensors, path)
    context.tensors[name] = value
    return { ["$tensor"] = name }
  end
  error({ state = ("%s is a %s, which cannot be saved"):format(path == "" and "the state" or path, kind) }, 0)
end

--- Takes a state apart.
---@param state any tables of tensors, numbers, strings, booleans
---@return any? tree for JSON; nil if something cannot be saved
---@return table<string, moonbow.Tensor>|string tensors by name, or what cannot be saved
function M.pack(state)
  local context = { tensors = {}, open = {} }
  local ok, tree = pcall(pack_value, state, "", context)
  if ok then return tree, context.tensors end
  if type(tree) ~= "table" then error(tree, 0) end
  return nil, tree.state
end

-- ----- unpacking --------------------------------------------------------------------------------------

local numbers = { NaN = 0 / 0, Infinity = math.huge, ["-Infinity"] = -math.huge }

local function unpack_value(tree, tensors)
  if type(tree) ~= "table" then return tree end
  local name, number, list = tree["$tensor"], tree["$number"], tree["$pairs"]
  if name then
    return tensors[name] or error({ state = ("the tensor '%s' is missing"):format(tostring(name)) }, 0)
  end
  if number then return numbers[number] or error({ state = "an unknown $number" }, 0) end
  local result = {}
  if list then
    for _, pair in ipairs(list) do
      result[unpack_value(pair[1], tensors)] = unpack_value(pair[2], tensors)
    end
  else
    for key, item in pairs(tree) do result[key] = unpack_value(item, tensors) end
  end
  return result
end

--- The state that pack() made `tree` and `tensors` of; nil and a problem if they do not fit each other.
---@param tree any
---@param tensors table<string, moonbow.Tensor>
---@return any state
---@return string? problem
function M.unpack(tree, tensors)
  local ok, state = pcall(unpack_value, tree, tensors)
  if ok then return state end
  return nil, type(state) == "table" and state.state or tostring(state)
end

-- ----- numbers that must be finite --------------------------------------------------------------------

-- x - x is 0 for finite x and NaN for all others, and so is their sum.
local function first_nonfinite(p, n)
  local sum = 0
  for i = 0, n - 1 do sum = sum + (p[i] - p[i]) end
  if sum == 0 then return nil end
  for i = 0, n - 1 do
    if p[i] - p[i] ~= 0 then return i end
  end
end

--- Name, element (counted from 0) and value of the first NaN or Inf in floating tensors, in order of name.
---@param tensors table<string, moonbow.Tensor>
---@return string? name
---@return integer? element
---@return number? value
function M.find_nonfinite(tensors)
  local names = {}
  for name in pairs(tensors) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local t = tensors[name]
    if types.dtype_of(t).is_float then
      if t.device ~= "cpu" then t = t:to "cpu" end
      t = t:contiguous()
      local p = t:data()
      local element = first_nonfinite(p, t.numel)
      if element then return name, element, p[element] end
    end
  end
end

return M
