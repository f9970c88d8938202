-- SPDX-License-Identifier: MIT
--
-- recording.lua: a function that mb.graph captures, and what the host has to do at each replay of it. The device's work is
-- in graphs (bindings/graph.lua); optimizers, clippers and fused functions tell the rest while they are captured:
--
--   recording.host(fn, ...)      a part that must see results, or decides on what comes next: the graph ends before it, fn
--                                runs, now and at each replay, and another graph begins. Tables that it returns are replaced,
--                                where the captured function returns them, by those of the replay
--   recording.before(fn)         at each replay, before the graph is launched: numbers that have changed
--   recording.after(fn)          after each launch, that of the capture included: counters. Without a capture: now
--   recording.check(fn)          before a replay does anything: a text if the capture no longer holds
--   recording.renew(program, fn, n_sets)   fn() are the numbers, at each replay, of the program's last run
--   recording.renew_tau(plan, fn)  the same of a step of clipping by norms: fn() gives the plan its threshold
--   recording.replacing()        a function (old, new): what the captured one returns instead of `old` from now on
--
-- Outside of a capture these do nothing, but for host and after, which call their function. During a capture nothing has
-- been done yet: a capture that fails leaves everything of its graph as it was.

local create = require "bindings.create"
local graphs = require "bindings.graph"
local types = require "bindings.types"

local M = {}

local MOST_DEPTH = 8 -- of tables that are returned

---@class moonbow.Recording
---@field device string
---@field parts table[] in order: { graph, before, after } or { host, results }
---@field checks (fun(): string?)[]
---@field results table what the function has returned, with n
---@field fresh table<table, any> what is returned instead of a table
local Recording = {}
Recording.__index = Recording

local current ---@type moonbow.Recording?

local function pack(...) return { n = select("#", ...), ... } end

-- ----- capturing ----------------------------------------------------------------------------------------------

local function open(self)
  self.open = { graph = graphs.begin(types.device(self.device), self.sharing), before = {}, after = {} }
  self.first_stream = select(3, create.rng_get())
  self.sharing = self.open.graph
  current = self
end

local function launch(part)
  part.graph:launch()
  for i = 1, #part.after do part.after[i]() end
end

local function close(self)
  local part = self.open
  self.open, current = nil, nil
  local ok, problem = pcall(part.graph.finish, part.graph)
  if not ok then
    part.graph:release()
    error(problem, 0)
  end
  self.parts[#self.parts + 1] = part
  self.is_begun = true
  launch(part)
end

-- Gives up: what is noted is forgotten.
local function abandon(self)
  if self.open then self.open.graph:release() end
  self.open, current = nil, nil
end

---Captures a call, and makes it: what is returned is right as after any other call.
---@param device string
---@param sharing? moonbow.GraphHandle memory that may be used
---@param fn function
---@param ... any
---@return moonbow.Recording? recording nil after an error
---@return any problem the error
---@return boolean is_begun whether parts of the call were made before it
function M.capture(device, sharing, fn, ...)
  local self = setmetatable({ device = device, sharing = sharing, parts = {}, checks = {}, fresh = {}, is_begun = false },
                            Recording)
  open(self)
  local results = pack(pcall(fn, ...))
  local ok, problem = results[1], results[2]
  if ok then ok, problem = pcall(close, self) end
  if not ok then
    abandon(self)
    return nil, problem, self.is_begun
  end
  self.results = { n = results.n - 1, unpack(results, 2, results.n) }
  return self, nil, true
end

-- A value with what is fresh in it, in tables that are no objects: the value itself where nothing is.
local function renewed(value, fresh, depth)
  if type(value) ~= "table" then return value end
  if fresh[value] then return fresh[value] end
  if depth == MOST_DEPTH or getmetatable(value) then return value end
  local result = value
  for key, inner in pairs(value) do
    local other = renewed(inner, fresh, depth + 1)
    if other ~= inner then
      if result == value then
        result = {}
        for k, v in pairs(value) do result[k] = v end
      end
      result[key] = other
    end
  end
  return result
end

---What the function returns: of a replay, where it differs, in tables too.
---@return any
function Recording:returned()
  local values = { n = self.results.n }
  for i = 1, values.n do values[i] = renewed(self.results[i], self.fresh, 1) end
  return unpack(values, 1, values.n)
end

-- ----- replaying ----------------------------------------------------------------------------------------------

---Why the capture no longer holds, or nil.
---@return string?
function Recording:problem()
  for _, check in ipairs(self.checks) do
    local problem = check()
    if problem then return problem end
  end
end

---Whether gradients are as the capture found them.
---@return boolean
function Recording:fits() return self.parts[1].graph:fits() end

local function run_host(self, part)
  local results = pack(part.host())
  for i = 1, results.n do
    local old = part.results[i]
    if type(old) == "table" then self.fresh[old] = results[i] end
  end
end

---The call once more.
function Recording:replay()
  for _, part in ipairs(self.parts) do
    if part.host then
      run_host(self, part)
    else
      for i = 1, #part.before do part.before[i]() end
      launch(part)
    end
  end
end

---How many graphs it has; between them are parts of the host.
---@return integer
function Recording:count()
  local n = 0
  for _, part in ipairs(self.parts) do n = n + (part.graph and 1 or 0) end
  return n
end

-- ----- what is told during a capture ----------------------------------------------------------------------------

---Is a capture under way?
---@return boolean
function M.is_on() return current ~= nil end

---@param fn function
---@param ... any
---@return any what fn returns
function M.host(fn, ...)
  local self = current
  if not self then return fn(...) end
  local arguments = pack(...)
  local part = { host = function() return fn(unpack(arguments, 1, arguments.n)) end }
  close(self)
  part.results = pack(part.host())
  self.parts[#self.parts + 1] = part
  open(self)
  return unpack(part.results, 1, part.results.n)
end

---@param fn fun()
function M.before(fn)
  if current then table.insert(current.open.before, fn) end
end

---@param fn fun()
function M.after(fn)
  if current then table.insert(current.open.after, fn) else fn() end
end

---@param fn fun(): string?
function M.check(fn)
  if current then table.insert(current.checks, fn) end
end

---@param program moonbow.Program that was run just now
---@param fn fun(): number[] calls program:set_key too, if it draws random numbers
---@param n_sets integer of numbers that the run has
function M.renew(program, fn, n_sets)
  if not current then return end
  local graph = current.open.graph
  local site = graph:sites()
  M.before(function() graph:set_numbers(site, program, fn(), n_sets) end)
end

---@param plan moonbow.SpectralPlan that made a step just now
---@param fn fun()
function M.renew_tau(plan, fn)
  local graph = current.open.graph
  local site = graph:sites()
  M.before(function()
    fn()
    graph:set_tau(site, plan)
  end)
end

---A function that calls of after() replace a result by: replace(old, new).
---@return fun(old: table, new: any)
function M.replacing()
  local self = current
  return function(old, new) self.fresh[old] = new end
end

---The stream that the graph under way began at: what is drawn in it is counted from there.
---@return integer
function M.first_stream() return current.first_stream end

return M
