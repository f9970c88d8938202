-- SPDX-License-Identifier: MIT
--
-- token_writer.lua: token files of one part of a corpus, "train" or "val", in the format of llm.c or nanoGPT. Their names end
-- in .part until all files of a corpus are complete, so that none is taken for data before. What a writer has done so far is a
-- table, from which another goes on: complete files are checked by their hash, the last one is cut to what was written by then.

local cli = require "moonbow.cli"
local system = require "bindings.system"
local writing = require "moonbow.io.writing"

local M = {}

local HEADER_BYTES, COPIED = 1024, 2 ^ 20

-- int32, little-endian.
local function int32(x)
  local bytes = {}
  for i = 0, 3 do bytes[i + 1] = string.char(math.floor(x / 256 ^ i) % 256) end
  return table.concat(bytes)
end

--- A token, 16 bits.
function M.uint16(x) return int32(x):sub(1, 2) end

---@class moonbow.TokenWriter
---@field count integer tokens in all files
---@field files { name: string, tokens: integer, sha256?: string }[] sha256: of those that are complete
local Writer = {}
Writer.__index = Writer

local function header_bytes(settings) return settings.format == "llmc" and HEADER_BYTES or 0 end

local function path_of(self, file) return self.settings.out .. "/" .. file.name end

-- Cuts a file to its first bytes.
local function cut(path, bytes)
  if system.path_size(path) == bytes then return end
  local from, problem = io.open(path, "rb")
  if not from then cli.fail(1, "cannot open: %s", problem) end
  writing.whole_file(path, function(aside)
    writing.pieces(aside, function(put)
      local left = bytes
      while left > 0 do
        local block = from:read(math.min(left, COPIED))
        if not block then break end
        put(block)
        left = left - #block
      end
    end)
  end)
  from:close()
end

-- Checks what an earlier writer left, and opens its last file where it ended.
local function go_on(self, before)
  self.count, self.files = before.count, before.files
  for i, file in ipairs(self.files) do
    local path = path_of(self, file)
    local there = system.path_kind(path .. ".part") == "file" and path .. ".part" or path
    local bytes = header_bytes(self.settings) + 2 * file.tokens
    local size = system.path_kind(there) == "file" and system.path_size(there) or 0
    if size < bytes or file.sha256 and system.sha256_file(there) ~= file.sha256 then
      cli.fail(1, "'%s' is not as the interrupted run left it (%d bytes, %d were expected); --restart begins anew", there, size,
        bytes)
    end
    if not file.sha256 and i == #self.files then
      cut(there, bytes)
      local problem
      self.file, problem = io.open(there, "r+b")
      if not self.file then cli.fail(1, "cannot write: %s", problem) end
      self.file:seek "end"
    end
  end
end

---@param settings { out: string, name: string, format: "llmc"|"nanogpt", shard_size: integer }
---@param part "train"|"val"
---@param before? { count: integer, files: table[] } what state() of an earlier writer gave
---@return moonbow.TokenWriter
function M.new(settings, part, before)
  local self = setmetatable({ settings = settings, part = part, count = 0, files = {} }, Writer)
  if before then go_on(self, before) end
  return self
end

local function put(self, text)
  local ok, problem = self.file:write(text)
  if not ok then cli.fail(1, "cannot write '%s.part': %s", path_of(self, self.files[#self.files]), problem) end
end

local function open(self)
  local s = self.settings
  local name = s.format == "nanogpt" and self.part .. ".bin" or ("%s_%s_%06d.bin"):format(s.name, self.part, #self.files + 1)
  local path = s.out .. "/" .. name
  if system.path_kind(path) ~= "none" then
    cli.fail(1, "--out %s: %s is there already; choose another folder or name", s.out, name)
  end
  local file, problem = io.open(path .. ".part", "wb")
  if not file then cli.fail(1, "cannot write: %s", problem) end
  self.file = file
  self.files[#self.files + 1] = { name = name, tokens = 0 }
  put(self, ("\0"):rep(header_bytes(s))) -- filled in when the number of tokens is known
end

-- Ends the last file: fills in its header, and waits until it is on the disk.
local function complete(self)
  local file = self.files[#self.files]
  local path = path_of(self, file) .. ".part"
  if self.settings.format == "llmc" then
    self.file:seek "set"
    put(self, int32(20240520) .. int32(1) .. int32(file.tokens))
  end
  local ok, problem = self.file:close()
  self.file = nil
  if not ok then cli.fail(1, "cannot write '%s': %s", path, problem) end
  system.sync(path)
  file.sha256 = system.sha256_file(path)
end

--- Appends `count` tokens of two bytes each.
---@param bytes string
---@param count integer
function Writer:add(bytes, count)
  local room = self.settings.format == "llmc" and self.settings.shard_size or math.huge
  local from = 0
  while from < count do
    if not self.file then open(self) end
    local last = self.files[#self.files]
    local n = math.min(count - from, room - last.tokens)
    put(self, n == count and bytes or bytes:sub(2 * from + 1, 2 * (from + n)))
    from, last.tokens, self.count = from + n, last.tokens + n, self.count + n
    if last.tokens == room then complete(self) end
  end
end

--- What has been written, once it is on the disk.
---@return { count: integer, files: table[] }
function Writer:state()
  if self.file then
    local path = path_of(self, self.files[#self.files]) .. ".part"
    local ok, problem = self.file:flush()
    if not ok then cli.fail(1, "cannot write '%s': %s", path, problem) end
    system.sync(path)
  end
  return { count = self.count, files = self.files }
end

--- Completes the last file.
function Writer:finish()
  if self.file then complete(self) end
end

--- Gives the files their names.
function Writer:publish()
  for _, file in ipairs(self.files) do
    local path = path_of(self, file)
    if system.path_kind(path .. ".part") == "file" then system.rename(path .. ".part", path) end
  end
end

--- Leaves the files as they are, for another writer to go on with, or removes them.
---@param keep boolean
function Writer:abandon(keep)
  if self.file then self.file:close() end
  self.file = nil
  for _, file in ipairs(keep and {} or self.files) do os.remove(path_of(self, file) .. ".part") end
end

return M
