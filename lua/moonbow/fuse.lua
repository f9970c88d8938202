-- SPDX-License-Identifier: MIT
--
-- fuse.lua: a Lua function over buffers and numbers, traced once and run as one pass over memory.
--
--   local axpy = mb.fuse(function(p, h) p.y = h.a * p.x + p.y end)
--   axpy({ x = x, y = y }, { a = 2 })        -- changes y in place
--   axpy({ x = x, y = y }, { a = 3 })        -- same program: a is a number of the run
--
-- The function runs once, with symbolic values: `p.x` stands for an element of the tensor x, `h.a` for a
-- number. Arithmetic and mb.sqrt, mb.sign, mb.where, ... on them build an expression graph (bindings/
-- program.lua); assigning to a field of p stores there, and reading the field afterwards gives what was
-- assigned. All loads come before all stores. What the graph says is what runs: the engine shares common
-- subexpressions, leaves out what no store needs, and computes formulas of numbers alone once a run.
--
-- Lua's own control flow sees symbols, not numbers. `<` and `<=` on a symbol are errors, as is `==` of two
-- symbols; Lua never asks about `if x` and `x == 1`, which are always true and always false. mb.where(mb.less(x, 0), a, b)
-- chooses element by element.

local create = require "bindings.program"
local ops = require "bindings.ops"
local options = require "moonbow.options"
local types = require "bindings.types"

local M = {}

-- ----- symbols --------------------------------------------------------------------------------------------

---@class moonbow.Symbol a value of a trace: { trace = , value = number of the program's value }
local Symbol = {}

local function is_symbol(x) return getmetatable(x) == Symbol end

local function new_symbol(trace, value) return setmetatable({ trace = trace, value = value }, Symbol) end

-- The program's value for an argument of an operation.
local function value_of(trace, x)
  if is_symbol(x) then
    if x.trace ~= trace then options.fail("%s: a value of another fused function is used", trace.who) end
    return x.value
  end
  if type(x) == "number" then return trace.program:constant(x) end
  if types.is_tensor(x) then
    options.fail("%s: a tensor is used inside the function; pass it as a field of the first argument", trace.who)
  end
  options.fail("%s: a value of the trace or a number was expected, not %s", trace.who, options.describe(x))
end

local function trace_of(a, b, c)
  return is_symbol(a) and a.trace or is_symbol(b) and b.trace or c.trace
end

-- Operations that are made of others.
local composed = {
  relu = function(x) return ops.maximum(x, 0) end,
  silu = function(x) return x * ops.sigmoid(x) end,
  gelu_tanh = function(x)
    return x / 2 * (1 + ops.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ^ 3)))
  end,
}

-- What mb.<name>(...) does when an argument is a symbol.
local function apply(name, ...)
  local trace = trace_of(...)
  if composed[name] then return composed[name](...) end
  if not create.codes[name] then
    local hint = (name == "max" or name == "min") and ("; mb.%simum takes two values"):format(name) or ""
    options.fail("%s: mb.%s cannot be used on a traced value%s", trace.who, name, hint)
  end
  if trace.is_over then options.fail("%s: a traced value is used after the function has returned", trace.who) end
  local values, last = { op = name }, 0
  for i = 1, select("#", ...) do
    values[i] = value_of(trace, (select(i, ...)))
    last = math.max(last, values[i])
  end
  local value = trace.program:apply(name, values[1], values[2], values[3])
  -- The program may answer with a value that it has, x for x * 1; one that is new comes after its arguments.
  if value > last then trace.made[value] = trace.made[value] or values end
  return new_symbol(trace, value)
end

Symbol.fuse_apply = apply
Symbol.__add, Symbol.__sub, Symbol.__mul, Symbol.__div, Symbol.__pow = ops.add, ops.sub, ops.mul, ops.div, ops.pow
Symbol.__unm = function(a) return apply("neg", a) end
Symbol.__tostring = function(x) return ("traced value %d of %s"):format(x.value, x.trace.who) end

