-- SPDX-License-Identifier: MIT
--
-- graph.lua: mb.graph(fn): a function whose work on the device is captured once and replayed from then on, without the time
-- that the host takes to give it: a whole training step in one launch.
--
--   local step = mb.graph(function(batch)
--     optimizer:zero_grad()
--     local loss = model:loss(batch)
--     loss:backward()
--     optimizer:step(clip)
--     return loss
--   end)
--   for i = 1, 1000 do
--     mb.set_step(i)
--     local loss = step(data:batch())
--   end
--
-- The first two calls run as they are: programs are compiled then, algorithms chosen, buffers made. The third is captured, and
-- launched; later ones are launched alone. Every call gives what a plain one gives, to the bit: random numbers go on, schedules
-- are asked, counters advance, opt.lr may be set.
--
-- Lua runs at the capture only: what it decides, and numbers that it computes with, stay as they were then, except in
-- optimizers and clippers of this library. Tensors among the arguments are copied to where the captured ones are; for other
-- shapes, or other values of other arguments, another graph is captured. Results are the same tensors each time: a call of the
-- function overwrites those of the last one. What needs results on the host in between (clippers with a threshold in Lua,
-- optimizers that check their gradients) ends one graph and begins another by itself.
--
-- Refused in a capture: item() and its like, tensors from Lua's numbers, decompositions by cuSOLVER. The error says what it is.
-- On the CPU the function is run as it is. tostring(step) says which it was, step:graphs() how many graphs there are;
-- step:lend(fn, ...) runs fn, an evaluation between two steps, in the memory that they leave free.

local create = require "moonbow.create"
local graphs = require "bindings.graph"
local handle = require "bindings.handle"
local options = require "moonbow.options"
local recording = require "moonbow.recording"
local types = require "bindings.types"

local MOST_VARIANTS, MOST_LAPSES = 4, 3
local MOST_KINDS = 64 -- that are not captured
local MOST_DEPTH = 64 -- of tables among the arguments

---@class moonbow.Graphed
---@field fn function
---@field kinds table<string, table> by the arguments: { calls, inputs, variants }
---@field note? string why the last call was not a replay, where it might have been
---@field over? string why arguments of some kind are captured no more
---@field nothing_done? boolean whether the capture that failed last had done nothing
local Graphed = {}
Graphed.__index = Graphed

-- ----- arguments ----------------------------------------------------------------------------------------------

-- A text that is another where another graph is needed.
local kind_of

