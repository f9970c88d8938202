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
-- folder is not made again. They and the results travel as JSON. Runs see nothing of each other, and take their seed from
-- run.seed. What a run can do beside is in worker.lua: progress, a log, checkpoints for long ones.
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
    { "plain", false, "no live line, plain lines instead" },
    { "quiet", false, "print errors and the verdicts only" },
  }
end

---The numbers of a text such as "11,12,13"; what is none ends the script.
---@param text string
---@return integer[]
function M.seeds(text)
  local seeds = {}
  for word in text:gmatch "[^,]+" do
    local seed = tonumber(word)
    if not seed or seed % 1 ~= 0 or seed < 0 or seed > 2 ^ 53 then
      cli.fail(2, "--seeds: '%s' is no whole number from 0", word)
    end
    seeds[#seeds + 1] = seed
  end
  if #seeds == 0 then cli.fail(2, "--seeds %s: there is none", text) end
  return seeds
end

-- Settings from the command line, or nil after --help.
local function settings_of(spec, argv)
  local rows = {}
  for _, row in ipairs(common_rows(spec)) do rows[#rows + 1] = row end
  for _, row in ipairs(spec.options or {}) do rows[#rows + 1] = row end
  local given = cli.parse(rows, argv)
  if given.help then
    print(cli.help(("%s\nSource: %s."):format(spec.about, spec.source), rows))
    return nil
  end
  local size
  for _, name in ipairs { "smoke", "quick", "full" } do
    if given[name] and size then cli.fail(2, "--%s and --%s: one of them", size, name) end
    if given[name] then size = name end
  end
  local s = cli.settings(rows, spec.sizes[size or "quick"] or {}, given)
  s.size, s.seeds = size or "quick", M.seeds(given.seeds or spec.sizes[size or "quick"].seeds or s.seeds)
  s.out = s.out or "runs/reproduce/" .. spec.name
  return s
end

-- What depends on the machine.
local function settle(s)
  local mb = require "moonbow"
  local cores = require("bindings.process").cores()
  if s.device == "auto" then s.device = mb.device() end
  s.jobs = s.jobs or (s.device == "cuda" and 1 or cores)
  s.threads = s.threads or math.max(1, math.floor(cores / s.jobs))
  mb.system.make_folder(s.out)
  s.out = mb.system.absolute(s.out)
end

-- ----- runs ------------------------------------------------------------------------------------------------

-- Runs of the plan that have no result yet; refuses two that cannot be told apart.
local function missing(plan, found, only)
  local records = require "moonbow.experiment.records"
  local list, seen = {}, {}
  for _, run in ipairs(plan) do
    run.key = records.key(run)
    if seen[run.key] then error(("experiment: two runs are the same: %s"):format(run.key), 0) end
    seen[run.key] = true
    if not found[run.key] and (not only or records.label(run):find(only, 1, true)) then list[#list + 1] = run end
  end
  return list
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
  local log, failed = records.open(s.out), 0
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
  for i, run in ipairs(plan) do
    local record = found[run.key]
    results[i] = record
    results.by_name[run.name] = results.by_name[run.name] or {}
    table.insert(results.by_name[run.name], record)
  end
  return results
end

---Makes what is missing of an experiment's runs, and its report.
---@param spec moonbow.Experiment
---@param s table
---@return integer exit code
function M.execute(spec, s)
  settle(s)
  local system = require "bindings.system"
  local lock = system.lock(s.out .. "/lock")
  local found, kept = require("moonbow.experiment.records").read(s.out)
  local plan = spec.runs(s)
  local todo = missing(plan, found, s.only)
  if not s.quiet then
    local old = kept > 0 and (" (%d results of these or other settings found)"):format(kept) or ""
    print(("%s: %d runs (%s), %d to make%s, %d at once, into %s"):format(spec.name, #plan, s.size, #todo, old,
      math.min(s.jobs, math.max(1, #todo)), s.out))
  end
  local failed, interrupted = 0, false
  if #todo > 0 then failed, interrupted = make_all(spec, s, todo, found, #plan) end
  local lacking = #missing(plan, found)
  if interrupted then
    print(("interrupted: %d of %d runs are done; the same command goes on from here"):format(#plan - lacking, #plan))
    return 130
  end
  if lacking > 0 then
    print(("%d of %d runs have no result%s; the report needs all: the same command makes the others"):format(lacking, #plan,
      failed > 0 and (", %d failed"):format(failed) or ""))
    return failed > 0 and 1 or 0
  end
  local report = spec.report(results_of(plan, found), s)
  local publish = require "moonbow.experiment.publish"
  publish.write(spec, s, report)
  publish.show(spec, s, report)
  system.unlock(lock)
  return 0
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
