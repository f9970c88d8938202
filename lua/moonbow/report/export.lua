-- SPDX-License-Identifier: MIT
--
-- export.lua: a run's log as tables for spreadsheets and data frames.
--   steps      a row a step: step, loss, val_loss, lr, grad_norm, time_ms, tokens, clip_rate, tau, and what other scripts logged;
--              columns that say nothing are left out
--   matrices   a row a step and matrix: step, name, sigma, tau, clipped
--   spectra    a row a step, matrix and singular value: step, name, index, sigma

local csv = require "moonbow.io.csv"
local options = require "moonbow.options"

local M = {}

local scalars = { "loss", "lr", "grad_norm", "time_ms", "tokens", "clip_rate", "tau" }

-- Values of a series by step.
local function by_step(steps, values)
  local found = {}
  for i, step in ipairs(steps) do found[step] = values[i] end
  return found
end

local function says_something(values)
  for _, value in ipairs(values) do
    if value == value then return true end
  end
  return false
end

-- Columns of the table of steps: { name, values by step }, and all steps that any has.
local function columns_of(run)
  local columns = {}
  local function add(name, steps, values)
    if says_something(values) then columns[#columns + 1] = { name = name, values = by_step(steps, values) } end
  end
  for _, name in ipairs(scalars) do
    add(name, run.steps, run[name])
    if name == "loss" then add("val_loss", run.val.steps, run.val.loss) end
  end
  for _, other in ipairs(run.others) do add(other.name, other.steps, other.values) end
  local seen, steps = {}, {}
  for _, column in ipairs(columns) do
    for step in pairs(column.values) do
      if not seen[step] then steps[#steps + 1] = step end
      seen[step] = true
    end
  end
  table.sort(steps)
  return columns, steps
end

function M.steps(run)
  local columns, steps = columns_of(run)
  local names, i = { "step" }, 0
  for k, column in ipairs(columns) do names[k + 1] = column.name end
  return names, function()
    i = i + 1
    if not steps[i] then return nil end
    local row = { steps[i] }
    for k, column in ipairs(columns) do row[k + 1] = column.values[steps[i]] end
    return row
  end
end

-- A number that is not NaN, which is how the reader says that there is none.
local function present(x) return x == x and x or nil end

function M.matrices(run)
  local i, k = 1, 0
  return { "step", "name", "sigma", "tau", "clipped" }, function()
    k = k + 1
    if k > #run.matrices then i, k = i + 1, 1 end
    if not run.steps[i] or #run.matrices == 0 then return nil end
    local m = run.matrices[k]
    return { run.steps[i], m.name, m.sigma[i], present(m.tau[i]), present(m.clipped[i]) }
  end
end

function M.spectra(run)
  return { "step", "name", "index", "sigma" }, coroutine.wrap(function()
    for _, spectrum in ipairs(run.spectra) do
      for _, name in ipairs(options.keys(spectrum.matrices)) do
        for index, sigma in ipairs(spectrum.matrices[name].sigma) do
          coroutine.yield { spectrum.step, name, index, sigma }
        end
      end
    end
  end)
end

--- Writes one of the tables through put(text).
---@param run table as read.lua gives it
---@param kind "steps"|"matrices"|"spectra"
---@param put fun(text: string)
---@return integer rows
function M.write(run, kind, put) return csv.write(put, M[kind](run)) end

return M
