-- SPDX-License-Identifier: MIT
--
-- names.lua: which public names there are, and where each is written: "mb.clip.spectral" in clip/spectral.lua, "Tensor:add"
-- in bindings/ops.lua. It follows the sources as read.lua reads them, from lua/moonbow/init.lua on, the way the library puts
-- itself together:
--
--   M.keep = handle.keep                      for _, name in ipairs { "add" } do M[name] = ops[name] end
--   return folder.table_of("mb.clip", ...)    local modules = { data = "moonbow.data" }
--   return setmetatable(M, { __call = function(_, given) return M.new(given) end })
--
-- A node is { declared = where it is written, members = { order, name = node }, is_function = , head = of its file }.

local read = require "moonbow.doc.read"
local system = require "bindings.system"

local M = {}

-- ----- files ----------------------------------------------------------------------------------------------------

local files, nodes = {}, {}

-- The file of a module, or nil.
local function file_of(module)
  if files[module] == nil then
    local path = package.searchpath(module, package.path)
    files[module] = path and path:find "%.lua$" and read.file(path) or false
    if files[module] then files[module].module = module end
  end
  return files[module] or nil
end

local function append(list, value) list[#list + 1] = value end

-- Every module of a folder and the folders below: "moonbow" -> "moonbow.init", "moonbow.clip.view", ...
local function modules_below(folder, prefix, list)
  for _, name in ipairs(system.list(folder)) do
    local stem = name:match "^([%w_]+)%.lua$"
    if stem then
      append(list, stem == "init" and prefix or prefix .. "." .. stem)
    elseif not name:find(".", 1, true) then
      modules_below(folder .. "/" .. name, prefix .. "." .. name, list)
    end
  end
  return list
end

-- ----- nodes ----------------------------------------------------------------------------------------------------

local resolve, module_node -- below

local function new_members() return { order = {} } end

local function put(members, name, node)
  if node and members[name] == nil then append(members.order, name) end
  members[name] = node
end

-- The fields of a table constructor.
local function constructed(file, expression, members)
  for _, part in ipairs(read.split(expression:match "^{(.*)}$" or "")) do
    local name, value = part:gsub("^%s*%-%-[^\n]*\n%s*", ""):match "^([%a_][%w_]*)%s*=%s*(.*)$"
    if name then put(members, name, resolve(file, value)) end
  end
end

-- Members that loops copy from other tables, in the order of the loops.
local function copied(file, variable, members)
  local loops, text = {}, file.text
  local some = "()\nfor _, [%w_]+ in ipairs (%b{}) do%s+([%w_]+)%[[%w_]+%] = ([%w_]+)%[[%w_]+%]%s+end"
  for at, list, to, from in text:gmatch(some) do
    if to == variable then append(loops, { at = at, list = list, from = from }) end
  end
  for at, from, to in text:gmatch "()\nfor [%w_]+, [%w_]+ in pairs%(([%w_]+)%) do ([%w_]+)%[[%w_]+%] = [%w_]+ end" do
    if to == variable then append(loops, { at = at, from = from }) end
  end
  table.sort(loops, function(a, b) return a.at < b.at end)
  for _, loop in ipairs(loops) do
    local source = resolve(file, loop.from).members or new_members()
    local wanted = source.order
    if loop.list then
      wanted = {}
      for name in loop.list:gmatch '"([%w_]+)"' do append(wanted, name) end
    end
    for _, name in ipairs(wanted) do put(members, name, source[name]) end
  end
end

-- A declaration with what its own comment does not say taken from what it stands for.
local function with_own(node, declared)
  local own, other = declared.doc, node.declared or {}
  local there = other.doc
  if not own then return node end
  local doc = setmetatable({ params = #own.params > 0 and own.params or there and there.params or {},
                             returns = #own.returns > 0 and own.returns or there and there.returns or {} }, { __index = own })
  local merged = setmetatable({ declared = { doc = doc, args = declared.args or other.args, line = declared.line,
                                             file = declared.file } }, { __index = node })
  merged.is_function = node.is_function or #doc.params + #doc.returns > 0
  return merged
end

-- What a table of the file holds, from all places that put something there.
local function members_of(file, variable)
  file.members = file.members or {}
  if file.members[variable] then return file.members[variable] end
  local members = new_members()
  file.members[variable] = members
  local made = file.declared[variable]
  if made and made.expression then constructed(file, made.expression, members) end
  copied(file, variable, members)
  for _, full in ipairs(file.order) do
    local name = full:match("^" .. variable .. "[%.:]([%w_]+)$")
    local declared = file.declared[full]
    if name and declared.expression == "nil" then
      members[name] = nil
    elseif name then
      local node = declared.expression and with_own(resolve(file, declared.expression), declared)
        or { declared = declared, is_function = true }
      if not node.declared then node.declared = declared end
      node.is_method = full:find(":", 1, true) ~= nil
      put(members, name, node)
    end
  end
  return members
end
M.members_of = members_of

-- Files of a module's folder that are members by their name, where it says so.
local function found_by_file(file, members)
  local said = ('"%s"'):format(file.module)
  local places = { file }
  for _, module in pairs(file.modules) do
    if module:find(file.module .. ".", 1, true) == 1 then append(places, file_of(module)) end
  end
  for _, place in ipairs(places) do
    if place.text:find("folder%.[%a_]+%([^\n]*" .. said:gsub("%.", "%%.")) then
      for _, module in ipairs(modules_below(file.path:match "^(.*)/[^/]*$", file.module, {})) do
        local name = module:match "([%w_]+)$"
        local node = module ~= file.module and members[name] == nil and module_node(module)
        if node and node.is_function then put(members, name, node) end
      end
      return
    end
  end
end

-- Parts that are loaded when they are named: a table of modules, or names after which files are called.
local function loaded_when_named(file, members)
  for name, module in ((file.declared.modules or {}).expression or ""):gmatch '([%w_]+)%s*=%s*"([%w_%.]+)"' do
    local node = module_node(module)
    if node then put(members, name, node) end
  end
  local prefix = file.text:match 'require%("([%w_]+%.[%w_%.]*)%.?" %.%. name%)'
  for name in (prefix and (file.declared.names or {}).expression or ""):gmatch '"([%w_]+)"' do
    put(members, name, module_node(prefix .. name))
  end
end

-- ----- expressions ----------------------------------------------------------------------------------------------

-- setmetatable(M, { ... }): M's members, and a function where the metatable has __call.
local function with_metatable(file, variable, text)
  local node = { members = variable == "{}" and new_members() or members_of(file, variable) }
  local called = text:match "__call%s*=%s*function%s*(%b())"
  if called then
    local target = text:match "__call%s*=%s*function%s*%b()%s*return%s+([%w_]+%.[%w_]+)%("
    local args = read.split(called:sub(2, -2))
    table.remove(args, 1)
    node.declared = target and file.declared[target] or { args = args, file = file.path, line = file.result.line }
    node.is_function = true
  end
  return node
end

local function resolve_name(file, name)
  if file.modules[name] then return module_node(file.modules[name]) or {} end
  local declared = file.declared[name]
  if not declared then return {} end
  if not declared.expression then return { declared = declared, is_function = true } end
  if declared.expression:find "^{" then return { declared = declared, members = members_of(file, name) } end
  return with_own(resolve(file, declared.expression), declared)
end

-- What a call gives, where the function that is called says ---@return fun(a: number): string.
local function result_of_call(file, text)
  local holder, member = text:match "^([%a_][%w_]*)%.?([%w_]*)%s*[%(\"]"
  if not holder then return {} end
  local node = resolve_name(file, holder)
  if member ~= "" then node = (node.members or {})[member] or {} end
  local doc = node.declared and node.declared.doc
  local kind = doc and doc.returns[1] and doc.returns[1].type or ""
  if not kind:find "^fun%b()" then return {} end
  local made, args = { text = "", params = {}, returns = {}, usage = {} }, {}
  for i, part in ipairs(read.split(kind:match("^fun(%b())"):sub(2, -2))) do
    local name, optional, of = part:match "^([%w_%.]+)(%??):%s*(.*)$"
    if name then made.params[i], args[i] = { name = name, optional = optional == "?", type = of, text = "" }, name end
  end
  for i, one in ipairs(read.split(kind:match "^fun%b():%s*(.*)$" or "")) do
    made.returns[i] = one ~= "" and { type = one, text = doc.returns[1].text } or nil
  end
  return { declared = { doc = made, args = args, file = file.path, line = node.declared.line }, is_function = true }
end

--- What an expression of a file stands for, as far as its text says.
function resolve(file, expression)
  local text = expression:gsub("%s*%-%-[^\n]*$", ""):match "^%s*(.-)[%s,]*$"
  local module, rest = text:match '^require%s*%(?"([%w_%.]+)"%)?(.*)$'
  if module then
    local node = module_node(module) or {}
    local member = rest:match "^%.([%w_]+)$"
    return member and (node.members or {})[member] or node
  end
  if text:find "^function" then
    return { declared = { args = read.split(text:match "^function%s*%(([^)]*)%)"), file = file.path }, is_function = true }
  end
  if text:find "^{" then
    local members = new_members()
    constructed(file, text:match "^%b{}" or "{}", members)
    return { members = members }
  end
  local variable = text:match "^setmetatable%s*%(([%w_{}]+),"
  if variable then return with_metatable(file, variable, text) end
  local holder, member = text:match "^([%a_][%w_]*)%.([%w_]+)$"
  if holder then return (resolve_name(file, holder).members or {})[member] or {} end
  if text:find "^[%a_][%w_]*$" then return resolve_name(file, text) end
  return result_of_call(file, text)
end

--- What requiring a module gives, or nil if there is no such file.
function module_node(module)
  if nodes[module] then return nodes[module] end
  local file = file_of(module)
  if not file then return nil end
  local result = file.result or { expression = "{}" }
  local node = { members = new_members() }
  nodes[module] = node
  local found = result.args and { is_function = true, declared = result } or resolve(file, result.expression)
  for key, value in pairs(found) do node[key] = value end
  local meta = getmetatable(found)
  for key, value in pairs(meta and meta.__index or {}) do
    if node[key] == nil or key == "members" then node[key] = value end
  end
  if result.doc and not result.args then
    local own = with_own(node, result)
    node.declared, node.is_function = own.declared, own.is_function
  end
  node.file, node.head = file, file.head
  node.members = node.members or new_members()
  if file.path:find "/init%.lua$" then
    found_by_file(file, node.members)
    loaded_when_named(file, node.members)
  end
  if file.text:find "\n[%w_ =]*define[%( ][%w_%.%(]*[ ]?{" or file.text:find "return define%(" then
    node.is_optimizer, node.is_function = true, true
  end
  return node
end
M.module_node = module_node

--- The classes of all files, by name: { doc, variable, file, parent, source }.
---@return table<string, table>
function M.classes()
  local classes = {}
  local place = package.searchpath("moonbow.init", package.path):match "^(.*)/init%.lua$"
  local list = {}
  for _, module in ipairs(modules_below(place, "moonbow", {})) do -- luarocks puts bindings and scripts there too
    if not module:find "^moonbow%.bindings%." and not module:find "^moonbow%.scripts%." then append(list, module) end
  end
  modules_below(package.searchpath("bindings.tensor", package.path):match "^(.*)/[^/]*$", "bindings", list)
  for _, module in ipairs(list) do
    local file = file_of(module)
    for name, class in pairs(file and file.classes or {}) do
      if not classes[name] or class.variable then
        classes[name] = class
        class.source = file
      end
    end
  end
  return classes
end

return M
