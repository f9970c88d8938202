-- SPDX-License-Identifier: MIT
--
-- publish.lua: what is written of an experiment's report, and how it is shown. In the folder:
--   FIGURE.svg     one for each figure
--   summary.json   claims with numbers and verdicts, tables, notes, the script's options, and what they were made with
--   figures.json   the charts' numbers, from which pages are made that hold several experiments (M.page)
--   report.html    all of it on one page

local claims = require "moonbow.experiment.claims"
local format = require "moonbow.report.format"
local page = require "moonbow.report.page"
local records = require "moonbow.experiment.records"
local svg = require "moonbow.report.svg"
local system = require "bindings.system"
local writing = require "moonbow.io.writing"

local M = {}

local kinds = { reproduced = "pass", partly = "note", ["not reproduced"] = "fail" }
local SMOKE = "`--smoke` is far too small for the verdicts to mean anything"

local function write(path, text)
  writing.whole_file(path, function(aside) writing.text(aside, text) end)
end

-- ----- pages --------------------------------------------------------------------------------------------

local function claims_table(summary)
  local rows = {}
  for i, claim in ipairs(summary.claims) do
    rows[i] = { claim.claim, claim.measured, claim.expected,
      { text = claim.verdict, verdict = summary.size == "smoke" and "open" or kinds[claim.verdict] }, claim.source }
  end
  return { columns = { "claim", "measured", "expected", "verdict", "source" }, rows = rows }
end

-- The section of one experiment.
local function section_of(summary, figures)
  local section = { title = summary.name, text = summary.about .. "\n\nSource: " .. summary.source .. "." }
  local function add(block) section[#section + 1] = block end
  if summary.size == "smoke" then add { text = SMOKE .. "." } end
  if #summary.claims > 0 then add { table = claims_table(summary) } end
  for _, figure in ipairs(figures) do
    for _, chart in ipairs(figure.charts) do add { svg = chart, caption = figure.title } end
  end
  for _, block in ipairs(summary.tables) do
    local rows = {}
    for i = 2, #block.rows do rows[i - 1] = block.rows[i] end
    local right = {}
    for _, column in ipairs(block.right_columns) do right[column] = true end
    add { table = { columns = block.rows[1], rows = rows, caption = block.title, right = right } }
  end
  if #summary.notes > 0 then add { list = summary.notes } end
  return section
end

---Writes one page of several experiments, the verdicts of all of them first.
---@param path string
---@param title string
---@param list { summary: table, figures: table[] }[] as M.read gives them
function M.page(path, title, list)
  local sections, rows, data = {}, {}, {}
  for i, one in ipairs(list) do
    for _, claim in ipairs(one.summary.claims) do
      rows[#rows + 1] = { one.summary.name, claim.claim, claim.measured, claim.expected,
        { text = claim.verdict, verdict = one.summary.size == "smoke" and "open" or kinds[claim.verdict] } }
    end
    sections[#sections + 1] = section_of(one.summary, one.figures)
    data[i] = one.summary
  end
  if #list > 1 then
    table.insert(sections, 1, { title = "Verdicts",
      table = { columns = { "experiment", "claim", "measured", "expected", "verdict" }, rows = rows } })
  end
  local first = list[1].summary
  page.write(path, { title = title, subtitle = ("%s, %s"):format(first.size, first.build), sections = sections,
    data = { experiments = data } })
end

---The summary and the figures in an experiment's folder, or nil if it is not finished.
---@param folder string
---@return { summary: table, figures: table[] }?
function M.read(folder)
  local function decoded(name)
    local file = io.open(folder .. "/" .. name, "rb")
    if not file then return nil end
    local value = records.decode(file:read "*a")
    file:close()
    return value
  end
  local summary, figures = decoded "summary.json", decoded "figures.json"
  return summary and figures and { summary = summary, figures = figures } or nil
end

-- ----- one experiment -----------------------------------------------------------------------------------

local function tables_of(report)
  local tables = {}
  for i, block in ipairs(report.tables or {}) do
    local right = {}
    for column = 1, #block.rows[1] do
      if block.right and block.right[column] then right[#right + 1] = column end
    end
    tables[i] = { title = block.title, rows = block.rows, right_columns = right }
  end
  return tables
end

---Writes all files of a report. Results of an earlier report go first: what is there belongs together.
---@param spec moonbow.Experiment
---@param s table settings
---@param report table
function M.write(spec, s, report)
  local mb = require "moonbow"
  local figures, charts = {}, {}
  if system.path_kind(s.out .. "/summary.json") == "file" then system.remove(s.out .. "/summary.json") end
  for i, figure in ipairs(report.figures or {}) do
    write(("%s/%s.svg"):format(s.out, figure.name), svg.page(figure.charts))
    figures[i] = { name = figure.name, title = figure.title, file = figure.name .. ".svg" }
    charts[i] = { name = figure.name, title = figure.title, charts = figure.charts }
  end
  local summary = {
    name = spec.name, about = spec.about, source = spec.source, size = s.size, seeds = s.seeds, device = s.device,
    options = s.options, code = s.code, claims = report.claims or {},
    figures = figures, tables = tables_of(report), notes = report.notes or {}, build = mb.build_info(), version = mb.version,
  }
  write(s.out .. "/figures.json", records.encode(charts) .. "\n")
  write(s.out .. "/summary.json", records.encode(summary) .. "\n")
  M.page(s.out .. "/report.html", spec.name, { M.read(s.out) })
end

---Prints a report; with s.quiet, what there are claims of without the tables and notes.
function M.show(spec, s, report)
  local has_claims = report.claims and #report.claims > 0
  local is_short = s.quiet and has_claims
  if not is_short then print(("\n%s: %s\n%s"):format(spec.name, spec.source, spec.about)) end
  for _, block in ipairs(not is_short and report.tables or {}) do
    print(("\n%s\n%s"):format(block.title, format.columns(block.rows, block.right)))
  end
  if has_claims then print((is_short and "" or "\n") .. claims.text(report.claims)) end
  for _, note in ipairs(not is_short and report.notes or {}) do print("\nnote: " .. note) end
  if s.size == "smoke" then print("\nnote: " .. SMOKE) end
  print(("\n%s/report.html; results.jsonl, summary.json and figures beside it"):format(s.out))
end

return M
