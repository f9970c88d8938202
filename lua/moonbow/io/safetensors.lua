-- SPDX-License-Identifier: MIT
--
-- safetensors.lua: the file format of Hugging Face (github.com/huggingface/safetensors): eight bytes with the
-- length N of the header, little-endian; N bytes of JSON that name every tensor's dtype, shape and place;
-- and the elements, row-major and little-endian, without gaps.
--
-- A file may come from anywhere, so the header is checked whole before anything is allocated or read:
-- every element of the file belongs to exactly one tensor, and each tensor to a place in the file. A file
-- is written aside and gets its name when it is complete and on the disk.

local status = require "bindings.status"
local system = require "bindings.system"
local types = require "bindings.types"
local convert = require "moonbow.io.convert"
local json = require "moonbow.io.json"
local check = require("moonbow.options").check
local writing = require "moonbow.io.writing"

local M = {}

local MAX_HEADER = 100000000  -- the reference implementation's limit
local MAX_EXACT = 2 ^ 53      -- integers up to here are exact in a double
local MAX_DIMS = 6
local ALIGNMENT = 64          -- of the first element in files that are written here

-- ----- reading the header -----------------------------------------------------------------------------

---@class moonbow.SafetensorsEntry a tensor in a file
---@field name string
---@field dtype string as in the file: "F32"
---@field shape integer[]
---@field first integer offset of the first byte in the file
---@field bytes integer
---@field numel integer

-- A size or offset: a whole number that a double holds exactly.
local function is_count(x) return type(x) == "number" and x >= 0 and x <= MAX_EXACT and x == math.floor(x) end

local function is_array(x) return type(x) == "table" and getmetatable(x) == json.array end

