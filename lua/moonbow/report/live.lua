-- SPDX-License-Identifier: MIT
--
-- live.lua: progress of a run. On a terminal one line on stderr is rewritten in place; elsewhere plain
-- lines go to stdout at a lower rate, so that logs can be searched.

local format = require "moonbow.report.format"

local M = {}
local Live = {}
Live.__index = Live

---@class moonbow.report.LiveOptions
---@field steps integer
---@field plain? boolean force plain lines
---@field quiet? boolean print nothing
---@field every? integer steps between plain lines (default: steps / 20, at least 1)
---@field system table bindings.system
---@field label? string

---@param options moonbow.report.LiveOptions
function M.new(options)
  local system = options.system
  local dumb = os.getenv("TERM") == "dumb"
  return setmetatable({
    steps = options.steps,
    quiet = options.quiet,
    system = system,
    rewrites = not options.plain and not options.quiet and not dumb and system.is_terminal(2),
    every = options.every or math.max(1, math.floor(options.steps / 20)),
    started = system.time(),
    shown = -math.huge,
    rate = nil,
  }, Live)
end

local function fields(self, s)
  local list = { ("step %d/%d"):format(s.step, self.steps), ("loss %.4f"):format(s.loss) }
  if s.val_loss then list[#list + 1] = ("val %.4f"):format(s.val_loss) end
  list[#list + 1] = ("lr %.2e"):format(s.lr)
  list[#list + 1] = ("norm %.3g"):format(s.grad_norm)
  if s.clipped then
    local clip = ("clip %d/%d"):format(s.clipped, s.matrices)
    if (s.saturated or 0) > 0 then clip = clip .. (" (%d saturated)"):format(s.saturated) end
    list[#list + 1] = clip
  end
  if s.top_name then list[#list + 1] = ("σ₁ %.3g %s"):format(s.top_sigma, s.top_name) end
  list[#list + 1] = ("%s tok/s"):format(format.count(s.tokens_per_second))
  list[#list + 1] = ("eta %s"):format(format.duration(s.eta))
  return list
end

---Shows one step. `s`: step, loss, val_loss?, lr, grad_norm, clipped?, matrices?, saturated?, top_sigma?,
---top_name?, tokens_per_second, eta.
function Live:step(s)
  if self.quiet then return end
  local now = self.system.time()
  if self.rewrites then
    if now - self.shown < 0.1 and s.step < self.steps then return end
    self.shown = now
    local line, width = "", self.system.terminal_width(2) - 1
    local used = 0
    for i, field in ipairs(fields(self, s)) do
      local columns = #field - select(2, field:gsub("[\128-\191]", "")) + (i > 1 and 3 or 0)
      if used + columns > width then break end
      line = line .. (i > 1 and " | " or "") .. field
      used = used + columns
    end
    io.stderr:write("\r", line, "\27[K")
    io.stderr:flush()
    self.dirty = true
  elseif s.step % self.every == 0 or s.step == 1 or s.step == self.steps or s.important then
    print(table.concat(fields(self, s), " | "))
    io.stdout:flush()
  end
end

-- Takes the live line away, so that something else can stand there.
local function clear(self)
  if not self.dirty then return end
  io.stderr:write("\r\27[K")
  io.stderr:flush()
  self.dirty = false
end

---Prints lines that stay, above the live line.
function Live:say(...)
  if self.quiet then return end
  clear(self)
  print(...)
  io.stdout:flush()
end

---Prints a part of a text that stays; the next step's line must not come before the text has ended with a line break.
---@param text string
function Live:write(text)
  if self.quiet then return end
  clear(self)
  io.stdout:write(text)
  io.stdout:flush()
end

---Ends the live line, keeping what it shows last.
function Live:finish()
  if self.dirty then
    io.stderr:write("\n")
    io.stderr:flush()
    self.dirty = false
  end
end

return M
