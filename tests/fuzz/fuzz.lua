-- SPDX-License-Identifier: MIT
--
-- fuzz.lua: fuzzes a reader that is written in Lua, over the engine as MOONBOW_LIB has it (run.sh: with the address sanitizer).
--   luajit tests/fuzz/fuzz.lua TARGET SECONDS [SEED]     from tests/fuzz/corpus/TARGET and inputs by the target's grammar
--   luajit tests/fuzz/fuzz.lua TARGET replay FILE...     inputs once more, and a few hundred by the grammar
--   luajit tests/fuzz/fuzz.lua TARGET coverage COUNT     lines of the reader that so many inputs reach, and those that none does
-- A target has generate(random) -> input, check(input, path) -> what was said, and perhaps mutate(random, input, other).
--
-- An input must give a value or one error of the library: one line, no longer than an error may be, within bounds of memory and
-- time that grow with the input. Whatever is said for the first time makes the input one that others are made from. The input
-- that runs lies in a file until the next: what ends the process is there to be looked at. The same seed makes the same inputs.

local random = require "tests.fuzz.random"

local SECONDS, LUA_BYTES, TENSOR_BYTES, ERROR_BYTES = 4, 4e6, 1e6, 1500
local KEPT, POOL = "build/fuzz", 4000

local name = assert(arg[1], "the name of a target is missing: json, jsonl, safetensors, events")
local target = require("tests.fuzz.targets." .. name)
local mb = require "moonbow"

-- Errors of the library carry no place in these files, those of Lua itself do.
local status = require "bindings.status"
status.add_library(debug.getinfo(1, "S").source)
status.add_library(debug.getinfo(target.check, "S").source)

local memory = os.getenv "TMPDIR" or mb.system.path_kind "/dev/shm" == "folder" and "/dev/shm" or "/tmp"
local path = ("%s/moonbow_fuzz_%s_%d"):format(memory, name, mb.system.process_id())

local function write(to, text)
  local file = assert(io.open(to, "wb"))
  file:write(text)
  file:close()
end

