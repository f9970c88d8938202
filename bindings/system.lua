-- SPDX-License-Identifier: MIT
--
-- system.lua: what Lua's own library lacks of the operating system: clock, memory, terminal, signals, paths,
-- locks, hashes, and tensors in files. Failures are errors that name the path.

local ffi = require "ffi"
local handle = require "bindings.handle"
local load = require "bindings.load"
local status = require "bindings.status"
local types = require "bindings.types"

local C = load.C
local act = handle.act

local M = {}

-- A path as C gets it: a string without a NUL inside, which would end it early.
local function path_argument(who, path)
  if type(path) ~= "string" then
    status.fail("%s: a path was expected, not %s", who, types.describe(path))
  end
  if path:find("%z") then status.fail("%s: the path '%s' holds a NUL", who, (path:gsub("%z", "\\0"))) end
  return path
end

-- ----- the process --------------------------------------------------------------------------------------

--- Seconds of a clock that never goes back.
---@return number
function M.time() return C.mb_time() end

--- Most bytes of memory that the process has had.
---@return integer
function M.peak_rss() return tonumber(C.mb_peak_rss()) end

--- The number of this process.
---@return integer
function M.process_id() return tonumber(C.mb_process_id()) end

--- Is a file descriptor (1 stdout, 2 stderr) a terminal?
---@param fd integer
---@return boolean
function M.is_terminal(fd) return C.mb_is_terminal(fd) ~= 0 end

--- Columns of the terminal, 80 if unknown.
---@param fd integer
---@return integer
function M.terminal_width(fd) return C.mb_terminal_width(fd) end

--- From now on SIGINT, SIGTERM and SIGHUP only set a flag; a SIGINT while it is set ends the process (status 130).
function M.interrupt_install() C.mb_interrupt_install() end

--- While on, a further SIGINT does not end the process: for a prompt, whose session is not to be lost.
---@param on boolean
function M.interrupt_patient(on) C.mb_interrupt_patient(on and 1 or 0) end

--- The signal received since the last clear, or 0.
---@return integer
function M.interrupted() return C.mb_interrupted() end

--- Forgets the signal received.
function M.interrupt_clear() C.mb_interrupt_clear() end

-- ----- paths --------------------------------------------------------------------------------------------

local kinds = { [tonumber(C.MB_PATH_NONE)] = "none", [tonumber(C.MB_PATH_FILE)] = "file",
                [tonumber(C.MB_PATH_FOLDER)] = "folder" }

--- What is at a path; devices and pipes count as files.
---@param path string
---@return "none"|"file"|"folder"
function M.path_kind(path)
  return kinds[tonumber(C.mb_path_kind_of(path_argument("path_kind", path)))]
end

local int64_out, int_out, text_out = ffi.new "int64_t[1]", ffi.new "int[1]", ffi.new "const char *[1]"

--- Bytes of a file.
---@param path string
---@return integer
function M.path_size(path)
  act("mb_path_size", int64_out, path_argument("path_size", path))
  return tonumber(int64_out[0])
end

--- Makes a folder and its parents; that it is there already is no error.
---@param path string
function M.make_folder(path) act("mb_path_make_folder", path_argument("make_folder", path)) end

--- Renames in one step, replacing a file or an empty folder of the new name.
---@param from string
---@param to string
function M.rename(from, to)
  act("mb_path_rename", path_argument("rename", from), path_argument("rename", to))
end

--- Removes a file, a link, or a folder with all in it.
---@param path string
function M.remove(path) act("mb_path_remove", path_argument("remove", path)) end

--- Waits until a file's contents, or a folder's names, are on the disk.
---@param path string
function M.sync(path) act("mb_path_sync", path_argument("sync", path)) end

--- Names in a folder, sorted by bytes.
---@param path string
---@return string[]
function M.list(path)
  act("mb_path_list", text_out, path_argument("list", path))
  local names = {}
  for name in ffi.string(text_out[0]):gmatch "[^\n]+" do names[#names + 1] = name end
  return names
end

--- The path from the root; without links and dots if it is there.
---@param path string
---@return string
function M.absolute(path)
  act("mb_path_absolute", text_out, path_argument("absolute", path))
  return ffi.string(text_out[0])
end

--- Locks a file (made if it is not there) until unlock or the end of the process; an error if it is locked.
---@param path string
---@return integer handle
function M.lock(path)
  act("mb_path_lock", int_out, path_argument("lock", path))
  return int_out[0]
end

--- Ends a lock.
---@param lock integer as lock() gave it
function M.unlock(lock) C.mb_path_unlock(lock) end

-- ----- contents -----------------------------------------------------------------------------------------

--- Fills a tensor with the little-endian elements at a byte offset of a file.
---@param t moonbow.Tensor
---@param path string
---@param offset? integer default 0
---@return moonbow.Tensor t
function M.read_tensor(t, path, offset)
  act("mb_tensor_read_file", t, path_argument("read_tensor", path), offset or 0)
  return t
end

--- Appends a tensor's elements to a file, which is made if it is not there.
---@param t moonbow.Tensor
---@param path string
function M.append_tensor(t, path) act("mb_tensor_append_file", t, path_argument("append_tensor", path)) end

local digits = ffi.new "char[65]"

--- SHA-256 of a file, 64 hexadecimal digits.
---@param path string
---@return string
function M.sha256_file(path)
  act("mb_sha256_file", digits, path_argument("sha256_file", path))
  return ffi.string(digits)
end

--- SHA-256 of a string.
---@param text string
---@return string
function M.sha256(text)
  act("mb_sha256", digits, text, #text)
  return ffi.string(digits)
end

return M
