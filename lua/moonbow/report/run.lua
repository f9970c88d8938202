-- SPDX-License-Identifier: MIT
--
-- run.lua: from a training script's options to the objects its loop works with: settings (presets,
-- resume), device, data, clipper, optimizer. The loop itself stays in the script; job.lua keeps its books.

local cli = require "moonbow.cli"
local format = require "moonbow.report.format"
local rule = require "moonbow.report.rule"

local M = {}

-- Settings of runs that begin; and the project's own text of data, until it is in the run's folder.
local begins, own_texts = setmetatable({}, { __mode = "k" }), setmetatable({}, { __mode = "k" })
local starts = setmetatable({}, { __mode = "k" }) -- their start-up's times

-- What a resumed run may change; all else is part of what the checkpoint means. `data` may lie elsewhere: that the text
-- is the same is seen from its hash.
local free_on_resume = {
  steps = true, eval_every = true, eval_iters = true, sample_every = true, sample_tokens = true, save_every = true, keep = true,
  spectra_every = true, resume = true, data = true, bpe = true, threads = true, plain = true, quiet = true, on_nonfinite = true,
  device = true, memory = true, tensorboard = true, graph = true,
}

-- Settings of the run to continue, overlaid with those given.
local function resumed(options, given)
  local mb = require "moonbow"
  if given.out then cli.fail(2, "--out %s: a resumed run goes on in its own folder, %s", given.out, given.resume) end
  local found = require("moonbow.report.folder_lock").peek(given.resume, "--resume " .. given.resume, true)
  if given.steps and given.steps < found.step then
    cli.fail(1, "--steps %d: the run in %s already has %d steps", given.steps, given.resume, found.step)
  end
  for name, value in pairs(given) do
    local before = found.config[name]
    if not free_on_resume[name] and value ~= before then
      cli.fail(1, "--resume %s: the checkpoint has %s = %s, the command line says %s", given.resume, name,
        before == nil and "none" or tostring(before), tostring(value))
    end
  end
  local settings = cli.settings(options, found.config, given)
  settings.plain, settings.quiet = given.plain or false, given.quiet or false
  settings.out = given.resume
  if found.path == given.resume then -- one checkpoint of a run: go back to it
    settings.out = mb.system.absolute(given.resume):match "^(.*)/[^/]*$"
  end
  return settings
end

-- What --clip means when nothing more is said: EMA thresholds of spectra, a norm of 1.
local function settle_clip(settings)
  if settings.clip == "spectral" then
    settings.threshold = settings.threshold or "ema:0.9"
  elseif settings.clip == "norm" and settings.threshold then
    if settings.max_norm then
      cli.fail(2, "--max_norm %g and --threshold %s both say how to clip by norm; give one", settings.max_norm,
        settings.threshold)
    end
  elseif settings.clip == "norm" then
    settings.max_norm = settings.max_norm or 1
  end
end

-- Which --clip an option of the command line belongs to, where it is not for all.
local only_for = {
  method = "spectral", rank = "spectral", oversample = "spectral", power_iters = "spectral", scope = "spectral",
  view = "spectral", max_norm = "norm", threshold = "spectral or norm", clip_on = "spectral or norm",
}

-- Refuses what was given and would be ignored.
local function check_clip(settings, given)
  for _, name in ipairs(require("moonbow.options").keys(only_for)) do
    if given[name] ~= nil and not only_for[name]:find(settings.clip, 1, true) then
      cli.fail(2, "--%s %s is for --clip %s, this run has --clip %s", name, tostring(given[name]), only_for[name], settings.clip)
    end
  end
  for _, name in ipairs { "rank", "oversample", "power_iters" } do
    if given[name] ~= nil and settings.method ~= "randomized" then
      cli.fail(2, "--%s %s is for --method randomized, this run has --method %s", name, tostring(given[name]), settings.method)
    end
  end
  if settings.clip ~= "none" and settings.clip_on == "momentum" and settings.optimizer == "sgd" and settings.momentum == 0 then
    cli.fail(2, "--clip_on momentum: --optimizer sgd with --momentum 0 has no momentum to clip")
  end
end

