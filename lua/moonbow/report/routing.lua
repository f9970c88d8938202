-- SPDX-License-Identifier: MIT
--
-- routing.lua: the table a run prints first: which rule clips each parameter and which optimizer moves it.
-- Layers that are treated alike share a line.

local format = require "moonbow.report.format"

local M = {}

---@class moonbow.report.Route
---@field name string
---@field shape integer[]
---@field role string
---@field clipper string "-" if none
---@field optimizer string

---Lines for `print`. "h.0.attn.c_attn.weight" and its 11 siblings become "h.0-11.attn.c_attn.weight".
---@param routes moonbow.report.Route[]
---@return string
function M.text(routes)
  local order, groups = {}, {}
  for _, route in ipairs(routes) do
    local head, layer, tail = route.name:match("^(.-)(%d+)(%..*)$")
    local key = table.concat({ head and head .. "*" .. tail or route.name, format.shape(route.shape), route.role,
      route.clipper, route.optimizer }, "\t")
    if not groups[key] then
      groups[key] = { route = route, head = head, tail = tail, layers = {} }
      order[#order + 1] = groups[key]
    end
    if layer then table.insert(groups[key].layers, tonumber(layer)) end
  end
  local rows = { { "parameter", "shape", "role", "clipped by", "moved by" } }
  for _, group in ipairs(order) do
    local name, route = group.route.name, group.route
    if #group.layers > 1 then
      table.sort(group.layers)
      name = ("%s%d-%d%s"):format(group.head, group.layers[1], group.layers[#group.layers], group.tail)
    end
    rows[#rows + 1] = { name, format.shape(route.shape), route.role, route.clipper, route.optimizer }
  end
  return format.columns(rows)
end

return M
