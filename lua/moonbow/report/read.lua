-- SPDX-License-Identifier: MIT
--
-- read.lua: reads the log of a training run, as job.lua writes it, line by line: of any length, of a run that was resumed,
-- stopped, or still goes on. What is not such a log is an error of one line that names the file and the line.
--
--   local run = require("moonbow.report.read").run "runs/default-20260101-120000"
--   run.name, run.path, run.config, run.build, run.version
--   run.data                         { sha256, train_tokens, val_tokens, vocab_size }: what it was trained on, if the log says it
--   run.steps                        of updates, ascending; beside it, in the same order, arrays
--   run.loss, run.grad_norm, run.lr, run.time_ms, run.tokens, run.clip_rate (share of matrices, or 0 and 1), run.tau
--   run.matrices                     array of { name, sigma, tau, clipped }, the last three arrays as above; also by name
--   run.val                          { steps, loss }
--   run.spectra                      array of { step, of, matrices = { [name] = { shape, norm, exact, sigma } } }
--   run.samples, run.skipped         arrays of { step, text }; run.nonfinite is one, where the run stopped for that
--   run.others                       array of { name, steps, values }: numbers that other scripts logged
--   run.notes                        what was odd, as texts
--   run.state                        "finished", "stopped", "running" or "unfinished"
-- A number that is missing, or was logged as "NaN", "Infinity" or null, is NaN or an infinity.
-- A log that goes back to an earlier step counts from there anew: a step is there once.

local cjson = require "cjson"
local json = require "moonbow.io.json"
local options = require "moonbow.options"
local system = require "bindings.system"

local M = {}

local NAN = 0 / 0
local PIECE = 2 ^ 20
local LONGEST = 64 * 2 ^ 20 -- of a line, bytes
local MOST_NAMES = 20000 -- of matrices, and of other numbers

local known = { step = true, loss = true, val_loss = true, grad_norm = true, lr = true, time_ms = true, tokens = true,
  clipped = true, tau = true }
local scalars = { "loss", "grad_norm", "lr", "time_ms", "tokens", "tau" }
local words = { NaN = NAN, Infinity = math.huge, ["-Infinity"] = -math.huge }

local function fail(place, message, ...)
  error({ text = ("%s:%d: %s"):format(place.path, place.line, message:format(...)) }, 0)
end

-- The number that a JSON value stands for, or nil.
local function number_of(value)
  if type(value) == "number" then return value end
  if value == json.null or value == cjson.null then return NAN end
  return words[value]
end

local function number(place, value, what)
  if value == nil then return NAN end
  return number_of(value) or fail(place, "%s is %s, not a number", what, options.describe(value))
end

-- ----- lines ----------------------------------------------------------------------------------------------

-- Iterates over the lines of a file: number, text, whether it is ended.
local function lines_of(file, path)
  local buffer, at, count, ended = "", 1, 0, false
  return function()
    local stop = buffer:find("\n", at, true)
    while not stop and not ended do
      buffer, at = buffer:sub(at), 1
      if #buffer > LONGEST then
        fail({ path = path, line = count + 1 }, "the line is longer than %d MiB; this is not a run's log", LONGEST / 2 ^ 20)
      end
      local seen, piece = #buffer, file:read(PIECE)
      if piece then buffer = buffer .. piece else ended = true end
      stop = buffer:find("\n", seen + 1, true)
    end
    count = count + 1
    if stop then
      local line = buffer:sub(at, stop - 1)
      at = stop + 1
      return count, line, true
    end
    local rest = buffer:sub(at)
    buffer, at = "", 1
    if rest ~= "" then return count, rest, false end
  end
end

local quick = cjson.new()
quick.decode_invalid_numbers(false)
quick.decode_max_depth(100)

-- A line's value, or nil and what is wrong. An object that lua-cjson can read it reads, many times as fast; what is wrong with
-- others json.lua says better.
local function decode(line)
  if line:byte() == 123 then
    local ok, record = pcall(quick.decode, line)
    if ok then return record end
  end
  return json.decode(line)
end

-- ----- records --------------------------------------------------------------------------------------------

