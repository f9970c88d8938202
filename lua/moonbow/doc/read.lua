-- SPDX-License-Identifier: MIT
--
-- read.lua: what one Lua file says about itself: its `---` comments (LuaCATS), and which names it defines. The file is
-- read as text and none of it runs.
--
--   local file = read.file "lua/moonbow/create.lua"
--   file.head                     what the opening comment says, below its first line "name.lua: ..."
--   file.declared["M.tensor"]     { doc = , args = { "values", "given" }, expression = , line = }
--   file.modules.options          "moonbow.options": what `local options = require "..."` stands for
--   file.classes["moonbow.Text"]  { doc = , variable = "Text", line = , parent = }
--   file.result                   the expression of the last `return`, with its doc and args if it is a function
--
-- Only statements that begin in the first column count: local functions and tables of a file's own are there too, under
-- their plain names, so that names.lua can follow `M.keep = handle.keep` to where keep is written.

local M = {}

-- ----- types ----------------------------------------------------------------------------------------------------

local closing = { ["("] = ")", ["{"] = "}", ["<"] = ">", ["["] = "]" }

-- Where a type that begins at `from` ends: at a space outside brackets, but "fun(x): y" and "a | b" go on.
local function type_end(text, from)
  local stack, i = {}, from
  while i <= #text do
    local c = text:sub(i, i)
    if c == '"' then
      i = text:find('"', i + 1, true) or #text
    elseif closing[c] then
      stack[#stack + 1] = closing[c]
    elseif c == stack[#stack] then
      stack[#stack] = nil
    elseif c == " " and #stack == 0 then
      local before, after = text:sub(i - 1, i - 1), text:match("^%s*(.)", i)
      if not (before == "|" or after == "|" or before == ":" and text:sub(i - 2, i - 2) == ")") then return i - 1, 0 end
    elseif c == "," and #stack == 0 then
      return i - 1, 0
    end
    i = i + 1
  end
  return #text, #stack
end

--- The type that a text begins with, and the rest. The third result is false where a bracket is still open.
---@param text string
---@return string type, string rest, boolean complete
function M.type_of(text)
  local last, open = type_end(text, 1)
  return text:sub(1, last), (text:sub(last + 1):gsub("^%s+", "")), open == 0
end

--- The fields of a type "{ a: number, b?: string }" in their order, or nil if it is no such type.
---@param text string
---@return { name: string, type: string, optional: boolean }[]?
function M.fields_of(text)
  local inside = text:match "^{(.*)}$"
  if not inside or not inside:find "^%s*[%w_%[%]]+%??%s*:" then return nil end
  local fields, rest = {}, inside:gsub("^%s+", "")
  while rest ~= "" do
    local name, optional, after = rest:match "^([%w_%[%]]+)(%??)%s*:%s*(.*)$"
    if not name then return nil end
    local kind, left = M.type_of(after)
    fields[#fields + 1] = { name = name, type = kind, optional = optional == "?", text = "" }
    rest = left:gsub("^,?%s*", "")
  end
  return fields
end

-- ----- comments -------------------------------------------------------------------------------------------------

local function append(list, text) list[#list + 1] = text end

-- Lines of one comment with each tag on a line of its own: what follows a tag belongs to it.
local function tags_of(lines)
  local text, tags = {}, {}
  for _, line in ipairs(lines) do
    local name, rest = line:match "^%s*@(%a+)%s*(.*)$"
    local tag = tags[#tags]
    if name then
      append(tags, { name = name, text = rest })
    elseif tag and line:find "%S" then
      tag.text = tag.text .. " " .. line:gsub("^%s+", "")
    elseif not tag then
      append(text, line)
    end
  end
  return text, tags
end

local function parameter(text)
  local name, optional, rest = text:match "^([%w_%.]+)(%??)%s+(.*)$"
  if not name then return nil end
  local kind, what = M.type_of(rest)
  return { name = name, type = kind, optional = optional == "?", text = what }
end

local function returns(list, text)
  while text ~= "" do
    local kind, rest = M.type_of(text)
    local name, after = rest:match "^([%a_][%w_]*),%s*(.*)$"
    local comma = rest:match "^,%s*(.*)$"
    append(list, { type = kind, text = name or comma and "" or rest })
    text = name and after or comma or ""
  end
end

local function trim_blank(lines)
  while lines[1] and not lines[1]:find "%S" do table.remove(lines, 1) end
  while lines[#lines] and not lines[#lines]:find "%S" do lines[#lines] = nil end
  return lines
end

-- What a comment says: text, params, returns, usage, fields and class.
local function parse(lines)
  local text, tags = tags_of(lines)
  local doc = { text = table.concat(trim_blank(text), "\n"), params = {}, returns = {}, usage = {}, fields = {} }
  for _, line in ipairs(text) do
    local code = line:match "^%s%s+(%S.*)$"
    if code then append(doc.usage, code) end
  end
  for _, tag in ipairs(tags) do
    if tag.name == "param" then
      append(doc.params, parameter(tag.text))
    elseif tag.name == "return" then
      returns(doc.returns, tag.text)
    elseif tag.name == "usage" then
      append(doc.usage, tag.text)
    elseif tag.name == "field" then
      append(doc.fields, parameter((tag.text:gsub("^%[(%d+)%]", "%1"))))
    elseif tag.name == "operator" then
      local name, kind = tag.text:match "^(%a+)(.*)$"
      append(doc.fields, { name = "operator " .. name, type = kind, text = "", optional = false })
    elseif tag.name == "class" then
      local name, rest = tag.text:match "^([%w_%.]+)%s*(.*)$"
      local parent = rest:match "^:%s*(.*)$"
      if parent then parent, rest = M.type_of(parent) end
      doc.class, doc.parent, doc.about = name, parent, rest
    end
  end
  return doc
end

-- ----- statements -----------------------------------------------------------------------------------------------

local function names_in(text)
  local names = {}
  for name in text:gmatch "[%w_%.]+" do append(names, name) end
  return names
end

-- Splits at the commas outside brackets and strings.
local function split(text)
  local parts, depth, from, i = {}, 0, 1, 1
  while i <= #text do
    local c = text:sub(i, i)
    if c == '"' then
      i = text:find('"', i + 1, true) or #text
    elseif c:find "[%(%[{]" then
      depth = depth + 1
    elseif c:find "[%)%]}]" then
      depth = depth - 1
    elseif c == "," and depth == 0 then
      append(parts, text:sub(from, i - 1))
      from = i + 1
    end
    i = i + 1
  end
  append(parts, text:sub(from))
  for k, part in ipairs(parts) do parts[k] = part:match "^%s*(.-)%s*$" end
  return parts
end
M.split = split

-- The expression at a place of the text: a whole table or function head, else the rest of the line.
local function expression_at(text, at)
  local whole = text:match("^%b{}", at) or text:match("^function%s*%b()", at) or text:match("^[^\n]*", at)
  return whole
end

local function arguments_of(expression)
  local inside = expression:match "^function%s*%(([^)]*)%)"
  return inside and names_in(inside)
end

local function declare(file, name, doc, line, args, expression)
  if file.declared[name] and not doc then return end
  file.declared[name] = { doc = doc, args = args, expression = expression, line = line, file = file.path }
  append(file.order, name)
end

-- A statement that begins at `at`, with the comment above it.
local function statement(file, text, at, line, doc)
  local name, args = text:match("^l?o?c?a?l?%s*function%s+([%w_%.:]+)%s*(%b())", at)
  if name then return declare(file, name, doc, line, names_in(args)) end
  local variable, module = text:match('^local%s+([%w_]+)%s*=%s*require%s*%(?"([%w_%.]+)"%)?[ \t]*\n', at)
  if variable then file.modules[variable] = module end
  local result, after = text:match("^return()%s+()", at)
  if result then
    local expression = expression_at(text, after)
    file.result = { doc = doc, args = arguments_of(expression), expression = text:sub(after), line = line, file = file.path }
    return
  end
  local left, value_at = text:match("^l?o?c?a?l?%s*([%w_%.][%w_%.,%s]-)%s*=%s*()[^=]", at)
  if not left or left:find "\n" then return end
  local first = expression_at(text, value_at)
  local names, values = split(left), { first }
  if #names > 1 then values = split(first) end
  for i, one in ipairs(names) do
    if values[i] then declare(file, one, i == 1 and doc or nil, line, arguments_of(values[i]), values[i]) end
  end
end

local function note_class(file, doc, line, variable)
  if not doc or not doc.class then return end
  file.classes[doc.class] = { doc = doc, variable = variable, line = line, file = file.path, parent = doc.parent }
end

-- The opening comment without the licence and "name.lua: ".
local function head_of(text)
  local lines = {}
  for line in text:gmatch "([^\n]*)\n" do
    local said = line:match "^%-%-%s?(.*)$"
    if not said or said:find "^%-" then break end
    if not said:find "^SPDX" then append(lines, said) end
  end
  trim_blank(lines)
  if lines[1] then lines[1] = lines[1]:gsub("^[%w_]+%.lua: ", ""):gsub("^mb[%w_%.]*: ", "") end
  return table.concat(lines, "\n")
end

--- Reads a file.
---@param path string
---@return table file see the head of read.lua
function M.file(path)
  local handle = assert(io.open(path, "rb"))
  local text = handle:read "*a" .. "\n"
  handle:close()
  local file = { path = path, text = text, head = head_of(text), modules = {}, declared = {}, order = {}, classes = {} }
  local comment, number, at = nil, 0, 1
  local function take() -- the comment read so far
    local doc = comment and parse(comment)
    comment = nil
    return doc
  end
  while at <= #text do
    local stop = text:find("\n", at, true)
    local line = text:sub(at, stop - 1)
    number = number + 1
    local said = line:match "^%-%-%-%s?(.*)$"
    if said and not said:find "^%-" then
      comment = comment or {}
      append(comment, (line:gsub("^%-%-%-", ""):gsub("^ ", "")))
    elseif line:find "^[%a_]" then
      local doc = take()
      note_class(file, doc, number, line:match "^local%s+([%w_]+)%s*=")
      statement(file, text, at, number, doc)
    else
      note_class(file, take(), number, nil)
    end
    at = stop + 1
  end
  return file
end

return M
