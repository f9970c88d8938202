-- SPDX-License-Identifier: MIT
--
-- shards.lua: batches from token files (.bin) of llm.c and nanoGPT, which stay on the disk and are mapped into memory. Files
-- with "val" in their names are for validation, the others for training.
--
--   local data = mb.data.shards { path = "fineweb", block_size = 1024, batch_size = 4 }     a folder
--   path = "fineweb/fineweb_*.bin"    a pattern, * and ? in the name of the file
--   path = "train.bin"                a file, and val.bin beside it if it is there; or an array of all of these
--
-- A sample is one of the windows of block_size tokens that lie next to each other in a file. Shuffled, each comes once an
-- epoch, in an order that (seed, epoch) choose; otherwise in the order of the files, batch for batch that of llm.c's loader.
-- In both, sample s is a function of s alone: the number of samples drawn is the whole state. Validation takes the windows
-- in their order.
--
-- meta.json beside the files, as scripts/data/tokenize.lua writes it, says which tokenizer made them; without it they are
-- taken for GPT-2's. Without vocab.bpe, samples are printed as numbers.

local binding = require "bindings.tokens"
local create = require "bindings.create"
local gpt2 = require "moonbow.data.gpt2"
local json = require "moonbow.io.json"
local options = require "moonbow.options"
local status = require "bindings.status"
local system = require "bindings.system"
local tokenizers = require "moonbow.data.tokenizer"

local M = {}

---@class moonbow.Shards batches of token files
---@field vocab_size integer
---@field train_tokens integer
---@field val_tokens integer
---@field block_size integer
---@field batch_size integer
---@field tokenizer moonbow.Tokenizer
local Shards = {}
Shards.__index = Shards

local GPT2_VOCABULARY = 50257

-- ----- files --------------------------------------------------------------------------------------------

local function split_path(path)
  local folder, name = path:match "^(.*)/([^/]*)$"
  return folder == "" and "/" or folder or ".", name or path
end

local function is_val(path)
  local _, name = split_path(path)
  return name:find "val" ~= nil
end

-- "*" and "?" as a Lua pattern.
local function pattern_of(glob)
  local escaped = glob:gsub("[%^%$%(%)%%%.%[%]%+%-]", "%%%0"):gsub("%*", ".*"):gsub("%?", ".")
  return "^" .. escaped .. "$"
end

