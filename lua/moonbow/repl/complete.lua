-- SPDX-License-Identifier: MIT
--
-- complete.lua: what TAB makes of the text before the cursor. Nothing of the user's is called on the way: fields are read
-- from tables as they are, and from objects of the library, whose metatables say with __names which names they answer to.
--
--   complete.at(session, "mb.cl", 5, 80)             -> "ip"          to be typed
--   complete.at(session, "model:", 6, 80)            -> nil, "backward  count  ..."    a list to be shown
--   complete.candidates(session, 'spectrum "h.0.')   -> stem, { names }, suffix
--
-- A name after names, dots and colons is completed from the value before it; one in a string from the parameters of the
-- session's model and from files; one at the beginning of an option, within { } of a call, from the options it knows.

local format = require "moonbow.report.format"
local options = require "moonbow.options"
local system = require "bindings.system"
local tensors = require "bindings.tensor"
local types = require "bindings.types"

local M = {}

local KEYWORDS = { "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil", "not",
                   "or", "repeat", "return", "then", "true", "until", "while" }
local SHOWN = 120

-- Fields of models and their like that are not for users.
local INTERNAL = { handle = true, list = true, by_name = true, run_loss = true, run_logits = true }
-- Options of the prompt's own commands.
local COMMANDS = { generate = { "tokens", "temperature", "top_k", "top_p", "seed" }, spectrum = { "of" } }

-- ----- values -----------------------------------------------------------------------------------------------

-- value[key], where that runs nothing of the user's.
local function field(value, key)
  if types.is_tensor(value) then
    if not tensors.properties[key] then return nil end
    local ok, found = pcall(function() return value[key] end)
    return ok and found or nil
  end
  if type(value) == "string" then return string[key] end
  if type(value) ~= "table" then return nil end
  local found = rawget(value, key)
  if found ~= nil then return found end
  local meta = getmetatable(value)
  if type(meta) ~= "table" then return nil end
  local index = rawget(meta, "__index")
  if rawget(meta, "__names") then
    local ok, got = pcall(function() return value[key] end)
    return ok and got or nil
  end
  return type(index) == "table" and field(index, key) or nil
end

-- Adds the names after value's dot, or its colon, to a set.
local function add_names(set, value, is_method, is_inherited)
  if types.is_tensor(value) then
    for name in pairs(is_method and tensors.methods or tensors.properties) do set[name] = true end
  elseif type(value) == "string" then
    for name in pairs(is_method and string or {}) do set[name] = true end
  elseif type(value) == "table" then
    local is_object = getmetatable(value) ~= nil
    for name, found in next, value do
      local is_function = type(found) == "function"
      local is_name = type(name) == "string" and name:find "^[%a_][%w_]*$"
      local is_wanted = is_method and is_function or not is_method and not (is_inherited and is_function)
      if is_name and is_wanted and not (is_object and INTERNAL[name]) then set[name] = true end
    end
    local meta = getmetatable(value)
    if type(meta) ~= "table" then return end
    local names, index = rawget(meta, "__names"), rawget(meta, "__index")
    if names and not is_method then
      for _, name in ipairs(names(value)) do set[name] = true end
    end
    if names and type(index) == "function" then index = meta end -- a class with fields that it computes
    if type(index) == "table" and index ~= value then add_names(set, index, is_method, true) end
  end
end

-- Takes the last step from an expression: what is before it, and how to get there from that; nil if it is too much.
local function last_step(text)
  local before, key = text:match "^(.-)%s*%[%s*(%d+)%s*%]$"
  if before then return before, tonumber(key) end
  before, key = text:match "^(.-)%s*%[%s*[\"']([^\"']*)[\"']%s*%]$"
  if before then return before, key end
  before, key = text:match "^(.*)%.%s*([%a_][%w_]*)$"
  if before then return before, key end
end

