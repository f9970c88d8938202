-- SPDX-License-Identifier: MIT
--
-- claims.lua: what a paper says, what was measured, and whether that agrees.
--
--   claims.of { claim = "large constants have the least bias", source = "arXiv 2605.11838, figure 5a",
--     measured = "0.0065", expected = "0.006 to 0.007", holds = { value >= 0.006, value <= 0.007 } }
--
-- `holds` are the parts of the claim, each true or false (NaN compares as false): all true is "reproduced", some "partly",
-- none "not reproduced". Nothing else makes a verdict, so a script cannot be kinder than its numbers.

local format = require "moonbow.report.format"
local options = require "moonbow.options"

local M = {}

local spec = {
  claim = { type = "string", required = true }, source = { type = "string", required = true },
  measured = { type = "string", required = true }, expected = { type = "string", required = true },
  holds = { type = "table|boolean", required = true }, numbers = { type = "table" }, note = { type = "string" },
}

---@class moonbow.Claim
---@field claim string
---@field source string paper and figure, or what asks for it
---@field measured string
---@field expected string
---@field verdict "reproduced"|"partly"|"not reproduced"
---@field numbers? table<string, number> what `measured` was made of, for summary.json
---@field note? string

---@return moonbow.Claim
function M.of(given)
  local claim = options.check("claims.of", given, spec)
  local parts = type(claim.holds) == "table" and claim.holds or { claim.holds }
  if #parts == 0 then options.fail("claims.of: option 'holds' has no part, so that nothing is claimed") end
  local true_ones = 0
  for _, part in ipairs(parts) do true_ones = true_ones + (part and 1 or 0) end
  claim.holds = nil
  claim.verdict = true_ones == #parts and "reproduced" or true_ones > 0 and "partly" or "not reproduced"
  return claim
end

---A claim that one number lies within bounds; a missing bound is none.
---@param claim string
---@param source string
---@param value number
---@param low? number
---@param high? number
---@param pattern? string of numbers in the text, "%.3g"
---@return moonbow.Claim
function M.within(claim, source, value, low, high, pattern)
  if type(value) ~= "number" then
    options.fail("claims.within: the value of '%s' must be a number, not %s", claim, options.describe(value))
  end
  if not low and not high then options.fail("claims.within: neither bound is given, nothing could be outside of them") end
  pattern = pattern or "%.3g"
  local expected = low and high and (pattern .. " to " .. pattern):format(low, high)
    or low and ("at least " .. pattern):format(low) or ("at most " .. pattern):format(high)
  return M.of { claim = claim, source = source, measured = pattern:format(value), expected = expected,
    holds = (low == nil or value >= low) and (high == nil or value <= high), numbers = { value = value } }
end

-- Text in lines of at most `width` letters, broken at spaces.
local function wrapped(text, width)
  local lines, line = {}, ""
  for word in text:gmatch "%S+" do
    if line ~= "" and #line + #word + 1 > width then
      lines[#lines + 1], line = line, word
    else
      line = line == "" and word or line .. " " .. word
    end
  end
  lines[#lines + 1] = line
  return lines
end

---The claims as a table of text.
---@param claims moonbow.Claim[]
---@return string
function M.text(claims)
  local rows, widths = { { "claim", "measured", "expected", "verdict" } }, { 46, 30, 26, 14 }
  for _, claim in ipairs(claims) do
    local cells, height = {}, 1
    for c, name in ipairs { "claim", "measured", "expected", "verdict" } do
      cells[c] = wrapped(claim[name], widths[c])
      height = math.max(height, #cells[c])
    end
    for line = 1, height do
      local row = {}
      for c = 1, 4 do row[c] = cells[c][line] or "" end
      rows[#rows + 1] = row
    end
  end
  return format.columns(rows)
end

return M
