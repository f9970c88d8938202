-- SPDX-License-Identifier: MIT
--
-- page.lua: writes one HTML page that needs nothing else: no network, no fonts, no other files. It is light or dark as its
-- reader likes, prints, and fits a narrow screen: wide tables and figures scroll by themselves.
--
--   local page = require "moonbow.report.page"
--   page.write("out.html", {
--     title = "Clipping, reproduced", subtitle = "three seeds, CPU",
--     sections = {
--       { title = "Figure 2", text = "Loss falls `faster`.\n\nA second paragraph.",
--         verdict = { kind = "pass", text = "0.31 as in the paper" },
--         svg = { title = "loss", series = { ... } }, caption = "Loss over steps.",
--         table = { columns = { "method", "loss" }, rows = { { "ours", 0.31 } }, caption = "Final loss." } },
--       { title = "More", { text = "first" }, { svg = chart }, { text = "then" }, { pre = "raw text" } },
--     },
--     data = { anything = "JSON can hold" },
--   })
--
-- A section has a title and blocks, in their order; what a block may hold may also be in the section itself, and comes
-- before its blocks, in this order:
--   verdict   { kind = "pass"|"fail"|"open"|"note", text = }, or an array of them: a badge each
--   text      paragraphs, parted by empty lines; what stands in `backquotes` is set as code
--   list      array of texts, as points
--   formula   a text, set apart
--   svg       a chart as svg.lua has it, or SVG text; `caption` below it; `wide = true`: never narrower than it is drawn
--   table     { columns = { ... }, rows = { { ... } }, caption = , right = { [column] = true } }; columns that hold numbers
--             are set to the right, too. A cell is a text, a number (shown with up to 6 digits), true, false, or
--             { text = , value = , verdict = kind }: value, of the full precision, is what programs read (data-value), and
--             what is shown when pointed at
--   pre       a text as it is; with `summary`, folded behind that line
--   swatches  { { name, number of the series }, ... }: names with their colours
-- `data` is embedded as JSON (id "data"); non-finite numbers are the strings "NaN", "Infinity", "-Infinity". Points of line
-- charts are shown by a small script when pointed at; the page is complete without it.

local base = require "moonbow.report.svg.base"
local json = require "moonbow.io.json"
local options = require "moonbow.options"
local style = require "moonbow.report.page_style"
local svg = require "moonbow.report.svg"
local utf8 = require "moonbow.io.utf8"
local writing = require "moonbow.io.writing"

local M = {}

local escape = base.escape

local page_spec = {
  title = { type = "string", required = true }, subtitle = { type = "string", default = "" },
  sections = { type = "table", required = true }, data = { type = "table", default = {} },
  contents = { type = "boolean", default = true },
}
local block_spec = {
  verdict = { type = "table" }, text = { type = "string" }, list = { type = "table" }, formula = { type = "string" },
  svg = { type = "table|string" }, caption = { type = "string" }, wide = { type = "boolean", default = false },
  table = { type = "table" }, pre = { type = "string" }, summary = { type = "string" }, swatches = { type = "table" },
}
local table_spec = {
  columns = { type = "table", required = true }, rows = { type = "table", required = true },
  caption = { type = "string" }, right = { type = "table", default = {} },
}
-- What a browser may load for the page: what stands in it, nothing else.
local POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"

local marks = { pass = "✓", fail = "✗", open = "?", note = "i" }

-- ----- text -----------------------------------------------------------------------------------------------

local function inline(text)
  return (escape(text):gsub("`([^`]*)`", "<code>%1</code>"))
end

