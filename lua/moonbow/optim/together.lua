-- SPDX-License-Identifier: MIT
--
-- together.lua: groups of an optimizer that differ in their numbers alone run as one: one pass over all of their parameters,
-- each with the learning rate, the decay, the counters of its own group, instead of a pass for each group. Fifty groups with
-- rates of their own cost what one costs.
--
-- Groups go together if they are of one constructor and its function, traced with the options of each, made the same program
-- (a flag like nesterov makes another one), which reduces nothing over its group. Every element gets the bits that its group
-- alone would give it. With a clipper in the middle (clipping.lua) each group runs by itself.

local elementwise = require "moonbow.optim.elementwise"

local M = {}

---@class moonbow.Together rules that run as one
---@field rules moonbow.Elementwise[]
local Together = {}
Together.__index = Together

-- The numbers of all rules, as their prepare() left them.
local function numbers_of(self)
  local numbers, n = self.numbers, 0
  for _, rule in ipairs(self.rules) do
    for i = 1, #rule.list do numbers[n + i] = rule.numbers[i] end
    n = n + #rule.list
  end
  return numbers
end

local function run(self, which)
  elementwise.run(self.rules, self.program, self.arrays, function() return numbers_of(self) end, self.parts, which)
end

--- Finds what is reduced.
function Together:reduce()
  if self.program.reduces then run(self, 1) end
end

--- Changes weights and states, after reduce().
function Together:run() run(self, 2) end

local function new(rules)
  local program = rules[1].program
  return setmetatable({ rules = rules, program = program, arrays = elementwise.share_states(rules), numbers = {},
                        parts = elementwise.parts_of(rules, program) }, Together)
end

-- The fields and the numbers of a program, by name and shape.
local function layout_of(rule)
  local names = {}
  for _, name in ipairs(rule.traced.fields) do names[#names + 1] = name .. ":" .. (rule.traced.shapes[name] or "") end
  for _, entry in ipairs(rule.list) do names[#names + 1] = entry.name end
  return table.concat(names, " ")
end

local function go_together(a, b)
  local program = a.rule.program
  return program and b.rule.program and a.constructor == b.constructor and not program.over_group
    and program:is_same(b.rule.program) and layout_of(a.rule) == layout_of(b.rule)
end

--- What runs for these groups, in the order of the first of each: their rules, or several of them as one.
---@param groups table[] of an optimizer, with their rules
---@return { reduce: fun(self), run: fun(self) }[]
function M.of(groups)
  local sets, runs = {}, {}
  for _, group in ipairs(groups) do
    local found
    for _, set in ipairs(sets) do
      if go_together(set[1], group) then found = set end
    end
    if not found then
      found = {}
      sets[#sets + 1] = found
    end
    found[#found + 1] = group
  end
  for i, set in ipairs(sets) do
    local rules = {}
    for k, group in ipairs(set) do rules[k] = group.rule end
    runs[i] = rules[2] and new(rules) or rules[1]
  end
  return runs
end

return M
