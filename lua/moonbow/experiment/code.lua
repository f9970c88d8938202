-- SPDX-License-Identifier: MIT
--
-- code.lua: what text a script is, as one short hash: of the script itself and of all that it requires by name, but for
-- Moonbow's own modules, of which the version counts. Results and checkpoints of an experiment bear it, so that those of an
-- earlier text of the script are not taken for what the present one would give.
--
-- Names are looked for in the text, require "NAME" or require("NAME"), and nothing is run for it. A name that a script puts
-- together, and data files beside it, are not seen.

local system = require "bindings.system"
local version = require("bindings.runtime").version

local M = {}

local REQUIRE = "require%s*%(?%s*[\"']([%w_%-%.]+)[\"']"

local function is_own(name) return name:find "^moonbow" ~= nil or name:find "^bindings%." ~= nil end

---The files that a script consists of, itself first, each once.
---@param script string
---@return { path: string, text: string }[]
function M.files(script)
  local list, seen = {}, {}
  local places = ("%s/?.lua;%s"):format(script:match "^(.*)/[^/]*$" or ".", package.path)
  local function add(path)
    local file = not seen[path] and io.open(path, "rb")
    if not file then return end
    local text = file:read "*a"
    file:close()
    seen[path], list[#list + 1] = true, { path = path, text = text }
    for name in text:gmatch(REQUIRE) do
      local found = not is_own(name) and package.searchpath(name, places)
      if found then add(found) end
    end
  end
  add(script)
  return list
end

---@param script string path
---@return string hash twelve digits
function M.of(script)
  local parts = { version }
  for _, file in ipairs(M.files(script)) do parts[#parts + 1] = system.sha256(file.text) end
  return system.sha256(table.concat(parts, " ")):sub(1, 12)
end

return M