local function list(folder, pattern, prefix)
  local paths = {}
  if system.path_kind(folder) ~= "folder" then return paths end
  for _, name in ipairs(system.list(folder)) do
    if name:find(pattern) then paths[#paths + 1] = prefix .. name end
  end
  return paths
end

--- Is a path a token file, or what names several: *.bin, a folder, a pattern?
---@param path string
---@return boolean
function M.is_shards(path)
  local kind = system.path_kind(path)
  if kind == "folder" then return true end
  return path:find "%.bin$" ~= nil or kind == "none" and path:find "[%*%?]" ~= nil
end

-- The files that one path stands for, in order.
local function expand(path)
  local kind, found = system.path_kind(path), {}
  if kind == "folder" then
    found = list(path, "%.bin$", path .. "/")
    if #found == 0 then status.fail("mb.data.shards: '%s' has no file *.bin", path) end
  elseif kind == "file" then
    found = { path }
    local folder, name = split_path(path)
    local partner = folder .. "/" .. name:gsub("train", "val")
    if name:find "train" and system.path_kind(partner) == "file" then found[2] = partner end
  elseif path:find "[%*%?]" then
    local folder, name = split_path(path)
    found = list(folder, pattern_of(name), path:find "/" and folder:gsub("/$", "") .. "/" or "")
    if #found == 0 then status.fail("mb.data.shards: no file is called '%s'", path) end
  else
    status.fail("mb.data.shards: there is no file or folder '%s'", path)
  end
  return found
end

-- Paths of both parts, each once.
local function files_of(given)
  local paths, seen = { train = {}, val = {} }, {}
  for _, path in ipairs(type(given) == "table" and given or { given }) do
    options.value("mb.data.shards", "a path", path, { type = "string" })
    if path:find "%z" then status.fail "mb.data.shards: a path holds a NUL" end
    for _, file in ipairs(expand(path)) do
      local part = paths[is_val(file) and "val" or "train"]
      if not seen[file] then part[#part + 1] = file end
      seen[file] = true
    end
  end
  return paths
end

-- ----- what the files are --------------------------------------------------------------------------------

local function meta_problem(meta)
  if type(meta) ~= "table" then return "is no JSON object" end
  local size = meta.vocab_size
  if type(size) ~= "number" or size % 1 ~= 0 or size < 1 or size > 2 ^ 31 - 1 then return "has no vocab_size" end
  if meta.tokenizer == "char" then
    if type(meta.codes) ~= "table" or #meta.codes ~= size then return "has no codes, one for each of vocab_size tokens" end
    for _, code in ipairs(meta.codes) do
      if type(code) ~= "number" or code % 1 ~= 0 or code < 0 or code > 0x10FFFF then
        return ("has a code that is no character: %s"):format(tostring(code))
      end
    end
  end
end

-- What meta.json beside the files says, or nil.
local function read_meta(folder)
  local path = folder .. "/meta.json"
  if system.path_kind(path) ~= "file" then return nil end
  local file, problem = io.open(path, "rb")
  if not file then status.fail("mb.data.shards: cannot open %s", problem) end
  local text = file:read "*a"
  file:close()
  local meta
  meta, problem = json.decode(text or "")
  problem = meta == nil and problem or meta_problem(meta)
  if problem then status.fail("mb.data.shards: '%s' %s", path, problem) end
  return meta
end

-- The tokenizer that made the files, and the number of its tokens. Without a tokenizer, text is the numbers.
local function tokenizer_of(o, folder)
  local meta = read_meta(folder) or { tokenizer = "gpt2", vocab_size = GPT2_VOCABULARY }
  local size = o.vocab_size or meta.vocab_size
  if meta.tokenizer == "bytes" then return tokenizers.bytes(), size end
  if meta.tokenizer == "char" then return tokenizers.of_codes(meta.codes), size end
  if meta.tokenizer ~= "gpt2" then return nil, size end
  if o.bpe then return gpt2.new { path = o.bpe }, size end
  local path = gpt2.find(gpt2.folders(folder))
  return path and gpt2.new { path = path }, size, not path
end

-- A hash of names, sizes and some of the contents: the files of a corpus are too long to be read for it.
local function fingerprint(paths)
  local parts = {}
  for _, path in ipairs(paths) do
    local _, name = split_path(path)
    local size = system.path_size(path)
    local file, problem = io.open(path, "rb")
    if not file then status.fail("mb.data.shards: cannot open %s", problem) end
    parts[#parts + 1] = ("%s %d "):format(name, size)
    for i = 0, 16 do
      file:seek("set", math.floor(math.max(0, size - 4096) * i / 16))
      parts[#parts + 1] = file:read(4096) or ""
    end
    file:close()
  end
  return system.sha256(table.concat(parts))
end

---@class moonbow.ShardsOptions
---@field path string|string[] files, folders, patterns
---@field block_size integer tokens of a window, T
---@field batch_size integer windows of a batch, B
---@field shuffle? boolean default true
---@field seed? integer default 1337
---@field vocab_size? integer default: that of the tokenizer; a token beyond it is an error
---@field bpe? string GPT-2's vocab.bpe, or the folder it is in

--- Opens token files.
---@param given moonbow.ShardsOptions
---@return moonbow.Shards
function M.new(given)
  local o = options.check("mb.data.shards", given, {
    path = { type = "string|table", required = true }, bpe = { type = "string" },
    block_size = { type = "integer", required = true, min = 1 },
    batch_size = { type = "integer", required = true, min = 1 },
    shuffle = { type = "boolean", default = true }, seed = { type = "integer", default = 1337, min = 0 },
    vocab_size = { type = "integer", min = 1, max = 2 ^ 31 - 1 },
  })
  local paths = files_of(o.path)
  if #paths.train == 0 then
    status.fail("mb.data.shards: no file is for training: all names have 'val', as '%s' does", paths.val[1] or "?")
  end
  local self = setmetatable({ block_size = o.block_size, batch_size = o.batch_size, seed = o.seed, shuffle = o.shuffle,
                              paths = paths, samples = { train = 0, val = 0 } }, Shards)
  self.tokenizer, self.vocab_size, self.lacks_bpe = tokenizer_of(o, (split_path(paths.train[1])))
  self.part = {}
  for split, files in pairs(paths) do
    local group = split == "train" and not o.shuffle and o.batch_size or 1
    self.part[split] = #files > 0 and binding.open(files, o.block_size, group, self.vocab_size) or nil
    self[split .. "_tokens"] = self.part[split] and self.part[split].count or 0
  end
  self.sha256 = fingerprint(paths.train)
  return self
end

-- ----- batches ------------------------------------------------------------------------------------------

--- The next batch of a part, or its batch number `index` (from 1), which moves nothing on.
---@param split? "train"|"val" default "train"
---@param index? integer
---@return { inputs: moonbow.Tensor, targets: moonbow.Tensor } batch i32 (B, T); targets are one token ahead
function Shards:batch(split, index)
  split = split or "train"
  options.value("data:batch", "the split", split, { choices = { "train", "val" } })
  options.value("data:batch", "the index", index or 1, { type = "integer", min = 1 })
  local part, B, T = self.part[split], self.batch_size, self.block_size
  if not part then status.fail "data:batch: there is no file for validation: none has 'val' in its name" end
  local first = index and (index - 1) * B or self.samples[split]
  local inputs, targets = create.empty({ B, T }, "i32", "cpu"), create.empty({ B, T }, "i32", "cpu")
  part:batch(inputs, targets, first, self.shuffle and split == "train" and self.seed or nil)
  if not index then self.samples[split] = first + B end
  local device = require("moonbow.create").device()
  if device ~= "cpu" then inputs, targets = inputs:to(device), targets:to(device) end
  return { inputs = inputs, targets = targets }
end

-- ----- text and tokens ----------------------------------------------------------------------------------

--- Tokens of a string.
---@param s string
---@return integer[]
function Shards:encode(s)
  options.value("data:encode", "the argument", s, { type = "string" })
  if not self.tokenizer then status.fail("data:encode: the tokenizer of these files is not here; %s", gpt2.advice) end
  return self.tokenizer:encode(s)
end

--- The string of tokens; their numbers where the tokenizer is not here.
---@param tokens integer[]|moonbow.Tensor
---@return string
function Shards:decode(tokens)
  if type(tokens) ~= "table" then options.value("data:decode", "the argument", tokens, { type = "tensor" }) end
  if self.tokenizer then return self.tokenizer:decode(tokens) end
  if type(tokens) ~= "table" then tokens = tokens:reshape(tokens.numel):totable() end
  return table.concat(tokens, " ") .. " "
end

--- Tokens to begin a sample with: the end of another text, a line break, or the first token of the files.
---@return integer[]
function Shards:prompt()
  local tokenizer = self.tokenizer
  local id = tokenizer and (tokenizer.id_of and tokenizer.id_of["\n"] or tokenizer.end_of_text)
    or self.lacks_bpe and GPT2_VOCABULARY - 1
  return { id or self:batch("train", 1).inputs:reshape(self.batch_size * self.block_size):totable()[1] }
end

-- ----- state --------------------------------------------------------------------------------------------

-- What decides which sample comes when.
local DECIDES = { "sha256", "seed", "shuffle", "block_size", "vocab_size", "batch_size" }

--- How many samples were drawn, and of which files.
---@return table
function Shards:state_dict()
  local state = { train = self.samples.train, val = self.samples.val }
  for _, name in ipairs(DECIDES) do state[name] = self[name] end
  if self.shuffle then state.batch_size = nil end
  return state
end

--- Goes on where a state was taken. The training files must be the same, by name, size and samples of their contents.
---@param state table
function Shards:load_state_dict(state)
  local here = self:state_dict()
  for _, name in ipairs(DECIDES) do
    if state[name] ~= here[name] then
      local what = name == "sha256" and "the fingerprint of the files" or name
      status.fail("data: %s is %s in the checkpoint, %s here", what, tostring(state[name]), tostring(here[name]))
    end
  end
  self.samples = { train = state.train, val = state.val }
end

return M
