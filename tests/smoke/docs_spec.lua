-- SPDX-License-Identifier: MIT
--
-- docs_spec.lua: the Lua blocks of the documents run. The blocks of one document are one script, in their order.

local helper = require "tests.helper"

local root = os.getenv "MOONBOW_ROOT" or "."

-- The blocks of a document as one chunk with the document's line numbers.
local function script_of(path)
  local lines, inside, blocks = {}, false, 0
  for line in io.lines(path) do
    if line == "```lua" then
      inside, blocks = true, blocks + 1
      line = ""
    elseif line == "```" then
      inside = false
    end
    lines[#lines + 1] = inside and line or ""
  end
  return table.concat(lines, "\n"), blocks
end

describe("documents", function()
  for name, least in pairs { ["clipping.md"] = 4, ["cuda.md"] = 1 } do
    it(name .. " says what runs", function()
      local text, blocks = script_of(root .. "/docs/" .. name)
      assert(blocks >= least, "few blocks were found")
      local chunk = assert(loadstring(text, "@docs/" .. name))
      helper.no_leaks(function() chunk() end)
    end)
  end
end)
