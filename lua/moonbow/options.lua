-- SPDX-License-Identifier: MIT
--
-- options.lua: checks tables of options, and raises errors at the user's line.
--
--   local options = require "moonbow.options"
--   local o = options.check("mb.optim.sgd", given, {
--     lr       = { type = "number|function", default = 0.05, min = 0 },
--     nesterov = { type = "boolean", default = false },
--     betas    = { type = "table", default = { 0.9, 0.999 } },
--     mode     = { choices = { "exact", "randomized" }, default = "exact" },
--     model    = { type = "table", required = true },
--     where    = { type = "function" },                          -- optional, nil without a default
--   })
--
-- The result is a new table: the given values over the defaults (tables among the defaults are copied).
-- An unknown key names the nearest valid one; a wrong value names the option, what was found and what was
-- expected. A row of the spec knows
--   type      one or more of number, integer, string, boolean, table, function, tensor, any, split by |
--   default   value when none is given
--   required  true: there must be a value
--   min, max  bounds of a number, allowed themselves; above, below: bounds not allowed themselves
--   choices   array of the values allowed
--   check     function(value) -> nil, or what was expected, as a text

local status = require "bindings.status"
local types = require "bindings.types"

local M = {}

status.add_library(debug.getinfo(1, "S").source)

--- Raises a formatted message at the user's line.
---@type fun(format: string, ...)
M.fail = status.fail

--- Raises a message at the user's line.
---@type fun(message: string)
M.raise = status.raise

--- What a value is, for the text of an error.
---@type fun(value: any): string
M.describe = types.describe

--- A number's shortest text that reads as the same number: "0.9", "0.99999995".
---@param x number
---@return string
function M.number(x)
  for digits = 6, 16 do
    local text = ("%%.%dg"):format(digits):format(x)
    if tonumber(text) == x then return text end
  end
  return ("%.17g"):format(x)
end

-- ----- names --------------------------------------------------------------------------------------------

-- Edits (insert, delete, replace, swap of neighbours) from a to b.
local function distance(a, b)
  local two_ago, last = nil, {}
  for j = 0, #b do last[j] = j end
  for i = 1, #a do
    local row = { [0] = i }
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      row[j] = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (same and 0 or 1))
      if two_ago and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        row[j] = math.min(row[j], two_ago[j - 2] + 1)
      end
    end
    two_ago, last = last, row
  end
  return last[#b]
end

--- The name nearest to `name` in an array, or nil if none is near.
---@param name string
---@param names string[]
---@return string?
function M.nearest(name, names)
  local best, least = nil, math.huge
  local from = tostring(name):lower()
  for _, candidate in ipairs(names) do
    local d = distance(from, candidate:lower())
    if candidate:lower():find(from, 1, true) and #from >= 3 then d = math.min(d, 1.5) end
    if d < least then best, least = candidate, d end
  end
  if least <= math.max(2, #from / 3) then return best end
end

--- ", did you mean 'x'?" or "; there are a, b, c": the end of an error about an unknown name.
---@param name any
---@param names string[]
---@return string
function M.suggest(name, names)
  local near = M.nearest(tostring(name), names)
  if near then return (", did you mean '%s'?"):format(near) end
  local shown = {}
  for i = 1, math.min(#names, 20) do shown[i] = names[i] end
  if #names == 0 then return "; there are none" end
  return "; there are " .. table.concat(shown, ", ") .. (#names > 20 and ", ..." or "")
end

--- Keys of a table that are strings, sorted.
---@param t table
---@return string[]
function M.keys(t)
  local names = {}
  for key in pairs(t) do
    if type(key) == "string" then names[#names + 1] = key end
  end
  table.sort(names)
  return names
end

-- ----- values -------------------------------------------------------------------------------------------

local function is_of_type(value, name)
  if name == "any" then return true end
  if name == "integer" then return types.is_integer(value) end
  if name == "tensor" then return types.is_tensor(value) end
  if name == "function" and type(value) == "table" then
    local meta = getmetatable(value)
    return type(meta) == "table" and meta.__call ~= nil -- a schedule, a threshold
  end
  return type(value) == name
end

local function matches(value, wanted)
  for name in wanted:gmatch "[^|]+" do
    if is_of_type(value, name) then return true end
  end
  return false
end

local articles = { number = "a number", integer = "an integer", string = "a string",
                   boolean = "true or false", any = "a value",
                   table = "a table", ["function"] = "a function", tensor = "a tensor" }

local function type_text(wanted)
  local texts = {}
  for name in wanted:gmatch "[^|]+" do texts[#texts + 1] = articles[name] or name end
  return table.concat(texts, " or ")
end

local function bound_problem(value, row)
  if type(value) ~= "number" then return nil end
  if value ~= value then return "a number that is not NaN" end
  if row.min and value < row.min then return ("at least %s"):format(row.min) end
  if row.max and value > row.max then return ("at most %s"):format(row.max) end
  if row.above and value <= row.above then return ("more than %s"):format(row.above) end
  if row.below and value >= row.below then return ("less than %s"):format(row.below) end
end

local function choice_problem(value, choices)
  local names = {}
  for i, choice in ipairs(choices) do
    if value == choice then return nil end
    names[i] = "'" .. tostring(choice) .. "'"
  end
  return "one of " .. table.concat(names, ", ")
end

--- Checks one value against a row of a spec; raises an error that names `what`.
---@param who string
---@param what string e.g. "option 'lr'"
function M.value(who, what, value, row)
  local expected
  if row.choices then
    expected = choice_problem(value, row.choices)
    local near = expected and type(value) == "string" and M.nearest(value, row.choices)
    if near then expected = expected .. (" (did you mean '%s'?)"):format(near) end
  elseif row.type and not matches(value, row.type) then
    expected = type_text(row.type)
  end
  expected = expected or bound_problem(value, row) or (row.check and row.check(value))
  if expected then M.fail("%s: %s must be %s, not %s", who, what, expected, M.describe(value)) end
end

local function copy(value)
  if type(value) ~= "table" or getmetatable(value) then return value end
  local result = {}
  for k, v in pairs(value) do result[k] = copy(v) end
  return result
end

--- Checks `given` against `spec` and returns a new table with defaults filled in.
---@param who string function the options are for, e.g. "mb.optim.sgd"
---@param given table? nil is an empty table
---@param spec table<string, table>
---@return table
function M.check(who, given, spec)
  if given == nil then given = {} end
  if type(given) ~= "table" then
    M.fail("%s: a table of options was expected, not %s", who, M.describe(given))
  end
  local names, result = M.keys(spec), {}
  for key, value in pairs(given) do
    local row = spec[key]
    if not row then
      if type(key) ~= "string" then
        M.fail("%s: options have names, but the table holds the unnamed value %s", who, M.describe(value))
      end
      M.fail("%s: unknown option '%s'%s", who, key, M.suggest(key, names))
    end
    M.value(who, ("option '%s'"):format(key), value, row)
    result[key] = value
  end
  for _, key in ipairs(names) do
    local row = spec[key]
    if result[key] == nil then
      if row.required then
        local wanted = row.choices and choice_problem({}, row.choices)
          or row.type and type_text(row.type) or "a value"
        M.fail("%s: option '%s' is missing, %s is needed", who, key, wanted)
      end
      result[key] = copy(row.default)
    end
  end
  return result
end
-- Tables of every shape come here: traces would be many and each of little use, and compiled traversals with next() are the
-- youngest part of LuaJIT 2.1.
jit.off(M.check)

return M
