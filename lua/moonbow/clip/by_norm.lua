-- SPDX-License-Identifier: MIT
--
-- by_norm.lua: mb.clip.norm as the device makes it by itself (device.lua): on another device than the CPU, on = "grad", with
-- max_norm or a threshold that the device can ask. All gradients are read once, the device decides, and goes over them again
-- where they are to be scaled: three launches, no wait. Numbers are the host's (norm.lua), to the bit with max_norm.
--
-- The report has its rows and their names at once; norm, tau and clipped come when one of them is first read.

local devices = require "moonbow.clip.device"
local recording = require "moonbow.recording"
local spectral = require "bindings.spectral"

local M = {}

---Whether a clipper's call can be made so.
---@param clip moonbow.NormClip
---@param source moonbow.ClipSource
---@return boolean
function M.takes(clip, source)
  if clip.on ~= "grad" or clip.memory and not clip.memory.policy.device then return false end
  if clip.on_device and clip.source.key == source.key then return true end
  return devices.even_on_cpu or source:flat().device ~= "cpu"
end

-- The engine's complaint in the clipper's words. One vector has no parameter's name; gradients that are still there tell.
local function explainer(clip, names)
  return function(text)
    local is_there = clip.scope == "global" and clip.on_device and clip.on_device.names == names
      and text:find("in that call", 1, true)
    text = text:gsub("^mb_spectral_[%w_]+: ", ""):gsub("matrix (%d+)", function(i)
      return clip.scope == "matrix" and "the gradient of " .. names[tonumber(i) + 1] or "the vector of all gradients"
    end)
    local now = is_there and clip.source:find_nonfinite()
    return ("%s: %s%s"):format(clip.who, text, now and (", and the gradient of %s is not finite"):format(now) or "")
  end
end

local late = { norm = true, tau = true, clipped = true }

local function put(row, norm, tau, clipped)
  setmetatable(row, nil)
  row.norm, row.tau, row.clipped = norm, tau == tau and tau or nil, clipped
end

local function fetch(clip, report, plan, call)
  local o, any = plan:outcome(call), false
  if clip.scope == "global" then
    put(report, o.sigma[0], o.tau[0], o.clipped[0] > 0)
    return
  end
  for i, row in ipairs(report) do
    put(row, o.sigma[i - 1], o.tau[i - 1], o.clipped[i - 1] > 0)
    any = any or row.clipped
  end
  put(report, plan:total(call), nil, any)
end

local function report_of(clip, d, call)
  local report = {}
  local function bring()
    if d.last == call then d.last = nil end
    fetch(clip, report, d.plan, call)
  end
  local meta = { __fetch = bring, __index = function(row, key)
    if not late[key] then return nil end
    bring()
    return rawget(row, key)
  end }
  for i, name in ipairs(d.names) do report[i] = setmetatable({ name = name }, meta) end
  return setmetatable(report, meta)
end

-- A plan over the gradients, as one vector or one by one.
local function start(clip, source)
  local list, tensors, names, groups = clip:parameters(source.model), {}, {}, {}
  if clip.scope == "global" then
    tensors[1], groups[1] = source:flat(), { name = "*", members = { 1 } }
  else
    for i, p in ipairs(list) do
      tensors[i], names[i], groups[i] = source:tensor(p), p.name, { name = p.name, members = { i } }
    end
  end
  clip.groups = groups
  local d = devices.start(clip, spectral.plan(tensors, { method = "norm", explain = explainer(clip, names) }),
                          source.model, report_of)
  d.names = names
  if clip.memory then return end
  local plans, tau = clip.plans or setmetatable({}, { __mode = "k" }), clip.max_norm
  clip.plans, plans[source.key] = plans, d
  d.is_over = function() return clip.plans ~= plans end
  d.retune = function()
    if clip.max_norm == tau then return end
    d.plan:set_tau(clip.max_norm)
    tau = clip.max_norm
  end
end

-- What was begun for these gradients. max_norm remembers nothing: each model has a plan of its own, which hears of its calls.
local function turn(clip, source)
  if clip.on_device and clip.source.key == source.key then return end
  if clip.memory then devices.pull(clip) end
  clip.source, clip.on_device = source, clip.plans and clip.plans[source.key]
  if not clip.on_device then start(clip, source) end
end

-- Whether there is a plan that has made a call: the first one takes what it needs from the host, in no graph.
local function is_ready(clip, source)
  local d = clip.on_device
  if not d or clip.source.key ~= source.key then d = clip.plans and clip.plans[source.key] end
  return d ~= nil and d.is_warm
end

---One call.
---@param clip moonbow.NormClip
---@param source moonbow.ClipSource
---@return table report
function M.step(clip, source)
  if recording.is_on() and not is_ready(clip, source) then
    recording.check(function() return is_ready(clip, source) and clip.who .. " has another threshold" or nil end)
    return recording.host(M.step, clip, source)
  end
  turn(clip, source)
  if clip.on_device.retune then clip.on_device.retune() end
  return devices.step(clip)
end

---Forgets the plans: another policy, or other states. What the device remembers has been pulled, or is not wanted.
---@param clip moonbow.NormClip
function M.stop(clip) clip.on_device, clip.plans, clip.source = nil, nil, nil end

return M
