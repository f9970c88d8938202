-- SPDX-License-Identifier: MIT
--
-- clipping.lua: a step with a clipper in the middle: opt:step(clip) for clippers with on = "momentum" or "update".
--
--   1. Every group writes what is to be clipped into one buffer of the arena's layout.
--   2. The clipper changes the buffer, parameter by parameter as it does with gradients.
--   3. Every group makes its update, with the buffer in its place for the parameters that the clipper changed; the
--      others are moved by the plain program, and get the same bits as without a clipper.
--
-- Nothing but the buffer changes before the clipper is done: what it refuses leaves weights and states alone.
-- A rule (elementwise.lua) takes part with
--
--   rule:phases(on)                       raises nothing; nil and a text if it has no such thing
--   rule:write(on, buffer, parameters)    phase 1
--   rule:run_with(on, buffer, changed)    phase 3; changed[p.index] says which parameters

local binding = require "bindings.model"
local handle = require "bindings.handle"
local options = require "moonbow.options"
local sources = require "moonbow.clip.source"

local M = {}

---@class moonbow.Clipping what an optimizer keeps for the clipper that it last stepped with
---@field clip table
---@field source moonbow.ClipSource
---@field parts { rule: table, parameters: moonbow.Parameter[] }[]

local function by_group(opt, clip)
  local taken, parts = {}, {}
  for _, p in ipairs(clip:parameters(opt.model)) do taken[p.index] = true end
  for _, group in ipairs(opt.groups) do
    local part = { rule = group.rule, parameters = {} }
    for _, p in ipairs(group.parameters) do
      if taken[p.index] then table.insert(part.parameters, p) end
    end
    if part.parameters[1] then
      local phases, problem = group.rule:phases(clip.on)
      if not phases then
        options.fail("%s: on = %q takes '%s', but %s%s", clip.who, clip.on, part.parameters[1].name, problem,
                     clip.where and "; or leave it out with `where`" or "")
      end
      parts[#parts + 1] = part
    end
  end
  return parts
end

-- The buffer is made for the first clipper; another one finds it full of zeros again.
local function prepare(opt, clip)
  if opt.clipping and opt.clipping.clip == clip then return opt.clipping end
  local parts = by_group(opt, clip)
  if opt.buffer then
    opt.buffer:fill_(0)
  else
    opt.buffer = handle.keep(binding.state(opt.model.handle))
  end
  opt.clipping = { clip = clip, parts = parts, source = sources.of(opt.model, opt.buffer, clip.on) }
  return opt.clipping
end

--- Raises an error unless the optimizer can step with this clipper.
---@param opt moonbow.Optimizer
---@param clip table
function M.check(opt, clip) prepare(opt, clip) end

--- Is this a clipper of something else than gradients? Raises an error if it is no clipper at all.
---@param clip any
---@return boolean
function M.is_inside(clip)
  local meta = type(clip) == "table" and getmetatable(clip)
  if type(clip) == "table" and clip.handle and clip.parameters and not clip.change then
    options.fail("opt:step: a clipper or a function(model) was expected, not a model; the optimizer knows its own")
  end
  if type(clip) ~= "function" and not (meta and meta.__call) then
    options.fail("opt:step: a clipper or a function(model) was expected, not %s", options.describe(clip))
  end
  local is_inside = meta and clip.on ~= nil and clip.on ~= "grad"
  if is_inside and not (clip.parameters and clip.change) then
    options.fail("opt:step: a clipper with on = %s needs the methods parameters and change (moonbow/clip/init.lua)",
                 options.describe(clip.on))
  end
  return is_inside
end

--- Steps with the clipper; the rules are prepared, gradients settled.
---@param opt moonbow.Optimizer
---@param clip table
---@return table report
function M.step(opt, clip)
  local clipping = prepare(opt, clip)
  for _, part in ipairs(clipping.parts) do part.rule:write(clip.on, opt.buffer, part.parameters) end
  local report, changed = clip:change(clipping.source)
  opt.halfway = true
  -- What goes over all parameters is found before any group moves its own.
  for _, group in ipairs(opt.groups) do
    if group.rule.reduce_with then group.rule:reduce_with(clip.on, opt.buffer, changed) end
  end
  for _, group in ipairs(opt.groups) do group.rule:run_with(clip.on, opt.buffer, changed) end
  return report
end

return M
