-- SPDX-License-Identifier: MIT
--
-- base.lua: what all charts are made of: text as XML holds it, labels, colours of series, and a colour map.
--
-- Every shape has its colours as attributes, so that a chart is whole by itself, and a class, by which the style sheet
-- of a page that holds it (page.lua) gives it those of a dark page:
--   paper, grid, frame, rule   the background, lines of the axes, the frame, a marked value
--   line s1, fill s1, band s1  what belongs to the first series: strokes, filled shapes, bands

local format = require "moonbow.report.format"

local M = {}

-- Colours that stay apart for colour-blind eyes (Okabe and Ito 2008), without the yellow.
M.colours = { "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000" }
M.font = 'font-family="Helvetica, Arial, DejaVu Sans, sans-serif"'
M.size = 12 -- of letters

local LETTER = 0.545 -- width of a letter to its size, about: of a sans serif font, as it is in numbers and names

---Text as XML holds it, between tags or in quotes.
---@param text string
---@return string
function M.escape(text)
  local entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }
  return (format.printable(text):gsub('[&<>"]', entities))
end

---About as wide as the text is drawn.
---@param text string
---@param size? number of its letters
---@return number
function M.width(text, size)
  return (#text - select(2, text:gsub("[\128-\191]", ""))) * LETTER * (size or M.size)
end

---The text if it is not wider than `most`, else its beginning and an ellipsis.
---@param text string
---@param most number
---@param size? number
---@return string
function M.shorten(text, most, size)
  if M.width(text, size) <= most then return text end
  local letters = {}
  for letter in text:gmatch "[^\128-\191][\128-\191]*" do letters[#letters + 1] = letter end
  local kept = math.max(1, math.floor(most / (LETTER * (size or M.size))) - 1)
  return table.concat(letters, "", 1, math.min(kept, #letters)) .. "…"
end

---Adds an element to a list of texts.
function M.element(out, text, ...)
  out[#out + 1] = select("#", ...) > 0 and text:format(...) or text
end

---Adds a text that stands at x, y.
function M.label(out, x, y, text, more)
  M.element(out, '<text x="%.1f" y="%.1f" %s>%s</text>', x, y, more or "", M.escape(text))
end

---The colour of a series by its number.
function M.colour_of(i) return M.colours[(i - 1) % #M.colours + 1] end

---Class and colour of a series' shape: 'class="line s1" stroke="#0072B2"'.
---@param kind "line"|"fill"|"band"
---@param i integer
function M.paint(kind, i)
  return ('class="%s s%d" %s="%s"'):format(kind, (i - 1) % #M.colours + 1, kind == "line" and "stroke" or "fill", M.colour_of(i))
end

-- ----- a colour map --------------------------------------------------------------------------------------

-- Linear light of red, green and blue from OKLab (Björn Ottosson 2020, bottosson.github.io/posts/oklab).
local function linear_of(lightness, a, b)
  local l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ^ 3
  local m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ^ 3
  local s = (lightness - 0.0894841775 * a - 1.2914855480 * b) ^ 3
  return 4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s
end

-- A component as sRGB's transfer function has it (IEC 61966-2-1), 0..255.
local function component(x)
  x = math.max(0, math.min(1, x))
  local encoded = x <= 0.0031308 and 12.92 * x or 1.055 * x ^ (1 / 2.4) - 0.055
  return math.floor(255 * encoded + 0.5)
end

-- Lightness rises evenly; from blue over grey-violet and orange to pale yellow, hues that stay apart for colour-blind eyes.
local DARK, LIGHT = 0.24, 0.95
local hues = { { 0, 0.045, -0.115 }, { 0.3, 0.06, -0.085 }, { 0.6, 0.07, 0.02 }, { 0.82, 0.03, 0.115 }, { 1, -0.015, 0.09 } }

---The colour map: even steps of t are even steps for the eye, from dark blue to pale yellow.
---@param t number 0..1
---@return string "#rrggbb"
function M.map(t)
  t = math.max(0, math.min(1, t))
  local k = 1
  while k < #hues - 1 and t > hues[k + 1][1] do k = k + 1 end
  local from, to = hues[k], hues[k + 1]
  local share = (t - from[1]) / (to[1] - from[1])
  local r, g, b = linear_of(DARK + (LIGHT - DARK) * t, from[2] + share * (to[2] - from[2]), from[3] + share * (to[3] - from[3]))
  return ("#%02x%02x%02x"):format(component(r), component(g), component(b))
end

return M
