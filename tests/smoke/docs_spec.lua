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
  for name, least in pairs { ["clipping.md"] = 4, ["cuda.md"] = 1, ["optimizers.md"] = 8 } do
    it(name .. " says what runs", function()
      local text, blocks = script_of(root .. "/docs/" .. name)
      assert(blocks >= least, "few blocks were found")
      local chunk = assert(loadstring(text, "@docs/" .. name))
      helper.no_leaks(function() chunk() end)
    end)
  end

  -- Rows "| `name` | ... | `lr = 1e-3, ...` | source |".
  it("optimizers.md has every optimizer of the library, with its defaults", function()
    local mb, seen = require "moonbow", { groups = true, define = true, spectra = true }
    for line in io.lines(root .. "/docs/optimizers.md") do
      local name, defaults = line:match "^| `([%w_]+)` | .* | `([%w_]+ = [^`]*)` | [^|]+ |$"
      if name then
        local said = assert(loadstring("return { " .. defaults .. " }"))()
        assert.are.same(mb.optim[name].definition.defaults, said, "defaults of " .. name)
        seen[name] = true
      end
    end
    for _, name in ipairs(require("moonbow.optim.registry").built_ins()) do
      assert(seen[name], "there is no row for " .. name)
    end
  end)
end)
