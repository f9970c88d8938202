-- SPDX-License-Identifier: MIT
--
-- device.lua: a spectral clip that the device makes by itself, policy and all, and for which the host does not wait: what
-- mb.clip.spectral does on another device than the CPU where the threshold is a number, ema, quantile (of a window up to
-- 4096) or zscore, on = "grad", and no option needs the host in between: rule, verify, rank = "auto", methods polar
-- and soft.
--
-- Its report has a row for every matrix at once, with its name; sigma, tau, clipped and saturated come when one of them is
-- first read. The last 8 reports can be read. A gradient that is not finite is refused late: the gradients and the
-- thresholds stay as they were, and the error is raised when the report is read, by the next call, or by state_dict().
--
-- What the policy remembers is on the device, one row of numbers a threshold; it comes to the clipper's memory for a
-- checkpoint, and when the clipper goes on with other tensors. What warm_start remembers stays in the plan, as always; a call
-- that is refused leaves that too as it was.

local options = require "moonbow.options"
local recording = require "moonbow.recording"

local M = {}

---Whether a clipper's call can be made so.
---@param clip moonbow.SpectralClip
---@param plan moonbow.SpectralPlan
---@return boolean
function M.takes(clip, plan)
  local m, form = clip.method, clip.memory.policy.device
  if not form or clip.rule or clip.on ~= "grad" then return false end
  if m.verify or m.rank == "auto" then return false end
  if m.method ~= "exact" and m.method ~= "randomized" then return false end
  return plan:tensor(1).device ~= "cpu" or M.even_on_cpu
end

---Gives a new plan the policy, and what the clipper's memory has for it.
---@param clip moonbow.SpectralClip
---@param plan moonbow.SpectralPlan
function M.start(clip, plan)
  local form, members, rows = clip.memory.policy.device, {}, {}
  for j, group in ipairs(clip.groups) do
    for _, i in ipairs(group.members) do members[i] = j end
    rows[j] = form.pack(clip.memory.states[group.name] or {})
  end
  plan:policy(form.rule, members, #clip.groups)
  plan:set_policy_state(rows)
  clip.on_device = { plan = plan, step = clip.memory.step, last = nil }
end

---Brings what the device remembers to the clipper's memory; raises the error of a call that was refused and is not yet known of.
---@param clip moonbow.SpectralClip
function M.pull(clip)
  local d = clip.on_device
  if not d then return end
  if d.last then
    local call = d.last
    d.last = nil
    d.plan:outcome(call)
  end
  local rows, calls = d.plan:policy_state()
  clip.memory.step = d.step + calls
  if calls == 0 then return end
  for j, group in ipairs(clip.groups) do clip.memory.states[group.name] = clip.memory.policy.device.unpack(rows[j]) end
end

-- What the rows of a report share: how its results are fetched.
local function fetch(rows, plan, call)
  local o = plan:outcome(call)
  for i, row in ipairs(rows) do
    setmetatable(row, nil)
    local tau = o.tau[i - 1]
    row.sigma, row.tau = o.sigma[i - 1], tau == tau and tau or nil
    row.clipped, row.saturated = o.clipped[i - 1] > 0, o.saturated[i - 1] ~= 0
  end
end

local late = { sigma = true, tau = true, clipped = true, saturated = true }

-- The report of a call.
local function report_of(clip, plan, call)
  local d, rows = clip.on_device, {}
  d.last = call
  local meta = { __index = function(row, key)
    if not late[key] then return nil end
    if d.last == call then d.last = nil end
    fetch(rows, plan, call)
    return rawget(row, key)
  end }
  for i, matrix in ipairs(clip.matrices) do rows[i] = setmetatable({ name = matrix.name }, meta) end
  return rows
end

-- A call that is captured: each launch makes one, with a report of its own in the place of the one that is returned here.
local function capture(clip, plan)
  local d, replace = clip.on_device, recording.replacing()
  local report = setmetatable({}, { __index = function()
    options.fail("%s: in mb.graph the report is there when the graphed function has returned", clip.who)
  end })
  plan:step()
  recording.check(function()
    if clip.on_device ~= d then return clip.who .. " has another threshold, or goes on from another state" end
  end)
  recording.before(function() plan:replaying() end)
  recording.after(function() replace(report, report_of(clip, plan, plan:replayed())) end)
  return report
end

---One call.
---@param clip moonbow.SpectralClip
---@param plan moonbow.SpectralPlan
---@return table report
function M.step(clip, plan)
  if recording.is_on() then return capture(clip, plan) end
  clip.on_device.last = nil
  return report_of(clip, plan, plan:step())
end

return M
