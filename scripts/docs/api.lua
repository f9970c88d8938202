-- SPDX-License-Identifier: MIT
--
-- api.lua: writes the API reference, docs/api/*.md, and docs/editor/*.lua, both from the comments of the sources.
--
--   luajit scripts/docs/api.lua [--check]
--
-- --check writes nothing: it names the files that are not what the comments say now, and exits with 1 if there are any.
-- docs/editor/*.lua declare for editors (lua-language-server) what they cannot see in the sources: members that are
-- found by their file, loaded when they are named, or copied in loops.

local root = (arg and arg[0] or ""):match "^(.*)/scripts/docs/[^/]*$" or "."
package.path = ("%s/lua/?.lua;%s/lua/?/init.lua;%s/?.lua;%s"):format(root, root, root, package.path)

local doc = require "moonbow.doc"
local system = require "bindings.system"

local HEAD = "<!-- Written by scripts/docs/api.lua from the comments of the sources: change those, and run it. -->\n"

-- ----- pages ----------------------------------------------------------------------------------------------------

-- Parts of mb that are told on one page.
local together = { threshold = "clip", schedule = "optim", graph = "fuse", tensorboard = "logs", jsonl = "logs",
                   safetensors = "files", checkpoint = "files", device_info = "profile",
                   timer = "profile" }
local titles = {
  tensors = "Tensors", optim = "Optimizers and schedules", clip = "Clipping and thresholds", models = "Models", data = "Data",
  files = "Files: safetensors and checkpoints", logs = "Logs", fuse = "Fused functions", linalg = "Decompositions",
  spectrum = "Spectra", profile = "Profiles and devices", system = "The operating system",
}
local order = { "tensors", "models", "data", "clip", "optim", "fuse", "linalg", "spectrum", "profile", "files", "logs", "system" }

local entries = doc.all()
local by_name, parts = {}, {}
for _, entry in ipairs(entries) do
  by_name[entry.name] = entry
  if entry.kind == "module" then parts[entry.name] = true end
end

-- The page of a name: that of the part of mb it belongs to, by its folder if it is a class, else "tensors".
local function page_of(name)
  local entry = by_name[name]
  local class = name:match "^(%u[%w_]*):" or entry and entry.kind == "class" and name
  local folder = class and by_name[class].file:match "^lua/moonbow/([%w_]+)/"
  if folder and titles[together[folder] or folder] then return together[folder] or folder end
  if class then return page_of(by_name[class].from) end
  local part = name:match "^mb%.([%w_]+)"
  if not part or not (parts["mb." .. part] or titles[together[part] or part]) then return "tensors" end
  return together[part] or part
end

local function anchor(name) return (name:lower():gsub("[^%w_%- ]", "")) end

local function link(name, here)
  local page = page_of(name)
  return ("[%s](%s#%s)"):format(name, page == here and "" or page .. ".md", anchor(name))
end

-- ----- text -----------------------------------------------------------------------------------------------------

-- What Markdown would take for its own, outside `code`.
local function escaped(text)
  local pieces, code = {}, false
  for piece, tick in text:gmatch "([^`]*)(`?)" do
    pieces[#pieces + 1] = (code and piece or piece:gsub("<", "&lt;"):gsub("%*", "\\*")) .. tick
    if tick ~= "" then code = not code end
  end
  return table.concat(pieces)
end

-- Prose with its indented lines as blocks that nobody runs.
local function prose(text)
  local lines, inside = {}, false
  local function fence(on)
    if on ~= inside then
      if on and lines[#lines] ~= "" then lines[#lines + 1] = "" end
      local blank = not on and lines[#lines] == ""
      if blank then lines[#lines] = nil end
      lines[#lines + 1] = on and "```text" or "```"
      if blank then lines[#lines + 1] = "" end
    end
    inside = on
  end
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do
    if line:find "^%s%s+%S" then fence(true) elseif line:find "%S" then fence(false) end
    lines[#lines + 1] = inside and line:gsub("^  ", "") or escaped(line)
  end
  fence(false)
  return table.concat(lines, "\n"):gsub("%s+$", "")
end

local function one_line(text) return (text:gsub("\n%s*", " ")) end

-- Classes that a type names, as links.
local function see(kind, here, shown)
  local links = {}
  for class in kind:gmatch "moonbow%.([%w_]+)" do
    if by_name[class] and not shown[class] and class ~= "Tensor" then
      shown[class] = true
      links[#links + 1] = link(class, here)
    end
  end
  return #links > 0 and " (" .. table.concat(links, ", ") .. ")" or ""
end

local function fields(lines, list, indent, here)
  for _, f in ipairs(list) do
    local kind = f.fields and f.type:find "^{" and "table" or f.type
    local said = f.text ~= "" and ": " .. escaped(one_line(f.text)) or ""
    lines[#lines + 1] = ("%s- `%s%s` `%s`%s%s"):format(indent, f.name, f.optional and "?" or "", kind, see(kind, here, {}), said)
    if f.fields then fields(lines, f.fields, indent .. "  ", here) end
  end
end

local function returned(lines, entry, here)
  if #entry.returns == 0 then return end
  local texts = {}
  for i, r in ipairs(entry.returns) do
    local said = r.text ~= "" and " " .. escaped(one_line(r.text)) or ""
    texts[i] = ("`%s`%s%s"):format(r.type, see(r.type, here, {}), said)
  end
  lines[#lines + 1] = ""
  lines[#lines + 1] = "Returns " .. table.concat(texts, ", ") .. "."
end

local function describe(lines, entry, here, level)
  local function put(text) lines[#lines + 1] = text end
  put(("%s %s\n"):format(level, entry.name))
  if entry.kind ~= "class" and entry.kind ~= "module" then put(("`%s`\n"):format(entry.signature)) end
  if entry.kind == "class" and entry.parent then put("A " .. link(entry.parent, here) .. ".\n") end
  put(prose(entry.text))
  if #entry.params + #entry.fields > 0 then put "" end
  fields(lines, entry.kind == "class" and entry.fields or entry.params, "", here)
  returned(lines, entry, here)
  if entry.notes and entry.notes:find "%S" then put("\n" .. prose(entry.notes)) end
  if entry.kind ~= "module" then put(("\n<sub>[%s](../../%s)</sub>\n"):format(entry.file, entry.file)) else put "" end
end

-- Names that are only other names: one line each.
local function describe_same(lines, list, here)
  if #list == 0 then return end
  lines[#lines + 1] = "As functions, with the object first:\n"
  for _, entry in ipairs(list) do
    lines[#lines + 1] = ("- `%s`: %s"):format(entry.signature, link(entry.same_as, here))
  end
  lines[#lines + 1] = ""
end

local function members(lines, entry, here)
  local same = {}
  for _, name in ipairs(entry.members) do
    local method = by_name[name]
    if method.same_as then same[#same + 1] = method else describe(lines, method, here, "###") end
  end
  describe_same(lines, same, here)
end

local function page(name)
  local lines = { HEAD, "# " .. titles[name] .. "\n" }
  for _, entry in ipairs(entries) do
    if page_of(entry.name) == name and entry.name ~= "mb" and entry.kind ~= "method" then
      local level = entry.kind == "function" and entry.name:find "%..*%." and "###" or "##"
      if entry.same_as then
        lines[#lines + 1] = ("%s %s\n\n`%s` is %s.\n"):format(level, entry.name, entry.signature, link(entry.same_as, name))
      else
        describe(lines, entry, name, level)
      end
      if entry.kind == "class" then members(lines, entry, name) end
    end
  end
  return (table.concat(lines, "\n"):gsub("\n\n\n+", "\n\n"):gsub("%s*$", "\n"))
end

local function index()
  local lines = { HEAD, "# API reference\n", '`local mb = require "moonbow"`. A `?` after the name of a parameter says that it '
    .. "may be left out; types are written as LuaCATS has them.\n" }
  for _, name in ipairs(order) do
    local names = {}
    for _, entry in ipairs(entries) do
      if page_of(entry.name) == name and entry.name ~= "mb" and entry.kind ~= "method" and entry.kind ~= "module" then
        names[#names + 1] = ("[%s](%s.md#%s)"):format(entry.name, name, anchor(entry.name))
      end
    end
    lines[#lines + 1] = ("## [%s](%s.md)\n\n%s\n"):format(titles[name], name, table.concat(names, " · "))
  end
  return (table.concat(lines, "\n"):gsub("%s*$", "\n"))
end

-- ----- for editors ----------------------------------------------------------------------------------------------

local function comment(lines, text)
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do lines[#lines + 1] = line == "" and "---" or "--- " .. line end
end

-- A function as an editor reads it; `self_of` is the class of a method.
local function declare(lines, entry, holder, method)
  comment(lines, entry.text)
  local args = {}
  for i, p in ipairs(entry.params) do
    args[i] = p.name
    lines[#lines + 1] = ("---@param %s%s %s%s"):format(p.name, p.optional and "?" or "", p.type,
      p.text ~= "" and " " .. one_line(p.text) or "")
  end
  for _, r in ipairs(entry.returns) do
    lines[#lines + 1] = ("---@return %s%s"):format(r.type, r.text ~= "" and " " .. one_line(r.text) or "")
  end
  lines[#lines + 1] = ("function %s%s%s(%s) end\n"):format(holder, method and ":" or ".", entry.name:match "([%w_]+)$",
    table.concat(args, ", "))
end

-- The options of an optimizer, a class that no source has.
local function options_class(lines, entry)
  local name = "moonbow." .. entry.name:match "([%w_]+)$" .. ".Options"
  lines[#lines + 1] = "---@class " .. name
  for _, f in ipairs(entry.params[2].fields) do
    lines[#lines + 1] = ("---@field %s%s %s %s"):format(f.name, f.optional and "?" or "", f.type, one_line(f.text))
  end
  lines[#lines + 1] = ""
  entry.params[2].type = name
end

local function variable_of(module) return (module:gsub("%.", "_")) end

-- A module as a class that several files declare members of; its fields are the modules in it.
local function declare_module(lines, entry, with_fields)
  lines[#lines + 1] = "---@class " .. entry.name:gsub("^mb", "moonbow")
  for _, member in ipairs(with_fields and entry.members or {}) do
    if by_name[member].kind == "module" then
      lines[#lines + 1] = ("---@field %s %s"):format(member:match "([%w_]+)$", member:gsub("^mb", "moonbow"))
    end
  end
  lines[#lines + 1] = ("local %s = {}\n"):format(variable_of(entry.name))
end

local function declarations(file, lines)
  local head = { "---@meta _", "-- SPDX-License-Identifier: MIT", "--",
    "-- " .. file .. ": for editors, no program loads it; written by scripts/docs/api.lua from the comments of the sources.\n" }
  return (table.concat(head, "\n") .. "\n" .. table.concat(lines, "\n")):gsub("%s*$", "\n")
end

-- Functions of modules on a page that lie in other files than their modules, and the modules they are of; nil if there are none.
local function editor_page(name)
  local lines, declared = {}, {}
  local function declare_holder(module)
    if not declared[module.name] then declare_module(lines, module, page_of(module.name) == name) end
    declared[module.name] = true
  end
  for _, entry in ipairs(entries) do
    local holder = entry.name:match "^(.*)%.[%w_]+$"
    local place = holder and by_name[holder]
    if page_of(entry.name) == name and entry.kind == "module" then declare_holder(entry) end
    if page_of(entry.name) == name and entry.kind == "function" and place and place.file ~= entry.file then
      declare_holder(place)
      if entry.params[2] and entry.params[2].fields and entry.params[2].type == "table" then options_class(lines, entry) end
      declare(lines, entry, variable_of(holder), false)
    end
  end
  return #lines > 0 and declarations(name .. ".lua", lines) or nil
end

-- The methods of tensors that bindings put there.
local function editor_tensor()
  local lines = { "---@class moonbow.Tensor\nlocal Tensor = {}\n" }
  for _, name in ipairs(by_name.Tensor.members) do
    if by_name[name].file ~= by_name.Tensor.file then declare(lines, by_name[name], "Tensor", true) end
  end
  return declarations("tensor.lua", lines)
end

-- ----- writing --------------------------------------------------------------------------------------------------

local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  return text
end

local check = arg and arg[1] == "--check"
local stale = {}

local function write(path, text)
  if read(root .. "/" .. path) == text then return end
  stale[#stale + 1] = path
  if check then return end
  local file = assert(io.open(root .. "/" .. path, "wb"))
  file:write(text)
  file:close()
end

write("docs/api/README.md", index())
local expected = { ["docs/api/README.md"] = true, ["docs/editor/tensor.lua"] = true }
for _, name in ipairs(order) do
  write("docs/api/" .. name .. ".md", page(name))
  expected["docs/api/" .. name .. ".md"] = true
  local text = editor_page(name)
  if text then
    write("docs/editor/" .. name .. ".lua", text)
    expected["docs/editor/" .. name .. ".lua"] = true
  end
end
for _, entry in ipairs(entries) do
  assert(titles[page_of(entry.name)], "api.lua: there is no page for " .. entry.name)
end
write("docs/editor/tensor.lua", editor_tensor())
for _, folder in ipairs { "docs/api/", "docs/editor/" } do
  for _, name in ipairs(system.list(root .. "/" .. folder)) do
    if not expected[folder .. name] then stale[#stale + 1] = folder .. name .. " (not of this script)" end
  end
end

for _, path in ipairs(stale) do print((check and "stale: " or "written: ") .. path) end
if check and #stale > 0 then
  print "run luajit scripts/docs/api.lua"
  os.exit(1, true)
end
