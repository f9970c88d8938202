-- SPDX-License-Identifier: MIT
--
-- report.lua: a page about one run, or several beside each other; or a single plot of them.
--   luajit scripts/report.lua runs/a runs/b --out report.html
--   luajit scripts/report.lua runs/a --plot loss --out loss.svg
--   luajit scripts/report.lua --help
-- A run is its folder, or a log.jsonl. Runs that differ in the seed alone are drawn as one line with a band.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../lua/?.lua;%s/../lua/?/init.lua;%s/../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"

local plots = { "loss", "val", "clip", "sigma", "heat", "events", "spectra", "norm", "throughput", "lr" }

local options = {
  { "out", nil, "file to write [report.html, or PLOT.svg]; a plot may be .svg or .png", kind = "string", value = "FILE" },
  { "plot", nil, "a single plot instead of the page", kind = "string", choices = plots },
  { "title", nil, "of the page", kind = "string" },
  { "band", "minmax", "over the runs of a group: its extremes, or a standard deviation to either side",
    choices = { "minmax", "sd" } },
  { "target", nil, "a validation loss to test the groups against", kind = "number" },
  { "step_worth", nil, "the loss that a step is worth, to compare groups of different steps", kind = "number", min = 0 },
  { "quiet", false, "print errors only" },
}

-- Command lines hold runs and options in any order; what follows an option that takes a value is its value.
local function parted(argv)
  local flags, runs, rest, i = { ["--quiet"] = true, ["--help"] = true }, {}, {}, 1
  while i <= #argv do
    local word = argv[i]
    if word:sub(1, 1) ~= "-" then
      runs[#runs + 1] = word
    else
      rest[#rest + 1] = word
      if word:sub(1, 2) == "--" and not word:find("=", 1, true) and not flags[word] then
        i = i + 1
        rest[#rest + 1] = argv[i]
      end
    end
    i = i + 1
  end
  return runs, rest
end

-- Charts of one kind: one for all groups, or one for the first run of each.
local function charts_of(kind, groups, band)
  local figures = require "moonbow.report.figures"
  local by_run = { sigma = true, heat = true, events = true, spectra = true }
  local list = {}
  for _, group in ipairs(by_run[kind] and groups or {}) do list[#list + 1] = (figures[kind](group.runs[1])) end
  if not by_run[kind] then list[1] = figures[kind](groups, band) end
  if #list == 0 then
    cli.fail(1, "--plot %s: the logs hold nothing of that%s", kind, kind == "spectra" and "; it is logged with --spectra_every N"
      or by_run[kind] and "; it is logged with --clip spectral" or "")
  end
  return list
end

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- Writes SVG text as SVG, or as PNG, twice as large, by rsvg-convert.
local function write_plot(path, text)
  local writing = require "moonbow.io.writing"
  if path:lower():match "%.png$" then
    if os.execute "command -v rsvg-convert >/dev/null 2>&1" ~= 0 then
      cli.fail(1, "--out %s: rsvg-convert makes PNGs and is not installed; install Debian's package librsvg2-bin, or write .svg",
        path)
    end
    local source = path .. ".svg.part"
    writing.text(source, text)
    local code = os.execute(("rsvg-convert --zoom 2 -o %s %s"):format(quoted(path), quoted(source)))
    os.remove(source)
    if code ~= 0 then cli.fail(1, "--out %s: rsvg-convert failed", path) end
  elseif path:lower():match "%.svg$" then
    writing.whole_file(path, function(aside) writing.text(aside, text) end)
  else
    cli.fail(2, "--out %s: a plot is .svg or .png", path)
  end
end

cli.main("report", function()
  local paths, rest = parted(arg)
  local given = cli.parse(options, rest)
  if given.help then
    print((cli.help("Writes a page about runs (folders or logs), or a single plot: report.lua RUN [RUN...] [options]", options)))
    return 0
  end
  local settings = cli.settings(options, given)
  if #paths == 0 then cli.fail(2, "name at least one run: a folder, or its log.jsonl") end
  local read, runs = require "moonbow.report.read", {}
  local seen = {}
  for i, path in ipairs(paths) do
    local place = require("bindings.system").absolute(path):gsub("/+log%.jsonl$", ""):gsub("/+$", "")
    if seen[place] then cli.fail(2, "%s is given twice; a run counts once", path) end
    seen[place] = true
    runs[i] = read.run(path)
  end
  local out = settings.out or settings.plot and settings.plot .. ".svg" or "report.html"
  if settings.plot then
    local groups = require("moonbow.report.compare").groups(runs)
    write_plot(out, require("moonbow.report.svg").page(charts_of(settings.plot, groups, settings.band)))
  else
    if out:lower():match "%.svg$" or out:lower():match "%.png$" then
      cli.fail(2, "--out %s: the page is HTML; --plot says which plot", out)
    end
    require("moonbow.report.page").write(out, require("moonbow.report.runs_page").page(runs, settings))
  end
  if not settings.quiet then print(out) end
  return 0
end)
