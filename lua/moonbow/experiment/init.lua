-- SPDX-License-Identifier: MIT
--
-- init.lua: the only door to experiments: a script that makes many runs, and of their results figures and verdicts. Such a script
-- (scripts/reproduce/*.lua) is one call:
--
--   require("moonbow.experiment").main {
--     name = "quadratic", about = "Steps that gradient descent needs.", source = "arXiv 0000.00000, figure 1",
--     options = { { "steps", 100, "steps of a run", kind = "integer", min = 1 } },     -- rows of moonbow.cli
--     sizes = { smoke = { steps = 5 }, quick = { steps = 100 }, full = { steps = 1e5 } },
--     seeds = { 11, 12, 13 },
--     runs = function(s)                       -- what there is to do; `cost` in any unit, for the time that is left
--       local list = {}
--       for _, seed in ipairs(s.seeds) do
--         list[#list + 1] = { name = "sgd", seed = seed, settings = { lr = 0.1, steps = s.steps }, cost = s.steps }
--       end
--       return list
--     end,
--     make = function(run, context)            -- one run, in a process of its own: plain numbers, texts and arrays
--       context:progress(0.5)
--       return { loss = run.settings.lr }
--     end,
--     report = function(results, s)            -- results: { name, seed, settings, result, seconds }, in the order of runs(s);
--       return {                               -- results.by_name.sgd: those of that name
--         figures = { { name = "figure", title = "Loss", charts = { ... } } },          -- of moonbow.report.svg
--         claims = { claims.within("the loss is small", "here", results[1].result.loss, nil, 0.2) },
--         tables = { { title = "losses", rows = { { "rule", "loss" }, ... }, right = { [2] = true } } },
--         notes = { "Batches come in a fixed order, as in the authors' code." },
--       }
--     end,
--   }
--
-- A run's settings must hold all that its result depends on: a run whose name, seed and settings are among the results of the
-- folder is not made again, unless they come from another device or the text of the script has changed since (code.lua). They
-- and the results travel as JSON. Runs see nothing of each other, and take their seed from run.seed. What a run can do beside
-- is in worker.lua: progress, a log, checkpoints for long ones.
--
-- In OUT: results.jsonl (records.lua), FIGURE.svg, summary.json, report.html (publish.lua), and worker-N.log of a process that
-- complained.

local cli = require "moonbow.cli"

local M = {}

---@class moonbow.Run
---@field name string
---@field seed? integer
---@field settings table
---@field cost? number

---@class moonbow.Experiment
---@field name string
---@field about string
---@field source string
---@field options? moonbow.cli.Option[]
---@field sizes table<string, table>
---@field seeds? integer[]
---@field device? "cpu"|"cuda"|"auto" default of --device
---@field partial? boolean true: a report is made of the runs that have a result, even where others failed
---@field prepares? boolean false: workers do not compute themselves, and leave device and threads alone
---@field runs fun(s: table): moonbow.Run[]
---@field make fun(run: moonbow.Run, context: moonbow.experiment.Context): table?
---@field report fun(results: table, s: table): table

-- ----- the command line ------------------------------------------------------------------------------------

local function common_rows(spec)
  return {
    { "quick", false, "minutes on two cores (the default)" },
    { "full", false, "the paper's size" },
    { "smoke", false, "seconds: whether it works, not what comes out" },
    { "seeds", table.concat(spec.seeds or { 1 }, ","), "seeds, with commas between", kind = "string", value = "N,N,..." },
    { "jobs", nil, "processes [all cores; 1 on cuda]", kind = "integer", min = 1, max = 4096 },
    { "threads", nil, "threads of each process [cores / jobs]", kind = "integer", min = 1, max = 4096 },
    { "device", spec.device or "cpu", "where to compute", choices = { "auto", "cpu", "cuda" } },
    { "out", nil, ("folder of the results; those it holds are used [runs/reproduce/%s]"):format(spec.name), kind = "string",
      value = "DIR" },
    { "only", nil, "make only runs whose name contains this", kind = "string", value = "TEXT" },
    { "keep", false, "use results that an earlier text of the script has made" },
    { "plain", false, "no live line, plain lines instead" },
    { "quiet", false, "print errors and the verdicts only" },
  }
end

---The numbers of a text such as "11,12,13"; what is none ends the script.
---@param text string
---@return integer[]
function M.seeds(text)
  local seeds, seen = {}, {}
  for word in text:gmatch "[^,]+" do
    local seed = tonumber(word)
    if not seed or seed % 1 ~= 0 or seed < 0 or seed > 2 ^ 53 then
      cli.fail(2, "--seeds: '%s' is no whole number from 0", word)
    end
    if seen[seed] then cli.fail(2, "--seeds %s: %d is there twice", text, seed) end
    seeds[#seeds + 1], seen[seed] = seed, true
  end
  if #seeds == 0 then cli.fail(2, "--seeds %s: there is none", text) end
  return seeds
end

---Which of --smoke, --quick and --full is given; more than one ends the script.
---@param given table<string, any>
---@return "smoke"|"quick"|"full"
function M.size(given)
  local size
  for _, name in ipairs { "smoke", "quick", "full" } do
    if given[name] and size then cli.fail(2, "--%s and --%s: one of them", size, name) end
    if given[name] then size = name end
  end
  return size or "quick"
end

-- Rows with the defaults that they have in a size.
local function sized_rows(rows, values)
  local list = {}
  for i, row in ipairs(rows) do
    list[i] = {}
    for key, value in pairs(row) do list[i][key] = value end
    if values[row[1]] ~= nil then list[i][2] = values[row[1]] end
  end
  return list
end

-- The script's own options that are not as the size has them: "--steps 500 (2000)".
local function changes_of(rows, given)
  local list = {}
  for _, row in ipairs(rows) do
    local value = given[row[1]]
    if value ~= nil and value ~= row[2] then
      list[#list + 1] = ("--%s %s%s"):format(row[1], tostring(value), row[2] and (" (%s)"):format(tostring(row[2])) or "")
    end
  end
  return list
end

-- Settings from the command line, or nil after --help.
local function settings_of(spec, argv)
  local rows = {}
  for _, row in ipairs(common_rows(spec)) do rows[#rows + 1] = row end
  for _, row in ipairs(spec.options or {}) do rows[#rows + 1] = row end
  local given = cli.parse(rows, argv)
  local size = M.size(given)
  local values = spec.sizes[size] or size == "quick" and {} or cli.fail(2, "--%s: %s has no such size", size, spec.name)
  rows = sized_rows(rows, values)
  if given.help then
    print(cli.help(("%s\nSource: %s. Values in brackets are those of --%s%s."):format(spec.about, spec.source, size,
      size == "quick" and "; --full --help shows the paper's" or ""), rows))
    return nil
  end
  local s = cli.settings(rows, values, given)
  s.size, s.seeds = size, M.seeds(s.seeds)
  s.changes, s.out = changes_of(sized_rows(spec.options or {}, values), given), s.out or "runs/reproduce/" .. spec.name
  s.options = {}
  for _, row in ipairs(spec.options or {}) do s.options[row[1]] = s[row[1]] end
  return s
end

-- Does what may fail by an option's value; the error names the option, not a line of the script.
local function by_option(name, action, ...)
  local ok, result = pcall(action, ...)
  if ok then return result end
  cli.fail(1, "--%s: %s", name, (tostring(result):gsub("^%S-:%d+: ", "")))
end

-- What depends on the machine.
local function settle(s)
  local mb = require "moonbow"
  local cores = require("bindings.process").cores()
  if s.device == "auto" then s.device = mb.device() end
  by_option("device", require("bindings.runtime").check_device, s.device)
  s.jobs = s.jobs or (s.device == "cuda" and 1 or cores)
  s.threads = s.threads or math.max(1, math.floor(cores / s.jobs))
  by_option("out", mb.system.make_folder, s.out)
  s.out, s.code = mb.system.absolute(s.out), s.code or require("moonbow.experiment.code").of(arg[0])
end

-- ----- runs ------------------------------------------------------------------------------------------------

-- The runs there are to make, with their keys; refuses two that cannot be told apart.
local function plan_of(spec, s)
  local records = require "moonbow.experiment.records"
  local plan, seen = spec.runs(s), {}
  for _, run in ipairs(plan) do
    run.key = records.key(run)
    if seen[run.key] then error(("experiment: two runs are the same: %s"):format(run.key), 0) end
    seen[run.key] = true
  end
  return plan
end

-- Runs of the plan that have no result yet.
local function missing(plan, found)
  local list = {}
  for _, run in ipairs(plan) do
    if not found[run.key] then list[#list + 1] = run end
  end
  return list
end

-- Of these runs, those whose name contains a text; there must be such in the plan.
local function chosen(runs, only, plan)
  local label = require("moonbow.experiment.records").label
  local function pick(list)
    local picked = {}
    for _, run in ipairs(list) do
      if label(run):find(only, 1, true) then picked[#picked + 1] = run end
    end
    return picked
  end
  if #pick(plan) == 0 then
    cli.fail(2, "--only %s: none of the %d runs has that in its name, such as '%s'", only, #plan, label(plan[1]))
  end
  return pick(runs)
end

-- What is said of results that are there and not used.
local function show_others(plan, others)
  local count = { code = 0, device = 0 }
  for _, run in ipairs(plan) do
    local why = others[run.key]
    if why then count[why] = count[why] + 1 end
  end
  if count.code > 0 then
    print(("%d results are of an earlier text of the script: they stay in results.jsonl and are made anew (--keep uses them)")
      :format(count.code))
  end
  if count.device > 0 then
    print(("%d results are of another device: they stay in results.jsonl and are not used"):format(count.device))
  end
end

-- Makes what is missing, in processes; returns the number of runs that failed, and whether it was interrupted.
local function make_all(spec, s, todo, found, total)
  local records = require "moonbow.experiment.records"
  local pool = require "moonbow.experiment.pool"
  local system = require "bindings.system"
  local cost = 0
  for _, run in ipairs(todo) do cost = cost + (run.cost or 1) end
  local progress = require("moonbow.experiment.progress").new {
    total = total, done = total - #todo, cost = cost, plain = s.plain, quiet = s.quiet }
  cli.before_error(function() progress:finish() end)
  local log, failed = records.open(s.out, s), 0
  system.interrupt_install()
  local all = pool.make(todo, {
    command = { arg[-1] or "luajit", arg[0], "--worker", tostring(system.process_id()) }, settings = s, jobs = s.jobs,
    on_share = function(run, share) progress:working(records.label(run), run.cost or 1, share) end,
    on_result = function(run, result, seconds)
      found[run.key] = log:write(run, result, seconds)
      progress:over(records.label(run), run.cost or 1, true)
    end,
    on_problem = function(run, problem)
      failed = failed + 1
      progress:over(records.label(run), run.cost or 1, false)
      progress:finish()
      io.stderr:write(("%s: %s failed: %s\n"):format(spec.name, records.label(run), problem))
    end,
  })
  progress:finish()
  log:close()
  return failed, not all
end

-- ----- what comes of it ------------------------------------------------------------------------------------

local function results_of(plan, found)
  local results = { by_name = {} }
  for _, run in ipairs(plan) do
    local record = found[run.key]
    results[#results + 1] = record
    results.by_name[run.name] = results.by_name[run.name] or {}
    table.insert(results.by_name[run.name], record)
  end
  return results
end

-- What a reader of the report must know of its runs.
local function add_notes(report, plan, found, s)
  local notes, old, lacking = {}, 0, #missing(plan, found)
  for _, run in ipairs(plan) do old = old + (found[run.key] and found[run.key].code ~= s.code and 1 or 0) end
  if s.changes and #s.changes > 0 then
    notes[1] = ("Not all is as --%s has it: %s."):format(s.size, table.concat(s.changes, ", "))
  end
  if old > 0 then
    notes[#notes + 1] = ("%d of %d results were made by an earlier text of the script (--keep)."):format(old, #plan)
  end
  if lacking > 0 then notes[#notes + 1] = ("%d of %d runs have no result."):format(lacking, #plan) end
  for _, note in ipairs(report.notes or {}) do notes[#notes + 1] = note end
  report.notes = notes
end

---Makes what is missing of an experiment's runs, and its report.
---@param spec moonbow.Experiment
---@param s table
---@return integer exit code
function M.execute(spec, s)
  settle(s)
  local system = require "bindings.system"
  local lock = by_option("out", system.lock, s.out .. "/lock")
  local found, kept, others = require("moonbow.experiment.records").read(s.out, s)
  local plan = plan_of(spec, s)
  local todo = missing(plan, found)
  if s.only then todo = chosen(todo, s.only, plan) end
  if not s.quiet then
    local old = kept > 0 and (" (%d results of these or other settings found)"):format(kept) or ""
    print(("%s: %d runs (%s), %d to make%s, %d at once, into %s"):format(spec.name, #plan, s.size, #todo, old,
      math.min(s.jobs, math.max(1, #todo)), s.out))
    show_others(plan, others)
  end
  local failed, interrupted = 0, false
  if #todo > 0 then failed, interrupted = make_all(spec, s, todo, found, #plan) end
  local lacking = #missing(plan, found)
  if interrupted then
    print(("interrupted: %d of %d runs are done; the same command goes on from here"):format(#plan - lacking, #plan))
    return 130
  end
  if lacking > 0 and not (spec.partial and lacking < #plan) then
    print(("%d of %d runs have no result%s; the report needs all: the same command makes the others"):format(lacking, #plan,
      failed > 0 and (", %d failed"):format(failed) or ""))
    return failed > 0 and 1 or 0
  end
  local report = spec.report(results_of(plan, found), s)
  add_notes(report, plan, found, s)
  local publish = require "moonbow.experiment.publish"
  publish.write(spec, s, report)
  publish.show(spec, s, report)
  system.unlock(lock)
  return lacking > 0 and 1 or 0
end

---Runs a script: all of the command line, or one of its worker processes.
---@param spec moonbow.Experiment
function M.main(spec)
  cli.main(spec.name, function()
    if arg[1] == "--worker" then return require("moonbow.experiment.worker").main(spec, tonumber(arg[2])) end
    local s = settings_of(spec, arg)
    return s and M.execute(spec, s) or 0
  end)
end

return M
