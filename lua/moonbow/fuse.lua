-- SPDX-License-Identifier: MIT
--
-- fuse.lua: a Lua function over buffers and numbers, traced once and run as few passes over memory.
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
-- Reductions: mb.sum, mb.mean, mb.norm, mb.max and mb.min of a traced value, over
--
--   mb.norm(p.g)                          the parameter (in mb.fuse: the tensor): one number each
--   mb.norm(p.g, { over = "rows" })       each row of a matrix: one number a row; "columns" likewise
--   mb.norm(p.g, { over = "group" })      all parameters of the optimizer's group together
--   mb.norm(p.g, { over = "all" })        all parameters of the model, of p.w and p.g alone
--
-- The result is stretched where it meets larger values: p.g / mb.norm(p.g). A matrix is (out, in), a filter (out, in k k), a
-- vector one row. What is reduced already can be reduced further, and counts once: mb.mean of one number a row is a mean
-- over rows, and mb.sqrt(mb.sum(mb.square(mb.norm(p.g)), { over = "group" })) is mb.norm(p.g, { over = "group" }).
-- x:rows(), x:columns() and x:numel() are the sizes of a parameter. A field may have one number a row, a column or a
-- parameter itself, which the option `shapes` says: mb.fuse(fn, { shapes = { r = "rows", c = "columns", s = "parameter" } });
-- states of optimizers see optim/define.lua. Reductions run before anything is stored; sums in float64, the same bits for
-- any number of threads. A program with reductions is several passes: one over the elements for those that do not depend
-- on each other, small ones over what they found, and one that stores.
--
-- Random numbers: mb.rand_like(p.w), uniform in [0, 1), and mb.randn_like(p.w), normal: a number for each element, and
-- others for each call. They depend on mb.seed, the element, and the step of the optimizer (of mb.fuse: the generator's
-- next stream), not on threads, groups or the device. Rounding of x to multiples of d, up or down at random and exact in
-- the mean: with c = 1.5 * 2^23 (float32), p.w = ((p.w / d + mb.rand_like(p.w) - 0.5 + c) - c) * d.
--
-- Lua's own control flow sees symbols, not numbers. `<` and `<=` on a symbol are errors, as is `==` of two
-- symbols; Lua never asks about `if x` and `x == 1`, which are always true and always false. mb.where(mb.less(x, 0), a, b)
-- chooses element by element.

local create = require "bindings.program"
local ops = require "bindings.ops"
local options = require "moonbow.options"
local random = require "bindings.create"
local recording = require "moonbow.recording"
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
  gelu_erf = function(x) return x * x:normal_cdf() end,
  relu = function(x) return ops.maximum(x, 0) end,
  silu = function(x) return x * ops.sigmoid(x) end,
  gelu_tanh = function(x)
    return x / 2 * (1 + ops.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ^ 3)))
  end,
}

local function check_open(trace)
  if trace.is_over then options.fail("%s: a traced value is used after the function has returned", trace.who) end
end

-- ----- reductions and random numbers ----------------------------------------------------------------------

local made_like = {
  randn_like = function(trace) return trace.program:random(true) end,
  rand_like = function(trace) return trace.program:random(false) end,
  zeros_like = function(trace) return trace.program:constant(0) end,
  ones_like = function(trace) return trace.program:constant(1) end,
}

local over_names = options.keys(create.overs)
local any -- below

-- What a reduction goes over, from the second argument of mb.sum(x, { over = ... }).
local function over_of(trace, name, given)
  if is_symbol(given) or type(given) == "number" and (name == "max" or name == "min") then
    options.fail("%s: mb.%s of one traced value reduces it; mb.%simum takes two values", trace.who, name, name)
  end
  if given ~= nil and type(given) ~= "table" then
    options.fail('%s: mb.%s of a traced value takes { over = "rows" } and its like, not %s', trace.who, name,
                 options.describe(given))
  end
  local o = options.check(("%s: mb.%s"):format(trace.who, name), given,
                          { over = { choices = over_names, default = "parameter" } })
  return o.over
end

local function reduce(trace, name, x, given)
  local over = over_of(trace, name, given)
  local value = value_of(trace, x)
  if trace.program:extent(value) == create.extents.number then
    options.fail("%s: mb.%s: there is nothing to reduce, the value is one number for everything", trace.who, name)
  end
  if over == "all" and trace.within_group then
    local field = any(x, function(v) return trace.within_group[trace.arrays[v]] and trace.arrays[v] end)
    if field then
      options.fail('%s: mb.%s: over = "all" takes w and g alone, but p.%s is a state, which the other groups do not have',
                   trace.who, name, field)
    end
  end
  local result = trace.program:reduce(name, over, value)
  if result > value then trace.made[result] = trace.made[result] or { value, op = name } end
  return new_symbol(trace, result)
