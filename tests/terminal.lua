-- SPDX-License-Identifier: MIT
--
-- terminal.lua: a terminal for tests: a program under tmux, keys for it, and waiting until its screen shows something. Nothing
-- sleeps for a fixed time; what does not come within the deadline fails with the screen.
--
--   local t = terminal.open("luajit scripts/repl.lua", { width = 100, height = 30 })
--   t:type "1 + 1"   t:key "Enter"   t:wait "2"   t:close()

local M = {}
local Terminal = {}
Terminal.__index = Terminal

local DEADLINE = 60 -- seconds
local opened = 0

local function quoted(s) return "'" .. s:gsub("'", "'\\''") .. "'" end

---@return boolean
function M.is_there() return os.execute "command -v tmux >/dev/null 2>&1" == 0 end

local function tmux(self, arguments)
  local pipe = assert(io.popen(("tmux -u -L %s -f /dev/null %s 2>&1"):format(self.name, arguments)))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

---@param command string
---@param o { width: integer, height: integer, folder: string, environment?: string } folder: its home
function M.open(command, o)
  opened = opened + 1
  local system = require "bindings.system"
  local self = setmetatable({ name = ("moonbow_%d_%d"):format(system.process_id(), opened) }, Terminal)
  -- A Ctrl-C of the program's reaches the shell too.
  local script = ("trap : INT; cd %s && %s HOME=%s TERM=screen-256color %s; echo \"ended with $?\"; sleep 1000"):format(
    quoted(o.folder), o.environment or "", quoted(o.folder), command)
  local said = tmux(self, ("new-session -d -x %d -y %d sh -c %s"):format(o.width, o.height, quoted(script)))
  if said ~= "" then error("tmux: " .. said) end
  return self
end

---Types text as it is.
function Terminal:type(text) tmux(self, "send-keys -l -- " .. quoted(text)) end

---Presses keys by tmux's names: "Enter", "C-c", "Up".
function Terminal:key(...) tmux(self, "send-keys " .. table.concat({ ... }, " ")) end

---Types a line and ends it.
function Terminal:line(text)
  self:type(text)
  self:key "Enter"
end

---What is on the screen, and above it.
---@return string
function Terminal:screen() return tmux(self, "capture-pane -p -S -200") end

---Waits until the screen shows `text`, `times` times at least.
---@param text string
---@param times? integer
---@return string screen
function Terminal:wait(text, times)
  local until_when = os.time() + DEADLINE
  while true do
    local screen, count, at = self:screen(), 0, 1
    while true do
      local _, last = screen:find(text, at, true)
      if not last then break end
      count, at = count + 1, last + 1
    end
    if count >= (times or 1) then return screen end
    if os.time() > until_when then
      error(("'%s' did not come; the screen is\n%s"):format(text, (screen:gsub("%s+$", ""))), 2)
    end
    os.execute "sleep 0.05"
  end
end

function Terminal:close() tmux(self, "kill-server") end

return M
