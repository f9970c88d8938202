-- SPDX-License-Identifier: MIT
--
-- cli.lua: command lines of scripts. A script declares its options once, as a list of rows; parsing,
-- --help, defaults, presets, checks and the nearest name for a typing error come from it.
--
-- Exit codes: 0 done, 1 error, 2 wrong usage, 3 non-finite gradient or loss, 130 interrupted. An error is
-- one line on stderr, after which another may say what was saved; MOONBOW_TRACEBACK=1 adds the stack.

local M = {}

-- The library is loaded when it is first needed, within M.main: that it is not built is an error like others.
local function nearest(name, names)
  return require("moonbow.options").nearest(name, names)
end

---@class moonbow.cli.Option
---@field [1] string name, without the dashes
---@field [2] string|number|boolean|nil default
---@field [3] string help
---@field choices? string[] values allowed
---@field kind? "number"|"integer"|"string"|"flag" default: from the default value
---@field min? number
---@field max? number of integers 2^31 - 1 where it is left out
---@field value? string name of the value in --help
---@field word? string allowed in the place of a number
---@field many? boolean may be given several times: the value is an array

---Raises an error that M.main turns into one line and the given exit code.
---@param code integer
---@param message string
function M.fail(code, message, ...)
  error(setmetatable({ code = code, message = select("#", ...) > 0 and message:format(...) or message },
    { __tostring = function(e) return e.message end }), 0)
end

local function kind_of(option)
  if option.kind then return option.kind end
  if type(option[2]) == "boolean" then return "flag" end
  return type(option[2]) == "number" and "number" or "string"
end

-- Of an integer that has no `max` of its own: more than this is a typing error, and the engine counts in such.
local LARGEST = 2 ^ 31 - 1

-- A bound as it was meant: whole numbers with all their digits.
local function exact(number) return (number % 1 == 0 and "%.0f" or "%g"):format(number) end

local function convert(option, given)
  local name, kind = option[1], kind_of(option)
  if option.word and given == option.word then return given end
  if kind == "number" or kind == "integer" then
    local number = tonumber(given)
    if not number or number ~= number then
      M.fail(2, "--%s: '%s' is not a number%s", name, given, option.word and " or " .. option.word or "")
    end
    if math.abs(number) == math.huge then M.fail(2, "--%s: %s is not finite", name, given) end
    if kind == "integer" and number % 1 ~= 0 then M.fail(2, "--%s: %s is not a whole number", name, given) end
    local max = option.max or kind == "integer" and LARGEST or nil
    if option.min and number < option.min then M.fail(2, "--%s: %s is below %s", name, given, exact(option.min)) end
    if max and number > max then M.fail(2, "--%s: %s is above %s", name, given, exact(max)) end
    return number
  end
  if option.choices then
    for _, choice in ipairs(option.choices) do
      if given == choice then return given end
    end
    local near = nearest(given, option.choices)
    M.fail(2, "--%s: '%s' is not one of %s%s", name, given, table.concat(option.choices, ", "),
      near and ("; did you mean " .. near .. "?") or "")
  end
  if kind == "string" and given == "" then M.fail(2, "--%s: the value is empty", name) end
  return given
end

