-- SPDX-License-Identifier: MIT
--
-- strict.lua: makes reading or writing an undeclared global an error, for tests.
--
-- A global counts as declared when it exists as strict mode is switched on, or is set in a main chunk.

local M = {}

local function is_main_or_c()
  local info = debug.getinfo(3, "S")
  return info == nil or info.what == "main" or info.what == "C"
end

--- Switches strict mode on for the global table.
---@param allow? string[] globals that may be read though they do not exist
function M.on(allow)
  local meta = getmetatable(_G) or {}
  local declared = {}
  for _, name in ipairs(allow or {}) do declared[name] = true end
  function meta.__newindex(t, name, value)
    if not declared[name] and not is_main_or_c() then
      error(("assignment to undeclared global '%s'"):format(tostring(name)), 2)
    end
    declared[name] = true
    rawset(t, name, value)
  end
  function meta.__index(_, name)
    if not declared[name] and not is_main_or_c() then
      error(("undeclared global '%s'"):format(tostring(name)), 2)
    end
  end
  setmetatable(_G, meta)
end

return M
