-- SPDX-License-Identifier: MIT
--
-- tree.lua: a model's parameters as an indented tree with counts, for print(model).
--
-- Names are split at their dots. Numbered siblings that look alike (layers) are shown once, as "0..11".

local M = {}

--- 124439808 -> "124,439,808"
---@param n integer
---@return string
function M.group_digits(n)
  local text, changed = ("%d"):format(n), 1
  while changed > 0 do
    text, changed = text:gsub("^(%d+)(%d%d%d)", "%1,%2")
  end
  return text
end

-- A node: { name, count, order = children, leaf = parameter or nil }.
local function child_of(node, name)
  for _, child in ipairs(node.order) do
    if child.name == name then return child end
  end
  local child = { name = name, count = 0, order = {} }
  node.order[#node.order + 1] = child
  return child
end

local function shape_text(p) return "(" .. table.concat(p.shape, ", ") .. ")" end

-- What a subtree looks like, without its own name.
local function signature(node)
  local parts = { node.leaf and node.leaf.role .. shape_text(node.leaf) or "" }
  for _, child in ipairs(node.order) do parts[#parts + 1] = child.name .. "{" .. signature(child) .. "}" end
  return table.concat(parts, ";")
end

local function line(lines, depth, name, rest, count)
  local left = ("  "):rep(depth) .. name
  lines[#lines + 1] = ("%-28s %-30s %14s"):format(left, rest, M.group_digits(count))
end

local function show(lines, node, depth)
  local i = 1
  while i <= #node.order do
    local child, last, count = node.order[i], i, node.order[i].count
    if child.name:match "^%d+$" then
      local like = signature(child)
      while node.order[last + 1] and node.order[last + 1].name:match "^%d+$"
            and signature(node.order[last + 1]) == like do
        last = last + 1
        count = count + node.order[last].count
      end
    end
    local name = last > i and child.name .. ".." .. node.order[last].name or child.name
    -- A node with one child stands on its child's line.
    while not child.leaf and #child.order == 1 and last == i do
      child = child.order[1]
      name = name .. "." .. child.name
    end
    local leaf = child.leaf
    local rest = leaf and ("%-9s %s"):format(leaf.role, shape_text(leaf)) or ""
    if last > i then rest = ("%s%d alike, each"):format(leaf and rest .. ", " or "", last - i + 1) end
    line(lines, depth, name, rest, count)
    show(lines, child, depth + 1)
    i = last + 1
  end
end

--- The tree's text, one line a node.
---@param parameters moonbow.Parameter[]
---@param numels integer[]
---@return string
function M.render(parameters, numels)
  local root = { name = "", count = 0, order = {} }
  for i, p in ipairs(parameters) do
    local node = root
    for part in p.name:gmatch "[^.]+" do
      node = child_of(node, part)
      node.count = node.count + numels[i]
    end
    node.leaf = p
  end
  local lines = {}
  show(lines, root, 1)
  for i, text in ipairs(lines) do lines[i] = text:gsub("%s+$", "") end
  return table.concat(lines, "\n")
end

return M
