-- SPDX-License-Identifier: MIT
--
-- weights.lua: the tensors of a model that is one safetensors file or several. Hugging Face cuts large models into
-- shards, "model-00001-of-00003.safetensors", and says in "model.safetensors.index.json" which one holds what:
--
--   { "metadata": { "total_size": 3247 }, "weight_map": { "h.0.ln_1.bias": "model-00001-of-00003.safetensors" } }
--
-- Only headers are read when a source is opened; source:read(name) reads one tensor. So a model is loaded with the
-- memory of its largest tensor on top of its own, and all names and shapes are known before any number is.
--
-- Written shards are filled in the order of the tensors, each up to a number of bytes; the index comes last, so that there is
-- none that names files which are not there.

local convert = require "moonbow.io.convert"
local json = require "moonbow.io.json"
local options = require "moonbow.options"
local safetensors = require "moonbow.io.safetensors"
local status = require "bindings.status"
local system = require "bindings.system"
local types = require "bindings.types"
local writing = require "moonbow.io.writing"

local M = {}

---@class moonbow.WeightSource
---@field path string the file, or the index of the shards
---@field entries table<string, moonbow.SafetensorsEntry> by name; entry.file is the file that holds it
local Source = {}
Source.__index = Source

local MAX_INDEX = 100000000 -- bytes; as much as a header may have
local NAMES = { "model.safetensors", "model.safetensors.index.json" }

--- The tensor of a name that is there: floats as they are, half floats as f32.
---@param name string
---@return moonbow.Tensor
function Source:read(name)
  local entry = self.entries[name]
  local t, problem = convert.read(entry.file, entry)
  if not t then status.fail("'%s': tensor '%s' cannot be read: %s", entry.file, name, problem) end
  return t
end

-- Takes in the tensors of one file; `wanted`, for a shard, says which file each name belongs to.
local function add_file(self, fail, file, shard, wanted)
  for _, entry in ipairs((safetensors.inspect(file))) do
    if wanted and wanted[entry.name] ~= shard then
      fail("shard '%s' holds tensor '%s', which the index %s", shard, entry.name,
        wanted[entry.name] and ("places in '%s'"):format(wanted[entry.name]) or "does not name")
    end
    entry.file = file
    self.entries[entry.name] = entry
  end
end

local function read_index(fail, path)
  local size = system.path_size(path)
  if size > MAX_INDEX then fail("the index has %.0f bytes, at most %d are allowed", size, MAX_INDEX) end
  local file, problem = io.open(path, "rb")
  local text = file and file:read "*a"
  if file then file:close() end
  if not text then fail("cannot read: %s", tostring(problem)) end
  local index
  index, problem = json.decode(text)
  if not index then fail("the index is not valid JSON: %s", problem) end
  local map = type(index) == "table" and index.weight_map
  if type(map) ~= "table" or getmetatable(map) == json.array or next(map) == nil then
    fail("the index has no 'weight_map' that names files")
  end
  return map
end

-- Every shard of an index. Its names are plain: a file of the same folder and no way out of it.
local function add_shards(self, fail, path)
  local map, shards, seen = read_index(fail, path), {}, {}
  for name, shard in pairs(map) do
    if type(shard) ~= "string" or shard == "" or shard:find "[/%z]" then
      fail("the index places tensor '%s' in %s, a file of its own folder was expected", name,
        type(shard) == "string" and ("'%s'"):format((shard:gsub("%z", "\\0"))) or "no file")
    end
    if not seen[shard] then
      seen[shard] = true
      shards[#shards + 1] = shard
    end
  end
  table.sort(shards)
  local folder = path:match "^(.*/)[^/]*$" or ""
  for _, shard in ipairs(shards) do add_file(self, fail, folder .. shard, shard, map) end
  local missing = {}
  for name in pairs(map) do
    if not self.entries[name] then missing[#missing + 1] = name end
  end
  table.sort(missing)
  if missing[1] then fail("shard '%s' does not hold tensor '%s'", map[missing[1]], missing[1]) end
end

--- The file that a path means: itself, or in a folder model.safetensors or its index.
---@param path string
---@return string
function M.resolve(path)
  if system.path_kind(path) ~= "folder" then return path end
  for _, name in ipairs(NAMES) do
    local file = path:gsub("/+$", "") .. "/" .. name
    if system.path_kind(file) == "file" then return file end
  end
  status.fail("'%s': the folder holds neither %s", path, table.concat(NAMES, " nor "))
end

--- Opens a safetensors file, an index of shards, or a folder that holds one or the other.
---@param path string
---@return moonbow.WeightSource
function M.open(path)
  path = M.resolve(path)
  local self = setmetatable({ path = path, entries = {} }, Source)
  local function fail(format, ...) status.fail("'%s': " .. format, path, ...) end
  if path:match "%.json$" then add_shards(self, fail, path) else add_file(self, fail, path) end
  return self
end

-- ----- writing ------------------------------------------------------------------------------------------

local units = { B = 1, KB = 1e3, MB = 1e6, GB = 1e9, KiB = 2 ^ 10, MiB = 2 ^ 20, GiB = 2 ^ 30 }

--- Bytes of a size: a number, or a text like "5GB", "200MB" or "1GiB", as Hugging Face writes them.
---@param who string
---@param size integer|string
---@return integer
function M.bytes_of(who, size)
  local number, unit = size, "B"
  if type(size) == "string" then
    number, unit = size:match "^%s*([%d.]+)%s*(%a+)%s*$"
    number = tonumber(number)
  end
  local bytes = type(number) == "number" and units[unit] and math.floor(number * units[unit])
  if not bytes or not (bytes >= 1 and bytes <= 2 ^ 53) then
    options.fail("%s: option 'max_shard_size' must be a number of bytes or a text like \"5GB\" or \"200MB\", not %s", who,
      options.describe(size))
  end
  return bytes
end

-- Tensors in their order, as lists of at most `most` bytes each, or of one tensor that is larger.
local function cut(list, most)
  local shards, used, total = {}, 0, 0
  for _, item in ipairs(list) do
    local bytes = item.tensor.numel * types.dtype_of(item.tensor).size
    if #shards == 0 or used + bytes > most then shards[#shards + 1], used = {}, 0 end
    shards[#shards][item.name] = item.tensor
    used, total = used + bytes, total + bytes
  end
  return shards, total
end

local function remove(path)
  if system.path_kind(path) == "file" then system.remove(path) end
end

--- Writes tensors into a folder: model.safetensors, or, where they have more than max_shard_size bytes, shards and their index.
---@param folder string one that is there
---@param list { name: string, tensor: moonbow.Tensor }[]
---@param max_bytes integer
---@return string[] names of the files, the index last
function M.save(folder, list, max_bytes)
  local shards, total = cut(list, max_bytes)
  local plain, index_path = folder .. "/" .. NAMES[1], folder .. "/" .. NAMES[2]
  local notes = { format = "pt" }
  remove(index_path)
  if #shards == 1 then
    safetensors.save(plain, shards[1], notes)
    return { NAMES[1] }
  end
  local index, files = { metadata = { total_size = total }, weight_map = {} }, {}
  for i, tensors in ipairs(shards) do
    files[i] = ("model-%05d-of-%05d.safetensors"):format(i, #shards)
    safetensors.save(folder .. "/" .. files[i], tensors, notes)
    for name in pairs(tensors) do index.weight_map[name] = files[i] end
  end
  remove(plain) -- programs look for it first
  writing.whole_file(index_path, function(aside) writing.text(aside, json.encode(index) .. "\n") end)
  files[#files + 1] = NAMES[2]
  return files
end

return M