local function kind_of_table(value, depth)
  if depth > MOST_DEPTH then options.fail("mb.graph: a table among the arguments holds itself") end
  local texts = {}
  for key, inner in pairs(value) do texts[#texts + 1] = kind_of(key, depth) .. "=" .. kind_of(inner, depth) end
  table.sort(texts)
  return "{" .. table.concat(texts, ",") .. "}"
end

function kind_of(value, depth)
  if types.is_tensor(value) then
    return ("%s%s"):format(value.dtype, types.shape_text(value.shape))
  elseif type(value) == "table" then
    return kind_of_table(value, depth + 1)
  elseif type(value) == "string" then
    return ("%q"):format(value)
  end
  return type(value) .. ":" .. (type(value) == "number" and ("%.17g"):format(value) or tostring(value))
end

-- The same value with tensors of its own on the device.
local function own(value, device)
  if types.is_tensor(value) then
    if value.requires_grad then
      options.fail("mb.graph: an argument requires a gradient, which its copy in the graph would not be; name it in the function")
    end
    return handle.keep(create.zeros(value.shape, { dtype = value.dtype, device = device }))
  elseif type(value) ~= "table" then
    return value
  end
  local result = {}
  for key, inner in pairs(value) do result[key] = own(inner, device) end
  return setmetatable(result, getmetatable(value))
end

local function fill(to, from)
  if types.is_tensor(to) then
    to:copy_(from.device == to.device and from or from:to(to.device))
  elseif type(to) == "table" then
    for key, inner in pairs(to) do fill(inner, from[key]) end
  end
end

-- ----- calls --------------------------------------------------------------------------------------------------

local function plainly(self, kind, ...)
  kind.calls = kind.calls + 1
  return handle.scope(self.fn, ...)
end

local function capture(self, kind)
  local made, problem, is_begun = recording.capture(self.device, self.last and self.last.sharing, function()
    return handle.scope(self.fn, unpack(kind.inputs, 1, kind.n))
  end)
  if not made then
    self.nothing_done = not is_begun
    error(problem, 0)
  end
  handle.keep(made.results)
  if #kind.variants == 0 then self.fresh_kinds = self.fresh_kinds - 1 end
  table.insert(kind.variants, made)
  self.last = made
  return made:returned()
end

-- A capture that holds, or nil; those that do not are forgotten.
local function variant_of(self, kind)
  for i, made in ipairs(kind.variants) do
    if made:fits() then
      local problem = made:problem()
      if not problem then return made end
      table.remove(kind.variants, i)
      self.note, kind.lapses, kind.calls = problem, kind.lapses + 1, self.warm_up - 1
      if kind.lapses == MOST_LAPSES then self.over = problem end
      return nil
    end
  end
end

-- A kind for arguments not seen before. Where each call has others, those that were never captured are forgotten.
local function new_kind(self, n)
  self.fresh_kinds = self.fresh_kinds + 1
  if self.fresh_kinds > MOST_KINDS then
    for key, kind in pairs(self.kinds) do
      if #kind.variants == 0 then self.kinds[key] = nil end
    end
    self.fresh_kinds = 1
    self.note = "nearly every call has other arguments; a number or an array that changes can be a tensor"
  end
  return { calls = 0, variants = {}, lapses = 0, n = n }
end

function Graphed:__call(...)
  self.nothing_done = nil
  local arguments = { n = select("#", ...), ... }
  local texts = { ("%s %s"):format(tostring(graphs.grad_mode()), graphs.marks()) }
  for i = 1, arguments.n do texts[i + 1] = kind_of(arguments[i], 0) end
  local key = table.concat(texts, ";")
  local kind = self.kinds[key]
  if not kind then
    kind = new_kind(self, arguments.n)
    self.kinds[key] = kind
  end
  local made = variant_of(self, kind)
  if not made and (kind.calls < self.warm_up or #kind.variants == MOST_VARIANTS or kind.lapses >= MOST_LAPSES) then
    return plainly(self, kind, ...)
  end
  kind.inputs = kind.inputs or own(arguments, self.device)
  fill(kind.inputs, arguments)
  if not made then return capture(self, kind) end
  self.replays, kind.lapses = self.replays + 1, 0
  made:replay()
  return made:returned()
end

local function give_back(graph, ok, ...)
  graph:lend(false)
  if not ok then error((...), 0) end
  return ...
end

---Runs fn(...) with its tensors in the memory that the graph leaves free between its launches: what is evaluated between steps
---then needs none of its own. Tensors that outlive it are overwritten by the next call of the graphed function.
---@param fn function
---@param ... any
---@return any what fn returns
function Graphed:lend(fn, ...)
  local graph = self.last and self.last.sharing
  if not graph then return fn(...) end
  graph:lend(true)
  return give_back(graph, pcall(fn, ...))
end

---How many graphs have been captured, with their parts.
---@return integer
function Graphed:graphs()
  local n = 0
  for _, kind in pairs(self.kinds) do
    for _, made in ipairs(kind.variants) do n = n + made:count() end
  end
  return n
end

function Graphed:__tostring()
  local n = self:graphs()
  if n == 0 then return self.note and "graphed function, run plainly: " .. self.note or "graphed function, not captured yet" end
  return ("graphed function: %d graph%s, replayed %d times"):format(n, n == 1 and "" or "s", self.replays)
end

-- The same on the CPU, which has no graphs.
local Plain = {}
Plain.__index = Plain

function Plain:__call(...) return self.fn(...) end
function Plain.lend(_, fn, ...) return fn(...) end
function Plain.graphs() return 0 end
function Plain.__tostring() return "graphed function, run plainly: the cpu has no graphs" end

---@class moonbow.GraphOptions
---@field warm_up? integer calls that run plainly before the capture; default 2

--- The function in the form that runs fastest on mb.device(): captured as a graph where the device can, as it is on the CPU.
---@generic F: function
---@param fn F
---@param given? moonbow.GraphOptions
---@return F
return function(fn, given)
  options.value("mb.graph", "the argument", fn, { type = "function" })
  local o = options.check("mb.graph", given, { warm_up = { type = "integer", default = 2, min = 1 } })
  local device = create.device()
  if device == "cpu" then return setmetatable({ fn = fn }, Plain) end
  return setmetatable({ fn = fn, device = device, warm_up = o.warm_up, kinds = {}, fresh_kinds = 0, replays = 0 }, Graphed)
end