-- Which tokenizer "auto" is, and a refusal of what would be ignored: token files know what made them.
local function settle_tokens(settings, given)
  local shards, gpt2 = require "moonbow.data.shards", require "moonbow.data.gpt2"
  local is_shards = settings.data and shards.is_shards(settings.data)
  if is_shards and given.tokenizer and not given.resume then
    cli.fail(2, "--tokenizer %s: %s is of tokens already", given.tokenizer, settings.data)
  end
  if given.in_order and not is_shards then cli.fail(2, "--in_order is for token files; a text is sampled at random places") end
  if settings.tokenizer == "auto" then
    local found = settings.bpe or gpt2.find(gpt2.folders(settings.data))
    settings.tokenizer = found and "gpt2" or "bytes"
    if not found and not is_shards and not settings.quiet then
      print("tokens  there is no vocab.bpe, so bytes are the tokens; for GPT-2's, " .. gpt2.advice)
    end
  end
  if given.bpe and not is_shards and settings.tokenizer ~= "gpt2" then
    cli.fail(2, "--bpe is for --tokenizer gpt2, this run has --tokenizer %s", settings.tokenizer)
  end
end

---Settings of a run: defaults, then the preset or the run to resume, then what the command line says.
---@param options moonbow.cli.Option[]
---@param presets table<string, table<string, any>>
---@param argv string[]
---@return table? settings nil after --help
function M.settings(options, presets, argv)
  local given = cli.parse(options, argv)
  if given.help then
    print(cli.help("Trains a GPT-2 on text, its gradients clipped by spectral or plain norm.", options))
    return nil
  end
  local mb = require "moonbow"
  local settings
  if given.threshold then given.threshold = rule.settled(given.threshold) end
  if given.resume then
    settings = resumed(options, given)
  else
    settings = cli.settings(options, presets[given.preset or "default"], given)
    settings.out = settings.out or ("runs/%s-%s"):format(settings.preset, os.date("%Y%m%d-%H%M%S"))
    begins[settings] = true
  end
  if settings.data then settings.data = mb.system.absolute(settings.data) end -- a resume may come from another folder
  if settings.bpe then settings.bpe = mb.system.absolute(settings.bpe) end
  settings.min_lr = settings.min_lr or settings.lr / 10
  settle_tokens(settings, given)
  check_clip(settings, given)
  settle_clip(settings)
  if given.threshold then rule.threshold(given.threshold) end -- what is wrong with it is known before anything is made
  if settings.init_from and settings.model ~= "gpt2" then
    cli.fail(2, "--init_from %s: files of weights are GPT-2's, this run has --model %s", settings.init_from, settings.model)
  end
  if given.recompute and settings.model ~= "gpt2" then
    cli.fail(2, "--recompute %s: it is GPT-2's GELUs that are computed again, this run has --model %s", given.recompute,
      settings.model)
  end
  if settings.n_embd % settings.n_head ~= 0 then
    cli.fail(1, "--n_embd %d is not divisible by --n_head %d", settings.n_embd, settings.n_head)
  end
  local has_end = settings.schedule ~= "const" and settings.schedule ~= "inverse_sqrt"
  if given.min_lr and not has_end then
    cli.fail(2, "--min_lr: --schedule %s has no end to reach it at", settings.schedule)
  end
  if settings.schedule ~= "const" and settings.warmup >= settings.steps then
    if given.warmup and given.warmup > settings.steps then
      cli.fail(2, "--warmup %d is more than --steps %d", given.warmup, settings.steps)
    end
    settings.warmup = given.warmup or math.floor(settings.steps / 10)
  end
  return settings
end

---Chooses the device, the number of threads and the seed. Here the time to the first step begins.
function M.device(settings)
  local mb = require "moonbow"
  starts[settings] = require("moonbow.report.speed").start(mb.time)
  if settings.threads then mb.threads(settings.threads) end
  if settings.device ~= "auto" then mb.device(settings.device) end
  if settings.dtype == "bf16" and mb.device() == "cpu" then
    cli.fail(1, "--dtype bf16: the cpu backend computes in f32; use --dtype f32")
  end
  if settings.graph == "on" and mb.device() == "cpu" then
    cli.fail(1, "--graph on: the cpu has no graphs; --graph auto uses them where the device has them")
  end
  mb.seed(settings.seed)
  starts[settings]:part "device"
end

local function shards(settings)
  local data = require("moonbow").data.shards {
    path = settings.data, bpe = settings.bpe, block_size = settings.block_size, batch_size = settings.batch_size,
    seed = settings.seed, shuffle = not settings.in_order,
  }
  settings.tokenizer = data.tokenizer and data.tokenizer.name or data.lacks_bpe and "gpt2" or "unknown"
  if data.val_tokens == 0 then
    cli.fail(1, "--data %s: none of the files has 'val' in its name, and the run ends with the validation loss", settings.data)
  end
  return data
end

-- A run without --data reads the project's own files, which the next edit changes: its folder keeps them as one text.
local OWN_TEXT = "corpus.txt"

