-- SPDX-License-Identifier: MIT
--
-- sweep.lua: what scripts/sweep.lua is made of: values to try, from texts of the command line; one run of a script with some of
-- them, in a process of its own; and the number that it is judged by.
--
--   --grid lr=1e-3,3e-3              these values; several grids are combined, each value with each
--   --random lr=log:1e-4:0.1         drawn, evenly on a logarithmic axis; uniform:LOW:HIGH, int:LOW:HIGH, choice:A,B,C likewise
--
-- A script is anything that luajit runs and that tells its options with --help, has --out FOLDER, and logs records with the
-- metric in FOLDER/log.jsonl, as train_gpt2.lua does, or ends with a line "METRIC VALUE".

local cli = require "moonbow.cli"
local options = require "moonbow.options"
local process = require "bindings.process"
local records = require "moonbow.experiment.records"
local system = require "bindings.system"
local writing = require "moonbow.io.writing"

local M = {}

local NAN = 0 / 0
local DIVERGED = 3 -- exit code of a script whose loss or gradients are not finite any more

-- ----- values ---------------------------------------------------------------------------------------------

local function words(text, separator)
  local list = {}
  for word in (text .. separator):gmatch("([^" .. separator .. "]*)" .. separator) do list[#list + 1] = word end
  return list
end

-- "name=rest", split.
local function named(option, text)
  local name, rest = text:match "^%-*([%w_]+)=(.+)$"
  if not name then cli.fail(2, "--%s %s: NAME=... was expected", option, text) end
  return name, rest
end

---@param text string "lr=1e-3,3e-3"
---@return { name: string, values: string[] }
function M.grid(text)
  local name, rest = named("grid", text)
  local values, seen = words(rest, ","), {}
  for _, value in ipairs(values) do
    if value == "" then cli.fail(2, "--grid %s: an empty value", text) end
    if seen[value] then cli.fail(2, "--grid %s: %s is there twice", text, value) end
    seen[value] = true
  end
  return { name = name, values = values }
end

-- A drawn number as it stands in a command line: of so few digits that it can be typed again.
local function short(x) return ("%.5g"):format(x) end

local draws = {
  log = function(low, high) return short(low * (high / low) ^ math.random()) end,
  uniform = function(low, high) return short(low + (high - low) * math.random()) end,
  int = function(low, high) return ("%d"):format(math.random(low, high)) end,
}

---@param text string "lr=log:1e-4:0.1", "n_layer=int:1:6", "dropout=uniform:0:0.2", "optimizer=choice:sgd,adamw"
---@return { name: string, kind: string, draw: fun(): string }
function M.random(text)
  local name, rest = named("random", text)
  local kind, range = rest:match "^(%a+):(.+)$"
  if kind == "choice" then
    local values = words(range, ",")
    for _, value in ipairs(values) do
      if value == "" then cli.fail(2, "--random %s: an empty value", text) end
    end
    return { name = name, kind = kind, draw = function() return values[math.random(#values)] end }
  end
  if not draws[kind] then
    cli.fail(2, "--random %s: %s=log:LOW:HIGH, uniform:LOW:HIGH, int:LOW:HIGH or choice:A,B,C was expected", text, name)
  end
  local low, high = range:match "^([^:]+):([^:]+)$"
  low, high = tonumber(low), tonumber(high)
  if not (low and high) or low > high or (kind == "log" and low <= 0) or (kind == "int" and (low % 1 ~= 0 or high % 1 ~= 0)) then
    cli.fail(2, "--random %s: two numbers%s were expected, the smaller one first", text,
      kind == "log" and " above 0" or kind == "int" and " without a fraction" or "")
  end
  return { name = name, kind = kind, draw = function() return draws[kind](low, high) end }
end

---All combinations of the grids' values, each with `count` draws of the random ones, and each once: what has been drawn
---already is left out. One seed, always the same draws.
---@param grids { name: string, values: string[] }[]
---@param randoms { name: string, draw: fun(): string }[]
---@param count integer
---@param seed integer
---@return table<string, string>[] settings by name
function M.combinations(grids, randoms, count, seed)
  local list = { {} }
  for _, grid in ipairs(grids) do
    local longer = {}
    for _, before in ipairs(list) do
      for _, value in ipairs(grid.values) do
        local one = { [grid.name] = value }
        for key, old in pairs(before) do one[key] = old end
        longer[#longer + 1] = one
      end
    end
    list = longer
  end
  if #randoms == 0 then return list end
  math.randomseed(seed)
  local drawn, seen = {}, {}
  for _ = 1, count do
    for _, before in ipairs(list) do
      local one = {}
      for key, old in pairs(before) do one[key] = old end
      for _, random in ipairs(randoms) do one[random.name] = random.draw() end
      local name = M.name_of(one)
      if not seen[name] then drawn[#drawn + 1], seen[name] = one, true end
    end
  end
  return drawn
end

---"lr=0.001 threshold=0.5", names in order.
---@param values table<string, string>
function M.name_of(values)
  local parts = {}
  for i, name in ipairs(options.keys(values)) do parts[i] = name .. "=" .. values[name] end
  return table.concat(parts, " ")
end

-- ----- scripts --------------------------------------------------------------------------------------------

local function read(path)
  local file = io.open(path, "rb")
  if not file then return "" end
  local text = file:read "*a"
  file:close()
  return text
end

---Names of the options that a script tells with --help.
---@param luajit string
---@param script string
---@param folder string for the output
---@return table<string, boolean>
function M.options_of(luajit, script, folder)
  local log = folder .. "/help.txt"
  if system.path_kind(log) == "file" then system.remove(log) end
  local child = process.spawn({ luajit, script, "--help" }, { log = log })
  local ended = child:wait()
  child.channel:close()
  local text, names = read(log), {}
  if ended.code ~= 0 then cli.fail(1, "--script %s: --help failed: %s", script, text:sub(1, 300)) end
  system.remove(log)
  for name in text:gmatch "\n%s*%-%-([%w_]+)" do names[name] = true end
  return names
end

---The metric in a run's folder: of its log the last value or the best one, else what a line of its output ends with.
---@param folder string
---@param metric string
---@param pick "last"|"least"|"most"
---@return number? value nil if there is none
function M.metric(folder, metric, pick)
  local found
  if system.path_kind(folder .. "/log.jsonl") == "file" then
    for line in io.lines(folder .. "/log.jsonl") do
      local record = line:find('"' .. metric .. '"', 1, true) and records.decode(line)
      local value = type(record) == "table" and record[metric]
      if type(value) == "number" then
        if pick == "last" or found == nil or found ~= found then found = value
        elseif pick == "least" and value < found or pick == "most" and value > found then found = value end
      end
    end
  end
  if found then return found end
  for line in read(folder .. "/output.txt"):gmatch "[^\n]+" do
    local name, value = line:match "^%s*([%w_]+)[%s:=]+(%S+)%s*$"
    if name == metric then found = tonumber(value) or found end
  end
  return found
end

-- What of a run's log could be a metric: "loss, val_loss".
local function fields_of(folder)
  local fields = {}
  for line in read(folder .. "/log.jsonl"):gmatch "[^\n]+" do
    local record = records.decode(line)
    for name, value in pairs(type(record) == "table" and record or {}) do
      if type(value) == "number" then fields[name] = true end
    end
  end
  return #options.keys(fields) > 0 and table.concat(options.keys(fields), ", ") or "none"
end

-- The command line of a run, which goes on from a checkpoint where there is one.
local function command_of(o, folder, seed)
  local argv = { o.luajit, o.script }
  local function add(name, value)
    if value ~= nil then argv[#argv + 1] = ("--%s=%s"):format(name, tostring(value)) end
  end
  local begun = false
  for _, name in ipairs(system.path_kind(folder) == "folder" and system.list(folder) or {}) do
    begun = begun or name:find "^step_%d+$" ~= nil
  end
  if begun and o.knows.resume then
    add("resume", folder)
  else
    if system.path_kind(folder) == "folder" then system.remove(folder) end
    add("out", folder)
    for _, name in ipairs(options.keys(o.values)) do
      if o.values[name] == "true" then argv[#argv + 1] = "--" .. name else add(name, o.values[name]) end
    end
    if seed then add("seed", seed) end
  end
  if o.knows.threads and not o.values.threads then add("threads", o.threads) end
  if o.knows.device and not o.values.device then add("device", o.device) end
  if o.knows.plain then argv[#argv + 1] = "--plain" end
  return argv
end

-- What a run's output ends with, but for the lines of a traceback and what cli.lua may add to an error, "script: ..." after
-- "script: ...".
local function last_line(folder)
  local last, script = "it said nothing", nil
  for line in read(folder .. "/output.txt"):gmatch "[^\n]+" do
    local before = script
    script = line:match "^[%w_]+: "
    if not line:find "^%s" and not line:find "^stack traceback" and not (script and script == before) then last = line end
  end
  return last
end

-- Runs the script in its folder; returns its exit code, or nil if it was interrupted. FOLDER/ended keeps the code of one that
-- has come to its end, so that another metric of it needs no further run.
local function exit_code_of(o, folder, seed)
  local ended = tonumber(read(folder .. "/ended"))
  if ended then return ended end
  local command = command_of(o, folder, seed)
  system.make_folder(folder)
  local child, told = process.spawn(command, { log = folder .. "/output.txt" }), false
  repeat
    process.wait_any({ child.channel }, 0.2)
    child.channel:receive()
    if child.channel.closed then child:wait() end
    if system.interrupted() ~= 0 and not told then
      child:kill(process.TERM)
      told = true
    end
  until child:poll()
  child.channel:close()
  local status = child:wait()
  if told then return nil end
  if status.code == 0 or status.code == DIVERGED then
    writing.whole_file(folder .. "/ended", function(aside) writing.text(aside, status.code .. "\n") end)
    return status.code
  end
  error(("%s: %s: %s"):format(o.script, status.code and "exit code " .. status.code or "signal " .. status.signal,
    last_line(folder)), 0)
end

---Runs a script once, unless it has run to its end in that folder.
---@param o { luajit: string, script: string, knows: table<string, boolean>, values: table<string, string>, threads?: integer,
---  device?: string, metric: string, pick: string }
---@param folder string
---@param seed? integer
---@return table? result { value }, NaN if it diverged; nil if it was interrupted
function M.run(o, folder, seed)
  system.interrupt_install()
  local code = exit_code_of(o, folder, seed)
  if not code then return nil end
  if code == DIVERGED then return { value = NAN } end
  local value = M.metric(folder, o.metric, o.pick)
  if not value then
    error(("there is no '%s' in %s/log.jsonl (numbers there: %s), nor a line that says it in output.txt"):format(o.metric, folder,
      fields_of(folder)), 0)
  end
  return { value = value }
end

return M
