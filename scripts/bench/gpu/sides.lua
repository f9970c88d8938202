-- SPDX-License-Identifier: MIT
--
-- sides.lua: this library's side of bench/gpu.lua, in a process of its own: run(request) prints one JSON line.

local cjson = require "cjson"
local work = require "scripts.bench.gpu.work"

local M = {}

-- Seconds of each of `steps` calls after `warmup` more; what `restore` does between is not timed.
local function timed(mb, made, warmup, steps)
  for _ = 1, warmup do
    made.step()
    if made.restore then made.restore() end
  end
  local timer = mb.timer()
  for _ = 1, steps do
    timer:mark()
    made.step()
    if made.restore then
      timer:mark()
      made.restore()
    end
  end
  timer:mark()
  local all, seconds = timer:seconds(), {}
  for i = 1, #all, made.restore and 2 or 1 do seconds[#seconds + 1] = all[i] end
  return seconds
end

-- A step through mb.graph, if it works; and why not.
local function graphed(mb, made)
  local why
  made.step, why = work.captured(mb, made.step)
  if why then io.stderr:write("without a graph: ", why, "\n") end
  return why
end

local function train(mb, r)
  local made = work.train(mb, r.sizes, "bf16", r.more)
  local why = graphed(mb, made)
  mb.memory_reset_peak()
  local seconds = timed(mb, made, r.warmup, r.steps)
  local loss = made.step():item()
  return { seconds = seconds, peak_bytes = mb.memory("cuda").bytes_peak, no_graph = why, loss = loss == loss and loss or nil,
    peak = mb.device_info().peak.bf16 }
end

local function clip(mb, r)
  local made = work.clip(mb, r.sizes, r.rank, r.oversample, r.power_iters)
  local why = graphed(mb, made)
  return { seconds = timed(mb, made, r.warmup, r.steps), no_graph = why }
end

local function optimizer(name)
  return function(mb, r)
    local made = work.optimizer(mb, r.sizes, name)
    local why = graphed(mb, made)
    return { seconds = timed(mb, made, r.warmup, r.steps), no_graph = why }
  end
end

-- Parts of the time to the first step; the line "first step" tells the other process when that is.
local function startup(mb, r, parts)
  local start = mb.time()
  local function part(name)
    mb.synchronize()
    local now = mb.time()
    parts[#parts + 1], start = { name, now - start }, now
  end
  local made = work.train(mb, r.sizes, "bf16")
  part "model, optimizer, batch"
  made.step():item()
  part "first step"
  print "first step"
  io.stdout:flush()
  made.step():item()
  part "second step"
  return { parts = parts }
end

local function roofline(mb, r)
  local made = work.train(mb, r.sizes, "bf16")
  made.step()
  made.step()
  local report = mb.profile(made.step)
  return { text = tostring(report), report = report:totable() }
end

-- Whether there is a device at all.
local function probe() return {} end

local parts = { probe = probe, train = train, small = train, clip = clip, muon = optimizer "muon", adamw = optimizer "adamw",
                startup = startup, roofline = roofline }

function M.run(r)
  local opened = {}
  local mb = require "moonbow"
  local start = mb.time()
  mb.device "cuda"
  mb.synchronize()
  opened[1] = { "plugin, context", mb.time() - start }
  mb.seed(1)
  local answer = parts[r.part](mb, r, opened)
  answer.what, answer.gpu = "moonbow " .. mb.version, mb.device_info().name
  print(cjson.encode(answer))
  return 0
end

return M
