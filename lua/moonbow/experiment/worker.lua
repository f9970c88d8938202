-- SPDX-License-Identifier: MIT
--
-- worker.lua: the side of an experiment that makes runs: a process that gets one run after another from the pool (pool.lua)
-- and answers each. Lines of JSON, from the pool:
--   { settings }                    first, once
--   { index, run }                  a run to make
-- and to it:
--   { index, share }                how far it is
--   { index, result, seconds }      done
--   { index, problem }              failed: the text of the error
--   { index, stopped = true }       interrupted, after it has saved where it was
--
-- What the function that makes runs gets beside the run is a context:
--   context.settings                the script's settings
--   context:progress(share)         0 to 1; cheap enough for every step
-- and for runs that are long enough to be continued after an interruption
--   local step, books = context:resume(objects)
--                                          brings { model =, optimizer =, clip =, data = } to the last context:save(), and
--                                          says after which step that was, 0 at the beginning, and what was noted with it
--   context:log { step = 3, ... }          a record in OUT/runs/RUN.jsonl; those after the last save go at a resume
--   context:history()                      all records so far
--   context:save(step, books)              a checkpoint of the objects; `books` are plain values, such as sums so far
--   if context:interrupted() then context:save(step, books) return nil end

local process = require "bindings.process"
local records = require "moonbow.experiment.records"
local system = require "bindings.system"

local M = {}

-- ----- context ------------------------------------------------------------------------------------------

---@class moonbow.experiment.Context
---@field settings table
local Context = {}
Context.__index = Context

-- Name of a run's own files: what it is called, and a hash of all that it is.
local function file_name(run)
  local slug = records.label(run):gsub("[^%w%.%-]+", "_")
  return ("%s-%s"):format(slug:sub(1, 60), system.sha256(records.key(run)):sub(1, 8))
end

---@param settings table
---@param run moonbow.Run
---@param tell fun(share: number)
function M.context(settings, run, tell)
  return setmetatable({ settings = settings, run = run, tell = tell, told = -math.huge, started = system.time() }, Context)
end

function Context:progress(share)
  local now = system.time()
  if now - self.told < 0.2 then return end
  self.told = now
  self.tell(math.max(0, math.min(1, share)))
end

local function own_path(self)
  system.make_folder(self.settings.out .. "/runs")
  return ("%s/runs/%s"):format(self.settings.out, file_name(self.run))
end

-- What a checkpoint must have been made by to be gone on from.
local function made_by(settings)
  return { code = not settings.keep and settings.code or nil, device = settings.device }
end

---@param objects { model?: table, optimizer?: table, clip?: table, data?: table }
---@return integer step
---@return table? books
function Context:resume(objects)
  local checkpoint = require "moonbow.io.checkpoint"
  system.interrupt_install()
  self.path, self.objects, self.saved = own_path(self), objects, 0
  local steps, books = 0, nil
  if system.path_kind(self.path) == "folder" then
    local parts = { config = made_by(self.settings) }
    for name, object in pairs(objects) do parts[name] = object end
    local ok, found = pcall(checkpoint.load, self.path, parts)
    if ok then
      steps, books = found.step, found.config.books
      self.started = self.started - (found.config.seconds or 0)
    else
      io.stderr:write(("%s: begun again: %s\n"):format(records.label(self.run), tostring(found)))
      system.remove(self.path)
    end
  end
  self.saved = steps
  self.logger = require("moonbow.io.jsonl").open(self.path .. ".jsonl", { resume_after = steps })
  return steps, books
end

function Context:log(record) self.logger:write(record) end

---@return table[] records in order
function Context:history()
  local list = {}
  for line in io.lines(self.path .. ".jsonl") do list[#list + 1] = records.decode(line) end
  return list
end

---@param step integer steps done
---@param books? table plain values that resume() brings back
function Context:save(step, books)
  if step == self.saved or step < 1 then return end
  local config = made_by(self.settings)
  config.code, config.books, config.seconds = self.settings.code, books, self:seconds()
  local parts = { step = step, keep = 1, config = config }
  for name, object in pairs(self.objects) do parts[name] = object end
  require("moonbow.io.checkpoint").save(self.path, parts)
  self.saved = step
end

---@return number seconds that the run has taken, those before an interruption with them
function Context:seconds() return system.time() - self.started end

function Context:interrupted() -- luacheck: ignore 212/self
  return system.interrupted() ~= 0
end

-- The checkpoint of a run that is over.
local function clean(self)
  if self.logger then self.logger:close() end
  if self.path and system.path_kind(self.path) == "folder" then system.remove(self.path) end
end

-- ----- making runs --------------------------------------------------------------------------------------

---Makes one run, and says what is to be answered.
---@param spec moonbow.Experiment
---@param settings table
---@param run moonbow.Run
---@param tell fun(share: number)
---@return table answer { result, seconds }, { problem } or { stopped }
function M.make(spec, settings, run, tell)
  local context = M.context(settings, run, tell)
  local ok, result = xpcall(function() return spec.make(run, context) end, function(problem)
    io.stderr:write(debug.traceback(records.label(run) .. ": " .. tostring(problem)), "\n")
    return tostring(problem)
  end)
  if not ok then return { problem = result } end
  if result == nil and context:interrupted() then return { stopped = true } end
  if type(result) ~= "table" then return { problem = "the run gave no result" } end
  local can_be_sent, problem = pcall(records.encode, result, "the result")
  if not can_be_sent then return { problem = problem } end
  clean(context)
  return { result = result, seconds = context:seconds() }
end

---Body of a worker process.
---@param spec moonbow.Experiment
---@param parent integer process id of the pool
---@return integer exit code
function M.main(spec, parent)
  if not process.end_with_parent(parent) then return 1 end
  local channel, settings = process.inherited_channel(), nil
  while true do
    local line = channel:receive(true)
    local message = line and records.decode(line)
    if not message then return 0 end
    if message.settings then
      settings = message.settings
      if spec.prepares ~= false then M.prepare(settings) end
    else
      local index = message.index
      local answer = M.make(spec, settings, message.run, function(share)
        channel:send(records.encode { index = index, share = share })
      end)
      answer.index = index
      channel:send(records.encode(answer))
      require("moonbow").collect()
      if answer.stopped then return 0 end
    end
  end
end

---Device and threads, as the settings say.
function M.prepare(settings)
  local mb = require "moonbow"
  mb.threads(settings.threads)
  mb.device(settings.device)
end

return M