local function add(out, text, ...)
  out[#out + 1] = select("#", ...) > 0 and text:format(...) or text
end

local function add_text(out, text)
  for paragraph in (text .. "\n\n"):gmatch "(.-)\n%s*\n" do
    if paragraph:find "%S" then add(out, "<p>%s</p>", inline(paragraph)) end
  end
end

local function add_list(out, list)
  add(out, "<ul>")
  for _, text in ipairs(list) do add(out, "<li>%s</li>", inline(text)) end
  add(out, "</ul>")
end

local function badge(kind, text)
  if not marks[kind] then options.fail("page: verdict '%s'%s", tostring(kind), options.suggest(kind, options.keys(marks))) end
  return ('<span class="verdict %s"><b aria-label="%s">%s</b> %s</span>'):format(kind, kind, marks[kind], inline(text))
end

local function add_verdicts(out, verdicts)
  for _, one in ipairs(verdicts.kind and { verdicts } or verdicts) do
    add(out, '<p class="verdicts">%s</p>', badge(one.kind, one.text or one.kind))
  end
end

local function add_swatches(out, list)
  add(out, '<ul class="swatches">')
  for _, entry in ipairs(list) do
    add(out, '<li><i class="swatch s%d"></i>%s</li>', (entry[2] - 1) % #base.colours + 1, inline(entry[1]))
  end
  add(out, "</ul>")
end

-- ----- tables ---------------------------------------------------------------------------------------------

-- A number for people: up to six digits.
local function shown(x)
  if x ~= x then return "NaN" end
  if math.abs(x) == math.huge then return x > 0 and "∞" or "−∞" end
  return (("%.6g"):format(x):gsub("^-", "−"))
end

-- A number as programs read it.
local function whole(x)
  return x == x and math.abs(x) < math.huge and ("%.17g"):format(x) or json.nonfinite(x)
end

local function cell_of(cell, right)
  local kind, text, more = type(cell), "", ""
  if kind == "number" then
    text, more = shown(cell), (' data-value="%s"'):format(whole(cell))
  elseif kind == "table" then
    text = inline(cell.text or (cell.value and shown(cell.value)) or "")
    if cell.verdict then text = badge(cell.verdict, cell.text or cell.verdict) end
    if cell.value then more = (' data-value="%s" title="%s"'):format(whole(cell.value), whole(cell.value)) end
  elseif cell ~= nil then
    text = inline(tostring(cell))
  end
  return ("<td%s%s>%s</td>"):format(right and ' class="right"' or "", more, text)
end

local function has_number(rows, c)
  for _, row in ipairs(rows) do
    local cell = row[c]
    if type(cell) == "number" or type(cell) == "table" and cell.value then return true end
  end
  return false
end

local function add_table(out, given)
  local t = options.check("page: table", given, table_spec)
  if t.caption then add(out, '<p class="caption">%s</p>', inline(t.caption)) end
  local label = escape(t.caption or "table")
  add(out, '<div class="scroll" tabindex="0" role="group" aria-label="%s"><table aria-label="%s">', label, label)
  local heads, right = {}, {}
  for c, name in ipairs(t.columns) do
    right[c] = t.right[c] or has_number(t.rows, c)
    heads[c] = ('<th scope="col"%s>%s</th>'):format(right[c] and ' class="right"' or "", inline(name))
  end
  add(out, "<thead><tr>%s</tr></thead><tbody>", table.concat(heads))
  for _, row in ipairs(t.rows) do
    local cells = {}
    for c = 1, #t.columns do cells[c] = cell_of(row[c], right[c]) end
    add(out, "<tr>%s</tr>", table.concat(cells))
  end
  add(out, "</tbody></table></div>")
end

-- ----- figures --------------------------------------------------------------------------------------------

-- SVG text as it stands in HTML, without a declaration.
local function add_figure(out, block, figures)
  local text, width, id = block.svg, 720, #figures + 1
  local label = block.caption or "figure"
  if type(text) == "table" then
    if text.title and text.title ~= "" then label = text.title .. ": " .. label end
    text, figures[id], width = svg.inline(text, label)
  else
    text, figures[id] = text:gsub("^%s*<%?xml[^>]*%?>%s*", ""), {}
  end
  add(out, '<figure id="figure-%d"><div class="scroll" tabindex="0" role="group" aria-label="%s">', id, escape(label))
  add(out, '<div class="plot" style="%s:%dpx">%s</div></div>', block.wide and "width" or "min-width",
    math.floor(block.wide and width or width * 0.8), text)
  add(out, "<figcaption>%s</figcaption></figure>", block.caption and inline(block.caption) or "")
end

local function add_block(out, given, figures)
  local block = options.check("page: block", given, block_spec)
  if block.verdict then add_verdicts(out, block.verdict) end
  if block.text then add_text(out, block.text) end
  if block.list then add_list(out, block.list) end
  if block.formula then add(out, '<p class="formula">%s</p>', inline(block.formula)) end
  if block.swatches then add_swatches(out, block.swatches) end
  if block.svg then add_figure(out, block, figures) end
  if block.table then add_table(out, block.table) end
  if block.pre and block.summary then
    add(out, "<details><summary>%s</summary><pre tabindex=\"0\">%s</pre></details>", inline(block.summary), escape(block.pre))
  elseif block.pre then
    add(out, '<pre tabindex="0">%s</pre>', escape(block.pre))
  end
end

local function add_section(out, i, section, figures)
  if type(section) ~= "table" or type(section.title) ~= "string" then
    options.fail("page: section %d: a table with a title was expected, not %s", i, options.describe(section))
  end
  add(out, '<section id="section-%d" aria-labelledby="heading-%d"><h2 id="heading-%d">%s</h2>', i, i, i, inline(section.title))
  local own = {}
  for key, value in pairs(section) do
    if type(key) == "string" and key ~= "title" then own[key] = value end
  end
  add_block(out, own, figures)
  for _, block in ipairs(section) do add_block(out, block, figures) end
  add(out, "</section>")
end

-- ----- the page -------------------------------------------------------------------------------------------

-- A value whose texts are UTF-8, as JSON has to be: names of files need not be.
local function mended(value)
  if type(value) == "string" then return utf8.mend(value) end
  if type(value) ~= "table" then return value end
  local copy = setmetatable({}, getmetatable(value))
  for key, one in pairs(value) do copy[mended(key)] = mended(one) end
  return copy
end

-- JSON that may stand inside a script element.
local function embedded(value)
  local text, problem = json.encode(mended(value), { nonfinite = true, digits = 9 })
  if not text then options.fail("page: data: %s", problem) end
  return (text:gsub("<", "\\u003c"))
end

---The text of a page; see the head of this file.
---@param given { title: string, subtitle?: string, sections: table[], data?: table, contents?: boolean }
---@return string html
function M.html(given)
  local p = options.check("page", given, page_spec)
  local out, figures = {}, {}
  add(out, '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">')
  add(out, '<meta http-equiv="Content-Security-Policy" content="%s">', POLICY)
  add(out, '<meta name="viewport" content="width=device-width, initial-scale=1">')
  add(out, '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">')
  add(out, "<title>%s</title>", escape(p.title))
  add(out, "<style>" .. style.css(base.colours) .. "</style></head><body>")
  add(out, "<header><h1>%s</h1>%s</header>", inline(p.title), p.subtitle ~= "" and "<p>" .. inline(p.subtitle) .. "</p>" or "")
  if p.contents and #p.sections > 2 then
    add(out, '<nav aria-label="contents"><ul>')
    for i, section in ipairs(p.sections) do
      add(out, '<li><a href="#section-%d">%s</a></li>', i, inline(tostring(section.title)))
    end
    add(out, "</ul></nav>")
  end
  add(out, "<main>")
  for i, section in ipairs(p.sections) do add_section(out, i, section, figures) end
  add(out, "</main>")
  add(out, '<script type="application/json" id="data">%s</script>', embedded(p.data))
  add(out, '<script type="application/json" id="plots">%s</script>', embedded(setmetatable(figures, json.array)))
  add(out, "<script>" .. style.script .. "</script></body></html>\n")
  return table.concat(out, "\n")
end

---Writes a page; what was in the file before is replaced only once all of it is written.
---@param path string
---@param given table see the head of this file
function M.write(path, given)
  local text = M.html(given)
  writing.whole_file(path, function(aside) writing.text(aside, text) end)
end

return M
