-- SPDX-License-Identifier: MIT
--
-- scope.lua: which matrices share a threshold. The policy is asked once for each group, with the largest singular
-- value in it, and remembers by the group's name.
--
--   scope = "matrix"    each its own, by its name
--   scope = "block"     the matrices of a numbered block together: "h.3" for "h.3.attn.c_attn.weight", the name up to
--                       its first number; a parameter outside of any, "ln_f.weight", is on its own
--   scope = "global"    all together, by the name "*"
--   scope = function(p) return name end    p is the parameter; nil is each its own
--
-- A sample's shape is the matrix's where it stands alone by its own name, and {} for a group.

local options = require "moonbow.options"
local policies = require "moonbow.threshold.policy"

local M = {}

---@class moonbow.ClipGroup
---@field name string
---@field shape integer[]
---@field members integer[] positions in the list of matrices

-- "h.3.mlp.c_fc.weight" -> "h.3"; nil where no number stands before the last part of the name.
local function block_of(name)
  local first, rest = "", name
  while true do
    local part, more = rest:match "^([^.]*)%.(.*)$"
    if not part then return nil end
    first = first == "" and part or first .. "." .. part
    if part:match "^%d+$" then return first end
    rest = more
  end
end

local named = {
  matrix = function() return nil end,
  block = function(p) return block_of(p.name) end,
  global = function() return "*" end,
}

local function checked(who, scope, p)
  local ok, name = pcall(scope, p)
  if not ok then policies.fail_raised(who, "scope", p.name, name) end
  if name ~= nil and type(name) ~= "string" then
    options.fail("%s: scope returned %s for '%s', a name or nil was expected", who, options.describe(name), p.name)
  end
  return name
end

---@param who string
---@param scope string|fun(p: moonbow.Parameter): string?
---@param matrices moonbow.ClipMatrix[]
---@return moonbow.ClipGroup[] in order of their first matrix
function M.groups(who, scope, matrices)
  local list, by_name = {}, {}
  scope = named[scope] or scope
  for i, matrix in ipairs(matrices) do
    local shared = checked(who, scope, matrix.parameter)
    local name = shared or matrix.name
    local group = by_name[name]
    if not group then
      group = { name = name, shape = shared and {} or matrix.shape, members = {} }
      by_name[name], list[#list + 1] = group, group
    end
    group.members[#group.members + 1] = i
  end
  return list
end

local names = { "matrix", "block", "global" }

---Option `scope`.
M.row = { type = "string|function", default = "matrix", check = function(value)
  if type(value) ~= "string" or named[value] then return nil end
  local near = options.nearest(value, names)
  return "'matrix', 'block', 'global' or a function" .. (near and (" (did you mean '%s'?)"):format(near) or "")
end }

local notes = { matrix = "", block = " per block", global = " over all" }

---For the routing table.
---@return string
function M.describe(scope) return notes[scope] or " per group" end

return M
