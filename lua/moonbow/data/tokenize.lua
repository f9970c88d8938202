-- SPDX-License-Identifier: MIT
--
-- tokenize.lua: the work of scripts/data/tokenize.lua: documents of files are encoded one by one and written to token files of
-- train and val. A text is read in pieces, JSON lines line by line, so that memory does not grow with the input. Where the
-- work stands is written to tokenize.part.json every few seconds and when it is interrupted; the same command goes on there.

local cli = require "moonbow.cli"
local format = require "moonbow.report.format"
local gpt2 = require "moonbow.data.gpt2"
local host = require "bindings.host"
local json = require "moonbow.io.json"
local lines = require "moonbow.io.lines"
local pieces = require "moonbow.data.pieces"
local runtime = require "bindings.runtime"
local system = require "bindings.system"
local token_writer = require "moonbow.data.token_writer"
local utf8 = require "moonbow.io.utf8"
local writing = require "moonbow.io.writing"

require "bindings.tensor" -- methods of tensors

local M = {}

local uint16 = token_writer.uint16
local STATE = "tokenize.part.json"
local LOCK = "tokenize.lock" -- while files are written
local SECONDS = 5 -- between records of where the work stands

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
local function char_encoder(inputs, settings)
  local seen, codes, id_of = {}, {}, {}
  for _, input in ipairs(inputs) do
    local at = 0
    input.file:seek("set", 0)
    pieces.each(input.file, input.bytes, settings.piece, function(text)
      local i = 0
      while i < #text do
        local code, after = utf8.next_code(utf8.of_string, text, i, #text)
        if not code then
          cli.fail(1, "'%s' is not UTF-8 at byte %d; --tokenizer bytes takes any file", input.path, at + i)
        end
        seen[code], i = true, after
      end
      at = at + #text
    end)
  end
  seen[10] = seen[10] or #inputs > 1 or nil -- a line break between texts
  for code in pairs(seen) do codes[#codes + 1] = code end
  table.sort(codes)
  if #codes > 65536 then cli.fail(1, "the inputs have %d different characters, at most 65536 are possible", #codes) end
  for id = 0, #codes - 1 do id_of[codes[id + 1]] = id end
  local function encode(text)
    local ids, i = {}, 0
    while i < #text do
      local code, after = utf8.next_code(utf8.of_string, text, i, #text)
      ids[#ids + 1], i = id_of[code], after
    end
    return host.bytes(host.from_table(ids, "u16", "cpu")), #ids
  end
  return encode, id_of[10] and uint16(id_of[10]), { tokenizer = "char", vocab_size = #codes, codes = codes }
end

-- ----- progress -----------------------------------------------------------------------------------------

-- A bar that is rewritten on a terminal; elsewhere a line each tenth of the way.
local function progress(total, quiet, before)
  local started, shown, tenths = system.time(), -1, 0
  local rewrites = system.is_terminal(2) and os.getenv "TERM" ~= "dumb"
  local bar = {}
  function bar.show(bytes, tokens, done)
    local now = system.time()
    if quiet or rewrites and now - shown < 0.1 and not done then return end
    shown = now
    local seconds, share = math.max(now - started, 1e-3), total and math.min(bytes / total, 1)
    local text = ("%s, %s tokens, %.1f MB/s"):format(format.bytes(bytes), format.count(tokens), (bytes - before) / seconds / 1e6)
    if share then
      local filled = math.floor(share * 24 + 0.5)
      local left = seconds * (total - bytes) / math.max(bytes - before, 1)
      local eta = share > 0 and not done and ", eta " .. format.duration(left) or ""
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

-- ----- inputs -------------------------------------------------------------------------------------------

local function is_jsonl(path, settings) return settings.field ~= nil or path:find "%.jsonl$" ~= nil end

-- Opens an input: { path, file, bytes, sha256 of its ends }. Of standard input a text is read whole, as its end is for
-- validation; JSON lines come as they are written.
local function open_input(path, settings)
  local kind = is_jsonl(path, settings) and "lines" or "text"
  if path == "-" then
    if kind == "lines" then return { path = path, kind = kind, file = io.stdin } end
    local text = io.stdin:read "*a" or ""
    return { path = path, kind = kind, file = pieces.of_text(text), bytes = #text }
  end
  if system.path_kind(path) == "folder" then cli.fail(1, "'%s' is a folder, a file was expected", path) end
  local file, problem = io.open(path, "rb")
  if not file then cli.fail(1, "cannot open: %s", problem) end
  local ok, bytes = pcall(system.path_size, path)
  if not ok then return { path = path, kind = kind, file = file } end -- a pipe
  local first = file:read(65536) or ""
  file:seek("set", math.max(0, bytes - 65536))
  local sha256 = system.sha256(first .. (file:read(65536) or ""))
  file:seek("set", 0)
  return { path = path, kind = kind, file = file, bytes = bytes, sha256 = sha256 }
end

local function open_inputs(paths, settings)
  local inputs = {}
  for i, path in ipairs(paths) do
    local input = open_input(path, settings)
    if settings.tokenizer == "char" and input.kind == "lines" then
      cli.fail(2, "--tokenizer char is for text files; use gpt2 or bytes for JSON lines")
    end
    if input.kind == "text" and not input.bytes then -- a pipe with a name
      input.file = pieces.of_text(input.file:read "*a" or "")
      input.bytes = #input.file.text
    end
    inputs[i] = input
  end
  return inputs
end

-- Bytes of all inputs, or nil if one of them is not a file.
local function total_bytes(inputs)
  local total = 0
  for _, input in ipairs(inputs) do
    if not input.bytes then return nil end
    total = total + input.bytes
  end
  return total
end

-- ----- where the work stands ----------------------------------------------------------------------------

-- What must be the same for the work to go on: options and inputs, as texts.
local function parameters(inputs, settings, meta)
  local list = {}
  for _, name in ipairs { "tokenizer", "format", "name", "shard_size", "val", "field" } do
    list[#list + 1] = { "--" .. name, settings[name] == nil and "none" or tostring(settings[name]) }
  end
  list[#list + 1] = { "the vocabulary", tostring(meta.vocab_size) }
  list[#list + 1] = { "the number of inputs", tostring(#inputs) }
  for _, input in ipairs(inputs) do
    list[#list + 1] = { "the input " .. input.path, ("%d bytes, sha256 %s"):format(input.bytes, input.sha256:sub(1, 16)) }
  end
  return list
end

local function is_state(x)
  if type(x) ~= "table" or type(x.parameters) ~= "table" or type(x.place) ~= "table" then return false end
  for _, name in ipairs { "input", "offset", "done", "documents" } do
    if type(x.place[name]) ~= "number" then return false end
  end
  for _, part in ipairs { "train", "val" } do
    local writer = x[part]
    if type(writer) ~= "table" or type(writer.count) ~= "number" or type(writer.files) ~= "table" then return false end
    for _, file in ipairs(writer.files) do
      if type(file) ~= "table" or type(file.name) ~= "string" or file.name:find "/" or type(file.tokens) ~= "number" then
        return false
      end
    end
  end
  return true
end

-- The state that an interrupted run left, if it was of the same work; else an error that names the difference.
local function read_state(path, now)
  if system.path_kind(path) ~= "file" then return nil end
  local file, problem = io.open(path, "rb")
  if not file then cli.fail(1, "cannot open: %s", problem) end
  local text = file:read "*a"
  file:close()
  local state
  state, problem = json.decode(text)
  if not is_state(state) then
    cli.fail(1, "'%s' cannot be read (%s); --restart begins anew", path, problem or "it is of another kind")
  end
  for i = 1, math.max(#now, #state.parameters) do
    local was, is = state.parameters[i] or {}, now[i] or {}
    if was[1] ~= is[1] or was[2] ~= is[2] then
      cli.fail(1, "'%s' is of an interrupted run with %s = %s, this one has %s = %s; the same command goes on with it, --restart "
        .. "begins anew", path, tostring(was[1]), tostring(was[2]), tostring(is[1]), tostring(is[2]))
    end
  end
  return state
end

-- ----- documents ----------------------------------------------------------------------------------------

-- What is done with documents: { settings, inputs, writers, bar, encode, mark, place = { input, offset, done, documents } };
-- the place is the input that is read, from 1, its next byte, and bytes and documents in all.
local Work = {}
Work.__index = Work

function Work:save()
  if not self.state_path then return end
  local state = { parameters = self.parameters, place = self.place, train = self.writers.train:state(),
                  val = self.writers.val:state() }
  writing.whole_file(self.state_path, function(aside) writing.text(aside, json.encode(state) .. "\n") end)
  self.saved = system.time()
end

-- Encodes a document, or the rest of one that is begun, into a part.
function Work:add(part, text, goes_on)
  if text == "" then return end
  local writer = self.writers[part]
  local bytes, count = self.encode(text)
  if writer.count > 0 and self.mark and not goes_on then writer:add(self.mark, 1) end
  writer:add(bytes, count)
end

-- So many bytes of the input are done; stops there if the user wants it.
function Work:advance(bytes)
  local place = self.place
  place.offset, place.done = place.offset + bytes, place.done + bytes
  self.bar.show(place.done, self.writers.train.count + self.writers.val.count)
  if system.interrupted() ~= 0 then
    self:save()
    cli.fail(130, self.state_path and "interrupted; the same command goes on from here" or "interrupted; nothing was kept")
  end
  if self.state_path and system.time() - self.saved > SECONDS then self:save() end
end

-- Where the part of a text for validation begins: behind `share` of its bytes, not within a character.
local function cut_of(input, share)
  local cut = math.floor(input.bytes * (1 - share))
  input.file:seek("set", cut)
  local next_bytes = input.file:read(4) or ""
  local continues = next_bytes:match "^[\128-\191]*"
  return math.min(cut + #continues, input.bytes)
end

function Work:text_file(input)
  local cut = cut_of(input, self.settings.val)
  for _, part in ipairs { { "train", 0, cut }, { "val", cut, input.bytes } } do
    local name, first, stop = unpack(part)
    if self.place.offset >= first and self.place.offset < stop then
      input.file:seek("set", self.place.offset)
      local missing = pieces.each(input.file, stop - self.place.offset, self.settings.piece, function(text)
        self:add(name, text, self.place.offset > first)
        self:advance(#text)
      end)
      if missing > 0 then cli.fail(1, "'%s' has become shorter, by %d bytes", input.path, missing) end
    end
  end
end

function Work:json_lines(input)
  local place, share, field, number = self.place, self.settings.val, self.settings.field or "text", 0
  local begun = place.offset
  if begun > 0 then input.file:seek("set", begun) end
  lines.each(input.file, function(line, whole)
    number = number + 1
    if line:find "%S" then
      local record, problem = json.decode(line)
      local text = type(record) == "table" and record[field]
      if type(text) ~= "string" then
        cli.fail(1, "'%s' line %d%s: %s", input.path, number, begun > 0 and (" behind byte %d"):format(begun) or "",
          problem or ("there is no text in the field '%s'"):format(field))
      end
      place.documents = place.documents + 1
      local before, now = math.floor((place.documents - 1) * share + 1e-9), math.floor(place.documents * share + 1e-9)
      self:add(now > before and "val" or "train", text)
    end
    self:advance(#line + (whole and 1 or 0))
  end)
end

function Work:run()
  for i = self.place.input, #self.inputs do
    local input = self.inputs[i]
    if i > self.place.input then self.place.input, self.place.offset = i, 0 end
    if input.kind == "lines" then self:json_lines(input) else self:text_file(input) end
    if input.path ~= "-" then input.file:close() end
  end
  self.bar.show(self.place.done, self.writers.train.count + self.writers.val.count, true)
end

-- ----- the whole ----------------------------------------------------------------------------------------

local function check(paths, settings)
  for _, path in ipairs(paths) do
    if path ~= "-" and system.path_kind(path) == "none" then cli.fail(1, "there is no file '%s'", path) end
  end
  if settings.name:find "/" then cli.fail(2, "--name %s: a name has no '/'", settings.name) end
  if settings.name:find "val" then cli.fail(2, "--name %s: files with 'val' in their names are for validation", settings.name) end
  if settings.bpe and settings.tokenizer ~= "gpt2" then cli.fail(2, "--bpe is for --tokenizer gpt2") end
end

-- Removes what an interrupted run left, or of it only the files whose writing was cut short, which are never read.
local function remove_parts(folder, whole)
  for _, name in ipairs(system.list(folder)) do
    local is_part = name:find "%.bin%.part$" or name == STATE
    local of = name:match "^(.*)%.%d+%.part$" -- a file written aside, see writing.whole_file
    local is_aside = of and (of:find "%.bin%.part$" or of:find "%.bin$" or of == STATE or of == "meta.json")
    if whole and is_part or is_aside then system.remove(folder .. "/" .. name) end
  end
end

local function prepare(paths, settings)
  local inputs = open_inputs(paths, settings)
  local encode, mark, meta
  if settings.tokenizer == "char" then
    encode, mark, meta = char_encoder(inputs, settings)
  else
    encode, mark, meta = encoder(settings, paths)
  end
  local work = setmetatable({ settings = settings, inputs = inputs, encode = encode, mark = mark, meta = meta,
    place = { input = 1, offset = 0, done = 0, documents = 0 }, saved = system.time() }, Work)
  local can_go_on = true
  for _, input in ipairs(inputs) do can_go_on = can_go_on and input.sha256 ~= nil end
  local before
  if can_go_on then
    work.state_path, work.parameters = settings.out .. "/" .. STATE, parameters(inputs, settings, meta)
    before = read_state(work.state_path, work.parameters)
  end
  if before then work.place = before.place end
  work.writers = { train = token_writer.new(settings, "train", before and before.train),
                   val = token_writer.new(settings, "val", before and before.val) }
  if before and not settings.quiet then
    print(("going on after %s, %s tokens"):format(format.bytes(work.place.done),
      format.count(before.train.count + before.val.count)))
  end
  work.bar = progress(total_bytes(inputs), settings.quiet, work.place.done)
  return work
end

-- Names and describes what is complete.
local function publish(work, meta_path)
  local meta, writers, settings = work.meta, work.writers, work.settings
  for _, part in ipairs { "train", "val" } do writers[part]:finish() end
  work:save() -- from here on every file is complete
  for _, part in ipairs { "train", "val" } do writers[part]:publish() end
  meta.format, meta.train_tokens, meta.val_tokens = settings.format, writers.train.count, writers.val.count
  writing.whole_file(meta_path, function(aside) writing.text(aside, json.encode(meta) .. "\n") end)
  if work.state_path then os.remove(work.state_path) end
  if settings.quiet then return end
  print(("%s: %d training and %d validation tokens in %d files, vocabulary %d"):format(settings.out, meta.train_tokens,
    meta.val_tokens, #writers.train.files + #writers.val.files, meta.vocab_size))
end

-- The lock of the folder, until it is given back: two that write the same files would mix their tokens.
local function lock(folder)
  local path = folder .. "/" .. LOCK
  local ok, held = pcall(system.lock, path)
  if not ok then
    local holder = tostring(held):match "is locked by (process %d+)"
    if holder then cli.fail(1, "--out %s: %s is writing into this folder", folder, holder) end
    error(held, 0)
  end
  return function()
    os.remove(path)
    system.unlock(held)
  end
end

-- The work in a folder that nobody else writes into.
local function run(paths, settings)
  local meta_path = settings.out .. "/meta.json"
  if system.path_kind(meta_path) ~= "none" then
    cli.fail(1, "--out %s: the folder holds token files already (meta.json); choose another", settings.out)
  end
  remove_parts(settings.out, settings.restart)
  local work = prepare(paths, settings)
  local ok, problem = pcall(work.run, work)
  if ok and work.writers.train.count == 0 then ok, problem = pcall(cli.fail, 1, "the inputs have no text") end
  if not ok then
    local keep = work.state_path and type(problem) == "table" and problem.code == 130
    for _, part in ipairs { "train", "val" } do work.writers[part]:abandon(keep) end
    if work.state_path and not keep then os.remove(work.state_path) end
    error(problem, 0)
  end
  publish(work, meta_path)
end

---@param paths string[]
---@param settings table as scripts/data/tokenize.lua has them
---@return integer exit code
function M.run(paths, settings)
  check(paths, settings)
  system.make_folder(settings.out)
  local unlock = lock(settings.out)
  system.interrupt_install()
  local ok, problem = pcall(run, paths, settings)
  unlock()
  if not ok then error(problem, 0) end
  return 0
end

return M