-- The text that a run, whose folder this is or that of one of its checkpoints, has kept.
local function kept_text(folder)
  local system = require "bindings.system"
  for _, path in ipairs { folder .. "/" .. OWN_TEXT, folder .. "/../" .. OWN_TEXT } do
    if system.path_kind(path) == "file" then return path end
  end
end

-- A run that has kept no text needs the files as they were.
local function check_unchanged(data, folder)
  local ok, state = pcall(require("moonbow").checkpoint.read, folder, "data")
  if ok and state.sha256 ~= data.sha256 then
    cli.fail(1, "'%s': the run's text is the project's own files, and they have changed since (an edit, or git pull); there is "
      .. "no %s that kept it; go back to the files as they were, or name their text with --data FILE", folder, OWN_TEXT)
  end
end

---The data that the settings name.
---@param settings table
---@param folder? string of a run or checkpoint to open, whose own text is read; default: as the settings say
function M.data(settings, folder)
  local mb = require "moonbow"
  if settings.data and require("moonbow.data.shards").is_shards(settings.data) then return shards(settings) end
  if settings.tokenizer == "gpt2" and not settings.bpe then
    local gpt2 = require "moonbow.data.gpt2"
    local folders = gpt2.folders(settings.data)
    if not gpt2.find(folders) then
      cli.fail(1, "--tokenizer gpt2: there is no vocab.bpe in %s; %s, or name it with --bpe PATH", table.concat(folders, ", "),
        gpt2.advice)
    end
  end
  local path, text = settings.data, nil
  folder = not begins[settings] and (folder or settings.out) or nil
  if not path then
    path = folder and kept_text(folder)
    text = not path and mb.data.corpus() or nil
  elseif mb.system.path_kind(path) == "none" and settings.preset == "shakespeare-char" then
    cli.fail(1, "no file %s; fetch it with: luajit scripts/data/get.lua shakespeare, or name one with --data PATH", path)
  end
  local data = mb.data.text {
    path = path, text = text, tokenizer = settings.tokenizer, bpe = settings.bpe, block_size = settings.block_size,
    batch_size = settings.batch_size, seed = settings.seed,
  }
  if text then
    if folder then check_unchanged(data, folder) end
    own_texts[data] = text
  end
  return data
end

---The rule of --threshold that stands for a threshold, or nil; see rule.lua.
M.rule_of = rule.of

-- Whether the threshold is one that a script of the user's own made: its name in the configuration is no rule.
local function is_own(settings)
  return settings.clip ~= "none" and type(settings.threshold) == "string" and not rule.is_rule(settings.threshold)
end

---The clipper that the settings name. A run of a script of the user's own may have a threshold that no option makes: an error,
---or with { own = true } nil and a sentence that says so.
---@param settings table
---@param o? { own?: boolean }
---@return table? clip
---@return string? note
function M.clip(settings, o)
  local mb = require "moonbow"
  if is_own(settings) then
    local note = ("this run has a threshold of its own, '%s': resume it with the script that made it (scripts/moonbow mine.lua "
      .. "--resume ...)"):format(settings.threshold)
    if o and o.own then return nil, note end
    cli.fail(1, "%s", note)
  end
  if settings.clip == "norm" then
    if settings.threshold then
      return mb.clip.norm { threshold = rule.threshold(settings.threshold), on = settings.clip_on }
    end
    return mb.clip.norm { max_norm = settings.max_norm, on = settings.clip_on }
  end
  if settings.clip == "none" then return mb.clip.norm { max_norm = math.huge } end
  local sketches = settings.method == "randomized"
  return mb.clip.spectral {
    threshold = rule.threshold(settings.threshold), scope = settings.scope, view = settings.view, on = settings.clip_on,
    method = settings.method, rank = sketches and settings.rank or nil,
    oversample = sketches and settings.oversample or nil, power_iters = sketches and settings.power_iters or nil,
  }
end

---A learning rate as a function of the step; min_lr belongs to lr, and another peak ends at the same share of it.
---@param settings table
---@param peak number
function M.schedule(settings, peak)
  local mb = require "moonbow"
  if settings.schedule == "const" then return peak end
  if settings.schedule == "inverse_sqrt" then
    return mb.schedule.inverse_sqrt { peak = peak, warmup = settings.warmup }
  end
  local final = peak == settings.lr and settings.min_lr or peak * (settings.lr > 0 and settings.min_lr / settings.lr or 0)
  local shape = { peak = peak, final = final, warmup = settings.warmup, steps = settings.steps }
  if settings.schedule == "wsd" then
    shape.decay = math.min(math.floor(settings.steps / 5 + 0.5), settings.steps - settings.warmup)
  end
  return mb.schedule[settings.schedule](shape)
