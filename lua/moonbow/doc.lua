-- SPDX-License-Identifier: MIT
--
-- doc.lua: the documentation of public names, read from the comments of the Lua files that are installed.
--
--   local doc = require "moonbow.doc"
--   local entry, near = doc.find "mb.threshold.ema"      -- nil and the nearest names if there is no such name
--   print(doc.text(entry))
--   for _, entry in ipairs(doc.all()) do print(entry.signature) end
--
-- Nothing of what is documented is run: doc/read.lua reads the files, doc/names.lua follows how they make up the library.
-- Names are those that users type: "mb.clip.spectral", and "Tensor:reshape" or "Model:parameter" for methods, whose object may
-- have any name: doc.find "model:parameter" and doc.find "opt:step" are found too.

local names = require "moonbow.doc.names"
local options = require "moonbow.options"
local read = require "moonbow.doc.read"

local M = {}

---@class moonbow.DocField
---@field name string
---@field type string in LuaCATS
---@field optional boolean
---@field text string
---@field fields? moonbow.DocField[] of a table of options

---@class moonbow.DocEntry
---@field name string "mb.clip.spectral", "Model:loss", "Model"
---@field kind "function"|"method"|"class"|"module"|"value"
---@field signature string
---@field text string what its comment says
---@field notes? string what the head of its file says, where the file is about this one thing
---@field params moonbow.DocField[]
---@field returns { type: string, text: string }[]
---@field usage string[] lines of code
---@field fields moonbow.DocField[] of a class
---@field from? string of a class: the name that first led to it
---@field parent? string of a class
---@field members string[] names of entries below: of a class its methods
---@field same_as? string the entry that this is another name of
---@field file string
---@field line integer

-- ----- parameters -----------------------------------------------------------------------------------------------

local classes -- by name, once they were read