local function read(from)
  local file = assert(io.open(from, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local function corpus()
  local folder, list = "tests/fuzz/corpus/" .. name, {}
  if mb.system.path_kind(folder) == "folder" then
    for _, file in ipairs(mb.system.list(folder)) do list[#list + 1] = read(folder .. "/" .. file) end
  end
  return list
end

-- ----- one input ----------------------------------------------------------------------------------------

local function is_clean(problem)
  return type(problem) == "string" and not problem:find "%.lua:%d+:" and not problem:find "[%c\127]" and #problem < ERROR_BYTES
end

-- What was said without what belongs to this input: names and numbers.
local function kind_of(said)
  return (said:gsub("'.*'", "''"):gsub("%d+", "0"):gsub("byte 0x%x+", "byte"):sub(1, 200))
end

-- Runs the reader: true and what it said, or false and what is wrong with that.
local function try(input)
  write(path, input)
  collectgarbage "stop"
  mb.memory_reset_peak()
  local live, heap, clock = mb.memory().bytes_live, collectgarbage "count", os.clock()
  local ok, said = pcall((target.scope or function(fn) return fn() end), function() return target.check(input, path) end)
  local seconds, lua_bytes = os.clock() - clock, (collectgarbage "count" - heap) * 1024
  collectgarbage "restart"
  local tensor_bytes = mb.memory().bytes_peak - live
  local fault
  if not ok and not is_clean(said) then fault = tostring(said) end
  if ok and not is_clean(said) then fault = "what was said is no clean line: " .. tostring(said) end
  if seconds > SECONDS then fault = ("it took %.1f seconds"):format(seconds) end
  if not debug.gethook() and lua_bytes > LUA_BYTES + 400 * #input then fault = ("it took %.0f bytes of Lua"):format(lua_bytes) end
  local most = TENSOR_BYTES + (target.most_tensor_bytes and target.most_tensor_bytes(input) or 0)
  if tensor_bytes > most then fault = ("it took %.0f bytes of tensors"):format(tensor_bytes) end
  return not fault, fault or said
end

local function must_pass(input, what)
  local ok, said = try(input)
  if ok then return said end
  mb.system.make_folder(KEPT)
  local kept = ("%s/%s-%s"):format(KEPT, name, mb.system.sha256(input):sub(1, 16))
  write(kept, input)
  io.stderr:write(("%s: %s: %s\nthe input is %s\n"):format(name, what, said, kept))
  os.remove(path)
  os.exit(1)
end

local function input_of(seed, execution, pool)
  local r = random.new(seed, execution)
  if #pool == 0 or r:once_in(3) then return target.generate(r) end
  return (target.mutate or random.mutate)(r, r:pick(pool), r:pick(pool))
end

-- ----- what the command line asks for ---------------------------------------------------------------------

-- Runs inputs until `enough(execution)`; returns how many, how many different answers, and how often each was said.
local function run(seed, enough)
  local pool, said, kinds, execution = corpus(), {}, 0, 0
  while not enough(execution) do
    execution = execution + 1
    local input = input_of(seed, execution, pool)
    local kind = kind_of(must_pass(input, ("seed %d, execution %d"):format(seed, execution)))
    if not said[kind] then
      kinds = kinds + 1
      if #pool < POOL then pool[#pool + 1] = input end
    end
    said[kind] = (said[kind] or 0) + 1
    if execution % 200 == 0 then mb.collect() end
  end
  return execution, kinds, said
end

local function replay(files)
  for _, file in ipairs(files) do must_pass(read(file), file) end
  local count = run(1, function(execution) return execution >= 400 end)
  print(("%d inputs of the corpus, %d made from them"):format(#files, count))
end

local function fuzz(seconds, seed)
  local started, shown = mb.time(), 0
  local count, kinds, said = run(seed, function(execution)
    if execution % 64 ~= 0 then return false end
    local now = mb.time() - started
    if now - shown > 60 then
      shown = now
      print(("%s: %d executions in %.0f seconds"):format(name, execution, now))
      io.stdout:flush()
    end
    return now >= seconds
  end)
  local list = {}
  for kind in pairs(said) do list[#list + 1] = kind end
  table.sort(list, function(a, b) return said[a] > said[b] end)
  for i = 1, math.min(#list, 60) do print(("%9d  %s"):format(said[list[i]], list[i])) end
  print(("%s: seed %d, %d executions in %.0f seconds, %d different answers, no fault"):format(name, seed, count,
    mb.time() - started, kinds))
end

-- Lines of a file's functions that hold code, by their bytecode.
local function lines_of(file)
  local util, lines = require "jit.util", {}
  local function walk(fn)
    local info = util.funcinfo(fn)
    for pc = 1, type(fn) == "proto" and info.bytecodes - 1 or 0 do lines[util.funcinfo(fn, pc).currentline] = true end
    for k = -1, -info.gcconsts, -1 do
      local constant = util.funck(fn, k)
      if type(constant) == "proto" then walk(constant) end
    end
  end
  walk(assert(loadfile(file)))
  return lines
end

local function coverage(count)
  jit.off()
  jit.flush()
  local hit = {}
  for _, file in ipairs(target.sources) do hit[file] = {} end
  debug.sethook(function(_, line)
    local source = debug.getinfo(2, "S").source
    for _, file in ipairs(target.sources) do
      if source:sub(-#file) == file then hit[file][line] = true end
    end
  end, "l")
  run(1, function(execution) return execution >= count end)
  debug.sethook()
  for _, file in ipairs(target.sources) do
    local all, reached, missed = 0, 0, {}
    for line in pairs(lines_of(file)) do
      all = all + 1
      if hit[file][line] then reached = reached + 1 else missed[#missed + 1] = line end
    end
    table.sort(missed)
    print(("%s: %d of %d lines; not %s"):format(file, reached, all, table.concat(missed, " ")))
  end
end

if arg[2] == "replay" then
  replay { unpack(arg, 3) }
elseif arg[2] == "coverage" then
  coverage(tonumber(arg[3]) or 20000)
else
  fuzz(tonumber(arg[2]) or 60, tonumber(arg[3]) or 1)
end
os.remove(path)
