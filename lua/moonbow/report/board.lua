-- SPDX-License-Identifier: MIT
--
-- board.lua: what a training run shows in TensorBoard. Each step: loss, lr, grad_norm, tokens_per_second, clip/share,
-- clip/saturated, sigma_max/NAME and tau/NAME. Each evaluation: val_loss, and histograms of weights/NAME and gradients/NAME
-- and of their singular values, spectrum_of_weights/NAME and spectrum_of_gradients/NAME (of the matrices within the network;
-- the largest, where there are many). The gradients are those of the last step, as the clipper left them.

local mb = require "moonbow"

local M = {}
local Board = {}
Board.__index = Board

local LARGEST = 64 -- singular values that are looked for where a matrix is too large for all of them

---@param folder string of the run
---@param resume_after? integer
function M.open(folder, resume_after)
  return setmetatable({ log = mb.tensorboard.open(folder, { resume_after = resume_after }) }, Board)
end

-- A name of a matrix or of a part of one, with what tags are made of.
local function tag(group, name) return group .. "/" .. name:gsub("[^%w_.%-/]", "_") end

---@param record table as the log has it
---@param tokens_per_second number
---@param report? table of the clipper
function Board:step(record, tokens_per_second, report)
  local values = { loss = record.loss, lr = record.lr, grad_norm = record.grad_norm, tokens_per_second = tokens_per_second }
  if record.clip then
    values["clip/share"] = record.clip.clipped / record.clip.matrices
    values["clip/saturated"] = record.clip.saturated
    for _, row in ipairs(report) do
      values[tag("sigma_max", row.name)] = row.sigma
      if row.tau then values[tag("tau", row.name)] = row.tau end
    end
  elseif record.tau then
    values["clip/share"], values["clip/tau"] = record.clipped and 1 or 0, record.tau
  end
  self.log:scalars(values, record.step)
  self.log:flush()
end

local function is_inner(p) return #p.shape > 1 and p.role ~= "embedding" and p.role ~= "head" end

-- Histograms of what `of` names, "value" or "grad", and of the singular values of what is finite.
local function add_histograms(log, model, of, group, step)
  local finite, any = {}, false
  for _, p in ipairs(model:parameters()) do
    local t = p[of]
    local nonfinite = t and log:histogram(tag(group, p.name), t, step)
    if nonfinite == 0 and is_inner(p) then finite[p.name], any = true, true end
  end
  if not any then return end
  local rows = mb.spectrum(model, { of = of, k = LARGEST, where = function(p) return finite[p.name] end })
  for _, row in ipairs(rows) do log:histogram(tag("spectrum_of_" .. group, row.name), row.sigma, step) end
end

---@param model moonbow.Model
---@param step integer
---@param val_loss number
function Board:evaluated(model, step, val_loss)
  self.log:scalar("val_loss", val_loss, step)
  add_histograms(self.log, model, "value", "weights", step)
  add_histograms(self.log, model, "grad", "gradients", step)
  self.log:flush()
end

function Board:close() self.log:close() end

return M
