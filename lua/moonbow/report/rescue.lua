-- SPDX-License-Identifier: MIT
--
-- rescue.lua: what is left of a training run when an error ends it: an error of the script, of a user's own policy, of the
-- engine. The state of the last step that was made is saved where it is whole, so that an error costs one step.
--
-- A step changes, in this order: the data's position, the gradients, what the clipper remembers, the weights and the
-- optimizer's states, the number of updates. A clipper that fails leaves all as it was, and gradients are no part of a
-- checkpoint, so the step before is had again by putting the data's position back, until Optimizer:step is `halfway`.

local mb = require "moonbow"
local state = require "moonbow.io.state"

local M = {}

--- Are the gradients a part of an optimizer's state, so that the backward of a step that fails has changed it?
---@param optimizer moonbow.Optimizer
---@return boolean
function M.keeps_gradients(optimizer)
  for _, group in ipairs(optimizer.groups or {}) do
    if group.constructor.definition.keeps_gradient then return true end
  end
  return false
end

-- The last step whose state is there, as it is or with the data put back; nil and why there is none.
local function last_whole_step(job)
  local optimizer = job.optimizer
  if optimizer.halfway then return nil, ("step %d failed within its update"):format(job.step) end
  if job.skipped_step == job.step or optimizer.updates ~= job.updates_before then return job.step end
  if M.keeps_gradients(optimizer) then
    return nil, ("the gradients of step %d, which failed, are in the optimizer's state"):format(job.step)
  end
  job.data:load_state_dict(job.data_before)
  return job.step - 1
end

local function last_checkpoint(job)
  if not job.last_saved then return "there is no checkpoint" end
  return ("the last checkpoint is %s, continue with --resume %s"):format(job.last_saved, job.settings.out)
end

-- Saves what is whole; returns the line that says so, or nil where there was nothing to lose.
local function save_rest(job)
  local step, why = last_whole_step(job)
  if not step then return ("%s, nothing was saved; %s"):format(why, last_checkpoint(job)) end
  if step == 0 then return nil end
  mb.collect() -- it may be memory that was out
  job:save(step, job.settings.keep + 1)
  return ("the state after step %d is in %s, continue with --resume %s"):format(step, job.last_saved, job.settings.out)
end

--- What a script says after an error that nothing expected, once its state has been saved if that can be.
---@param job table job.lua's
---@param text string the error's
---@return string text with what to do where the device is lost
---@return string? line about the checkpoint
function M.after_error(job, text)
  if text:find("this process must restart", 1, true) then
    return ("%s; %s"):format(text, job.last_saved and last_checkpoint(job) or "there is no checkpoint yet, begin again")
  end
  if job.made == 0 then return text end
  if job.saving then return text, last_checkpoint(job) end
  local ok, line = pcall(save_rest, job)
  if ok then return text, line end
  return text, ("the state could not be saved: %s; %s"):format(tostring(line), last_checkpoint(job))
end

--- Raises an error if a checkpoint could not hold what the clipper remembers: after the first step, not hours later. Only a
--- user's own function, or clipper, can remember such a thing.
---@param clip table
function M.check_clip(clip)
  if not clip.state_dict or clip.memory and not clip.memory.policy.edits then return end
  local tree, problem = state.pack(clip:state_dict())
  if not tree then require("moonbow.options").fail("checkpoint.save: clip: %s", problem) end
end

return M