-- A class of options: fields, and no methods.
local function option_fields(kind)
  local fields = read.fields_of(kind)
  if fields then return fields end
  for alternative in kind:gmatch "[%w_%.]+" do
    local class = classes[alternative]
    if class and not class.variable and alternative:find "Options$" then
      local all = {}
      local parent = class.parent and classes[class.parent]
      for _, field in ipairs(class.doc.fields) do all[#all + 1] = field end
      for _, field in ipairs(parent and parent.doc.fields or {}) do all[#all + 1] = field end
      return all
    end
  end
  for inside in kind:gmatch "%b{}" do
    fields = read.fields_of(inside)
    if fields then return fields end
  end
end

local function parameters_of(declared, is_bound)
  local doc, by_name, list = declared.doc or { params = {} }, {}, {}
  for _, p in ipairs(doc.params) do by_name[p.name] = p end
  local args = declared.args
  if not args then
    args = {}
    for i, p in ipairs(doc.params) do args[i] = p.name end
  end
  for i, name in ipairs(args) do
    if not (is_bound and i == 1) then
      local p = by_name[name] or { name = name, type = "any", optional = false, text = "", is_undocumented = true }
      list[#list + 1] = { name = name, type = p.type, optional = p.optional, text = p.text,
                          is_undocumented = p.is_undocumented, fields = option_fields(p.type) }
    end
  end
  return list
end

local function signature_of(name, params)
  local texts = {}
  for i, p in ipairs(params) do texts[i] = p.name .. (p.optional and "?" or "") end
  return ("%s(%s)"):format(name, table.concat(texts, ", "))
end

-- ----- optimizers -----------------------------------------------------------------------------------------------

local number_or_schedule = "number|fun(step: integer): number"

-- Options of an optimizer's file: defaults of its definition, with what all of its kind have; texts of shared names.
local function optimizer_fields(file)
  local fields, text = {}, file.text
  local shared = {}
  for _, field in ipairs(classes["moonbow.OptimizerOptions"].doc.fields) do shared[field.name] = field end
  for _, part in ipairs(read.split((text:match "defaults = (%b{})" or "{}"):sub(2, -2))) do
    local name, value = part:match "^([%w_]+)%s*=%s*(.*)$"
    if name then
      local choices = text:match("[^%w_]" .. name .. " = { choices = (%b{})")
      local kind = tonumber(value) and number_or_schedule or value:find "^{" and "number[]"
        or (value == "true" or value == "false") and "boolean"
        or choices and choices:sub(3, -3):gsub(", ", "|") or "string"
      local said = shared[name] and shared[name].text or ""
      fields[#fields + 1] = { name = name, type = kind, optional = true,
                              text = said .. (said ~= "" and "; " or "") .. "default " .. value }
    end
  end
  local function add(class)
    for _, field in ipairs(classes[class].doc.fields) do
      local there = false
      for _, own in ipairs(fields) do there = there or own.name == field.name end
      if not there then fields[#fields + 1] = field end
    end
  end
  if text:find "norms%.definition" then add "moonbow.NormOptions" end
  if text:find "update_group" then add "moonbow.MatrixOptions" end
  if text:find "update_group" and not text:find "norms%.definition" and not text:find "takes = {" then
    add "moonbow.RestOptions"
  end
  return fields
end

-- ----- entries --------------------------------------------------------------------------------------------------

local entries, by_name, first_of -- all, by name, and the first name of a declaration

local function add(entry)
  if by_name[entry.name] then return end
  entries[#entries + 1], by_name[entry.name] = entry, entry
end

local function text_of(doc) return doc and doc.text or "" end

-- The folder of the installation, taken off the paths of files.
local function shown_path(path)
  return path:match "^.*/(lua/moonbow/.*)$" or path:match "^.*/(bindings/[^/]*)$" or path:match "^.*/5%.1/(moonbow/.*)$" or path
end

-- The first paragraph of a file's head, and what follows it.
local function head_parts(head)
  local first, rest = head:match "^(.-)\n%s*\n(.*)$"
  return ((first or head):gsub("^%l", string.upper)), rest
end

local function function_entry(name, kind, node, is_bound)
  local declared = node.declared or { file = node.file.path, line = 1 }
  local doc = declared.doc
  local entry = {
    name = name, kind = kind, text = text_of(doc), notes = node.head, params = parameters_of(declared, is_bound),
    returns = doc and doc.returns or {}, usage = doc and doc.usage or {}, fields = {}, members = {},
    file = shown_path(declared.file), line = declared.line or 1,
  }
  if node.is_optimizer and #entry.params == 0 then
    entry.text, entry.notes = head_parts(node.head)
    entry.params = {
      { name = "model", type = "moonbow.Model", optional = false, text = "" },
      { name = "options", type = "table", optional = true, text = "numbers may be functions of the step",
        fields = optimizer_fields(node.file) },
    }
    entry.returns = { { type = "moonbow.Optimizer", text = "" } }
  elseif entry.text == "" and node.head then
    entry.text, entry.notes = head_parts(node.head)
  elseif node.head then
    local first, rest = head_parts(node.head)
    entry.notes = first:find "\n" and node.head or rest -- one line says what the comment says
  end
  entry.signature = signature_of(name, entry.params)
  local key = node.declared and node.declared.doc or node.declared
  if key and first_of[key] and first_of[key] ~= name then entry.same_as = first_of[key] end
  if key then first_of[key] = first_of[key] or name end
  return entry
end

local function module_entry(name, node)
  local head, members = node.head or "", {}
  for i, member in ipairs(node.members.order) do members[i] = name .. "." .. member end
  return { name = name, kind = "module", signature = name, text = (head:gsub("^%l", string.upper)), params = {}, returns = {},
           usage = {}, fields = {}, members = members, file = shown_path(node.file and node.file.path or ""), line = 1 }
end

local function value_entry(name, node)
  local declared = node.declared or {}
  return { name = name, kind = "value", signature = name, text = text_of(declared.doc), params = {}, returns = {}, usage = {},
           fields = {}, members = {}, file = shown_path(declared.file or ""), line = declared.line or 1 }
end

local function walk(name, node)
  if node.is_function then
    add(function_entry(name, "function", node, false))
  elseif node.members then
    add(module_entry(name, node))
    for _, member in ipairs(node.members.order) do
      if node.members[member] and not member:find "^_" then walk(name .. "." .. member, node.members[member]) end
    end
  else
    add(value_entry(name, node))
  end
end

-- ----- classes --------------------------------------------------------------------------------------------------

local function short(class) return (class:gsub("^moonbow%.", "")) end

local function class_entries(full, class, from)
  local name = short(full)
  local parent = class.parent and class.parent:find "^moonbow%." and short(class.parent) or nil
  local text = class.doc.text ~= "" and class.doc.text or class.doc.about or ""
  local entry = {
    name = name, kind = "class", signature = name .. (parent and " : " .. parent or ""), text = (text:gsub("^%l", string.upper)),
    params = {}, returns = {}, usage = {}, fields = class.doc.fields, members = {}, file = shown_path(class.file),
    line = class.line, class = full, parent = parent, from = from,
  }
  add(entry)
  local members = class.variable and names.members_of(class.source, class.variable) or { order = {} }
  for _, member in ipairs(members.order) do
    local node = members[member]
    if node and (node.is_function or node.declared and node.declared.doc) and (not member:find "^__" or member == "__call") then
      local method = function_entry(name .. ":" .. member, "method", node, not node.is_method)
      if member == "__call" then method.signature = signature_of(name, method.params) end
      method.from = from
      if member ~= "__call" or method.text ~= "" then
        entry.members[#entry.members + 1] = method.name
        add(method)
      end
    end
  end
end

-- Classes that the types of an entry name.
local function mentioned(entry, visit)
  local function of(kind)
    for class in kind:gmatch "moonbow%.[%w_%.]+" do visit(class) end
  end
  for _, r in ipairs(entry.returns) do of(r.type) end
  for _, p in ipairs(entry.params) do
    of(p.type)
    for _, field in ipairs(p.fields or {}) do of(field.type) end
  end
  local class = entry.class and classes[entry.class]
  for _, f in ipairs(class and not class.variable and entry.fields or {}) do of(f.type) end
  if class and class.parent then of(class.parent) end
end

local function load_all()
  entries, by_name, first_of = {}, {}, {}
  classes = names.classes()
  walk("mb", names.module_node "moonbow")
  local seen = {}
  local function visit_from(from)
    return function(full)
      local class = classes[full]
      if seen[full] or not class then return end
      seen[full] = true
      if not (full:find "Options$" and not class.variable) then class_entries(full, class, from) end
    end
  end
  -- Who returns a class comes before who takes it.
  for _, only_returns in ipairs { true, false } do
    local at = 1
    while entries[at] do
      local entry = entries[at]
      mentioned(only_returns and { returns = entry.returns, params = {} } or entry, visit_from(entry.from or entry.name))
      at = at + 1
    end
  end
end

--- Every entry: functions and modules of `mb` first, then the classes that their types name, with methods.
---@return moonbow.DocEntry[]
function M.all()
  if not entries then load_all() end
  return entries
end

-- ----- finding --------------------------------------------------------------------------------------------------

-- Entries whose name ends so: ":step", ".ema".
local function with_end(ending)
  local found = {}
  for _, entry in ipairs(M.all()) do
    if entry.name:sub(-#ending):lower() == ending:lower() then found[#found + 1] = entry end
  end
  return found
end

-- Names like one that is not there: as a whole, else by the last word.
local function nearest(name)
  local whole, words, of_word = {}, {}, {}
  for i, entry in ipairs(entries) do
    local word = entry.name:match "([%w_]+)$"
    whole[i] = entry.name
    if not of_word[word] then words[#words + 1], of_word[word] = word, {} end
    of_word[word][#of_word[word] + 1] = entry.name
  end
  local one = options.nearest(name, whole)
  local word = not one and options.nearest(name:match "([%w_]+)$" or name, words)
  return word and of_word[word] or { one }
end

--- The entry of a name as users type it. A method is found by any name of its object where its own name says enough, and
--- a function by its last word.
---@param name string
---@return moonbow.DocEntry? entry
---@return string[] near names like it, where there is no entry
function M.find(name)
  M.all()
  local plain = name:gsub("%s*[%({].*$", ""):match "^%s*(.-)%s*$"
  if by_name[plain] then return by_name[plain], {} end
  local first = plain:match "^moonbow%." and plain:gsub("^moonbow%.", "mb.")
  if first and by_name[first] then return by_name[first], {} end
  for _, entry in ipairs(entries) do
    if entry.name:lower() == plain:lower() then return entry, {} end
  end
  local class, own = plain:match "^([%w_]+):([%w_]+)$"
  while class and by_name[class] do -- a method of a parent
    class = by_name[class].parent or ""
    if by_name[class .. ":" .. own] then return by_name[class .. ":" .. own], {} end
  end
  local method = plain:match ":([%w_]+)$" or plain:match "^[%a_][%w_]*%.([%w_]+)$"
  for _, ending in ipairs { method and ":" .. method or "." .. plain, ":" .. plain } do
    local found = with_end(ending)
    if #found == 1 then return found[1], {} end
    local near = {}
    for i, entry in ipairs(found) do near[i] = entry.name end
    if #near > 0 then return nil, near end
  end
  return nil, nearest(plain)
end

-- ----- text -----------------------------------------------------------------------------------------------------

local function field_line(field, indent)
  local line = ("%s%s%s  %s"):format(indent, field.name, field.optional and "?" or "", field.type)
  return line .. (field.text ~= "" and "  -- " .. field.text or "")
end

local function add_fields(lines, fields, indent)
  for _, field in ipairs(fields) do
    local kind = field.fields and field.type:find "^{" and { type = "table" }
    lines[#lines + 1] = field_line(setmetatable(kind or {}, { __index = field }), indent)
    add_fields(lines, field.fields or {}, indent .. "    ")
  end
end

local function section(lines, title)
  if lines[#lines] ~= "" then lines[#lines + 1] = "" end
  if title then lines[#lines + 1] = title end
end

--- An entry as lines of plain text for a terminal.
---@param entry moonbow.DocEntry
---@return string
function M.text(entry)
  local lines = { entry.signature }
  if entry.same_as then lines[1] = lines[1] .. "    as " .. entry.same_as end
  if entry.text ~= "" then
    section(lines)
    lines[#lines + 1] = entry.text
  end
  if #entry.params > 0 then
    section(lines)
    add_fields(lines, entry.params, "  ")
  end
  if #entry.returns > 0 then
    section(lines, "returns")
    for _, r in ipairs(entry.returns) do lines[#lines + 1] = "  " .. r.type .. (r.text ~= "" and "  " .. r.text or "") end
  end
  if #entry.fields > 0 then
    section(lines, "fields")
    add_fields(lines, entry.fields, "  ")
  end
  if #entry.members > 0 then
    section(lines, entry.kind == "class" and "methods" or "has")
    for _, member in ipairs(entry.members) do lines[#lines + 1] = "  " .. member end
  end
  if entry.notes and entry.notes ~= "" then
    section(lines)
    lines[#lines + 1] = entry.notes
  end
  section(lines)
  lines[#lines + 1] = ("%s:%d"):format(entry.file, entry.line)
  return table.concat(lines, "\n")
end

return M
