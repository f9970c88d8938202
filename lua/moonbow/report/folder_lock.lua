-- SPDX-License-Identifier: MIT
--
-- folder_lock.lua: one process trains in a run's folder at a time. It holds the file `lock` there; others are told which
-- process it is, and, where they look for a checkpoint, that there is none yet.

local mb = require "moonbow"
local cli = require "moonbow.cli"

local M = {}

-- "process 123" where a lock could not be had because it is held; nil for all other problems.
local function holder_in(problem)
  return tostring(problem):match "is locked by (this process, %d+)$" or tostring(problem):match "is locked by (.+)$"
end

--- Who trains in a folder, "process 123"; nil if nobody does.
---@param folder string
---@return string?
function M.holder(folder)
  local path = folder .. "/lock"
  if mb.system.path_kind(path) ~= "file" then return nil end
  local ok, result = pcall(mb.system.lock, path)
  if not ok then return holder_in(result) end
  mb.system.unlock(result)
end

--- Takes the lock of a folder, or says who has it.
---@param folder string
---@param option string the folder's part of the command line: "--out runs/a"
---@return integer lock for mb.system.unlock
function M.take(folder, option)
  local ok, result = pcall(mb.system.lock, folder .. "/lock")
  if ok then return result end
  local holder = holder_in(result)
  if not holder then error(result, 0) end
  cli.fail(1, "%s: %s is training in this folder", option, holder)
end

-- The folder of the run that `dir` is, or is a checkpoint of.
local function folder_of(dir)
  if mb.system.path_kind(dir .. "/manifest.json") ~= "file" then return dir end
  return mb.system.absolute(dir):match "^(.*)/[^/]*$"
end

--- What mb.checkpoint.peek finds in a run's folder. Where a process trains there and nothing is found, that is said.
---@param dir string a run's folder, or one checkpoint's
---@param option string its part of the command line
---@param alone? boolean refuse a folder in which a process trains, whatever is found there
---@return moonbow.CheckpointFound
function M.peek(dir, option, alone)
  local ok, found = pcall(mb.checkpoint.peek, dir)
  if ok and not alone then return found end
  local holder = mb.system.path_kind(dir) == "folder" and M.holder(folder_of(dir))
  if holder then
    cli.fail(1, "%s: %s is training in this folder%s", option, holder, ok and "" or " and has made no checkpoint yet")
  end
  if not ok then error(found, 0) end
  return found
end

return M
