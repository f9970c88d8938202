-- SPDX-License-Identifier: MIT
--
-- api_spec.lua: docs/api and docs/editor say what the comments of the sources say.

local doc = require "moonbow.doc"
local system = require "bindings.system"

local root = os.getenv "MOONBOW_ROOT" or "."

local function read(path)
  local file = assert(io.open(root .. "/" .. path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

describe("scripts/docs/api.lua", function()
  it("has nothing new to write", function()
    local pipe = io.popen(("luajit '%s/scripts/docs/api.lua' --check 2>&1"):format(root))
    local said = pipe:read "*a"
    pipe:close()
    assert(said == "", said)
  end)

  it("has told every name", function()
    local text = {}
    for line in read("docs/api/README.md"):gmatch "%]%(([%w_]+%.md)%)" do text[#text + 1] = read("docs/api/" .. line) end
    text = "\n" .. table.concat(text, "\n")
    for _, entry in ipairs(doc.all()) do
      local heading = text:find("\n#+ " .. entry.name:gsub("%p", "%%%0") .. "\n")
      local line = entry.same_as and text:find("\n- `" .. entry.signature:gsub("%p", "%%%0") .. "`: ")
      assert(heading or line or entry.name == "mb", entry.name .. " is on no page")
    end
  end)

  it("wrote declarations that are Lua", function()
    local files = system.list(root .. "/docs/editor")
    assert.is_true(#files > 5)
    for _, name in ipairs(files) do assert(loadfile(root .. "/docs/editor/" .. name)) end
  end)
end)
