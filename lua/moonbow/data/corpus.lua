-- SPDX-License-Identifier: MIT
--
-- corpus.lua: text that every checkout has: the project's own documents and sources, so that a model can be
-- trained without a download. The order is that of the paths, so a checkout gives the same text everywhere.

local load = require "bindings.load"
local status = require "bindings.status"
local system = require "bindings.system"
local utf8 = require "moonbow.io.utf8"

local M = {}

-- Of the top folder these alone: what a user writes beside them is not the project's.
local FILES = { "CMakeLists.txt", "README.md", "bootstrap.sh" }
local FOLDERS = { "bindings", "docs", "engine", "lua", "models", "scripts", "tests" }
local ENDINGS = { c = true, cu = true, cuh = true, def = true, h = true, lua = true, md = true, py = true,
                  sh = true, txt = true }
local MAX_DEPTH = 10

-- Appends the file's text, unless it is no text.
local function add(texts, path)
  local file, problem = io.open(path, "rb")
  if not file then status.fail("mb.data.corpus: cannot open: %s", problem) end
  local text = file:read "*a"
  file:close()
  if text and text ~= "" and not text:find("%z") and not utf8.invalid_at(text) then texts[#texts + 1] = text end
end

local function is_source(name) return name:sub(1, 1) ~= "." and ENDINGS[name:match "%.(%w+)$"] end

local function walk(texts, folder, depth)
  for _, name in ipairs(system.list(folder)) do
    local path = folder .. "/" .. name
    local kind = system.path_kind(path)
    if kind == "folder" and name:sub(1, 1) ~= "." and depth < MAX_DEPTH then
      walk(texts, path, depth + 1)
    elseif kind == "file" and is_source(name) then
      add(texts, path)
    end
  end
end

--- The documents and sources below a folder that has the project's layout, one after the other.
---@param root? string default: this checkout
---@return string
function M.read(root)
  root = root or load.root
  local texts = {}
  if system.path_kind(root) ~= "folder" then status.fail("mb.data.corpus: there is no folder '%s'", root) end
  for _, name in ipairs(FILES) do
    if system.path_kind(root .. "/" .. name) == "file" then add(texts, root .. "/" .. name) end
  end
  for _, name in ipairs(FOLDERS) do
    if system.path_kind(root .. "/" .. name) == "folder" then walk(texts, root .. "/" .. name, 1) end
  end
  if #texts == 0 then status.fail("mb.data.corpus: '%s' has none of the project's sources", root) end
  return table.concat(texts, "\n")
end

return M
