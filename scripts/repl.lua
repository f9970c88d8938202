-- SPDX-License-Identifier: MIT
--
-- repl.lua: a prompt for training by hand: look, change, step, look again.
--   luajit scripts/repl.lua                                   then demo(), and step(100)
--   luajit scripts/repl.lua runs/default-20260101-120000      a run of train_gpt2.lua, after its newest checkpoint
--   luajit scripts/repl.lua mine.lua [its arguments]          runs a script, whose globals are there afterwards
-- docs/repl.md is a walk through it.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../lua/?.lua;%s/../lua/?/init.lua;%s/../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"

local options = {
  { "device", "auto", "where to compute", choices = { "auto", "cpu", "cuda" } },
  { "threads", nil, "threads of the CPU backend [all cores]", kind = "integer", min = 1, max = 4096 },
  { "seed", nil, "of the random numbers", kind = "integer", min = 0, max = 2 ^ 53 },
  { "history", nil, "where typed lines are kept [~/.local/state/moonbow/history]", kind = "string", value = "FILE" },
  { "no_history", false, "keep none" },
  { "plain", false, "no line editor, no line that is rewritten" },
}

cli.main("repl", function()
  -- Options, then what to open, then what belongs to that.
  local own, rest, i = {}, {}, 1
  while arg[i] and arg[i]:sub(1, 1) == "-" do
    own[#own + 1] = arg[i]
    local name, has_value = arg[i]:match "^%-%-([^=]+)", arg[i]:find("=", 1, true)
    for _, option in ipairs(options) do
      if option[1] == name and not has_value and type(option[2]) ~= "boolean" then
        i = i + 1
        own[#own + 1] = arg[i]
      end
    end
    i = i + 1
  end
  for k = i, #arg do rest[#rest + 1] = arg[k] end
  local given = cli.parse(options, own)
  if given.help then
    print(cli.help("A prompt: luajit scripts/repl.lua [options] [script.lua [arguments] | folder of a run].", options))
    return 0
  end
  return require("moonbow.repl.start")(cli.settings(options, given), rest)
end)