local function last(list) return list[#list] end

-- Removes what was logged after a step.
local function cut_back(run, step)
  local function cut(steps, ...)
    while #steps > 0 and last(steps) > step do
      for _, list in ipairs { ... } do list[#steps] = nil end
      steps[#steps] = nil
    end
  end
  local before = #run.steps
  local parallel = { run.clip_rate }
  for _, name in ipairs(scalars) do parallel[#parallel + 1] = run[name] end
  cut(run.steps, unpack(parallel))
  for _, m in ipairs(run.matrices) do
    for i = #run.steps + 1, before do m.sigma[i], m.tau[i], m.clipped[i] = nil, nil, nil end
  end
  cut(run.val.steps, run.val.loss)
  for _, other in ipairs(run.others) do cut(other.steps, other.values) end
  for _, list in ipairs { run.spectra, run.samples, run.skipped } do
    while #list > 0 and last(list).step > step do list[#list] = nil end
  end
  if run.nonfinite and run.nonfinite.step > step then run.nonfinite = nil end
  return before - #run.steps
end

-- The entry of a name in a list, made if it is not there.
local function entry(place, list, name, make)
  local found = list[name]
  if not found then
    if #list >= MOST_NAMES then fail(place, "there are more than %d names; this is not a run's log", MOST_NAMES) end
    found = make(name)
    list[#list + 1], list[name] = found, found
  end
  return found
end

local function new_matrix(name) return { name = name, sigma = {}, tau = {}, clipped = {} } end

-- Fills an array with NaN up to `count` values.
local function pad(list, count)
  for i = #list + 1, count do list[i] = NAN end
end

local function add_matrices(place, run, rows, i)
  if type(rows) ~= "table" then fail(place, "clip.sigma_tau_clipped is %s, not an object", options.describe(rows)) end
  for name, row in pairs(rows) do
    if type(name) ~= "string" or type(row) ~= "table" or #row < 2 then
      fail(place, "clip.sigma_tau_clipped of '%s' is %s, not [sigma, tau, clipped]", name, options.describe(row))
    end
    local m = entry(place, run.matrices, name, new_matrix)
    pad(m.sigma, i - 1)
    pad(m.tau, i - 1)
    pad(m.clipped, i - 1)
    m.sigma[i] = number(place, row[1], "sigma of " .. name)
    m.tau[i] = row[2] and number(place, row[2], "tau of " .. name) or NAN
    m.clipped[i] = number(place, row[3], "clipped of " .. name)
  end
end

local function add_step(place, run, record)
  local step, i = record.step, #run.steps + 1
  run.steps[i] = step
  for _, name in ipairs(scalars) do run[name][i] = number(place, record[name], name) end
  run.clip_rate[i] = NAN
  if type(record.clip) == "table" then
    local clipped = number(place, record.clip.clipped, "clip.clipped")
    local matrices = number(place, record.clip.matrices, "clip.matrices")
    run.clip_rate[i] = matrices > 0 and clipped / matrices or NAN
    if record.clip.sigma_tau_clipped then add_matrices(place, run, record.clip.sigma_tau_clipped, i) end
  elseif type(record.clipped) == "boolean" then
    run.clip_rate[i] = record.clipped and 1 or 0
  end
end

local function add_spectra(place, run, record)
  local s = record.spectra
  local fine = type(s) == "table" and type(s.matrices) == "table"
  for name, m in pairs(fine and s.matrices or {}) do
    fine = fine and type(name) == "string" and type(m) == "table" and type(m.sigma) == "table"
    for _, value in ipairs(fine and m.sigma or {}) do fine = fine and number_of(value) ~= nil end
    if not fine then break end
    for k, value in ipairs(m.sigma) do m.sigma[k] = number_of(value) end
  end
  if not fine then fail(place, "spectra are not { matrices = { name = { sigma = [...] } } }") end
  run.spectra[#run.spectra + 1] = { step = record.step, of = tostring(s.of or "grad"), matrices = s.matrices }
end

local function add_text(place, list, record, key)
  local text = record[key]
  if type(text) ~= "string" then fail(place, "%s is %s, not a text", key, options.describe(text)) end
  list[#list + 1] = { step = record.step, text = text }
end

-- A record that begins a run, or goes on with it.
local function add_config(place, run, record)
  if type(record.config) ~= "table" then fail(place, "config is %s, not an object", options.describe(record.config)) end
  if #run.steps > 0 or run.config_step then
    local lost = cut_back(run, record.step)
    run.notes[#run.notes + 1] = ("resumed after step %d%s"):format(record.step,
      lost > 0 and (", %d later steps in the log are left out"):format(lost) or "")
  end
  run.config, run.config_step = record.config, record.step
  run.data = type(record.data) == "table" and type(record.data.sha256) == "string" and record.data or nil
  run.build, run.version = tostring(record.build or ""), tostring(record.version or "")
end

-- The step that a record has to come after; going back means that the run was begun again from there.
local function check_order(run, record)
  local newest = last(run.steps) or -1
  local goes_back = record.loss ~= nil and record.step <= newest or record.step < newest
  if not goes_back then return end
  local lost = cut_back(run, record.step - 1)
  run.notes[#run.notes + 1] = ("the log goes back to step %d, %d later steps in it are left out"):format(record.step, lost)
end

local function add_others(place, run, record)
  for _, name in ipairs(options.keys(record)) do
    local value = not known[name] and number_of(record[name])
    if value then
      local other = entry(place, run.others, name, function(key) return { name = key, steps = {}, values = {} } end)
      other.steps[#other.steps + 1], other.values[#other.values + 1] = record.step, value
    end
  end
end

local function add_record(place, run, record)
  if record.step == nil then
    if place.line == 1 then fail(place, "the first record has no step; this is not a run's log") end
    run.without_step = (run.without_step or 0) + 1
    return
  end
  local step = record.step
  if type(step) ~= "number" or step % 1 ~= 0 or step < 0 or step > 2 ^ 53 then
    fail(place, "step is %s, not a whole number from 0 on", options.describe(step))
  end
  if record.config ~= nil then return add_config(place, run, record) end
  check_order(run, record)
  if record.loss ~= nil then add_step(place, run, record) end
  if record.val_loss ~= nil then
    run.val.steps[#run.val.steps + 1] = step
    run.val.loss[#run.val.loss + 1] = number(place, record.val_loss, "val_loss")
  end
  if record.spectra ~= nil then add_spectra(place, run, record) end
  if record.sample ~= nil then add_text(place, run.samples, record, "sample") end
  if record.skipped ~= nil then add_text(place, run.skipped, record, "skipped") end
  if record.nonfinite ~= nil then
    local list = {}
    add_text(place, list, record, "nonfinite")
    run.nonfinite = list[1]
  end
  add_others(place, run, record)
end

-- ----- runs -----------------------------------------------------------------------------------------------

-- "h.10" comes after "h.9".
local function natural(name)
  return (name:gsub("%d+", function(digits) return ("%09d"):format(digits:sub(-9)) end))
end

-- Whether a process trains in the folder of a log.
local function is_locked(log)
  local lock = (log:match "^(.*/)[^/]*$" or "") .. "lock"
  if system.path_kind(lock) ~= "file" then return false end
  local ok, held = pcall(system.lock, lock)
  if ok then system.unlock(held) end
  return not ok and tostring(held):find("is locked by", 1, true) ~= nil
end

local function complete(run)
  for _, m in ipairs(run.matrices) do
    pad(m.sigma, #run.steps)
    pad(m.tau, #run.steps)
    pad(m.clipped, #run.steps)
  end
  table.sort(run.matrices, function(a, b) return natural(a.name) < natural(b.name) end)
  table.sort(run.others, function(a, b) return a.name < b.name end)
  if run.without_step then
    run.notes[#run.notes + 1] = ("%d records without a step are left out"):format(run.without_step)
  end
  local planned, newest = run.config.steps, last(run.steps)
  run.state = "unfinished"
  if run.nonfinite then
    run.state = "stopped"
  elseif newest and newest == last(run.val.steps) and (type(planned) ~= "number" or newest >= planned) then
    run.state = "finished"
  elseif is_locked(run.path) then
    run.state = "running"
  elseif type(planned) == "number" and planned > (newest or 0) then
    run.notes[#run.notes + 1] = ("%d of %d steps are in the log: the run goes on, or was ended early"):format(newest or 0,
      planned)
  end
end

local function log_path(path)
  local kind = system.path_kind(path)
  if kind == "none" then options.fail("%s: there is no such file or folder", path) end
  if kind ~= "folder" then return path end
  local inside = path:gsub("/+$", "") .. "/log.jsonl"
  if system.path_kind(inside) ~= "file" then options.fail("%s: the folder holds no log.jsonl; is it a run's?", path) end
  return inside
end

---Reads a run.
---@param path string its folder, or its log
---@return table run see the head of this file
function M.run(path)
  local log = log_path(path)
  local run = { path = log, name = log:match "([^/]+)/log%.jsonl$" or log:match "([^/]+)$", config = {}, build = "", version = "",
    steps = {}, clip_rate = {}, matrices = {}, val = { steps = {}, loss = {} }, spectra = {}, samples = {}, skipped = {},
    others = {}, notes = {} }
  for _, name in ipairs(scalars) do run[name] = {} end
  local file, problem = io.open(log, "rb")
  if not file then options.raise(tostring(problem)) end
  local place, records = { path = log, line = 0 }, 0
  local ok, trouble = pcall(function()
    for count, line, ended in lines_of(file, log) do
      place.line = count
      if line:find "%S" then
        local record, wrong = decode(line)
        if not ended and record == nil then
          run.notes[#run.notes + 1] = ("line %d is cut off and left out: it was being written then"):format(count)
        elseif record == nil then
          fail(place, "%s", wrong)
        elseif type(record) ~= "table" or record == json.null or getmetatable(record) == json.array then
          fail(place, "%s, not an object; this is not a run's log", options.describe(record))
        else
          add_record(place, run, record)
          records = records + 1
        end
      end
    end
  end)
  file:close()
  if not ok then options.raise(type(trouble) == "table" and trouble.text or tostring(trouble)) end
  if records == 0 then options.fail("%s: the log is empty", log) end
  complete(run)
  return run
end

return M