local function comparison(operator, name)
  return function(a)
    local trace = is_symbol(a) and a.trace or { who = "mb.fuse" }
    options.fail("%s: '%s' of traced values has no answer when the function is traced; use mb.where(mb.%s(a, b), x, y)",
                 trace.who, operator, name)
  end
end
Symbol.__lt, Symbol.__le, Symbol.__eq = comparison("<", "less"), comparison("<=", "less_equal"), comparison("==", "equal")

-- Methods as tensors have them: p.v:sqrt().
function Symbol.__index(x, name)
  if create.codes[name] or composed[name] or name == "clamp" then return ops[name] end
  options.fail("%s: a traced value has no '%s'", x.trace.who, tostring(name))
end

function Symbol.__newindex(x, name)
  options.fail("%s: '%s' cannot be set in a traced value; assign to a field of the first argument", x.trace.who,
               tostring(name))
end

-- ----- tracing --------------------------------------------------------------------------------------------

-- The function's first argument.
local function fields_of(trace, arrays, read_only, assign)
  local slots, current = {}, {}
  for slot, name in ipairs(arrays) do slots[name] = slot end
  local function slot_of(name)
    return slots[name] or options.fail("%s: there is no field '%s'%s", trace.who, tostring(name),
                                       options.suggest(name, arrays))
  end
  return setmetatable({}, {
    __index = function(_, name)
      if not current[name] then
        local value = trace.program:array(slot_of(name))
        trace.arrays[value], current[name] = true, new_symbol(trace, value)
      end
      return current[name]
    end,
    __newindex = function(_, name, x)
      local slot = slot_of(name)
      if read_only[name] then options.fail("%s: field '%s' is read-only", trace.who, name) end
      if trace.is_over then options.fail("%s: field '%s' is set after the function has returned", trace.who, name) end
      if not is_symbol(x) and type(x) ~= "number" then
        options.fail("%s: field '%s' must be set to a traced value or a number, not %s", trace.who, name,
                     options.describe(x))
      end
      local stored = new_symbol(trace, value_of(trace, x))
      local seen = stored
      if assign then stored, seen = assign(name, stored) end
      current[name] = seen
      if stored then trace.program:store(slot, stored.value) end
    end,
  })
end

-- The function's second argument: symbols by name, other values as they are. Slots of scalars are numbered
-- as the numbers of `scalars` are met: names in order, arrays element by element.
local function numbers_of(trace, scalars)
  local values, slot = {}, 0
  local function next_scalar()
    slot = slot + 1
    return new_symbol(trace, trace.program:scalar(slot))
  end
  local names = options.keys(scalars)
  for _, name in ipairs(names) do
    local like = scalars[name]
    if like == true then
      values[name] = next_scalar()
    elseif type(like) == "number" then
      values[name] = {}
      for i = 1, like do values[name][i] = next_scalar() end
    else
      values[name] = like.value
    end
  end
  return setmetatable({}, {
    __index = function(_, name)
      if values[name] ~= nil then return values[name] end
      options.fail("%s: there is no number '%s'%s", trace.who, tostring(name), options.suggest(name, names))
    end,
    __newindex = function(_, name)
      options.fail("%s: '%s' cannot be set; only fields of the first argument can", trace.who, tostring(name))
    end,
  })
end

-- Lua compares values of two types by itself, and its message does not know what to do instead.
local function explain(message)
  if type(message) == "string" and message:find("attempt to compare", 1, true) then
    return message .. "; for traced values use mb.where(mb.less(a, b), x, y)"
  end
  return message
end

---@class moonbow.TraceSpec
---@field who string begins the text of errors
---@field fn function
---@field arrays string[] fields of the first argument; field i is array i of the program
---@field read_only? table<string, boolean>
---@field scalars table<string, true|integer|{ value: any }> the second argument: true is a number of the run,
---  an integer n an array of n such numbers, a table { value = x } x itself
---@field extra? any third argument of fn, as it is
---@field assign? fun(name: string, x: moonbow.Symbol): moonbow.Symbol?, moonbow.Symbol what the assignment of x to a field
---  stores (nil: nothing), and what reading the field gives from then on; default x and x

