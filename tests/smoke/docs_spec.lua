-- SPDX-License-Identifier: MIT
--
-- docs_spec.lua: the documents say what runs, and what they point to is there. documents.lua says which blocks are run.

local documents = require "tests.smoke.documents"
local load = require "bindings.load"
local runner = require "tests.smoke.runner"
local system = require "bindings.system"

local root = system.absolute(runner.root)
local run = { lua = true, sh = true }

-- A folder that looks like a checkout, with a text in it.
local function checkout()
  local folder = runner.folder()
  for _, name in ipairs { "README.md", "bindings", "docs", "engine", "lua", "models", "scripts", "tests" } do
    os.execute(("ln -s '%s/%s' '%s/%s'"):format(root, name, folder, name))
  end
  runner.corpus(folder .. "/input.txt", 20000)
  return folder
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

-- The script of a document in a process of its own, which also counts the tensors that it leaves behind.
local DRIVER = [[
local helper = require "tests.helper"
local chunk = assert(loadstring(io.open("document.lua"):read "*a", "@" .. arg[1]))
helper.no_leaks(function() chunk() end)
]]

local function shell(folder, command)
  local environment = ("MOONBOW_LIB='%s' MOONBOW_ROOT='%s' LUA_PATH='%s/lua/?.lua;%s/lua/?/init.lua;%s/?.lua;;' NO_COLOR=1 "
    .. "MOONBOW_TRACEBACK=1"):format(system.absolute(load.path), root, root, root, root)
  local code, out, err = runner.shell(("cd '%s' && export %s && %s"):format(folder, environment, command))
  return code, out .. err
end

teardown(runner.clean)

describe("documents", function()
  for _, path in ipairs(documents.all()) do
    it(path .. " says what runs", function()
      local blocks = documents.blocks(path)
      local folder = checkout()
      for _, block in ipairs(blocks) do
        local place = ("%s:%d"):format(path, block.line)
        assert(block.kind == "text" or run[block.kind] or block.reason,
          place .. ": a block is lua, sh or text, or <!-- not run: why --> stands before it")
        if block.file then write(folder .. "/" .. block.file, documents.text(path, block)) end
        if (block.kind == "sh" or block.prompt) and not block.reason then
          local typed = block.prompt and ("luajit scripts/repl.lua --no_history %s < block"):format(block.prompt)
          write(folder .. "/block", (typed and "" or "set -e\n") .. documents.text(path, block))
          local code, said = shell(folder, typed or "sh block")
          local failed = code ~= 0 or typed and ("\n" .. said):find "\nerror "
          assert(not failed, ("%s: exit %s\n%s"):format(place, code, said))
        end
      end
      local script, count = documents.script(path, blocks)
      if count == 0 then return end
      write(folder .. "/document.lua", script)
      write(folder .. "/driver.lua", DRIVER)
      local code, said = shell(folder, ("luajit driver.lua '%s'"):format(path))
      assert(code == 0, said)
    end)
  end

  it("point to what is there, and all are pointed to", function()
    local anchors, links, problems, seen = {}, {}, {}, { ["README.md"] = true }
    for _, path in ipairs(documents.all()) do anchors[path], links[path] = documents.anchors_and_links(path) end
    for path, list in pairs(links) do
      for _, link in ipairs(list) do
        local file, anchor = link.target:match "^([^#]*)#?(.*)$"
        if not link.target:find "^%a+:" then
          local full = file == "" and path or ("%s/%s"):format(path:match "^(.*)/" or ".", file)
          full = full:gsub("^%./", "")
          while full:find "[^/]+/%.%./" do full = full:gsub("[^/]+/%.%./", "", 1) end
          local there = system.path_kind(root .. "/" .. full) ~= "none"
          seen[full] = seen[full] or full ~= path
          if not there or anchor ~= "" and anchors[full] and not anchors[full][anchor] then
            problems[#problems + 1] = ("%s:%d: %s"):format(path, link.line, link.target)
          end
        end
      end
    end
    for path in pairs(links) do
      if not seen[path] then problems[#problems + 1] = path .. ": no document has a link to it" end
    end
    table.sort(problems)
    assert(#problems == 0, "links to nothing, or missing:\n" .. table.concat(problems, "\n"))
  end)

  it("gallery.md is what its script writes, with all its plots", function()
    local code, out, err = runner.shell(("luajit '%s/scripts/docs/gallery.lua' --check"):format(root))
    assert(code == 0, out .. err)
  end)

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
