-- SPDX-License-Identifier: MIT
--
-- device.lua: a clip that the device makes by itself, policy and all, and for which the host does not wait: what mb.clip.spectral
-- does on another device than the CPU where the threshold is a number, ema, quantile (of a window up to 4096) or zscore,
-- on = "grad", and no option needs the host in between: rule, verify, rank = "auto", methods polar and soft; and mb.clip.norm
-- with such a threshold, or max_norm, on = "grad" (by_norm.lua).
--
-- Its report has a row for every matrix at once, with its name; sigma, tau, clipped and saturated come when one of them is
-- first read. The last 8 reports can be read. A gradient that is not finite is refused late: the gradients and the
-- thresholds stay as they were, the optimizer changes nothing by them, and the error is raised when the report is read, by the
-- next call, or by state_dict().
--
-- What the policy remembers is on the device, one row of numbers a threshold; it comes to the clipper's memory for a
-- checkpoint, and when the clipper goes on with other tensors. What warm_start remembers stays in the plan, as always; a call
-- that is refused leaves that too as it was.

local options = require "moonbow.options"
local policies = require "moonbow.threshold.policy"
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

-- A clipper without a memory has max_norm, of which nothing is remembered.
local function form_of(clip)
  if clip.memory then return clip.memory.policy.device end
  return policies.on_device({ kind = "max_norm", tau = clip.max_norm }, {})
end

---@class moonbow.ClipOnDevice what a clipper and its plan share
---@field plan moonbow.SpectralPlan
---@field step integer calls before those of the plan
---@field last integer? a call that nobody has looked at
---@field reports table<integer, table> those that somebody has, by call
---@field is_warm? boolean whether a call was made, without which none can be captured
---@field report_of fun(clip: table, d: moonbow.ClipOnDevice, call: integer): table
---@field is_over fun(): boolean whether the clipper goes on without it
---@field retune? fun() tells the plan a threshold that is set between calls

---Gives a new plan the policy, and what the clipper's memory has for it.
---@param clip moonbow.SpectralClip|moonbow.NormClip
---@param plan moonbow.SpectralPlan
---@param model moonbow.Model
---@param report_of? fun(clip: table, d: moonbow.ClipOnDevice, call: integer): table
---@return moonbow.ClipOnDevice
function M.start(clip, plan, model, report_of)
  local form, members, rows, states = form_of(clip), {}, {}, clip.memory and clip.memory.states or {}
  for j, group in ipairs(clip.groups) do
    for _, i in ipairs(group.members) do members[i] = j end
    rows[j] = form.pack(states[group.name] or {})
  end
  plan:policy(form.rule, members, #clip.groups)
  plan:guard(model.handle)
  plan:set_policy_state(rows)
  local d = { plan = plan, step = clip.memory and clip.memory.step or 0, last = nil, report_of = report_of or M.report_of,
              reports = setmetatable({}, { __mode = "v" }) }
  d.is_over = function() return clip.on_device ~= d end
  clip.on_device = d
  return d
end

---Brings what the device remembers to the clipper's memory; raises the error of a call that was refused and is not yet known of.
---@param clip moonbow.SpectralClip|moonbow.NormClip
function M.pull(clip)
  local d = clip.on_device
  if not d then return end
  if d.last then
    local call = d.last
    d.last = nil
    d.plan:outcome(call)
  end
  if not clip.memory then return end
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

---The report of a spectral clip's call.
---@param clip moonbow.SpectralClip
---@param d moonbow.ClipOnDevice
---@param call integer
---@return table
function M.report_of(clip, d, call)
  local rows = {}
  local meta = {}
  function meta.__fetch()
    if d.last == call then d.last = nil end
    fetch(rows, d.plan, call)
  end
  function meta.__index(row, key)
    if not late[key] then return nil end
    meta.__fetch()
    return rawget(row, key)
  end
  for i, matrix in ipairs(clip.matrices) do rows[i] = setmetatable({ name = matrix.name }, meta) end
  return rows
end

-- Of a call that was made.
local function report(clip, d, call)
  d.last = call
  d.reports[call] = d.report_of(clip, d, call)
  return d.reports[call]
end

---To be called before the plan is released: reports of its last calls that somebody still has are fetched.
---@param clip moonbow.SpectralClip
function M.let_go(clip)
  for _, rows in pairs(clip.on_device and clip.on_device.reports or {}) do
    local meta = getmetatable(rows[1]) -- nil where they are fetched
    local ok, problem = pcall(meta and meta.__fetch or next, rows)
    if not ok then meta.__fetch = function() error(problem, 0) end end
  end
end

-- A call that is captured: each launch makes one, with a report of its own in the place of the one that is returned here.
local function capture(clip, d)
  local plan, replace = d.plan, recording.replacing()
  local stand_in = setmetatable({}, { __index = function()
    options.fail("%s: in mb.graph the report is there when the graphed function has returned", clip.who)
  end })
  plan:step()
  recording.check(function()
    if d.is_over() then return clip.who .. " has another threshold, or goes on from another state" end
  end)
  recording.before(function() plan:replaying() end)
  if d.retune then recording.renew_tau(plan, d.retune) end
  recording.after(function() replace(stand_in, report(clip, d, plan:replayed())) end)
  return stand_in
end

---One call.
---@param clip moonbow.SpectralClip|moonbow.NormClip
---@return table report
function M.step(clip)
  local d = clip.on_device
  if recording.is_on() then return capture(clip, d) end
  d.last = nil
  local call = d.plan:step()
  d.is_warm = true
  return report(clip, d, call)
end

return M