end

---Whether GELUs are computed again in the backward, as models are told; nil leaves it to them.
---@return boolean?
function M.recompute(settings)
  local how = settings.recompute or "auto"
  if how == "auto" then return nil end
  return how == "on"
end

-- The plan of the memory, with graphs as --graph has them: where auto would not fit with them, it is off.
local function needs_of(plan, s, device, settings, free)
  s.graphs = device ~= "cpu" and settings.graph ~= "off"
  local needs = plan.needs(s, device)
  if not s.graphs or settings.graph == "on" or needs.total <= free then return needs end
  s.graphs = false
  local plain = plan.needs(s, device)
  if plain.total <= free then
    settings.graph = "off"
    print(("graphs  none: with them the run may need %s of memory, %s has %s free"):format(format.bytes(needs.total), device,
      format.bytes(free)))
  end
  return plain
end

---Whether the run fits into the memory of its device, by a plan that is made before anything else is; one that does not ends
---the script, with the plan and what to change. With --memory the plan is printed, and false says that it was all.
---@return boolean goes_on
function M.fits(settings, data)
  local mb = require "moonbow"
  local plan = require "moonbow.report.memory"
  local device = mb.device()
  local s = { vocab_size = data.vocab_size, states = require("moonbow.report.optimizers").states(settings) }
  for name, value in pairs(settings) do s[name] = value end
  s.recompute = M.recompute(settings)
  local memory = mb.memory(device)
  if device == "cuda" and s.dtype == "bf16" and mb.device_notes():find "^cuDNN" then
    s.cudnn = mb.deterministic() and "fixed order" or "any order"
  end
  local needs = needs_of(plan, s, device, settings, memory.bytes_free)
  local fits = needs.total <= memory.bytes_free
  if fits and not settings.memory then return true end
  print(("memory  the run at its fullest, %d sequences of %d tokens at once"):format(s.batch_size, s.block_size))
  print(plan.table(needs, device, memory))
  if fits then return false end
  print(settings.resume and "a resumed run keeps its sizes: more memory must be free" or "what would make it fit, one of:")
  for _, line in ipairs(settings.resume and {} or plan.advice(s, device, memory.bytes_free, settings.grad_accum)) do
    print("  " .. line)
  end
  cli.fail(1, "the run needs %s of memory, %s has %s free; nothing was written", format.bytes(needs.total), device,
    format.bytes(memory.bytes_free))
end

---The optimizer that the settings name; see optimizers.lua.
function M.optimizer(settings, model)
  return require("moonbow.report.optimizers").make(settings, model, function(peak) return M.schedule(settings, peak) end)
end

---What a run says before its first step.
---@return string[] lines
function M.headline(settings, model, data, out)
  local count = 0
  for _, p in ipairs(model:parameters()) do
    local n = 1
    for _, size in ipairs(p.shape) do n = n * size end
    count = count + n
  end
  local mb = require "moonbow"
  local tokens = settings.batch_size * settings.block_size * settings.grad_accum
  local lines = {
    mb.build_info(),
    ("model   %s, %d layers, %d heads, width %d, context %d: %s parameters"):format(settings.model, settings.n_layer,
      settings.n_head, settings.n_embd, settings.block_size, format.count(count)),
    ("data    %s: %s training and %s validation tokens, vocabulary %d (%s)"):format(settings.data or "the project's own text",
      format.count(data.train_tokens), format.count(data.val_tokens), data.vocab_size, settings.tokenizer),
    ("run     %d steps of %s tokens, seed %d, into %s"):format(settings.steps, format.count(tokens), settings.seed, out),
  }
  if (settings.head_chunks or 1) > 1 then
    local at_once = math.ceil(settings.batch_size * settings.block_size / settings.head_chunks)
    table.insert(lines, 4,
      ("head    in %d chunks: logits of %s tokens at once"):format(settings.head_chunks, format.count(at_once)))
  end
  return lines
end

---Begins the books of a run, or goes on with them, and keeps the project's own text beside them where that is what it reads.
---@param parts { settings: table, model: table, data: table, clip: table, optimizer: table }
function M.start(parts)
  parts.start = starts[parts.settings]
  if parts.start then parts.start:part "data and model" end
  local job = require("moonbow.report.job").new(parts)
  local text = own_texts[parts.data]
  if text then
    local writing = require "moonbow.io.writing"
    writing.whole_file(parts.settings.out .. "/" .. OWN_TEXT, function(aside) writing.text(aside, text) end)
    own_texts[parts.data] = nil
  end
  return job
end

return M
