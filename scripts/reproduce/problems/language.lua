-- SPDX-License-Identifier: MIT
--
-- language.lua: what the scripts that train language models have in common: where texts lie, sizes as options, models,
-- clippers, the loop of a training, and its books (loss of validation against steps and seconds, checkpoints). What is theirs
-- alone, optimizers, grids and claims, is in the scripts.
--
-- Seconds are those of training alone, evaluations left out. On the CPU they are processor seconds divided by the threads, so
-- that runs beside each other, and other programs, do not show; on CUDA they are the clock's.

local cli = require "moonbow.cli"
local load = require "bindings.load"
local system = require "bindings.system"

local M = {}

local SAVE_EVERY = 300 -- seconds between checkpoints
local DIVERGED = 100 -- a loss beyond it

-- ----- options ------------------------------------------------------------------------------------------

-- Options of scripts that can make large runs.
local LARGE = {
  { "grad_accum", 1, "micro-batches of a step", kind = "integer", min = 1 },
  { "dtype", "f32", "of computation", choices = { "f32", "bf16" } },
}

---Rows of options for sizes of a model and of its training; a script's own ones come behind.
---@param more table[]
---@param is_large? boolean whether it knows grad_accum and dtype
---@return table[]
function M.rows(more, is_large)
  local rows = {
    { "data", nil, "what to train on", kind = "string", value = "PATH" },
    { "n_layer", 6, "transformer blocks", kind = "integer", min = 1 },
    { "n_head", 6, "attention heads", kind = "integer", min = 1 },
    { "n_embd", 384, "width", kind = "integer", min = 1 },
    { "block_size", 256, "tokens of context", kind = "integer", min = 1 },
    { "batch_size", 64, "sequences of a batch", kind = "integer", min = 1 },
    { "steps", 10000, "updates", kind = "integer", min = 1 },
    { "eval_every", 250, "steps between evaluations", kind = "integer", min = 1 },
    { "eval_iters", 20, "batches of an evaluation", kind = "integer", min = 1 },
  }
  for _, row in ipairs(is_large and LARGE or {}) do rows[#rows + 1] = row end
  for _, row in ipairs(more) do rows[#rows + 1] = row end
  return rows
end

local SIZES = { "n_layer", "n_head", "n_embd", "block_size", "batch_size", "grad_accum", "steps", "eval_every", "eval_iters",
  "dtype", "dropout", "warmup" }

---What of a script's settings a run's result depends on, with more.
---@param s table
---@param more table
---@return table
function M.settings(s, more)
  local o = { data = s.data_id }
  for _, name in ipairs(SIZES) do o[name] = s[name] end
  for name, value in pairs(more) do o[name] = value end
  return o
end

---Numbers of an option with commas between, each once.
---@param s table
---@param name string
---@param whole? boolean whether they must be without a fraction
---@return number[]
function M.numbers(s, name, whole)
  local list, seen = {}, {}
  for word in s[name]:gmatch "[^,]+" do
    local value = tonumber(word)
    if not value or not (value > 0 and value < math.huge) then cli.fail(2, "--%s: '%s' is no number above 0", name, word) end
    if whole and value % 1 ~= 0 then cli.fail(2, "--%s: %s is not a whole number", name, word) end
    if seen[value] then cli.fail(2, "--%s %s: %s is there twice", name, s[name], word) end
    list[#list + 1], seen[value] = value, true
  end
  if #list == 0 then cli.fail(2, "--%s %s: there is none", name, s[name]) end
  return list
end

-- ----- texts --------------------------------------------------------------------------------------------

---The path that --data names, or the first that is there of those in this checkout's folder, or nil.
---@param s table
---@param candidates string[]
---@return string?
function M.find(s, candidates)
  if s.data then
    if system.path_kind(s.data) == "none" and not s.data:find "[*?]" then cli.fail(1, "--data: there is no '%s'", s.data) end
    return system.absolute(s.data)
  end
  for _, path in ipairs(candidates) do
    path = load.root .. "/" .. path
    if system.path_kind(path) ~= "none" then return system.absolute(path) end
  end
end

---Sets s.text_path, s.data_id and s.data_note of a script on characters: Shakespeare's plays, or whatever text --data names.
---@param s table
function M.find_characters(s)
  local path = M.find(s, { "data/shakespeare/input.txt", "../shared/data/tinyshakespeare/input.txt" })
  if path and system.path_kind(path) == "folder" then
    cli.fail(1, "--data: '%s' is a folder; characters are those of one text", s.data)
  end
  s.text_path = path or nil
  if path then
    s.data_id = system.sha256_file(path):sub(1, 12)
    s.data_note = ("Characters of %s."):format(path:match "[^/]*/[^/]*$" or path)
  else
    s.data_id = "the project's own text"
    s.data_note = "Characters of the project's own text, as data/shakespeare/input.txt is not there: fetch it with "
      .. "luajit scripts/data/get.lua shakespeare."
  end
end

---What the path of an option holds, as a short hash: of a file, or of all files in the folder that it is or whose index it is.
---@param s table
---@param name string
---@return string
function M.content_id(s, name)
  local path = s[name]
  if system.path_kind(path) == "none" then cli.fail(1, "--%s: there is no '%s'", name, path) end
  local folder = path:find "%.index%.json$" and (path:match "^(.*)/[^/]*$" or ".") or path
  if system.path_kind(folder) == "file" then return system.sha256_file(path):sub(1, 12) end
  local hashes = {}
  for _, file in ipairs(system.list(folder)) do
    if system.path_kind(folder .. "/" .. file) == "file" then
      hashes[#hashes + 1] = file .. " " .. system.sha256_file(folder .. "/" .. file)
    end
  end
  return system.sha256(table.concat(hashes, "\n")):sub(1, 12)
end

-- Text files that a path stands for: itself, all .txt of a folder, or what an .xz file holds, unpacked into the folder `out`.
local function texts_of(path, out)
  if path:find "%.xz$" then
    local unpacked = out .. "/text.txt"
    local function quoted(word) return "'" .. word:gsub("'", "'\\''") .. "'" end
    local done = os.execute(("xz -dc %s >%s"):format(quoted(path), quoted(unpacked)))
    if done ~= 0 and done ~= true then cli.fail(1, "cannot unpack '%s' with xz", path) end
    return { unpacked }
  end
  if system.path_kind(path) ~= "folder" then return { path } end
  local list = {}
  for _, name in ipairs(system.list(path)) do
    if name:find "%.txt$" then list[#list + 1] = path .. "/" .. name end
  end
  if #list == 0 then cli.fail(1, "'%s' has neither token files (.bin) nor texts (.txt)", path) end
  return list
end

-- GPT-2's merges, or the first `count` of them in a file of their own; nil if they are not there.
local function merges_of(path, count, out)
  local gpt2 = require "moonbow.data.gpt2"
  local found = gpt2.find(gpt2.folders(path))
  if not found or count >= 50000 then return found end
  local lines = {}
  for line in io.lines(found) do
    lines[#lines + 1] = line
    if #lines > count then break end -- the first line is a version
  end
  local short = ("%s/merges-%d.bpe"):format(out, count)
  local writing = require "moonbow.io.writing"
  writing.whole_file(short, function(aside) writing.text(aside, table.concat(lines, "\n") .. "\n") end)
  return short
end

local function has_token_files(path)
  if system.path_kind(path) ~= "folder" then return require("moonbow.data.shards").is_shards(path) end
  for _, name in ipairs(system.list(path)) do
    if name:find "%.bin$" then return true end
  end
  return false
end

-- Encodes texts as scripts/data/tokenize.lua does, in a process of its own: by these merges, or as bytes.
local function tokenize(inputs, folder, merges)
  local command, log = { arg[-1] or "luajit", load.root .. "/scripts/data/tokenize.lua", unpack(inputs) }, folder .. ".log"
  local function add(...)
    for _, word in ipairs { ... } do command[#command + 1] = word end
  end
  add("--out", folder, "--quiet", "--tokenizer", merges and "gpt2" or "bytes")
  if merges then add("--bpe", merges) end
  local child = require("bindings.process").spawn(command, { log = log })
  local ended = child:wait()
  child.channel:close()
  if ended.code ~= 0 then cli.fail(1, "cannot encode '%s': see %s", inputs[1], log) end
  system.remove(log)
end

-- Token files of a text, in a folder below s.out that is made once.
local function encode(s, path)
  local merges = merges_of(path, s.merges, s.out)
  local inputs, hashes = texts_of(path, s.out), {}
  for i, input in ipairs(inputs) do hashes[i] = system.sha256_file(input) end
  local id = system.sha256(table.concat(hashes) .. (merges and s.merges or "bytes")):sub(1, 12)
  local folder = ("%s/tokens-%s"):format(s.out, id)
  if system.path_kind(folder .. "/meta.json") ~= "file" then
    tokenize(inputs, folder, merges)
  end
  return folder, merges and ("GPT-2's byte-pair code, %d merges"):format(s.merges) or "bytes, as vocab.bpe is not there"
end

---Sets s.text_path, s.data_id and s.data_note of a script on tokens: token files, of FineWeb if they are there, or a text that is
---encoded with GPT-2's first s.merges merges: --data, the books, or the project's own.
---@param s table
function M.find_tokens(s)
  local path, how = M.find(s, { "data/fineweb", "data/books", "../shared/data/books/books.txt.xz" }), "token files"
  local name = path and (path:match "[^/]*/[^/]*$" or path) or "the project's own text"
  if not path then
    path = s.out .. "/corpus.txt"
    local writing = require "moonbow.io.writing"
    writing.whole_file(path, function(aside) writing.text(aside, require("moonbow").data.corpus()) end)
  end
  if not has_token_files(path) then path, how = encode(s, path) end
  local data = require("moonbow").data.shards { path = path, block_size = 1, batch_size = 1 }
  s.text_path, s.data_id = path, data.sha256:sub(1, 12)
  s.data_note = ("Tokens of %s: %s; vocabulary %d, %d for training."):format(name, how, data.vocab_size, data.train_tokens)
end

---Batches of what find_characters or find_tokens has found.
---@param run moonbow.Run
---@param context moonbow.experiment.Context
---@return moonbow.Text|moonbow.Shards
function M.open(run, context)
  local mb, o, path = require "moonbow", run.settings, context.settings.text_path
  if path and require("moonbow.data.shards").is_shards(path) then
    return mb.data.shards { path = path, block_size = o.block_size, batch_size = o.batch_size, seed = run.seed }
  end
  return mb.data.text { path = path, text = not path and mb.data.corpus() or nil, block_size = o.block_size,
    batch_size = o.batch_size, seed = run.seed }
end

-- ----- parts of a run -----------------------------------------------------------------------------------

---The model of a run: `build` with the sizes that its settings have.
---@param build fun(options: table): moonbow.LanguageModel such as mb.models.gpt2
---@param run moonbow.Run
---@param data moonbow.Text|moonbow.Shards
function M.model(build, run, data)
  local o = run.settings
  return build { vocab_size = data.vocab_size, block_size = o.block_size, n_layer = o.n_layer, n_head = o.n_head,
    n_embd = o.n_embd, dropout = o.dropout, dtype = o.dtype, seed = run.seed }
end

---The clipper of a run: o.clip is "norm", of all gradients, or "spectral", of all but those of embeddings and head; with
---o.clipped "matrices", of hidden matrices alone. o.view: what is one matrix, as mb.clip.spectral has it.
---@param o { clip: string, threshold: number, rank: integer, oversample: integer, power_iters: integer, clipped?: string,
---  view?: string }
function M.clip(o)
  local mb = require "moonbow"
  if o.clip == "norm" then return mb.clip.norm { max_norm = o.threshold } end
  return mb.clip.spectral { threshold = o.threshold, method = "randomized", rank = o.rank, oversample = o.oversample,
    power_iters = o.power_iters, view = o.view,
    where = o.clipped == "matrices" and function(p) return p.role == "matrix" end or nil }
end

---Mean loss of the first batches for validation, which are the same in all runs of a seed.
---@param model moonbow.LanguageModel
---@param data moonbow.Text|moonbow.Shards
---@param count integer
---@return number
function M.evaluate(model, data, count)
  local mb, sum = require "moonbow", 0
  model:eval(function()
    mb.no_grad(function()
      for i = 1, count do
        mb.scope(function() sum = sum + model:loss(data:batch("val", i)):item() end)
      end
    end)
  end)
  return sum / count
end

---Seconds of this process's work so far: differences are what counts.
---@param s table settings of the script
---@return number
function M.clock(s)
  if s.device == "cpu" then return os.clock() / s.threads end
  local mb = require "moonbow"
  mb.synchronize()
  return mb.time()
end

-- ----- books --------------------------------------------------------------------------------------------

---@class moonbow.reproduce.Journal
---@field step integer steps done
---@field sums table<string, number> all that is counted along the way; a checkpoint holds it
local Journal = {}
Journal.__index = Journal

-- seconds: of training; loss, losses: of the steps since the last point of the curve; asked, clipped, saturated: matrices that
-- were looked at, clipped, not fully clipped.
local NOTHING = { seconds = 0, loss = 0, losses = 0, asked = 0, clipped = 0, saturated = 0 }

---The books of a run, which goes on from its last checkpoint if there is one.
---@param run moonbow.Run
---@param context moonbow.experiment.Context
---@param objects { model: table, optimizer: table, clip?: table, data: table }
---@return moonbow.reproduce.Journal
function M.journal(run, context, objects)
  local step, sums = context:resume(objects)
  local self = setmetatable({ o = run.settings, context = context, model = objects.model, data = objects.data, step = step,
    sums = sums or {}, saved_at = system.time() }, Journal)
  for name, value in pairs(NOTHING) do self.sums[name] = self.sums[name] or value end
  if #context:history() == 0 then -- one that was killed early has its first point
    context:log { step = 0, seconds = 0, val = M.evaluate(self.model, self.data, self.o.eval_iters) }
  end
  return self
end

---Begins a step.
function Journal:begin(step)
  require("moonbow").set_step(step)
  self.started = M.clock(self.context.settings)
end

---Whether a step can be made: loss and gradients are finite. If not, the run is over.
---@param loss number
function Journal:is_finite(loss)
  local ok = loss < DIVERGED and not self.model:find_nonfinite_gradient()
  if not ok then self.diverged_at = self.step + 1 end
  return ok
end

---Adds to a sum of the run's own.
---@param name string
---@param value number
function Journal:add(name, value) self.sums[name] = (self.sums[name] or 0) + value end

-- Counts what a clipper reports: matrices that were clipped, and not fully.
local function count(self, report)
  for _, row in ipairs(report or {}) do
    self:add("asked", 1)
    self:add("clipped", row.clipped and 1 or 0)
    self:add("saturated", row.saturated and 1 or 0)
  end
  if report and report.norm and #report == 0 then
    self:add("asked", 1)
    self:add("clipped", report.clipped and 1 or 0)
  end
end

---Ends a step: notes it, evaluates when it is time. `more` are further numbers for this point of the curve, or a function
---that gives them, asked only then.
---@param loss number
---@param report? table
---@param more? table<string, any>|fun(): table<string, any>
function Journal:finish(loss, report, more)
  local o, sums = self.o, self.sums
  self:add("seconds", M.clock(self.context.settings) - self.started)
  self:add("loss", loss)
  self:add("losses", 1)
  self.step = self.step + 1
  count(self, report)
  self.context:progress(self.step / o.steps)
  if self.step % o.eval_every ~= 0 and self.step ~= o.steps then return end
  local record = { step = self.step, seconds = sums.seconds, train = sums.loss / sums.losses,
    val = M.evaluate(self.model, self.data, o.eval_iters) }
  for name, value in pairs(type(more) == "function" and more() or more or {}) do record[name] = value end
  self.context:log(record)
  sums.loss, sums.losses = 0, 0
  if system.time() - self.saved_at > SAVE_EVERY then self:save() end
end

---Saves the run where it is.
function Journal:save()
  self.context:save(self.step, self.sums)
  self.saved_at = system.time()
end

---Whether the run was interrupted; then it is saved.
function Journal:interrupted()
  if not self.context:interrupted() then return false end
  self:save()
  return true
end

---The run's result: the curve, its last loss, shares of clipped and of not fully clipped matrices.
---@return table
function Journal:result()
  local curve, sums = self.context:history(), self.sums
  local share = function(number) return sums.asked > 0 and number / sums.asked or 0 end
  return { curve = curve, final = self.diverged_at and 0 / 0 or curve[#curve].val, diverged_at = self.diverged_at,
    seconds = sums.seconds, clipped = share(sums.clipped), saturated = share(sums.saturated) }
end

-- ----- training -----------------------------------------------------------------------------------------

---Trains a run's model to its last step, or until it diverges.
---@param run moonbow.Run
---@param context moonbow.experiment.Context
---@param objects { model: table, optimizer: table, clip?: table, data: table }
---@param o? { update?: fun(step: integer, journal: moonbow.reproduce.Journal): table?, table?, more?: fun(): table }
---  update: what is done with the gradients in the place of optimizer:step(clip); gives the clipper's report, and numbers for
---  the point of the curve. more: numbers for such a point, asked only there
---@return table? result of the journal, or nil: interrupted
---@return moonbow.reproduce.Journal
function M.train(run, context, objects, o)
  local mb, settings = require "moonbow", run.settings
  local model, optimizer, parts = objects.model, objects.optimizer, settings.grad_accum or 1
  local update = o and o.update or function() return optimizer:step(objects.clip) end
  local journal = M.journal(run, context, objects)
  for step = journal.step + 1, settings.steps do
    journal:begin(step)
    optimizer:zero_grad()
    local loss = 0
    for _ = 1, parts do
      mb.scope(function()
        local part = model:loss(objects.data:batch()) / parts
        part:backward()
        loss = loss + part:item()
      end)
    end
    if not journal:is_finite(loss) then break end
    local report, numbers = update(step, journal)
    journal:finish(loss, report, numbers or o and o.more)
    if journal:interrupted() then return nil, journal end
  end
  return journal:result(), journal
end

return M