-- The value of names, fields and model:parameter "x" at the end of a text, or nil.
local function value_of(session, text)
  local object, name = text:match "^(.-)%s*:%s*parameter%s*%(?%s*[\"']([^\"']+)[\"']%s*%)?$"
  if object then
    local model = value_of(session, object)
    local list = type(model) == "table" and field(model, "by_name")
    return type(list) == "table" and list[name] or nil
  end
  local before, key = last_step(text)
  if before then
    local value = value_of(session, before)
    if value == nil then return nil end
    return field(value, key)
  end
  local root = text:match "([%a_][%w_]*)$"
  if root then
    if text:sub(1, -#root - 1):find "[%.:]%s*$" then return nil end
    return session.globals[root]
  end
  if text:find "[\"']%s*%)?$" then return "" end
end

-- ----- where the cursor is ------------------------------------------------------------------------------------

-- The place after the quote that a text leaves open, or nil; "comment" within one.
local function open_quote(text)
  local i, open, from = 1, nil, nil
  while i <= #text do
    local c = text:sub(i, i)
    if open then
      if c == "\\" then i = i + 1 elseif c == open then open = nil end
    elseif c == '"' or c == "'" then
      open, from = c, i + 1
    elseif text:sub(i, i + 1) == "--" then
      return "comment"
    end
    i = i + 1
  end
  return open and from, open
end

-- What comes before the { that a text leaves open, and what is after it; nil if it leaves none.
local function open_brace(text)
  local depth = 0
  for i = #text, 1, -1 do
    local c = text:sub(i, i)
    if c == "}" then depth = depth + 1 end
    if c == "{" then
      if depth == 0 then return text:sub(1, i - 1), text:sub(i + 1) end
      depth = depth - 1
    end
  end
end

-- ----- candidates -----------------------------------------------------------------------------------------------

local function starting_with(stem, names)
  local list = {}
  for _, name in ipairs(names) do
    if name:sub(1, #stem) == stem then list[#list + 1] = name end
  end
  return list
end

---Paths that begin with `stem`; folders end in a slash, hidden ones are left out unless asked for.
---@param stem string
---@return string[]
function M.files(stem)
  local folder, name = stem:match "^(.*/)([^/]*)$"
  folder, name = folder or "", name or stem
  local at = folder:gsub("^~/", (os.getenv "HOME" or "~") .. "/")
  local ok, names = pcall(system.list, at == "" and "." or at)
  local list = {}
  for _, file in ipairs(ok and names or {}) do
    if file:sub(1, #name) == name and (name ~= "" or file:sub(1, 1) ~= ".") and not file:find "%c" then
      local is_folder = system.path_kind(at .. file) == "folder"
      list[#list + 1] = folder .. file .. (is_folder and "/" or "")
    end
  end
  return list
end

-- Names of the parameters of the model that a string is about: that before :parameter, else the session's.
local function parameter_names(session, before)
  local object = before:match "^(.*):%s*parameter%s*%(?%s*$"
  local model = object and value_of(session, object)
  if model == nil then model = rawget(session.globals, "model") end
  local names = {}
  local list = type(model) == "table" and field(model, "list")
  for _, p in ipairs(type(list) == "table" and list or {}) do
    if type(p) == "table" and type(p.name) == "string" then names[#names + 1] = p.name end
  end
  return names
end

-- Calls whose string is the name of a parameter.
local by_parameter = { spectrum = true, spectra = true, peek = true, parameter = true }
local by_file = { require = true, dofile = true, loadfile = true, open = true, load = true, lines = true }

local function in_string(session, before, stem, quote)
  local call = before:match "([%a_][%w_]*)%s*%(?%s*$"
  local list = {}
  if not by_file[call] then list = starting_with(stem, parameter_names(session, before)) end
  if call == "spectra" then -- any part of a name
    local parts = {}
    for _, name in ipairs(parameter_names(session, before)) do
      for part in name:gmatch "[^%.]+" do parts[part] = true end
    end
    for _, part in ipairs(starting_with(stem, options.keys(parts))) do list[#list + 1] = part end
  end
  if not by_parameter[call] then
    for _, path in ipairs(M.files(stem)) do list[#list + 1] = path end
  end
  return stem, list, quote
end

-- Options that a call takes in its table, by name.
local function options_of(session, head)
  local call = head:match "([%a_][%w_%.:]*)%s*$" or head:match "([%a_][%w_%.:]*)%s*%([^()]*$"
  if not call then return {} end
  if COMMANDS[call] then return COMMANDS[call] end
  local value = value_of(session, (call:gsub(":", ".")))
  local definition = type(value) == "table" and field(value, "definition")
  local names = {}
  if type(definition) == "table" and type(definition.defaults) == "table" then names = options.keys(definition.defaults) end
  local entry = require("moonbow.doc").find(call)
  local is_it = entry and (entry.name == call or call:find(":", 1, true))
  for _, parameter in ipairs(is_it and entry.params or {}) do
    for _, option in ipairs(parameter.fields or {}) do names[#names + 1] = option.name end
  end
  return names
end

local colon_commands = { "help", "load", "quit", "trace" }

---@param session moonbow.repl.Session
---@param before string the text up to the cursor
---@return string stem that the candidates begin with
---@return string[] candidates sorted
---@return string? suffix to add to the only one
function M.candidates(session, before)
  local command, rest = before:match "^%s*:(%a+)%s+(.*)$"
  if command or before:find "^%s*%$" then
    local stem = command and rest or before:match "(%S*)$"
    return stem, M.files(stem)
  end
  if before:find "^%s*:%a*$" then
    local stem = before:match "%a*$"
    return stem, starting_with(stem, colon_commands)
  end
  before = before:gsub("^%s*%?%s*", "")
  local from, quote = open_quote(before)
  if from == "comment" then return "", {} end
  if quote then return in_string(session, before:sub(1, from - 2), before:sub(from), quote) end

  local stem = before:match "[%a_][%w_]*$" or ""
  local lead = before:sub(1, #before - #stem)
  local separator = lead:match "([%.:])%s*$"
  local set = {}
  if separator and not lead:find "%.%.%s*$" then
    local value = value_of(session, (lead:gsub("%s*[%.:]%s*$", "")))
    if value ~= nil then add_names(set, value, separator == ":") end
  elseif before:find "%d$" and stem == "" then
    return "", {}
  else
    local head, inside = open_brace(lead)
    if head and inside:find "^%s*$" or head and inside:find ",%s*$" then
      for _, name in ipairs(options_of(session, head)) do set[name .. " = "] = true end
      local known = starting_with(stem, options.keys(set))
      if #known > 0 then return stem, known end
    end
    for _, name in ipairs(session:names()) do set[name] = true end
    for _, name in ipairs(stem ~= "" and KEYWORDS or {}) do set[name] = true end
  end
  return stem, starting_with(stem, options.keys(set))
end

-- ----- what to do about it --------------------------------------------------------------------------------------

local function common_prefix(list)
  local prefix = list[1]
  for _, name in ipairs(list) do
    while name:sub(1, #prefix) ~= prefix do prefix = prefix:sub(1, -2) end
  end
  return (prefix:gsub("[\192-\255][\128-\191]*$", function(tail) -- no half characters
    return list[1]:sub(#prefix + 1, #prefix + 1):find "^[\128-\191]" and "" or tail
  end))
end

---Names in columns, read downwards, as `ls` has them.
---@param names string[]
---@param width integer
---@return string
function M.columns(names, width)
  local shown, widest = {}, 1
  for i = 1, math.min(#names, SHOWN) do
    shown[i] = names[i]
    widest = math.max(widest, format.width(names[i]))
  end
  local columns = math.max(1, math.floor((width + 1) / (widest + 2)))
  local rows, lines = math.ceil(#shown / columns), {}
  for r = 1, rows do
    local cells = {}
    for c = 0, columns - 1 do
      local name = shown[c * rows + r]
      if name then cells[#cells + 1] = name .. (" "):rep(widest - format.width(name)) end
    end
    lines[r] = table.concat(cells, "  "):gsub("%s+$", "")
  end
  if #names > SHOWN then lines[#lines + 1] = ("… %d more"):format(#names - SHOWN) end
  return table.concat(lines, "\n")
end

---What TAB does: text to type, and a list to show where that is nothing and there are several.
---@param session moonbow.repl.Session
---@param text string the line
---@param cursor integer bytes of it before the cursor
---@param width integer of the terminal
---@return string? insert
---@return string? list
function M.at(session, text, cursor, width)
  local before = text:sub(1, cursor)
  if before:find "^%s*$" then return "  " end
  local stem, list, suffix = M.candidates(session, before)
  if #list == 0 then return nil end
  local insert = common_prefix(list):sub(#stem + 1)
  if #list == 1 then
    local is_folder = list[1]:sub(-1) == "/"
    if suffix and not is_folder and text:sub(cursor + 1, cursor + 1) ~= suffix then insert = insert .. suffix end
    return insert
  end
  if insert ~= "" then return insert end
  local names = {}
  for i, name in ipairs(list) do names[i] = name:match "/([^/]+/?)$" or name:gsub(" = $", "") end
  return nil, M.columns(names, width)
end

return M
