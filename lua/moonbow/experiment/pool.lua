-- SPDX-License-Identifier: MIT
--
-- pool.lua: makes an experiment's runs in several worker processes (worker.lua), each of which takes one run after
-- another: starting a process costs more than a small run. A worker that dies is reported with the last lines it wrote,
-- its run is given up until the next start, and a new worker takes its place. Ctrl-C ends all workers; those that
-- save where they are get the time for it.

local process = require "bindings.process"
local records = require "moonbow.experiment.records"
local system = require "bindings.system"

local M = {}

local PATIENCE = 120 -- seconds that interrupted workers have to save

---@class moonbow.experiment.PoolOptions
---@field command string[] how a worker is started
---@field settings table what the workers get
---@field jobs integer processes
---@field on_share fun(run: moonbow.Run, share: number)
---@field on_result fun(run: moonbow.Run, result: table, seconds: number)
---@field on_problem fun(run: moonbow.Run, problem: string)

---@class moonbow.experiment.Pool
local Pool = {}
Pool.__index = Pool

-- The last lines of a file, indented.
local function last_lines(path, count)
  local lines = {}
  local file = io.open(path, "rb")
  if not file then return "" end
  for line in file:lines() do lines[#lines + 1] = "  | " .. line end
  file:close()
  return table.concat(lines, "\n", math.max(1, #lines - count + 1))
end

local signals = { [2] = "SIGINT", [6] = "SIGABRT", [7] = "SIGBUS", [9] = "SIGKILL, perhaps for memory",
  [11] = "SIGSEGV", [15] = "SIGTERM" }

local function how_it_died(ended)
  if ended.signal then
    return ("was ended by signal %d%s"):format(ended.signal, signals[ended.signal] and " (" .. signals[ended.signal] .. ")" or "")
  end
  return ("ended with code %d"):format(ended.code)
end

-- The next run of the queue for a worker, or no more.
local function give(self, worker)
  local run = table.remove(self.queue, 1)
  if not run then
    worker.process.channel:close() -- it ends by itself
    worker.finished = true
    return
  end
  worker.index, worker.run = (worker.index or 0) + 1, run
  self.o.on_share(run, 0)
  worker.process.channel:send(records.encode { index = worker.index, run = run })
end

local function start(self)
  self.started = self.started + 1
  local log = ("%s/worker-%d.log"):format(self.o.settings.out, self.started)
  if system.path_kind(log) == "file" then system.remove(log) end
  local worker = { process = process.spawn(self.o.command, { log = log }), log = log }
  worker.process.channel:send(records.encode { settings = self.o.settings })
  self.workers[#self.workers + 1] = worker
  give(self, worker)
end

local function hear(self, worker, message)
  local run = worker.run
  if message.share then return self.o.on_share(run, message.share) end
  worker.run = nil
  if message.stopped then
    worker.finished = true
  else
    if message.result then self.o.on_result(run, message.result, message.seconds)
    else self.o.on_problem(run, message.problem) end
    if not self.stopping then give(self, worker) end
  end
end

-- A worker whose channel has ended.
local function bury(self, worker)
  local ended = worker.process:wait()
  worker.process.channel:close()
  if worker.run and not self.stopping then
    self.o.on_problem(worker.run, ("its process %s; its last lines, from %s:\n%s"):format(how_it_died(ended), worker.log,
      last_lines(worker.log, 5)))
  elseif system.path_kind(worker.log) == "file" and system.path_size(worker.log) == 0 then
    system.remove(worker.log)
  end
end

local function tell_all_to_end(self)
  self.stopping, self.until_time = true, system.time() + PATIENCE
  for _, worker in ipairs(self.workers) do worker.process:kill(process.TERM) end
end

-- One round: hears what the workers say, and puts others in the place of those that are gone.
local function turn(self)
  local channels, living = {}, {}
  for i, worker in ipairs(self.workers) do channels[i] = worker.process.channel end
  process.wait_any(channels, 0.2)
  for _, worker in ipairs(self.workers) do
    local channel = worker.process.channel
    local line = channel:receive()
    while line do
      hear(self, worker, records.decode(line))
      line = not worker.finished and channel:receive() or nil
    end
    if channel.closed then bury(self, worker) else living[#living + 1] = worker end
  end
  self.workers = living
  while not self.stopping and #self.workers < self.o.jobs and #self.queue > 0 do start(self) end
end

---Makes all runs.
---@param runs moonbow.Run[] in the order they are begun
---@param o moonbow.experiment.PoolOptions
---@return boolean all false if it was interrupted
function M.make(runs, o)
  local self = setmetatable({ o = o, queue = { unpack(runs) }, workers = {}, started = 0 }, Pool)
  local ok, problem = pcall(function()
    for _ = 1, math.min(o.jobs, #runs) do start(self) end
    while #self.workers > 0 do
      turn(self)
      if system.interrupted() ~= 0 and not self.stopping then tell_all_to_end(self) end
      if self.stopping and system.time() > self.until_time then break end
    end
  end)
  for _, worker in ipairs(self.workers) do
    worker.process:kill(process.KILL)
    worker.process:wait()
  end
  if not ok then error(problem, 0) end
  return not self.stopping
end

return M
