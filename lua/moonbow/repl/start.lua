-- SPDX-License-Identifier: MIT
--
-- start.lua: from the command line of scripts/repl.lua to a prompt, and to its end.

local cli = require "moonbow.cli"
local editor = require "moonbow.repl.editor"
local repls = require "moonbow.repl"
local system = require "bindings.system"

local function greet(repl)
  if not repl.is_interactive then return end
  local mb = require "moonbow"
  repl:say(("moonbow %s on %s; :help, demo(), Ctrl-D leaves"):format(mb.version, mb.device()))
end

-- A run's folder or a script. What fails in a script leaves a prompt to look around at.
local function open(repl, settings, path, ...)
  local kind = system.path_kind(path)
  if kind == "none" then cli.fail(2, "'%s' is neither a script nor the folder of a run", path) end
  if kind == "file" then return repl:load(path, ...) end
  if select("#", ...) > 0 then cli.fail(2, "'%s' after the folder of a run: one thing at a time", (...)) end
  repl.training:open(path, settings)
end

---@param settings table options of the command line
---@param rest string[] what to open, and its arguments
---@return integer exit code
return function(settings, rest)
  local mb = require "moonbow"
  if settings.threads then mb.threads(settings.threads) end
  if settings.device ~= "auto" then mb.device(settings.device) end
  if settings.seed then mb.seed(settings.seed) end
  local history = not settings.no_history and (settings.history or editor.default_history()) or nil
  local repl = repls.new { history = history, plain = settings.plain }
  -- os.exit within the session ends it as leaving does.
  local leave = os.exit
  os.exit = function(code, ...) -- luacheck: ignore 122
    repl:close()
    leave(code, ...)
  end
  greet(repl)
  if rest[1] then open(repl, settings, unpack(rest)) end
  local code = repl:loop()
  os.exit = leave -- luacheck: ignore 122
  return code
end
