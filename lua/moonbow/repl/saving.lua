-- SPDX-License-Identifier: MIT
--
-- saving.lua: with which configuration a checkpoint is saved at the prompt: one by which open() and train_gpt2.lua --resume
-- make the same model, clipper and optimizer again, or, where no settings describe what is saved, none.

local settable = require "moonbow.optim.settable"

local M = {}

local SIZES = { "n_layer", "n_head", "n_embd", "block_size", "batch_size" }

---The first of the sizes that settings lack, nil if they describe a model of train_gpt2.lua.
---@param settings table
---@return string?
function M.missing(settings)
  for _, name in ipairs(SIZES) do
    if type(settings[name]) ~= "number" then return name end
  end
end

-- Which part the settings do not describe: one that was set since they were opened or made, or all of them.
local function stranger(parts, made)
  if M.missing(parts.settings) then return "model" end
  if made.settings ~= parts.settings then return nil end -- a script's own
  for _, name in ipairs { "model", "optimizer", "data" } do
    if made[name] ~= parts[name] then return name end
  end
end

-- The options of train_gpt2.lua that make such a clipper, if there are.
local function options_of(clip)
  if type(clip) ~= "table" then return nil end
  local rule, method = require("moonbow.report.run").rule_of(clip.threshold), clip.method or {}
  if clip.who == "mb.clip.norm" then
    return { clip = "norm", clip_on = clip.on, max_norm = clip.max_norm, threshold = not clip.max_norm and rule or nil }
  elseif clip.who == "mb.clip.spectral" and rule and not clip.rule then
    return { clip = "spectral", clip_on = clip.on, threshold = rule, scope = clip.scope, view = clip.view,
             method = method.method, rank = method.rank, oversample = method.oversample, power_iters = method.power_iters }
  end
end

-- Describes a clipper that took the place of the run's; false if no options make it. None is one that clips nothing, which is
-- returned.
local function describe_clip(now, clip)
  local run = require "moonbow.report.run"
  local given = clip == nil and { clip = "none" } or options_of(clip)
  if not given then return false end
  now.threshold, now.max_norm = nil, nil
  for name, value in pairs(given) do now[name] = value end
  local ok, again = pcall(run.clip, now)
  if clip == nil then return true, again end
  return ok and tostring(again) == tostring(clip) and again.where == clip.where, clip
end

-- The threshold that clip has by now, as an option of train_gpt2.lua.
local function note_threshold(now, clip, notes)
  if not clip or now.clip == nil or now.clip == "none" then return end
  local run = require "moonbow.report.run"
  local threshold = clip.threshold
  local was = run.clip(now, { own = true })
  if was and tostring(was.threshold) == tostring(threshold) then return end
  local rule = run.rule_of(threshold)
  if rule then
    now.threshold, now.max_norm = rule, nil
  else
    notes[#notes + 1] = ("clip.threshold is %s, which no option of train_gpt2.lua makes: this checkpoint is for scripts that "
      .. "make the same clipper"):format(tostring(threshold))
  end
end

-- A learning rate that was set to one number is --schedule const; other numbers that were set are nowhere.
local function note_numbers(now, optimizer, notes)
  if not (optimizer.groups and optimizer.groups[1] and optimizer.groups[1].rule) then return end
  local lost = {}
  local ok, lr = pcall(function() return optimizer.lr end)
  local is_one = ok and type(lr) == "number" and not now.rest_lr and now.schedule ~= nil
  for _, name in ipairs(settable.changed(optimizer)) do
    if not (is_one and (name == "lr" or name:find "%.lr$")) then
      lost[#lost + 1] = "optimizer." .. name
    else
      now.lr, now.min_lr, now.schedule = lr, lr, "const"
    end
  end
  if #lost > 0 then
    notes[#notes + 1] = ("%s: set by hand, which no checkpoint holds; open and --resume go on with the numbers of the run")
      :format(table.concat(lost, ", "))
  end
end

---@param folder string
---@param parts table of parts.lua
---@param made table what was opened, or made by demo()
---@return table config
---@return string[] notes for the user
---@return table? clip the clipper to save
function M.config(folder, parts, made)
  local now, notes, clip = {}, {}, parts.clip
  for name, value in pairs(parts.settings) do now[name] = value end
  local other = stranger(parts, made)
  if not other and made.settings == parts.settings and (clip == nil or made.clip ~= clip) then
    local is_described, as_described = describe_clip(now, clip)
    if is_described then clip = as_described else other = "clip" end
  end
  if other then
    notes[1] = ("no settings say how %s was made, so neither open nor train_gpt2.lua can make it again: a script that does "
      .. "goes on with mb.checkpoint.load(%q, { model = model, optimizer = optimizer })"):format(
        M.missing(parts.settings) and "this" or "'" .. other .. "'", folder)
    return {}, notes, clip
  end
  note_threshold(now, clip, notes)
  note_numbers(now, parts.optimizer, notes)
  return now, notes, clip
end

return M