--- Traces a function into a program whose scalars are the numbers of `scalars`, names in order.
---@param spec moonbow.TraceSpec
---@return moonbow.Program
function M.trace(spec)
  local trace = { who = spec.who, program = create.new(), made = {}, arrays = {}, is_over = false }
  local p, h = fields_of(trace, spec.arrays, spec.read_only or {}, spec.assign), numbers_of(trace, spec.scalars)
  local ok, message = pcall(spec.fn, p, h, spec.extra)
  trace.is_over = true
  if not ok then error(explain(message), 0) end
  return trace.program
end

-- ----- looking at expressions -----------------------------------------------------------------------------

-- Is there a value in the expression for which `is` holds?
local function any(x, is)
  local visited = {}
  local function look(value)
    if is(value) then return true end
    if visited[value] then return false end
    visited[value] = true
    for _, argument in ipairs(x.trace.made[value] or {}) do
      if look(argument) then return true end
    end
    return false
  end
  return look(x.value)
end

--- Does the expression of one symbol contain another symbol of its trace, or is it that one itself?
---@param whole moonbow.Symbol
---@param part moonbow.Symbol
---@return boolean
function M.contains(whole, part)
  return any(whole, function(value) return value == part.value end)
end

--- Is a symbol made of numbers alone, the same for every element?
---@param x moonbow.Symbol
---@return boolean
function M.is_number(x)
  return not any(x, function(value) return x.trace.arrays[value] end)
end

--- The operation that a symbol is the result of, and its arguments; nil for elements of arrays and numbers.
---@param x moonbow.Symbol
---@return string? op
---@return moonbow.Symbol ... arguments
function M.parts(x)
  local made, arguments = x.trace.made[x.value], {}
  if not made then return nil end
  for i, value in ipairs(made) do arguments[i] = new_symbol(x.trace, value) end
  return made.op, unpack(arguments)
end

-- ----- mb.fuse --------------------------------------------------------------------------------------------

---@class moonbow.Fused
local Fused = {}
Fused.__index = Fused

local function prepare(self, arrays, scalars)
  local fields, names = options.keys(arrays), options.keys(scalars)
  local key = table.concat(fields, ",") .. ";" .. table.concat(names, ",")
  if self.key == key then return end
  local like = {}
  for _, name in ipairs(names) do like[name] = true end
  self.program = M.trace { who = "mb.fuse", fn = self.fn, arrays = fields, scalars = like }
  self.key, self.fields, self.names = key, fields, names
end

--- Runs on tensors by name, changed in place, and numbers by name. Tensors are contiguous and have one dtype
--- and number of elements; shapes may differ.
---@param arrays table<string, moonbow.Tensor>
---@param scalars? table<string, number>
---@return table<string, moonbow.Tensor> arrays
function Fused:__call(arrays, scalars)
  options.value("mb.fuse", "the first argument", arrays, { type = "table" })
  scalars = scalars or {}
  options.value("mb.fuse", "the second argument", scalars, { type = "table" })
  if next(arrays) == nil then options.fail "mb.fuse: the first argument names no tensors" end
  prepare(self, arrays, scalars)
  local tensors, numbers = {}, {}
  for i, name in ipairs(self.fields) do
    options.value("mb.fuse", ("field '%s'"):format(name), arrays[name], { type = "tensor" })
    tensors[i] = arrays[name]
  end
  for i, name in ipairs(self.names) do
    options.value("mb.fuse", ("number '%s'"):format(name), scalars[name], { type = "number" })
    numbers[i] = scalars[name]
  end
  self.program:run(tensors, numbers)
  return arrays
end

--- Operations that an element costs, once the function has been traced by a call.
---@return integer
function Fused:size()
  if not self.program then options.fail "mb.fuse: the function is traced by its first call, and has not been called" end
  return self.program:size()
end

function Fused:__tostring()
  if not self.program then return "fused function, not called yet" end
  return ("fused function of %s: %d operations an element"):format(table.concat(self.fields, ", "), self.program:size())
end

return setmetatable(M, { __call = function(_, fn)
  options.value("mb.fuse", "the argument", fn, { type = "function" })
  return setmetatable({ fn = fn }, Fused)
end })
