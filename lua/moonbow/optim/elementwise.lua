-- SPDX-License-Identifier: MIT
--
-- elementwise.lua: how an update that is a formula of elements, and of what is reduced from them, is run: traced into one
-- program, over the parts of the arena that the group's parameters are. A group of an optimizer holds one of these; those whose
-- programs are the same run as one (together.lua).
--
--   prepare(step)   evaluates the options that are functions of the step
--   reduce()        finds what is reduced, of the whole group and beyond
--   run()           changes weights and states
--   phases(on), write(on, buffer, parameters), run_with(on, buffer, changed)
--                   the same with a clipper in the middle: clipping.lua
--   each_state(visit)  states of one number a row, a column or a parameter, which the group has for itself
--
-- Nothing is compiled or allocated for a step: numbers go to the program as they are.

local binding = require "bindings.model"
local create = require "bindings.create"
local fuse = require "moonbow.fuse"
local handle = require "bindings.handle"
local numbers = require "moonbow.optim.numbers"
local ops = require "bindings.ops"
local phases = require "moonbow.optim.phases"
local program_binding = require "bindings.program"
local recording = require "moonbow.recording"

local M = {}

-- Random numbers of optimizers come from this stream at the step of the update; those of networks count from 0.
local STREAM = 2 ^ 62

---@class moonbow.Elementwise
local Elementwise = {}
Elementwise.__index = Elementwise

-- ----- parts of the arena ---------------------------------------------------------------------------------

local function matrix_of(p)
  local rows = #p.shape > 1 and p.shape[1] or 1
  return rows, p.value.numel / rows
end

--- The parts of a program that is run for these rules, the numbers of rule k being set k: their parameters, of which `stored`
--- (a set by index, nil for all) are changed; and the other ones of the model, if something is reduced over all.
---@param rules moonbow.Elementwise[]
---@param program moonbow.Program
---@param stored? table<integer, boolean>
---@return moonbow.ProgramParts
function M.parts_of(rules, program, stored)
  local list, is_mine, model = {}, {}, rules[1].model
  local function add(p, set)
    local rows, columns = matrix_of(p)
    local begin = binding.range(model.handle, p.index)
    list[#list + 1] = { begin = begin, rows = rows, columns = columns, is_group = set ~= nil, set = set,
                        is_stored = set ~= nil and (not stored or stored[p.index]) }
  end
  for set, rule in ipairs(rules) do
    for _, p in ipairs(rule.parameters) do
      add(p, set)
      is_mine[p.index] = true
    end
  end
  for _, p in ipairs(program.over_all and model:parameters() or {}) do
    if not is_mine[p.index] then add(p) end
  end
  return program_binding.parts(list)
end

local function set_of(parameters)
  local set = {}
  for _, p in ipairs(parameters) do set[p.index] = true end
  return set
end

-- ----- states that are not of elements --------------------------------------------------------------------

local function size_of(p, shape)
  local rows, columns = matrix_of(p)
  return shape == "rows" and rows or shape == "columns" and columns or 1
end

local function size_of_all(parameters, shape)
  local n = 0
  for _, p in ipairs(parameters) do n = n + size_of(p, shape) end
  return n
end

local function shaped_buffer(model, n) return handle.keep(create.full({ n }, 0, model.dtype, model.device)) end

--- Gives rules buffers that lie behind each other in one, for each such state. Nothing has been stored in them yet.
---@param rules moonbow.Elementwise[]
---@return moonbow.Tensor[] arrays of a run for all of these rules
function M.share_states(rules)
  local arrays = { unpack(rules[1].arrays) }
  for i, state in ipairs(rules[1].shaped) do
    local at, n, first = #arrays - #rules[1].shaped + i, 0, 1
    for _, rule in ipairs(rules) do n = n + size_of_all(rule.parameters, state.shape) end
    arrays[at] = shaped_buffer(rules[1].model, n)
    for _, rule in ipairs(rules) do
      local last = first + size_of_all(rule.parameters, state.shape) - 1
      rule.shaped[i].buffer = handle.keep(ops.slice(arrays[at], 1, first, last))
      rule.arrays[at], first = rule.shaped[i].buffer, last + 1
    end
  end
  return arrays
end

--- Calls visit(key, view, state) for each state that the optimizer has no flat buffer for.
---@param visit fun(key: string, view: moonbow.Tensor, state: table)
function Elementwise:each_state(visit)
  for _, state in ipairs(self.shaped) do
    local first = 1
    for _, p in ipairs(self.parameters) do
      local n = size_of(p, state.shape)
      visit(p.name .. "/" .. state.name, ops.slice(state.buffer, 1, first, first + n - 1), state)
      first = first + n
    end
  end
end

-- ----- updates --------------------------------------------------------------------------------------------

