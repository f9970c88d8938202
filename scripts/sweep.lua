-- SPDX-License-Identifier: MIT
--
-- sweep.lua: tries values of any options of any script, all combinations or at random, in parallel processes or on one GPU in
-- turn, and ranks what came of them. The same command goes on where it was stopped.
--   luajit scripts/sweep.lua --script scripts/train_gpt2.lua --set steps=200 --grid lr=3e-4,1e-3,3e-3 --grid optimizer=sgd,adamw
--   luajit scripts/sweep.lua --script scripts/train_gpt2.lua --random lr=log:1e-4:0.01 --random dropout=uniform:0:0.3 --runs 30
--   luajit scripts/sweep.lua --help

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../lua/?.lua;%s/../lua/?/init.lua;%s/../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"

local SHOWN = 30 -- rows of the printed table

local options = {
  { "script", nil, "what is run", kind = "string", value = "FILE" },
  { "grid", nil, "values of an option: lr=1e-3,3e-3; may be given several times", kind = "string", value = "NAME=V,V,...",
    many = true },
  { "random", nil, "drawn values: NAME=log:LOW:HIGH, uniform:LOW:HIGH, int:LOW:HIGH or choice:A,B,C; likewise",
    kind = "string", value = "NAME=KIND:...", many = true },
  { "set", nil, "an option that all runs have; a flag is NAME=true", kind = "string", value = "NAME=VALUE", many = true },
  { "runs", 20, "draws of the random options, for each combination of the grids", kind = "integer", min = 1 },
  { "draw_seed", 1, "of the draws", kind = "integer", min = 0 },
  { "seeds", nil, "each combination with each of these as --seed; ranked by the mean", kind = "string", value = "N,N,..." },
  { "metric", "val_loss", "what runs are ranked by, a field of their log.jsonl", kind = "string", value = "NAME" },
  { "goal", "min", "what is better", choices = { "min", "max" } },
  { "pick", "last", "of the metric's values in a run", choices = { "last", "least", "most" } },
  { "jobs", nil, "processes [all cores; 1 on cuda]", kind = "integer", min = 1, max = 4096 },
  { "threads", nil, "threads of each process [cores / jobs]", kind = "integer", min = 1, max = 4096 },
  { "device", "auto", "where to compute", choices = { "auto", "cpu", "cuda" } },
  { "out", nil, "folder of the results [runs/sweep/SCRIPT]", kind = "string", value = "DIR" },
  { "keep", false, "use results that an earlier text of the script has made" },
  { "plain", false, "no live line, plain lines instead" },
  { "quiet", false, "print errors and the ranking only" },
}

-- ----- the plan -------------------------------------------------------------------------------------------

