-- SPDX-License-Identifier: MIT
--
-- tokenize.lua: the work of scripts/data/tokenize.lua: documents of files are encoded one by one and written to token files of
-- train and val. A text file is read whole, JSON lines line by line.

local cli = require "moonbow.cli"
local format = require "moonbow.report.format"
local gpt2 = require "moonbow.data.gpt2"
local host = require "bindings.host"
local json = require "moonbow.io.json"
local runtime = require "bindings.runtime"
local system = require "bindings.system"
local tokenizers = require "moonbow.data.tokenizer"
local writing = require "moonbow.io.writing"

require "bindings.tensor" -- methods of tensors

local M = {}

local HEADER_BYTES = 1024

-- ----- writing ------------------------------------------------------------------------------------------

-- int32, little-endian.
local function int32(x)
  local bytes = {}
  for i = 0, 3 do bytes[i + 1] = string.char(math.floor(x / 256 ^ i) % 256) end
  return table.concat(bytes)
end

-- A token, 16 bits.
local function uint16(x) return int32(x):sub(1, 2) end

local Writer = {}
Writer.__index = Writer

-- Writes one part, "train" or "val", under names that end in .part.
local function new_writer(settings, part)
  return setmetatable({ settings = settings, part = part, count = 0, in_file = 0, files = {} }, Writer)
end

