-- SPDX-License-Identifier: MIT
--
-- all.lua: runs every script of this folder, one after another (each uses all cores by itself), and writes one page of what
-- came of them. A script that fails does not keep the others from running.
--   luajit scripts/reproduce/all.lua                  all of them at --quick
--   luajit scripts/reproduce/all.lua --only trace,mlp --full

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"

local options = {
  { "quick", false, "minutes a script on two cores (the default)" },
  { "full", false, "the papers' sizes: days" },
  { "smoke", false, "seconds a script: whether they work" },
  { "only", nil, "scripts whose names contain one of these", kind = "string", value = "TEXT,TEXT" },
  { "jobs", nil, "processes of each script [all cores; 1 on cuda]", kind = "integer", min = 1, max = 4096 },
  { "device", nil, "where to compute [as each script says]", choices = { "auto", "cpu", "cuda" }, kind = "string" },
  { "out", "runs/reproduce", "folder; each script has one of its own in it", kind = "string", value = "DIR" },
  { "keep", false, "use results that earlier texts of the scripts have made" },
  { "plain", false, "no live line, plain lines instead" },
}

-- Names of the scripts to run: all, or those whose names contain one of the texts between commas.
local function chosen(system, only)
  local names, all, wanted = {}, {}, {}
  for _, file in ipairs(system.list(here)) do
    local name = file:match "^(.*)%.lua$"
    if name and name ~= "all" then all[#all + 1] = name end
  end
  for text in (only or ""):gmatch "[^,]+" do
    local count = #names
    for _, name in ipairs(all) do
      if name:find(text, 1, true) then names[#names + 1], wanted[name] = name, true end
    end
    if #names == count then cli.fail(2, "--only %s: there is no '%s' among %s", only, text, table.concat(all, ", ")) end
  end
  if not only then return all end
  names = {}
  for _, name in ipairs(all) do names[#names + 1] = wanted[name] and name or nil end
  return names
end

-- Runs one script to its end; returns its exit code. A signal is passed on, as one that ends a script in good order: Ctrl-C at a
-- terminal has reached it by itself then, and another signal of that kind changes nothing.
local function run(system, name, size, s)
  local process = require "bindings.process"
  local command = { arg[-1] or "luajit", ("%s/%s.lua"):format(here, name), "--" .. size, "--out", s.out .. "/" .. name }
  for _, option in ipairs { "jobs", "device" } do
    if s[option] then command[#command + 1] = ("--%s=%s"):format(option, tostring(s[option])) end
  end
  for _, flag in ipairs { "keep", "plain" } do
    if s[flag] then command[#command + 1] = "--" .. flag end
  end
  local child, told = process.spawn(command), false
  while not child:poll() do
    process.wait_any({ child.channel }, 0.2)
    if child.channel.closed then child:wait() end
    if system.interrupted() ~= 0 and not told then
      child:kill(process.TERM)
      told = true
    end
    child.channel:receive()
  end
  child.channel:close()
  local ended = child:wait()
  return ended.code or 128 + ended.signal
end

local function count(list, verdict)
  local n = 0
  for _, claim in ipairs(list) do n = n + (claim.verdict == verdict and 1 or 0) end
  return n
end

-- Prints the claims of all, and how many agree.
local function show(found)
  local claims = {}
  for _, one in ipairs(found) do
    for _, claim in ipairs(one.summary.claims) do
      claim.claim = ("%s: %s"):format(one.summary.name, claim.claim)
      claims[#claims + 1] = claim
    end
  end
  print("\n" .. require("moonbow.experiment.claims").text(claims))
  print(("\n%d claims: %d reproduced, %d partly, %d not reproduced"):format(#claims, count(claims, "reproduced"),
    count(claims, "partly"), count(claims, "not reproduced")))
end

cli.main("reproduce/all", function()
  local given = cli.parse(options, arg)
  if given.help then
    print(cli.help("Runs every script of scripts/reproduce and writes one page of what came of them.", options))
    return 0
  end
  local s = cli.settings(options, given)
  local size = require("moonbow.experiment").size(given)
  local system = require "bindings.system"
  local format, publish = require "moonbow.report.format", require "moonbow.experiment.publish"
  local names, found, failed = chosen(system, s.only), {}, {}
  system.make_folder(s.out)
  system.interrupt_install()
  local started = system.time()
  for _, name in ipairs(names) do
    local before = system.time()
    local code = run(system, name, size, s)
    print(("\n----- %s: %s after %s\n"):format(name, code == 0 and "done" or "exit code " .. code,
      format.duration(system.time() - before)))
    if code == 130 or system.interrupted() ~= 0 then return 130 end
    local one = code == 0 and publish.read(s.out .. "/" .. name)
    if one then found[#found + 1] = one else failed[#failed + 1] = name end
  end
  if #found > 0 then
    publish.page(s.out .. "/report.html", "Papers, reproduced", found)
    show(found)
    print(("%d script(s) in %s; all of it: %s/report.html"):format(#names, format.duration(system.time() - started), s.out))
  end
  if #failed > 0 then cli.fail(1, "%s: no result; what went wrong is said above", table.concat(failed, ", ")) end
  return 0
end)
