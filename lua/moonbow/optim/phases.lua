-- SPDX-License-Identifier: MIT
--
-- phases.lua: an update cut in two, so that a clipper can change what lies between: the momentum, or the step itself.
--
--   write   what is to be clipped goes to a buffer, nothing else is stored:
--             momentum   the value that the update assigns to the state which the definition names
--             update     U = (w - w+) / lr - decay w, with decay the option named as decoupled_decay, or 0
--   use     the update, with the buffer in that place:
--             momentum   the state is stored as computed; reading it after it was assigned gives the buffer
--             update     the states are stored as computed, w+ = w - lr (buffer + decay w)
--
-- Both are traces of the same function, with assignments looked at (moonbow/fuse.lua). An update that would not
-- take the clipped value, or only in some places, is refused. Sources: MuCon, arXiv 2605.26459; SPECTRA, arXiv
-- 2603.14315.

local fuse = require "moonbow.fuse"
local linear = require "moonbow.optim.linear"

local M = {}

--- The buffer's name among the fields of p; no state can be called so.
M.BUFFER = "(clipped)"

---@class moonbow.Phases
---@field write moonbow.Program
---@field use moonbow.Program

---@class moonbow.PhaseSpec
---@field constructor moonbow.OptimizerConstructor
---@field options table
---@field states { name: string }[]
---@field fields string[] w, g, the states, the buffer
---@field shapes table<string, string> of states that are not of elements
---@field states_of_group table<string, boolean> fields but w and g
---@field scalars table as fuse.trace takes them

local function trace(spec, fn, assign)
  return fuse.trace { who = spec.constructor.who, fn = fn, arrays = spec.fields, shapes = spec.shapes,
                      read_only = { g = true }, within_group = spec.states_of_group, scalars = spec.scalars,
                      extra = spec.options, assign = assign }
end

-- The program that stores value(p, h, w) alone, after the update; and how often `field` was assigned.
local function trace_write(spec, field, value)
  local count = 0
  local program = trace(spec, function(p, h, o)
    local w = p.w
    spec.constructor.update(p, h, o)
    p[M.BUFFER] = value(p, h, w)
  end, function(name, x)
    if name == field then count = count + 1 end
    return name == M.BUFFER and x or nil, x
  end)
  return program, count
end

-- The update, in which the last of `count` assignments to `field` stores and shows what last(x, p, h, w) returns.
-- watch(x), if given, sees each value that w gets.
local function trace_use(spec, field, count, last, watch)
  local p, h, w
  return trace(spec, function(fields, numbers, o)
    p, h, w = fields, numbers, fields.w
    spec.constructor.update(p, h, o)
  end, function(name, x)
    if name == "w" and watch then watch(x) end
    if name ~= field then return x, x end
    count = count - 1
    if count > 0 then return x, x end
    return last(x, p, h, w)
  end)
end

-- ----- momentum -------------------------------------------------------------------------------------------

local function has_state(spec, name)
  for _, state in ipairs(spec.states) do
    if state.name == name then return true end
  end
  return false
end

local function momentum(spec)
  local who, field = spec.constructor.who, spec.constructor.definition.momentum
  if not field then
    return nil, ('%s has no momentum that it names; momentum = "<state>" in its definition does'):format(who)
  end
  if not has_state(spec, field) then
    return nil, ("%s keeps no '%s' with these options: it has no momentum"):format(who, field)
  end
  local write, count = trace_write(spec, field, function(p) return p[field] end)
  if count == 0 then return nil, ("%s never assigns its momentum, p.%s"):format(who, field) end
  local computed, clipped, weight
  local use = trace_use(spec, field, count, function(x, p)
    computed, clipped = x, p[M.BUFFER]
    return computed, clipped
  end, function(x) weight = x end)
  if weight and fuse.contains(weight, computed) then
    return nil, ("%s computes w from what it assigns to p.%s without reading it there, so that clipping would miss it; "
      .. "assign p.%s first, then read p.%s where the new momentum is meant"):format(who, field, field, field)
  end
  if not weight or not fuse.contains(weight, clipped) then
    return nil, ("%s moves w without reading the new p.%s: clipping it would change nothing"):format(who, field)
  end
  return { write = write, use = use }
end

-- ----- update ---------------------------------------------------------------------------------------------

local function update(spec)
  local who, decay = spec.constructor.who, spec.constructor.definition.decoupled_decay
  if spec.scalars.lr ~= true then
    return nil, ("%s has no number 'lr', by which its update is divided"):format(who)
  end
  local write, count = trace_write(spec, "w", function(p, h, w)
    return linear.change(w, p.w, h.lr, decay and h[decay])
  end)
  if count == 0 then return nil, ("%s never assigns p.w"):format(who) end
  local use = trace_use(spec, "w", count, function(_, p, h, w)
    local x = w - h.lr * (decay and p[M.BUFFER] + h[decay] * w or p[M.BUFFER])
    return x, x
  end)
  return { write = write, use = use }
end

local made = { momentum = momentum, update = update }

--- The two programs, or nil and a text that says why this optimizer cannot offer them.
---@param on "momentum"|"update"
---@param spec moonbow.PhaseSpec
---@return moonbow.Phases? phases
---@return string? refusal
function M.of(on, spec) return made[on](spec) end

return M