end

-- What mb.<name>(...) does when an argument is a symbol.
local function apply(name, ...)
  local trace = trace_of(...)
  check_open(trace)
  if composed[name] then return composed[name](...) end
  if made_like[name] then return new_symbol(trace, made_like[name](trace)) end
  if create.reduces[name] then return reduce(trace, name, ...) end
  if not create.codes[name] then options.fail("%s: mb.%s cannot be used on a traced value", trace.who, name) end
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

-- Sizes of the parameter that a value belongs to.
local counts = { rows = "rows", columns = "columns", numel = "parameter" }
local count_methods = {}
for name, of in pairs(counts) do
  count_methods[name] = function(x)
    check_open(x.trace)
    return new_symbol(x.trace, x.trace.program:count(of))
  end
end
local function normal_cdf(x) return apply("normal_cdf", x) end

-- Methods as tensors have them: p.v:sqrt().
function Symbol.__index(x, name)
  if count_methods[name] then return count_methods[name] end
  if name == "normal_cdf" then return normal_cdf end
  if create.codes[name] or composed[name] or create.reduces[name] or name == "clamp" then return ops[name] end
  options.fail("%s: a traced value has no '%s'", x.trace.who, tostring(name))
end

function Symbol.__newindex(x, name)
  options.fail("%s: '%s' cannot be set in a traced value; assign to a field of the first argument", x.trace.who,
               tostring(name))
end

-- ----- tracing --------------------------------------------------------------------------------------------

-- Raises an error if a value differs by more than a field has numbers for.
local function check_room(trace, name, shape, value)
  local extents = create.extents
  local extent = shape and trace.program:extent(value)
  if not shape or extent <= extents.parameter or extent == extents[shape] then return end
  local by = extent == extents.rows and "row" or extent == extents.columns and "column" or "element"
  options.fail("%s: field '%s' has one number for each %s, and is set to a value that differs from %s to %s", trace.who,
               name, shape == "rows" and "row" or shape == "columns" and "column" or "parameter", by, by)
end

