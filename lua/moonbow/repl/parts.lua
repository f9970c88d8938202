-- SPDX-License-Identifier: MIT
--
-- parts.lua: the globals that training at the prompt works with, checked: model, optimizer, clip, data and settings, whoever
-- set them.

local options = require "moonbow.options"

local M = {}

-- Whether x can be called.
local function is_callable(x)
  local meta = type(x) == "table" and getmetatable(x)
  return type(x) == "function" or type(meta) == "table" and meta.__call ~= nil
end

local function has_methods(x, ...)
  if type(x) ~= "table" then return false end
  for _, name in ipairs { ... } do
    local ok, method = pcall(function() return x[name] end)
    if not ok or not is_callable(method) then return false end
  end
  return true
end

-- What each must be, in words, and the test of it.
local rules = {
  model = { "a model, of mb.models or mb.models.define", function(x) return has_methods(x, "parameters", "loss") end },
  optimizer = { "an optimizer, mb.optim.adamw(model, { lr = 1e-3 })", function(x)
    return has_methods(x, "step", "zero_grad")
  end },
  clip = { "a clipper, mb.clip.spectral { threshold = 1 }, a function(model) or nil", is_callable },
  data = { "data with a method batch, or a function that returns a batch", function(x)
    return type(x) == "function" or has_methods(x, "batch")
  end },
  settings = { "a table, settings = { grad_accum = 2 }", function(x) return type(x) == "table" end },
}
local NAMES = { "model", "optimizer", "clip", "data", "settings" }

---The globals that are there; an error says which of the names that follow is missing, or which is something else.
---@param globals table
---@param who string
---@param ... string names that must be there
---@return { model: table, optimizer: table, clip: table?, data: table|function, settings: table }
function M.of(globals, who, ...)
  local parts = {}
  for _, name in ipairs(NAMES) do parts[name] = rawget(globals, name) end
  for _, name in ipairs { ... } do
    if parts[name] == nil then
      options.fail("%s: there is no '%s'; open the folder of a run, or demo() makes something to train", who, name)
    end
  end
  for _, name in ipairs(NAMES) do
    if parts[name] ~= nil and not rules[name][2](parts[name]) then
      options.fail("%s: '%s' is %s, expected was %s", who, name, options.describe(parts[name]), rules[name][1])
    end
  end
  parts.settings = parts.settings or {}
  options.value(who, "settings.grad_accum", parts.settings.grad_accum or 1, { type = "integer", min = 1 })
  return parts
end

return M