local function runs_of(s)
  local sweep = require "moonbow.experiment.sweep"
  local grids, randoms, list = {}, {}, {}
  for i, text in ipairs(s.grid or {}) do grids[i] = sweep.grid(text) end
  for i, text in ipairs(s.random or {}) do randoms[i] = sweep.random(text) end
  local combinations = sweep.combinations(grids, randoms, s.runs, s.draw_seed)
  for _, swept in ipairs(combinations) do
    local values = {}
    for name, value in pairs(s.fixed) do values[name] = value end
    for name, value in pairs(swept) do values[name] = value end
    for _, seed in ipairs(#s.seeds > 0 and s.seeds or { false }) do
      list[#list + 1] = { name = sweep.name_of(swept), seed = seed or nil,
        settings = { script = s.script:match "[^/]+$", values = values, metric = s.metric, pick = s.pick } }
    end
  end
  return list
end

-- The folder of a run: what it is called, and a hash of all that it depends on, which its metric is not.
local function folder_of(run, s)
  local system, records = require "bindings.system", require "moonbow.experiment.records"
  local slug = run.name:gsub("[^%w%.=%-]+", "_"):sub(1, 80)
  local all = records.encode { values = run.settings.values, seed = run.seed, code = s.code, device = s.device }
  return ("%s/runs/%s-%s"):format(s.out, slug, system.sha256(all):sub(1, 8))
end

local function make(run, context)
  local s = context.settings
  return require("moonbow.experiment.sweep").run({
    luajit = s.luajit, script = s.script, knows = s.knows, values = run.settings.values, threads = s.threads, device = s.device,
    metric = s.metric, pick = s.pick }, folder_of(run, s), run.seed)
end

-- ----- the ranking ----------------------------------------------------------------------------------------

-- Of each combination its values, the mean of its runs and how many there are; the best one first. Those of which a run has
-- no result are left out.
local function ranking(results, s)
  local statistics, by_name = require "moonbow.experiment.statistics", {}
  local list, whole = {}, {}
  for _, r in ipairs(results) do
    local entry = by_name[r.name]
    if not entry then
      entry = { name = r.name, values = r.settings.values, all = {} }
      by_name[r.name], list[#list + 1] = entry, entry
    end
    entry.all[#entry.all + 1] = r.result.value
  end
  for _, entry in ipairs(list) do
    if #entry.all == math.max(1, #s.seeds) then whole[#whole + 1] = entry end
  end
  list = whole
  local worst = s.goal == "min" and math.huge or -math.huge
  for i, entry in ipairs(list) do
    entry.mean, entry.std, entry.place = statistics.mean(entry.all), statistics.std(entry.all), i
    entry.key = entry.mean == entry.mean and entry.mean or worst
  end
  table.sort(list, function(a, b)
    if a.key ~= b.key then return (a.key < b.key) == (s.goal == "min") end
    return a.place < b.place
  end)
  return list
end

-- A chart of the metric over one option, if its values are numbers; logarithmic where they span more than a decade.
local function chart_of(list, name, s)
  local points, low, high = {}, math.huge, -math.huge
  for _, entry in ipairs(list) do
    local x = tonumber(entry.values[name])
    if not x then return nil end
    low, high = math.min(low, x), math.max(high, x)
    points[#points + 1] = { x, entry.mean, ("%s: %s %.5g"):format(entry.name, s.metric, entry.mean) }
  end
  return { title = ("%s over %s"):format(s.metric, name), x = { label = name, log = low > 0 and high / low > 10 },
    y = { label = s.metric }, series = { { name = "runs", points = points, line = false } }, legend = "none" }
end

-- Bars for an option whose values are names: the best of each.
local function bars_of(list, name, s)
  local groups, values, seen = {}, {}, {}
  for _, entry in ipairs(list) do -- the best comes first
    local value = entry.values[name]
    if not seen[value] then seen[value], groups[#groups + 1], values[#values + 1] = true, value, entry.mean end
  end
  return { title = ("best %s of each %s"):format(s.metric, name), groups = groups, y = { label = s.metric },
    series = { { name = "best", values = values } }, legend = "none" }
end

local function report(results, s)
  local list, names = ranking(results, s), s.names
  local rows, right = { { "rank", s.metric } }, { [1] = true, [2] = true }
  if #s.seeds > 1 then rows[1][3] = "std" end
  for _, name in ipairs(names) do
    rows[1][#rows[1] + 1] = name
    right[#rows[1]] = true
  end
  for rank = 1, math.min(SHOWN, #list) do
    local entry = list[rank]
    local row = { tostring(rank), ("%.5g"):format(entry.mean) }
    if #s.seeds > 1 then row[3] = ("%.2g"):format(entry.std) end
    for _, name in ipairs(names) do row[#row + 1] = entry.values[name] end
    rows[rank + 1] = row
  end
  local charts = {}
  for i, name in ipairs(#list > 0 and names or {}) do charts[i] = chart_of(list, name, s) or bars_of(list, name, s) end
  return {
    figures = #list > 0 and { { name = "sweep", title = ("%s of %d combinations"):format(s.metric, #list),
      charts = charts } } or {},
    tables = { { title = ("the best %d of %d, %s first"):format(#rows - 1, #list, s.goal == "min" and "least" or "most"),
      rows = rows, right = right } },
    notes = { "Every run's own folder, with its log and what it said, is in runs/." },
  }
end

-- ----- the command line -----------------------------------------------------------------------------------

-- Checks the options that are swept against those that the script tells; returns the names of --grid and --random.
local function check_names(s)
  local known = require("moonbow.options")
  local names, given_by = {}, {}
  for _, option in ipairs { "grid", "random", "set" } do
    for _, text in ipairs(s[option] or {}) do
      local name = text:match "^%-*([%w_]+)=" or text
      if not s.knows[name] then
        cli.fail(2, "--%s %s: %s has no option --%s%s", option, text, s.script, name, known.suggest(name, known.keys(s.knows)))
      end
      if name == "out" or name == "resume" then cli.fail(2, "--%s %s: every run has a folder of its own", option, text) end
      if name == "seed" and s.seeds then cli.fail(2, "--%s %s: --seeds gives the seeds", option, text) end
      if given_by[name] then cli.fail(2, "--%s %s: --%s gives %s already", option, text, given_by[name], name) end
      given_by[name] = option
      if option ~= "set" then names[#names + 1] = name end
    end
  end
  return names
end

local function settings_of(given)
  local system, sweep = require "bindings.system", require "moonbow.experiment.sweep"
  local s = cli.settings(options, given)
  if not s.script then cli.fail(2, "--script: what is to be run? (--help)") end
  if system.path_kind(s.script) ~= "file" then cli.fail(1, "--script: there is no file %s", s.script) end
  if not s.grid and not s.random then cli.fail(2, "nothing is swept: give --grid or --random") end
  if given.runs and not s.random then cli.fail(2, "--runs: it counts draws, and there is no --random") end
  s.out = s.out or "runs/sweep/" .. s.script:match "([^/]+)$":gsub("%.lua$", "")
  s.script, s.luajit, s.size = system.absolute(s.script), arg[-1] or "luajit", "sweep"
  system.make_folder(s.out)
  s.knows = sweep.options_of(s.luajit, s.script, s.out)
  s.names = check_names(s)
  s.code = require("moonbow.experiment.code").of(s.script)
  s.fixed, s.seeds = {}, s.seeds and require("moonbow.experiment").seeds(s.seeds) or {}
  for _, text in ipairs(s.set or {}) do
    local name, value = text:match "^%-*([%w_]+)=(.+)$"
    if not name then cli.fail(2, "--set %s: NAME=VALUE was expected", text) end
    s.fixed[name] = value
  end
  if #s.seeds > 0 and not s.knows.seed then cli.fail(2, "--seeds: %s has no option --seed", s.script) end
  return s
end

local spec = {
  name = "sweep", about = "Values of a script's options, ranked.", source = "scripts/sweep.lua",
  runs = runs_of, make = make, report = report, prepares = false, partial = true,
}

cli.main("sweep", function()
  if arg[1] == "--worker" then return require("moonbow.experiment.worker").main(spec, tonumber(arg[2])) end
  local given = cli.parse(options, arg)
  if given.help then
    print(cli.help("Tries values of any options of any script, and ranks what came of them.", options))
    return 0
  end
  local s = settings_of(given)
  spec.about = ("%s of %s, ranked."):format(s.metric, s.script)
  return require("moonbow.experiment").execute(spec, s)
end)
