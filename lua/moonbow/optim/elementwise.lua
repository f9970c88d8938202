-- SPDX-License-Identifier: MIT
--
-- elementwise.lua: how an update that treats every element alike is run: traced into one program, over the
-- ranges of the arena that the group's parameters take. A group of an optimizer holds one of these.
--
--   prepare(step)   evaluates the options that are functions of the step
--   run()           changes weights and states
--   phases(on), write(on, buffer, parameters), run_with(on, buffer, changed)
--                   the same with a clipper in the middle: clipping.lua
--
-- Nothing is compiled or allocated for a step: numbers go to the program as they are.

local binding = require "bindings.model"
local fuse = require "moonbow.fuse"
local numbers = require "moonbow.optim.numbers"
local phases = require "moonbow.optim.phases"

local M = {}

---@class moonbow.Elementwise
local Elementwise = {}
Elementwise.__index = Elementwise

-- Ranges of the arena, neighbours joined.
local function ranges_of(model, parameters)
  local ranges, joined = {}, {}
  for i, p in ipairs(parameters) do ranges[i] = { binding.range(model.handle, p.index) } end
  table.sort(ranges, function(a, b) return a[1] < b[1] end)
  for _, range in ipairs(ranges) do
    local last = joined[#joined]
    if last and last[2] == range[1] then
      last[2] = range[2]
    else
      joined[#joined + 1] = range
    end
  end
  return joined
end

-- A copy of a list with one more at its end.
local function with(list, last)
  local longer = { unpack(list) }
  longer[#longer + 1] = last
  return longer
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
  local fields, arrays = { "w", "g" }, { flat.values, flat.gradients }
  for k, state in ipairs(states) do
    fields[k + 2], arrays[k + 2] = state.name, flat.buffers[k]
  end
  local scalars, list = numbers.of(constructor, o)
  local program = fuse.trace { who = constructor.who, fn = constructor.update, arrays = fields,
                               read_only = { g = true }, scalars = scalars, extra = o }
  return setmetatable({
    who = constructor.who, program = program, arrays = arrays, list = list, numbers = {},
    ranges = ranges_of(model, parameters), model = model, parameters = parameters, made = {},
    traced = { constructor = constructor, options = o, states = states, scalars = scalars,
               fields = with(fields, phases.BUFFER) },
  }, Elementwise)
end

--- Evaluates the options for an update.
---@param step integer
function Elementwise:prepare(step)
  for i, entry in ipairs(self.list) do self.numbers[i] = numbers.at(self.who, entry, step) end
end

--- Changes weights and states by the numbers of the last prepare.
function Elementwise:run()
  self.program:run(self.arrays, self.numbers, self.ranges)
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
  self:phases(on).write:run(with(self.arrays, buffer), numbers_for(self, on), ranges_of(self.model, parameters))
end

--- Changes weights and states, with the buffer in its place for the parameters that were changed there.
---@param on "momentum"|"update"
---@param buffer moonbow.Tensor
---@param changed table<integer, boolean> by index of the parameter
function Elementwise:run_with(on, buffer, changed)
  local clipped, plain = {}, {}
  for _, p in ipairs(self.parameters) do table.insert(changed[p.index] and clipped or plain, p) end
  if #clipped > 0 then
    self:phases(on).use:run(with(self.arrays, buffer), self.numbers, ranges_of(self.model, clipped))
  end
  if #plain > 0 then self.program:run(self.arrays, self.numbers, ranges_of(self.model, plain)) end
end

--- The number that an option has at a step, or nil if it is no number.
---@param name string
---@param step integer
---@return number?
function Elementwise:number(name, step)
  return numbers.named(self.who, self.list, name, step)
end

return M