-- A copy of a list with one more at its end.
local function with(list, last)
  local longer = { unpack(list) }
  longer[#longer + 1] = last
  return longer
end

-- Fields that other groups do not have: all but w and g.
local function set_of_names(fields)
  local set = {}
  for i = 3, #fields do set[fields[i]] = true end
  return set
end

--- The update of one group. `buffers` are the flat buffers of its states, in order.
---@param constructor moonbow.OptimizerConstructor
---@param o table options
---@param model moonbow.Model
---@param parameters moonbow.Parameter[]
---@param states { name: string }[]
---@param flat { values: moonbow.Tensor, gradients: moonbow.Tensor, buffers: moonbow.Tensor[] }
---@return moonbow.Elementwise
function M.new(constructor, o, model, parameters, states, flat)
  local fields, arrays, shapes, shaped = { "w", "g" }, { flat.values, flat.gradients }, {}, {}
  for k, state in ipairs(states) do
    fields[k + 2], arrays[k + 2] = state.name, flat.buffers[k]
  end
  for i, state in ipairs(select(2, constructor:states(o))) do
    shaped[i] = { name = state.name, shape = state.shape, initial = 0,
                  buffer = shaped_buffer(model, size_of_all(parameters, state.shape)) }
    fields[#fields + 1], arrays[#arrays + 1], shapes[state.name] = state.name, shaped[i].buffer, state.shape
  end
  local scalars, list = numbers.of(constructor, o)
  local traced = { constructor = constructor, options = o, states = states, scalars = scalars, shapes = shapes,
                   states_of_group = set_of_names(fields), fields = with(fields, phases.BUFFER) }
  local program = fuse.trace { who = constructor.who, fn = constructor.update, arrays = fields, shapes = shapes,
                               read_only = { g = true }, within_group = traced.states_of_group, scalars = scalars,
                               extra = o }
  local self = setmetatable({
    who = constructor.who, program = program, arrays = arrays, list = list, numbers = {}, shaped = shaped,
    model = model, parameters = parameters, made = {}, traced = traced,
  }, Elementwise)
  self.parts = M.parts_of({ self }, program)
  return self
end

--- Evaluates the options for an update.
---@param step integer
function Elementwise:prepare(step)
  self.step = step
  for i, entry in ipairs(self.list) do self.numbers[i] = numbers.at(self.who, entry, step) end
end

--- Runs a program for these rules; phases as bindings/program.lua has them.
---@param rules moonbow.Elementwise[]
---@param program moonbow.Program
---@param arrays moonbow.Tensor[]
---@param values fun(): number[] of each rule in turn; asked again when the run is replayed
---@param parts moonbow.ProgramParts
---@param which 1|2|3
function M.run(rules, program, arrays, values, parts, which)
  local function numbers_now()
    if program.is_random then program:set_key(create.rng_get(), rules[1].step, STREAM) end
    return values()
  end
  program:run_parts(arrays, numbers_now(), parts, which, rules[1].model.handle)
  recording.renew(program, numbers_now, parts.n_sets)
end

local function run(self, program, arrays, values, parts, which)
  M.run({ self }, program, arrays, function() return values end, parts, which)
end

--- Finds what is reduced, by the numbers of the last prepare.
function Elementwise:reduce()
  if self.program.reduces then run(self, self.program, self.arrays, self.numbers, self.parts, 1) end
end

--- Whether run() can be part of a graph.
---@return boolean
function Elementwise:is_for_graphs() return self.program ~= nil end

--- Changes weights and states, after reduce().
function Elementwise:run()
  run(self, self.program, self.arrays, self.numbers, self.parts, 2)
end

-- ----- with a clipper -------------------------------------------------------------------------------------

--- The programs of an update that is cut in two, or nil and why there are none.
---@param on "momentum"|"update"
---@return moonbow.Phases?
---@return string? refusal
function Elementwise:phases(on)
  if not self.made[on] then
    local programs, refusal = phases.of(on, self.traced)
    if not programs then return nil, refusal end
    self.made[on] = programs
  end
  return self.made[on]
end

-- The numbers to write an update by. With lr = 0 the weights stay whatever is clipped; the update is then what
-- lr = 1 would make it, which is the same for every lr where w+ is linear in it.
local function numbers_for(self, on)
  if on ~= "update" then return self.numbers end
  local values = { unpack(self.numbers) }
  for i, entry in ipairs(self.list) do
    if entry.name == "lr" and values[i] == 0 then values[i] = 1 end
  end
  return values
end

--- Writes what is to be clipped of these parameters, and changes nothing else.
---@param on "momentum"|"update"
---@param buffer moonbow.Tensor
---@param parameters moonbow.Parameter[]
function Elementwise:write(on, buffer, parameters)
  local program = self:phases(on).write
  if self.written_for ~= parameters or self.written_by ~= program then
    self.written_for, self.written_by = parameters, program
    self.written_parts = M.parts_of({ self }, program, set_of(parameters))
  end
  run(self, program, with(self.arrays, buffer), numbers_for(self, on), self.written_parts, 3)
end

--- Finds what is reduced, with the buffer in its place for the parameters that were changed there.
---@param on "momentum"|"update"
---@param buffer moonbow.Tensor
---@param changed table<integer, boolean> by index of the parameter
function Elementwise:reduce_with(on, buffer, changed)
  local clipped, plain, runs = {}, {}, {}
  for _, p in ipairs(self.parameters) do
    local set = changed[p.index] and clipped or plain
    set[p.index] = true
  end
  local function add(program, arrays, stored)
    if next(stored) then runs[#runs + 1] = { program, arrays, self.numbers, M.parts_of({ self }, program, stored) } end
  end
  if next(clipped) then add(self:phases(on).use, with(self.arrays, buffer), clipped) end
  add(self.program, self.arrays, plain)
  for _, one in ipairs(runs) do run(self, one[1], one[2], one[3], one[4], 1) end
  self.runs = runs
end

--- Changes weights and states, after reduce_with().
function Elementwise:run_with()
  local runs = self.runs
  self.runs = nil
  for _, one in ipairs(runs) do run(self, one[1], one[2], one[3], one[4], 2) end
end

--- The number that an option has at a step, or nil if it is no number.
---@param name string
---@param step integer
---@return number?
function Elementwise:number(name, step)
  return numbers.named(self.who, self.list, name, step)
end

return M
