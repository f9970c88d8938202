-- SPDX-License-Identifier: MIT
--
-- progress.lua: how far an experiment is: runs done of all, which are at work, and when it will be over, from the cost of
-- the runs finished since the start and of what the others report of themselves. On a terminal one line on stderr is
-- rewritten; elsewhere a plain line goes to stdout now and then.

local format = require "moonbow.report.format"
local system = require "bindings.system"

local M = {}
local Progress = {}
Progress.__index = Progress

local PLAIN_EVERY = 15 -- seconds

---@param o { total: integer, done: integer, cost: number, plain?: boolean, quiet?: boolean } runs, those found done, and the
---  cost of the others
function M.new(o)
  return setmetatable({
    total = o.total, done = o.done, cost = o.cost, paid = 0, at_work = {}, quiet = o.quiet, started = system.time(),
    shown = -math.huge,
    rewrites = not o.plain and not o.quiet and os.getenv "TERM" ~= "dumb" and system.is_terminal(2),
  }, Progress)
end

---A run is at work: `share` of it is done.
---@param label string
---@param cost number
---@param share number
function Progress:working(label, cost, share)
  self.at_work[label] = { cost = cost, share = share }
  self:show()
end

---A run is over; `counts` if it has a result.
function Progress:over(label, cost, counts)
  self.at_work[label] = nil
  self.paid = self.paid + cost
  if counts then self.done = self.done + 1 end
  self:show()
end

-- Seconds left, or NaN as long as nothing is known.
local function left(self, now)
  local paid = self.paid
  for _, run in pairs(self.at_work) do paid = paid + run.cost * run.share end
  return paid > 0 and (now - self.started) * (self.cost - paid) / paid or 0 / 0
end

local function line_of(self, now)
  local names = {}
  for label, run in pairs(self.at_work) do
    names[#names + 1] = run.share > 0 and ("%s %d %%"):format(label, math.floor(100 * run.share)) or label
  end
  table.sort(names)
  return ("%d/%d runs | %s left%s"):format(self.done, self.total, format.duration(left(self, now)),
    #names > 0 and " | " .. table.concat(names, ", ") or "")
end

function Progress:show()
  local now = system.time()
  if self.quiet or now - self.shown < (self.rewrites and 0.1 or PLAIN_EVERY) then return end
  self.shown = now
  local line = line_of(self, now)
  if self.rewrites then
    io.stderr:write("\r", line:sub(1, system.terminal_width(2) - 1), "\27[K")
    io.stderr:flush()
    self.dirty = true
  else
    print(line)
    io.stdout:flush()
  end
end

---Prints a line that stays.
function Progress:say(text)
  if self.quiet then return end
  self:finish()
  print(text)
  io.stdout:flush()
end

---Takes the live line away.
function Progress:finish()
  if self.dirty then io.stderr:write("\r\27[K") end
  self.dirty = false
end

return M
