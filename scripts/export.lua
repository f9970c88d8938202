-- SPDX-License-Identifier: MIT
--
-- export.lua: a run's log as CSV.
--   luajit scripts/export.lua runs/mine                        steps.csv, matrices.csv and spectra.csv into the run's folder
--   luajit scripts/export.lua runs/mine --steps out.csv        one table, to a file of your choice
--   luajit scripts/export.lua runs/mine --matrices - | head    - is standard output

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../lua/?.lua;%s/../lua/?/init.lua;%s/../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"

local options = {
  { "run", nil, "folder of a run, or its log.jsonl; may stand first without --run", kind = "string", value = "PATH" },
  { "csv", nil, "as --steps", kind = "string", value = "FILE" },
  { "steps", nil, "a row a step: loss, val_loss, lr, grad_norm, ...", kind = "string", value = "FILE" },
  { "matrices", nil, "a row a step and matrix: sigma, tau, clipped", kind = "string", value = "FILE" },
  { "spectra", nil, "a row a singular value that was logged", kind = "string", value = "FILE" },
  { "quiet", false, "print errors only" },
}

-- Where each table goes: what was named, or all that have rows into the folder of the log.
local function places(settings, run)
  local list = {}
  for _, kind in ipairs { "steps", "matrices", "spectra" } do
    if settings[kind] then list[#list + 1] = { kind = kind, path = settings[kind] } end
  end
  if #list > 0 then return list end
  local folder = run.path:match "^(.*/)[^/]*$" or ""
  list[1] = { kind = "steps", path = folder .. "steps.csv" }
  if #run.matrices > 0 then list[#list + 1] = { kind = "matrices", path = folder .. "matrices.csv" } end
  if #run.spectra > 0 then list[#list + 1] = { kind = "spectra", path = folder .. "spectra.csv" } end
  return list
end

cli.main("export", function()
  local argv = { unpack(arg) }
  if argv[1] and argv[1]:sub(1, 1) ~= "-" then table.insert(argv, 1, "--run") end
  local settings = cli.settings(options, cli.parse(options, argv))
  if settings.help then
    print(cli.help("Writes a run's log as CSV: luajit scripts/export.lua RUN.", options))
    return 0
  end
  if not settings.run then cli.fail(2, "name the folder of a run (--help says more)") end
  if settings.csv and settings.steps then cli.fail(2, "--csv and --steps both name the table of steps; give one") end
  settings.steps = settings.steps or settings.csv
  require "moonbow"
  local export = require "moonbow.report.export"
  local writing = require "moonbow.io.writing"
  local run = require("moonbow.report.read").run(settings.run)
  for _, place in ipairs(places(settings, run)) do
    local rows
    if place.path == "-" then
      rows = export.write(run, place.kind, function(text) writing.standard_output(text, true) end)
      writing.standard_output ""
    else
      writing.whole_file(place.path, function(aside)
        writing.pieces(aside, function(put) rows = export.write(run, place.kind, put) end)
      end)
    end
    if not settings.quiet then io.stderr:write(("%s: %d rows of %s\n"):format(place.path, rows, place.kind)) end
  end
end)
