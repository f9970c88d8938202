-- SPDX-License-Identifier: MIT
--
-- load.lua: finds the engine's library, declares its C API to the FFI, and returns the namespace.
--
-- The public header is the only declaration of the API: it is read here, stripped of the preprocessor
-- and of the export words, and handed to ffi.cdef once a process. A function that the library lacks fails
-- when it is called, not when it is declared.

local ffi = require "ffi"

local M = {}

--- Folder that holds bindings/, found through this file's own location.
local function root_folder()
  local file = debug.getinfo(1, "S").source:match "^@(.*)$" or ""
  local folder = file:match "^(.*)[/\\][^/\\]*$" or "."
  return folder:match "^(.*)[/\\]bindings$" or (folder == "bindings" and "." or folder .. "/..")
end

M.root = root_folder()

local function read_file(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  return text
end

--- The header's text as the FFI wants it.
---@param text string
---@return string
local function strip_header(text)
  local lines, in_cplusplus = {}, false
  for line in (text .. "\n"):gmatch "(.-)\r?\n" do
    if line:match "^#ifdef __cplusplus" then
      in_cplusplus = true
    elseif line:match "^#endif" then
      in_cplusplus = false
    elseif not in_cplusplus and not line:match "^#" then
      lines[#lines + 1] = line
    end
  end
  return (table.concat(lines, "\n"):gsub("MB_API ", ""):gsub("MB_CALL ", ""))
end

local function declare()
  if pcall(ffi.typeof, "mb_tensor") then return end
  local places = {
    M.root .. "/engine/include/moonbow.h", -- a checkout
    M.root .. "/include/moonbow.h", -- luarocks: share/lua/5.1/moonbow/bindings
    M.root .. "/../../include/moonbow.h", -- installed: PREFIX/share/moonbow/bindings
  }
  for _, path in ipairs(places) do
    local text = read_file(path)
    if text then
      ffi.cdef(strip_header(text))
      return
    end
  end
  error("moonbow: the header moonbow.h was not found; tried " .. table.concat(places, ", "), 0)
end

local function exists(path)
  local file = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

--- Loads the first library found; one that exists but does not load ends the search with its reason.
local function open_library()
  local named = os.getenv "MOONBOW_LIB"
  if named and named ~= "" then
    local ok, library = pcall(ffi.load, named)
    if ok then return library, named end
    error(("moonbow: MOONBOW_LIB is '%s', which does not load: %s"):format(named, library), 0)
  end
  local name = jit.os == "OSX" and "libmoonbow.dylib" or "libmoonbow.so"
  local tried = {}
  local multiarch = "/../../lib/" .. (ffi.arch == "x64" and "x86_64" or "aarch64") .. "-linux-gnu/"
  local of_rocks = "/../../../../lib/lua/5.1/"
  for _, folder in ipairs { "/build/", "/lib/", "/../../lib/", "/../../lib64/", multiarch, of_rocks } do
    local path = M.root .. folder .. name
    tried[#tried + 1] = path
    if exists(path) then
      local ok, library = pcall(ffi.load, path)
      if ok then return library, path end
      error(("moonbow: '%s' does not load: %s"):format(path, library), 0)
    end
  end
  local ok, library = pcall(ffi.load, "moonbow")
  if ok then return library, "moonbow" end
  error("moonbow: the engine's library was not found; build it with ./bootstrap.sh, or name it in "
    .. "MOONBOW_LIB. Tried " .. table.concat(tried, ", ") .. ", and the system's libraries", 0)
end

declare()
--- The engine's functions and constants. Kept referenced for as long as the process lives, so that the
--- library is unloaded after the last finalizer.
M.C, M.path = open_library()

local built, declared = M.C.mb_abi_version(), tonumber(M.C.MB_ABI_VERSION)
if built ~= declared then
  local text = "moonbow: the library '%s' has ABI version %d, the header %d; build again"
  error(text:format(M.path, built, declared), 0)
end

return M
