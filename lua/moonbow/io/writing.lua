-- SPDX-License-Identifier: MIT
--
-- writing.lua: files that appear whole or not at all, and text that is known to have arrived, in a file or on standard
-- output.

local status = require "bindings.status"
local system = require "bindings.system"

local M = {}

--- Writes the pieces that produce(put) gives to put(text) as a new file; a short write is an error that names the file.
---@param path string
---@param produce fun(put: fun(text: string))
function M.pieces(path, produce)
  local file, problem = io.open(path, "wb")
  if not file then status.fail("cannot write: %s", problem) end
  local bytes = 0
  local function check(ok, reason)
    if not ok then status.fail("cannot write %d bytes to '%s': %s", bytes, path, reason) end
  end
  local ok
  ok, problem = pcall(function()
    produce(function(text)
      bytes = bytes + #text
      check(file:write(text))
    end)
    check(file:flush()) -- a full disk is found here
  end)
  local closed, close_problem = file:close()
  if not ok then error(problem, 0) end
  check(closed, close_problem)
end

--- Writes `text` as the whole of a new file; a short write is an error that names the file.
---@param path string
---@param text string
function M.text(path, text) M.pieces(path, function(put) put(text) end) end

--- Writes text to standard output, and knows that it has arrived.
---@param text string "" for what still waits
---@param waits? boolean it may wait for more; whether it has arrived, a later call tells
function M.standard_output(text, waits)
  local ok, problem = io.stdout:write(text)
  if ok and not waits then ok, problem = io.stdout:flush() end
  if not ok then status.fail("cannot write to standard output: %s", problem) end
end

--- Calls write(aside) with the name of a file in the same folder; what it wrote there is put on the disk
--- and then named `path`, which replaces what was there. After an error nothing is left of it.
---@param path string
---@param write fun(aside: string)
function M.whole_file(path, write)
  local aside = ("%s.%d.part"):format(path, system.process_id())
  local function remove() if system.path_kind(aside) ~= "none" then system.remove(aside) end end
  remove()
  local ok, problem = pcall(function()
    write(aside)
    system.sync(aside)
    system.rename(aside, path)
    system.sync(path:match "^(.*/)[^/]*$" or ".")
  end)
  if not ok then
    pcall(remove)
    error(problem, 0)
  end
end

return M