local function put(self, text)
  local ok, problem = self.file:write(text)
  if not ok then cli.fail(1, "cannot write '%s.part': %s", self.files[#self.files], problem) end
end

function Writer:open()
  local s = self.settings
  local name = s.format == "nanogpt" and self.part .. ".bin" or ("%s_%s_%06d.bin"):format(s.name, self.part, #self.files + 1)
  local path = s.out .. "/" .. name
  if system.path_kind(path) ~= "none" then
    cli.fail(1, "--out %s: %s is there already; choose another folder or name", s.out, name)
  end
  local file, problem = io.open(path .. ".part", "wb")
  if not file then cli.fail(1, "cannot write: %s", problem) end
  self.file = file
  self.files[#self.files + 1] = path
  self.in_file = 0
  if s.format == "llmc" then put(self, ("\0"):rep(HEADER_BYTES)) end -- filled in when the number of tokens is known
end

function Writer:close()
  local path = self.files[#self.files] .. ".part"
  if self.settings.format == "llmc" then
    self.file:seek "set"
    put(self, int32(20240520) .. int32(1) .. int32(self.in_file))
  end
  local ok, problem = self.file:close()
  self.file = nil
  if not ok then cli.fail(1, "cannot write '%s': %s", path, problem) end
  system.sync(path)
end

-- Appends `count` tokens of two bytes each.
function Writer:add(bytes, count)
  local room = self.settings.format == "llmc" and self.settings.shard_size or math.huge
  local from = 0
  while from < count do
    if not self.file then self:open() end
    local n = math.min(count - from, room - self.in_file)
    put(self, n == count and bytes or bytes:sub(2 * from + 1, 2 * (from + n)))
    from, self.in_file, self.count = from + n, self.in_file + n, self.count + n
    if self.in_file == room then self:close() end
  end
end

-- Gives the files their names, or removes them.
function Writer:finish(complete)
  if self.file and complete then self:close() end
  if self.file then self.file:close() end
  for _, path in ipairs(self.files) do
    if complete then system.rename(path .. ".part", path) else os.remove(path .. ".part") end
  end
end

-- ----- tokens -------------------------------------------------------------------------------------------

local function as_u16(t) return t.dtype == "u16" and t or t:to "u16" end

-- text -> tokens as bytes, and their number; and the token between documents.
local function encoder(settings, inputs)
  local threads = settings.threads or runtime.threads()
  if settings.tokenizer == "gpt2" then
    local near = inputs[1] ~= "-" and inputs[1] or nil
    local found = settings.bpe or gpt2.find(gpt2.folders(near))
    if not found then
      cli.fail(1, "there is no vocab.bpe beside the first input nor in data/gpt2; %s, or name it with --bpe PATH", gpt2.advice)
    end
    local tokenizer = gpt2.new { path = found }
    return function(text) return tokenizer.codec:encode_bytes(text, "token", threads) end, uint16(tokenizer.end_of_text),
      { tokenizer = "gpt2", vocab_size = tokenizer.vocab_size, end_of_text = tokenizer.end_of_text }
  end
  return function(text) return host.bytes(as_u16(host.from_string(text, "u8", "cpu"))), #text end, "\10\0",
    { tokenizer = "bytes", vocab_size = 256 }
end

-- Characters are numbered by all texts together, so these are read before the first is encoded.
local function char_encoder(texts)
  local all = table.concat(texts, "\n")
  local made = tokenizers.char(host.from_string(all, "u8", "cpu"), "the input")
  local function encode(text)
    local ids = made:encode(text)
    return host.bytes(host.from_table(ids, "u16", "cpu")), #ids
  end
  local line_break = made.id_of["\n"]
  return encode, line_break and uint16(line_break),
    { tokenizer = "char", vocab_size = made.vocab_size, codes = made.codes }
end

-- ----- progress -----------------------------------------------------------------------------------------

-- A bar that is rewritten on a terminal; elsewhere a line each tenth of the way.
local function progress(total, quiet)
  local started, shown, tenths = system.time(), -1, 0
  local rewrites = system.is_terminal(2) and os.getenv "TERM" ~= "dumb"
  local bar = {}
  function bar.show(bytes, tokens, done)
    local now = system.time()
    if quiet or rewrites and now - shown < 0.1 and not done then return end
    shown = now
    local seconds, share = math.max(now - started, 1e-3), total and math.min(bytes / total, 1)
    local text = ("%s, %s tokens, %.1f MB/s"):format(format.bytes(bytes), format.count(tokens), bytes / seconds / 1e6)
    if share then
      local filled = math.floor(share * 24 + 0.5)
      local eta = share > 0 and not done and (", eta " .. format.duration(seconds / share - seconds)) or ""
      text = ("[%s%s] %3.0f%% %s%s"):format(("#"):rep(filled), ("."):rep(24 - filled), 100 * share, text, eta)
    end
    if rewrites then
      io.stderr:write("\r", text:sub(1, system.terminal_width(2) - 1), "\27[K", done and "\n" or "")
      io.stderr:flush()
    elseif done or share and math.floor(share * 10) > tenths then
      tenths = share and math.floor(share * 10) or 0
      print(text)
    end
  end
  return bar
end

-- ----- documents ----------------------------------------------------------------------------------------

local function is_jsonl(path, settings) return settings.field ~= nil or path:find "%.jsonl$" ~= nil end

local function open_input(path)
  if path == "-" then return io.stdin end
  if system.path_kind(path) == "folder" then cli.fail(1, "'%s' is a folder, a file was expected", path) end
  local file, problem = io.open(path, "rb")
  if not file then cli.fail(1, "cannot open: %s", problem) end
  return file
end

-- Where the part of a text for validation begins: behind `share` of its bytes, not within a character.
local function cut_of(text, share)
  local cut = math.floor(#text * (1 - share))
  while cut < #text and (text:byte(cut + 1) or 0) >= 0x80 and (text:byte(cut + 1) or 0) < 0xC0 do cut = cut + 1 end
  return cut
end

-- Calls take(text, bytes read) for every line's text.
local function each_line(path, settings, take)
  local file, number = open_input(path), 0
  local field = settings.field or "text"
  for line in file:lines() do
    number = number + 1
    if line:find "%S" then
      local record, problem = json.decode(line)
      local text = type(record) == "table" and record[field]
      if type(text) ~= "string" then
        cli.fail(1, "'%s' line %d: %s", path, number, problem or ("there is no text in the field '%s'"):format(field))
      end
      take(text, #line + 1)
    end
  end
  if path ~= "-" then file:close() end
end

local function read_whole(path)
  local file = open_input(path)
  local text = file:read "*a"
  if path ~= "-" then file:close() end
  if not text then cli.fail(1, "cannot read '%s'", path) end
  return text
end

-- What is done with documents: { settings, writers, bar, encode, mark, done, documents }.
local Work = {}
Work.__index = Work

-- Encodes a document, or the rest of one that is begun, into a part.
function Work:add(part, text, goes_on)
  if text ~= "" then
    local writer = self.writers[part]
    local bytes, count = self.encode(text)
    if writer.count > 0 and self.mark and not goes_on then writer:add(self.mark, 1) end
    writer:add(bytes, count)
  end
  if system.interrupted() ~= 0 then cli.fail(130, "interrupted; nothing was kept") end
end

function Work:show(bytes, done)
  self.done = self.done + bytes
  self.bar.show(self.done, self.writers.train.count + self.writers.val.count, done)
end

local PART = 4e6 -- bytes that are encoded at once, so that there is something to show

function Work:text_file(text)
  local cut, from = cut_of(text, self.settings.val), 1
  while from <= cut do
    -- A part ends with a word, where no token goes on.
    local to = math.min(cut - from > 2 * PART and text:find("[^%s\128-\255]%s", from + PART) or cut, cut)
    self:add("train", text:sub(from, to), from > 1)
    self:show(to - from + 1)
    from = to + 1
  end
  self:add("val", text:sub(cut + 1))
  self:show(#text - cut)
end

function Work:json_lines(path)
  local share = self.settings.val
  each_line(path, self.settings, function(text, bytes)
    self.documents = self.documents + 1
    local before, now = math.floor((self.documents - 1) * share + 1e-9), math.floor(self.documents * share + 1e-9)
    self:add(now > before and "val" or "train", text)
    self:show(bytes)
  end)
end

-- Encodes all inputs into the writers; returns what meta.json says of the tokens.
local function run(inputs, settings, writers, bar)
  local work = setmetatable({ settings = settings, writers = writers, bar = bar, done = 0, documents = 0 }, Work)
  local texts = {}
  local meta
  if settings.tokenizer == "char" then
    for i, path in ipairs(inputs) do
      if is_jsonl(path, settings) then cli.fail(2, "--tokenizer char is for text files; use gpt2 or bytes for JSON lines") end
      texts[i] = read_whole(path)
    end
    work.encode, work.mark, meta = char_encoder(texts)
  else
    work.encode, work.mark, meta = encoder(settings, inputs)
  end
  for i, path in ipairs(inputs) do
    if is_jsonl(path, settings) then work:json_lines(path) else work:text_file(texts[i] or read_whole(path)) end
  end
  work:show(0, true)
  return meta
end

-- Bytes of all inputs, or nil if one of them is not a file.
local function total_bytes(inputs)
  local total = 0
  for _, path in ipairs(inputs) do
    local ok, bytes = pcall(system.path_size, path)
    if path == "-" or not ok then return nil end
    total = total + bytes
  end
  return total
end

---@param inputs string[]
---@param settings table as scripts/data/tokenize.lua has them
---@return integer exit code
function M.run(inputs, settings)
  for _, path in ipairs(inputs) do
    if path ~= "-" and system.path_kind(path) == "none" then cli.fail(1, "there is no file '%s'", path) end
  end
  if settings.name:find "/" then cli.fail(2, "--name %s: a name has no '/'", settings.name) end
  if settings.name:find "val" then cli.fail(2, "--name %s: files with 'val' in their names are for validation", settings.name) end
  if settings.bpe and settings.tokenizer ~= "gpt2" then cli.fail(2, "--bpe is for --tokenizer gpt2") end
  system.make_folder(settings.out)
  local meta_path = settings.out .. "/meta.json"
  if system.path_kind(meta_path) ~= "none" then
    cli.fail(1, "--out %s: the folder holds token files already (meta.json); choose another", settings.out)
  end
  system.interrupt_install()
  local writers = { train = new_writer(settings, "train"), val = new_writer(settings, "val") }
  local ok, meta = pcall(run, inputs, settings, writers, progress(total_bytes(inputs), settings.quiet))
  if ok and writers.train.count == 0 then
    ok, meta = pcall(cli.fail, 1, "the inputs have no text")
  end
  for _, part in ipairs { "train", "val" } do writers[part]:finish(ok) end
  if not ok then error(meta, 0) end
  meta.format, meta.train_tokens, meta.val_tokens = settings.format, writers.train.count, writers.val.count
  writing.whole_file(meta_path, function(aside) writing.text(aside, json.encode(meta) .. "\n") end)
  if not settings.quiet then
    print(("%s: %d training and %d validation tokens in %d files, vocabulary %d"):format(settings.out, meta.train_tokens,
      meta.val_tokens, #writers.train.files + #writers.val.files, meta.vocab_size))
  end
  return 0
end

return M