---The text of --help.
---@param about string
---@param rows moonbow.cli.Option[]
---@return string
function M.help(about, rows)
  local lines = { about, "", "Options (--name value or --name=value):" }
  for _, option in ipairs(rows) do
    local kind = kind_of(option)
    local value = kind == "flag" and "" or " " .. (option.value or (option.choices and table.concat(option.choices, "|"))
      or (kind == "string" and "TEXT" or "NUMBER"))
    local default = option[2]
    local shown = (default == nil or default == false) and "" or (" [%s]"):format(tostring(default))
    local head = "  --" .. option[1] .. value
    lines[#lines + 1] = #head < 34 and ("%-34s%s%s"):format(head, option[3], shown)
      or ("%s\n%s%s%s"):format(head, (" "):rep(34), option[3], shown)
  end
  lines[#lines + 1] = "  --help" .. (" "):rep(26) .. "this text"
  return table.concat(lines, "\n")
end

---Options given on the command line, converted and checked, without defaults.
---@param rows moonbow.cli.Option[]
---@param argv string[]
---@return table<string, any> given
function M.parse(rows, argv)
  local known, names, given = {}, {}, {}
  for _, option in ipairs(rows) do
    known[option[1]] = option
    names[#names + 1] = option[1]
  end
  local i = 1
  while i <= #argv do
    local word = argv[i]
    local name, value = word:match("^%-%-([^=]+)=(.*)$")
    name = name or word:match("^%-%-(.+)$")
    if word == "-h" then name = "help" end
    if not name then M.fail(2, "'%s' is not an option; options look like --name value", word) end
    if name == "help" then
      given.help = true
    else
      local option = known[name]
      if not option then
        local near = nearest(name, names)
        M.fail(2, "unknown option --%s%s (--help lists all)", name, near and ("; did you mean --" .. near .. "?") or "")
      end
      if kind_of(option) == "flag" then
        if value then M.fail(2, "--%s takes no value", name) end
        given[name] = true
      else
        if not value then
          i = i + 1
          value = argv[i]
          if value == nil then M.fail(2, "--%s: a value is missing", name) end
          if value:sub(1, 2) == "--" then
            M.fail(2, "--%s: a value is missing before %s (--%s=%s if that is the value)", name, value, name, value)
          end
        end
        value = convert(option, value)
        if option.many then
          given[name] = given[name] or {}
          table.insert(given[name], value)
        else
          given[name] = value
        end
      end
    end
    i = i + 1
  end
  return given
end

---Defaults, overlaid from left to right with further tables.
---@param rows moonbow.cli.Option[]
---@param ... table<string, any>
---@return table<string, any>
function M.settings(rows, ...)
  local result = {}
  for _, option in ipairs(rows) do result[option[1]] = option[2] end
  for k = 1, select("#", ...) do
    for name, value in pairs((select(k, ...))) do result[name] = value end
  end
  return result
end

local tidy = function() end

---Sets what M.main does before it prints an error, such as ending a line that is being rewritten.
---@param action fun()
function M.before_error(action) tidy = action end

local complete = function(text) return text end

---Sets what M.main adds to an error that nothing expected, once the script's body has been left: `how` gets its text
---and returns it, or a longer one, and perhaps a second line.
---@param how fun(text: string): string, string?
function M.complete_errors(how) complete = how end

local function one_line(problem)
  return (tostring(problem):gsub("%s*\n%s*", "; "))
end

-- Before a script has asked for signals as flags, Ctrl-C is an error that LuaJIT raises wherever it happens to be.
local function by_ctrl_c(text) return text == "interrupted!" or text:find ":%d+: interrupted!$" ~= nil end

---Runs a script's body and ends the process with its exit code: what the body returns, or an error's code.
---Complaints of the library carry no line of the script: who runs it looks at the command line.
---@param name string shown before an error
---@param body fun(): integer?
function M.main(name, body)
  local function explain(problem)
    local code, text = type(problem) == "table" and problem.code or nil, one_line(problem)
    if not code and by_ctrl_c(text) then code, text = 130, "interrupted" end
    local stack = os.getenv("MOONBOW_TRACEBACK") == "1" and debug.traceback("", 2) or nil
    return { code = code or 1, text = text, stack = stack, expected = code ~= nil }
  end
  local ok, result = xpcall(function()
    require("bindings.status").add_library(debug.getinfo(body, "S").source)
    return body()
  end, explain)
  if not ok then
    tidy()
    local text, more = result.text, nil
    if not result.expected then text, more = complete(text) end
    result.lines = { name .. ": " .. text, more and name .. ": " .. more or result.stack, more and result.stack }
  end
  io.stdout:flush()
  if not ok then io.stderr:write(table.concat(result.lines, "\n"), "\n") end
  os.exit(ok and (result or 0) or result.code, true)
end

return M