-- The function's first argument.
local function fields_of(trace, arrays, shapes, read_only, assign)
  local slots, current = {}, {}
  for slot, name in ipairs(arrays) do
    slots[name] = slot
    if shapes[name] then trace.program:declare(slot, shapes[name]) end
  end
  local function slot_of(name)
    return slots[name] or options.fail("%s: there is no field '%s'%s", trace.who, tostring(name),
                                       options.suggest(name, arrays))
  end
  return setmetatable({}, {
    __index = function(_, name)
      if not current[name] then
        local value = trace.program:array(slot_of(name))
        trace.arrays[value], current[name] = name, new_symbol(trace, value)
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
      check_room(trace, name, shapes[name], stored.value)
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
---@field shapes? table<string, "rows"|"columns"|"parameter"> of fields that are no elements
---@field read_only? table<string, boolean>
---@field within_group? table<string, boolean> fields that mean nothing for parameters beyond the group
---@field scalars table<string, true|integer|{ value: any }> the second argument: true is a number of the run,
---  an integer n an array of n such numbers, a table { value = x } x itself
---@field extra? any third argument of fn, as it is
---@field assign? fun(name: string, x: moonbow.Symbol): moonbow.Symbol?, moonbow.Symbol what the assignment of x to a field
---  stores (nil: nothing), and what reading the field gives from then on; default x and x

--- Traces a function into a program whose scalars are the numbers of `scalars`, names in order.
---@param spec moonbow.TraceSpec
---@return moonbow.Program
function M.trace(spec)
  local trace = { who = spec.who, program = create.new(), made = {}, arrays = {}, is_over = false,
                  within_group = spec.within_group }
  local p = fields_of(trace, spec.arrays, spec.shapes or {}, spec.read_only or {}, spec.assign)
  local h = numbers_of(trace, spec.scalars)
  local ok, message = pcall(spec.fn, p, h, spec.extra)
  trace.is_over = true
  if not ok then error(explain(message), 0) end
  return trace.program
end

-- ----- looking at expressions -----------------------------------------------------------------------------

-- What `is` says of the first value in the expression of which it says anything, or false.
function any(x, is)
  local visited = {}
  local function look(value)
    local found = is(value)
    if found then return found end
    if visited[value] then return false end
    visited[value] = true
    for _, argument in ipairs(x.trace.made[value] or {}) do
      found = look(argument)
      if found then return found end
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
  return x.trace.program:extent(x.value) == create.extents.number
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

---@class moonbow.Fused a fused function; tensors that it is called with are changed in place
local Fused = {}
Fused.__index = Fused

local function prepare(self, arrays, scalars)
  local fields, names = options.keys(arrays), options.keys(scalars)
  local key = table.concat(fields, ",") .. ";" .. table.concat(names, ",")
  if self.key == key then return end
  local like = {}
  for _, name in ipairs(names) do like[name] = true end
  for name in pairs(self.shapes) do
    if arrays[name] == nil then
      options.fail("mb.fuse: option 'shapes' names '%s', and there is no such field%s", name, options.suggest(name, fields))
    end
  end
  self.program = M.trace { who = "mb.fuse", fn = self.fn, arrays = fields, scalars = like, shapes = self.shapes }
  self.key, self.fields, self.names, self.parts = key, fields, names, nil
end

-- One part: rows and columns are those of the first tensor of elements.
local function parts_of(self, tensors)
  for i, name in ipairs(self.fields) do
    if not self.shapes[name] then
      local shape, numel = tensors[i].shape, tensors[i].numel
      local rows = #shape > 1 and shape[1] or 1
      if not self.parts or self.rows ~= rows or self.numel ~= numel then
        self.rows, self.numel = rows, numel
        self.parts = create.parts { { begin = 0, rows = rows, columns = numel / rows, is_group = true, is_stored = true } }
      end
      return self.parts
    end
  end
  options.fail "mb.fuse: every field has one number a row, a column or a parameter; one of elements is needed"
end

--- Runs on tensors by name, changed in place, and numbers by name. Tensors are contiguous and have one dtype
--- and number of elements; shapes may differ.
---@param arrays table<string, moonbow.Tensor>
---@param scalars? table<string, number>
---@param renew? fun(): table<string, number> in a graph: the scalars of each replay; without it they stay
---@return table<string, moonbow.Tensor> arrays
function Fused:__call(arrays, scalars, renew)
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
  local function take(given)
    for i, name in ipairs(self.names) do
      options.value("mb.fuse", ("number '%s'"):format(name), given[name], { type = "number" })
      numbers[i] = given[name]
    end
  end
  take(scalars)
  local program, drawn = self.program, 0
  if program.is_random then
    local seed, step, stream = random.rng_get()
    program:set_key(seed, step, stream)
    random.rng_set(seed, step, stream + 1)
    if recording.is_on() then drawn = stream - recording.first_stream() end
  end
  program:run_parts(tensors, numbers, parts_of(self, tensors))
  recording.renew(program, function()
    if renew then take(renew()) end
    if program.is_random then
      local seed, step, stream = random.rng_get()
      program:set_key(seed, step, stream + drawn)
    end
    return numbers
  end, 1)
  return arrays
end

--- Operations that an element costs, once the function has been traced by a call.
---@return integer
function Fused:size()
  if not self.program then options.fail "mb.fuse: the function is traced by its first call, and has not been called" end
  return self.program:size()
end

--- Passes over memory that a run makes, once it has been called: 1 without reductions.
---@return integer
function Fused:passes()
  if not self.program then options.fail "mb.fuse: the function is traced by its first call, and has not been called" end
  return self.program:passes()
end

function Fused:__tostring()
  if not self.program then return "fused function, not called yet" end
  return ("fused function of %s: %d operations an element"):format(table.concat(self.fields, ", "), self.program:size())
end

--- A Lua function over tensors, run as few passes over memory.
---@param fn fun(p: table<string, moonbow.Symbol>, h: table<string, moonbow.Symbol>)
---@param given? { shapes?: table<string, "rows"|"columns"|"parameter"> } fields with one number a row, a column or a parameter
---@return moonbow.Fused
return setmetatable(M, { __call = function(_, fn, given)
  options.value("mb.fuse", "the argument", fn, { type = "function" })
  local o = options.check("mb.fuse", given, { shapes = { type = "table", default = {} } })
  for name, shape in pairs(o.shapes) do
    options.value("mb.fuse", ("the shape of field '%s'"):format(tostring(name)), shape,
                  { choices = { "rows", "columns", "parameter" } })
  end
  return setmetatable({ fn = fn, shapes = o.shapes }, Fused)
end })