-- Bytes of an entry, or nil and what is wrong with its shape.
local function entry_bytes(entry)
  local numel = 1
  for _, size in ipairs(entry.shape) do
    if not is_count(size) then
      return nil, ("its shape holds %s, no size"):format(type(size) == "table" and "a list" or tostring(size))
    end
  end
  for _, size in ipairs(entry.shape) do
    if size == 0 then
      return nil, ("it has no elements, shape (%s)"):format(table.concat(entry.shape, ", "))
    end
    numel = numel * size
    if numel * 8 > MAX_EXACT then
      return nil, ("its shape (%s) overflows"):format(table.concat(entry.shape, ", "))
    end
  end
  if #entry.shape > MAX_DIMS then
    return nil, ("it has %d dimensions, at most %d are possible"):format(#entry.shape, MAX_DIMS)
  end
  entry.numel = numel
  return numel * convert.dtypes[entry.dtype].size
end

-- Turns what the header says of one tensor into an entry, or nil and a problem.
local function read_entry(name, value, data_bytes, data_start)
  if type(value) ~= "table" or is_array(value) then return nil, "its description is no object" end
  if type(value.dtype) ~= "string" then return nil, "it has no 'dtype'" end
  if not is_array(value.shape) then return nil, "it has no 'shape' that is an array" end
  local offsets = value.data_offsets
  if not is_array(offsets) or #offsets ~= 2 or not is_count(offsets[1]) or not is_count(offsets[2]) then
    return nil, "it has no 'data_offsets' of two positions"
  end
  if not convert.dtypes[value.dtype] then
    return nil, ("its dtype is '%s'; readable are %s"):format(value.dtype, convert.names)
  end
  local entry = { name = name, dtype = value.dtype, shape = value.shape, first = data_start + offsets[1] }
  local wanted, problem = entry_bytes(entry)
  if not wanted then return nil, problem end
  if offsets[1] > offsets[2] or offsets[2] > data_bytes then
    return nil, ("its offsets [%.0f, %.0f] do not lie within the %.0f bytes of data"):format(offsets[1],
      offsets[2], data_bytes)
  end
  entry.bytes = offsets[2] - offsets[1]
  if entry.bytes ~= wanted then
    return nil, ("%s of shape (%s) takes %.0f bytes, its offsets [%.0f, %.0f] give it %.0f"):format(
      value.dtype, table.concat(value.shape, ", "), wanted, offsets[1], offsets[2], entry.bytes)
  end
  return entry
end

-- Every byte of the data belongs to one tensor: sorted by place, each begins where the one before ends.
local function check_coverage(fail, entries, data_start, data_bytes)
  local expected, before = data_start, nil
  for _, entry in ipairs(entries) do
    if entry.first ~= expected then
      local place = before and ("the end of '%s'"):format(before.name) or "the start of the data"
      fail("tensor '%s' %s %s: it begins at offset %.0f, %.0f was expected", entry.name,
        entry.first < expected and "overlaps" or "leaves a hole behind", place, entry.first - data_start,
        expected - data_start)
    end
    expected, before = entry.first + entry.bytes, entry
  end
  local used = expected - data_start
  if used ~= data_bytes then
    fail("the file has %.0f bytes of data, its tensors take %.0f", data_bytes, used)
  end
end

local function check_metadata(fail, metadata)
  if metadata == nil then return {} end
  if type(metadata) ~= "table" or is_array(metadata) then fail("'__metadata__' is no object") end
  for key, value in pairs(metadata) do
    if type(value) ~= "string" then fail("'__metadata__' holds '%s', which is no string", key) end
  end
  return metadata
end

-- The header's text and the size of the file, after the checks that come before any parsing.
local function read_header(fail, path)
  local size = system.path_size(path)
  if size < 8 then fail("the file has %d bytes, at least 8 were expected", size) end
  local file, problem = io.open(path, "rb")
  if not file then fail("cannot open: %s", problem) end
  local prefix = file:read(8)
  local length = 0
  for i = #prefix, 1, -1 do length = length * 256 + prefix:byte(i) end
  if #prefix < 8 or length > MAX_HEADER or 8 + length > size then
    file:close()
    fail("its header claims %.0f bytes; the file has %.0f after the length, %d are allowed", length, size - 8,
      MAX_HEADER)
  end
  local text = length > 0 and file:read(length) or ""
  file:close()
  if #text < length then fail("the header has %d bytes, %d were expected", #text, length) end
  if text:sub(1, 1) ~= "{" then fail("the header does not begin with '{'") end
  return text, size
end

--- What a file holds, without reading its elements: entries in the order of their place, and metadata.
---@param path string
---@return moonbow.SafetensorsEntry[]
---@return table<string, string> metadata
function M.inspect(path)
  local function fail(format, ...)
    status.fail("safetensors: '%s': " .. format, path, ...)
  end
  local text, size = read_header(fail, path)
  local header, problem = json.decode(text)
  if not header then fail("the header is not valid JSON: %s", problem) end
  local data_start = 8 + #text
  local data_bytes = size - data_start
  local metadata = check_metadata(fail, header.__metadata__)
  header.__metadata__ = nil
  local entries = {}
  for name, value in pairs(header) do
    local entry
    entry, problem = read_entry(name, value, data_bytes, data_start)
    if not entry then fail("tensor '%s' cannot be read: %s", name, problem) end
    entries[#entries + 1] = entry
  end
  table.sort(entries, function(a, b) return a.first < b.first end)
  check_coverage(fail, entries, data_start, data_bytes)
  return entries, metadata
end

-- ----- load and save ----------------------------------------------------------------------------------

---@class moonbow.SafetensorsLoadOptions
---@field device? string where the tensors go; default "cpu"

--- Reads a file. F32, F64, I32, U16 and U8 come as they are; F16 and BF16 as f32; BOOL as u8; I8, I16, U32,
--- I64 and U64 as i32 if all values fit.
---@param path string
---@param options? moonbow.SafetensorsLoadOptions
---@return table<string, moonbow.Tensor> tensors
---@return table<string, string> metadata
---@usage local tensors, metadata = mb.safetensors.load "model.safetensors"
function M.load(path, options)
  local device = check("mb.safetensors.load", options, {
    device = { choices = { "cpu", "cuda" }, default = "cpu" } }).device
  local entries, metadata = M.inspect(path)
  local tensors = {}
  for _, entry in ipairs(entries) do
    local t, problem = convert.read(path, entry)
    if not t then
      status.fail("safetensors: '%s': tensor '%s' cannot be read: %s", path, entry.name, problem)
    end
    tensors[entry.name] = device == "cpu" and t or t:to(device)
  end
  return tensors, metadata
end

-- Tensors as a list in the order of the file: largest elements first, so that each is aligned, then by name.
local function in_file_order(tensors)
  local list = {}
  for name, t in pairs(tensors) do
    if type(name) ~= "string" or name == "__metadata__" then
      status.fail("safetensors.save: '%s' cannot be the name of a tensor", tostring(name))
    end
    if not types.is_tensor(t) then
      status.fail("safetensors.save: '%s' must be a tensor, not %s", name, types.describe(t))
    end
    list[#list + 1] = { name = name, tensor = t, dtype = types.dtype_of(t) }
  end
  table.sort(list, function(a, b)
    if a.dtype.size ~= b.dtype.size then return a.dtype.size > b.dtype.size end
    return a.name < b.name
  end)
  return list
end

-- The header's bytes, with the length in front and spaces behind.
local function header_text(list, metadata)
  local header, offset = {}, 0
  for _, item in ipairs(list) do
    local t = item.tensor
    local bytes = t.numel * item.dtype.size
    header[item.name] = { dtype = convert.name_of[item.dtype.name], shape = setmetatable(t.shape, json.array),
                          data_offsets = { offset, offset + bytes } }
    offset = offset + bytes
  end
  if metadata then
    for key, value in pairs(metadata) do
      if type(key) ~= "string" or type(value) ~= "string" then
        status.fail("safetensors.save: metadata is strings by name; '%s' is %s", tostring(key),
          types.describe(value))
      end
    end
    header.__metadata__ = metadata
  end
  local text, problem = json.encode(header)
  if not text then status.fail("safetensors.save: the header cannot be written: %s", problem) end
  text = text .. (" "):rep(-(8 + #text) % ALIGNMENT)
  local length, prefix = #text, {}
  for i = 1, 8 do
    prefix[i] = string.char(length % 256)
    length = math.floor(length / 256)
  end
  return table.concat(prefix) .. text
end

--- Writes a new file where it stands; what checkpoints use, which have their own way to be whole.
---@param path string a file that is not there
---@param tensors table<string, moonbow.Tensor>
---@param metadata? table<string, string>
function M.write(path, tensors, metadata)
  local list = in_file_order(tensors)
  writing.text(path, header_text(list, metadata))
  for _, item in ipairs(list) do system.append_tensor(item.tensor, path) end
end

--- Writes tensors by name, and strings by name as metadata. The file appears whole or not at all.
---@param path string
---@param tensors table<string, moonbow.Tensor>
---@param metadata? table<string, string>
---@usage mb.safetensors.save("out.safetensors", { weight = w }, { format = "pt" })
function M.save(path, tensors, metadata)
  writing.whole_file(path, function(aside) M.write(aside, tensors, metadata) end)
end

return M
