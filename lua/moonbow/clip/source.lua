-- SPDX-License-Identifier: MIT
--
-- source.lua: the tensors that a clipper changes: the gradients of a model, or another flat buffer of its layout,
-- into which an optimizer has written its momenta or its updates.
--
--   source.model, source.what             the model; "gradient", "momentum" or "update", for errors
--   source.key                            the same table as long as the tensors stay where they are
--   source:flat()                         the whole buffer (N); zeros where nothing is to be clipped
--   source:tensor(p)                      what belongs to parameter p, in its shape

local binding = require "bindings.model"
local handle = require "bindings.handle"
local options = require "moonbow.options"

local M = {}

---What clippers can change, as option `on` says it.
M.row = { choices = { "grad", "momentum", "update" }, default = "grad" }

---@class moonbow.ClipSource what a clipper clips: gradients, momenta or updates of a model
---@field model moonbow.Model
---@field what "gradient"|"momentum"|"update"
---@field key table
local Source = {}
Source.__index = Source

---@return moonbow.Tensor
function Source:flat() return self.buffer or binding.gradients(self.model.handle) end

---@param p moonbow.Parameter
---@return moonbow.Tensor
function Source:tensor(p)
  if self.views then return self.views[p.index] end
  return p.grad
end

---Name of the first parameter that has NaN or Inf, or nil.
---@return string?
function Source:find_nonfinite()
  local i = binding.find_nonfinite(self.model.handle, self:flat())
  return i and self.model:parameters()[i].name
end

---The gradients of a model, those that were only noted as zero written out.
---@param model moonbow.Model
---@return moonbow.ClipSource
function M.gradients(model)
  binding.settle_gradients(model.handle)
  return setmetatable({ model = model, what = "gradient", key = model }, Source)
end

---A flat buffer of the model's layout.
---@param model moonbow.Model
---@param flat moonbow.Tensor
---@param what "momentum"|"update"
---@return moonbow.ClipSource
function M.of(model, flat, what)
  local views = {}
  for i in ipairs(model:parameters()) do views[i] = binding.view(model.handle, flat, i) end
  handle.keep(views)
  local source = setmetatable({ model = model, what = what, buffer = flat, views = views }, Source)
  source.key = source
  return source
end

---Raises an error if clip(model) cannot be meant, as gradients are not what this clipper changes.
---@param who string
---@param on "grad"|"momentum"|"update"
function M.check_call(who, on)
  if on == "grad" then return end
  options.fail("%s: on = %q clips inside the optimizer's step: write opt:step(clip), not clip(model)", who, on)
end

---For the routing table: what is clipped, if it is not the gradient.
---@return string
function M.prefix(on) return on == "grad" and "" or on .. " " end

---For a constructor's table: ", on = ...", if it is not the gradient.
---@return string
function M.text(on) return on == "grad" and "" or (", on = %q"):format(on) end
return M
