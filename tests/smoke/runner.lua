-- SPDX-License-Identifier: MIT
--
-- runner.lua: runs a script of scripts/ as its users do, in a process of its own, and tells what it said.

local M = {}

M.root = os.getenv("MOONBOW_ROOT") or "."

function M.read(path)
  local file = io.open(path, "rb")
  if not file then return "" end
  local text = file:read("*a")
  file:close()
  return text
end

local folders = {}

---A fresh folder, removed by M.clean().
function M.folder()
  local pipe = assert(io.popen("mktemp -d"))
  local path = pipe:read("*l")
  pipe:close()
  folders[#folders + 1] = path
  return path
end

function M.clean()
  for _, path in ipairs(folders) do os.execute(("rm -rf '%s'"):format(path)) end
  folders = {}
end

---Runs a shell command; returns its exit code, stdout and stderr.
---@param command string
function M.shell(command)
  local folder = M.folder()
  os.execute(("{ %s ; } >'%s/out' 2>'%s/err' </dev/null; echo $? >'%s/rc'"):format(command, folder, folder, folder))
  return tonumber(M.read(folder .. "/rc")), M.read(folder .. "/out"), M.read(folder .. "/err")
end

---Runs scripts/<name>.lua with the given command line.
---@param name string
---@param arguments string
function M.script(name, arguments)
  return M.shell(("luajit '%s/scripts/%s.lua' %s"):format(M.root, name, arguments))
end

---A text of n characters with some structure to learn.
function M.corpus(path, n)
  local words = { "moon", "bow", "night", "rain", "light", "lua", "spectra", "step", "and", "the" }
  local file = assert(io.open(path, "wb"))
  local written, k = 0, 1
  while written < n do
    k = (k * 75 + 74) % 65537
    local word = words[k % #words + 1] .. (k % 11 == 0 and ".\n" or " ")
    file:write(word)
    written = written + #word
  end
  file:close()
  return path
end

---The records of a JSONL file.
function M.records(path)
  local cjson = require "cjson"
  local list = {}
  for line in io.lines(path) do list[#list + 1] = cjson.decode(line) end
  return list
end

---The losses of a run's training steps, by step.
---@param folder string of the run
---@return table<integer, number>
function M.losses(folder)
  local list = {}
  for _, record in ipairs(M.records(folder .. "/log.jsonl")) do
    if record.loss and record.step > 0 then list[record.step] = record.loss end
  end
  return list
end

return M
