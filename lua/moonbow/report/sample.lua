-- SPDX-License-Identifier: MIT
--
-- sample.lua: from the options of scripts/sample.lua to a model and its tokenizer: of a run of train_gpt2.lua, or of a
-- file of weights. The generation itself stays in the script.

local cli = require "moonbow.cli"
local folder_lock = require "moonbow.report.folder_lock"
local gpt2 = require "moonbow.data.gpt2"
local tokenizers = require "moonbow.data.tokenizer"

local M = {}

local GPT2_VOCAB = 50257
local SIZES = { "n_layer", "n_head", "n_embd", "block_size" }

-- The run's own text or token files, as they were: an error if they have changed.
local function data_of(config, state, folder)
  local data = require("moonbow.report.run").data(config, folder)
  data:load_state_dict(state)
  return data
end

-- GPT-2's tokenizer: of the file that was named, or found beside what it belongs to.
local function gpt2_tokenizer(path, near)
  local folders = gpt2.folders(near)
  if not path and not gpt2.find(folders) then
    cli.fail(1, "there is no vocab.bpe in %s; name it with --bpe FILE, or %s", table.concat(folders, ", "), gpt2.advice)
  end
  return gpt2.new { path = path, near = near }
end

local function tokenizer_of_run(settings, config, state)
  if config.tokenizer == "bytes" then return tokenizers.bytes() end
  if config.tokenizer == "gpt2" then return gpt2_tokenizer(settings.bpe or config.bpe, config.data) end
  if state.codes then return tokenizers.of_codes(state.codes) end -- the checkpoint remembers the characters
  return data_of(config, state, settings.run).tokenizer
    or cli.fail(1, "'%s': nothing says which text the tokens of its data stand for", settings.run)
end

-- Model and tokenizer of a run's newest checkpoint.
local function of_run(settings)
  local mb = require "moonbow"
  local found = folder_lock.peek(settings.run, settings.run)
  local config, state = found.config, mb.checkpoint.read(settings.run, "data")
  local given = { vocab_size = state.vocab_size, dtype = mb.device() == "cuda" and config.dtype or "f32" }
  for _, name in ipairs(SIZES) do
    if type(config[name]) ~= "number" then
      cli.fail(1, "'%s' is no run of train_gpt2.lua: its configuration has no %s", found.path, name)
    end
    given[name] = config[name]
  end
  local words = tokenizer_of_run(settings, config, state)
  local model = mb.models[config.model or "gpt2"](given)
  mb.checkpoint.load(settings.run, { model = model })
  return model, words, ("%s after step %d"):format(found.path, found.step)
end

-- The tokenizer's name: the one that was named, or what the size of the vocabulary says.
local function tokenizer_of_weights(settings, model)
  if settings.tokenizer ~= "auto" then return settings.tokenizer end
  local n = model.config.vocab_size
  if n == GPT2_VOCAB then return "gpt2" end
  if n == 256 then return "bytes" end
  cli.fail(1, "'%s' has %d tokens, which are neither GPT-2's %d nor 256 bytes; say --tokenizer gpt2 or bytes",
    settings.weights, n, GPT2_VOCAB)
end

local function of_weights(settings)
  local mb = require "moonbow"
  local model = mb.models.gpt2 { weights = settings.weights, n_head = settings.n_head }
  local words = tokenizer_of_weights(settings, model) == "bytes" and tokenizers.bytes()
    or gpt2_tokenizer(settings.bpe, settings.weights)
  if words.vocab_size > model.config.vocab_size then
    cli.fail(1, "'%s' has %d tokens, its tokenizer %d", settings.weights, model.config.vocab_size, words.vocab_size)
  end
  return model, words, settings.weights
end

--- A model, its tokenizer, and what to call it.
---@param settings table
---@return moonbow.Model
---@return moonbow.Tokenizer
---@return string name
function M.open(settings)
  local mb = require "moonbow"
  if (settings.run == nil) == (settings.weights == nil) then
    cli.fail(2, "name either the folder of a run or --weights FILE (--help says more)")
  end
  if settings.threads then mb.threads(settings.threads) end
  if settings.device ~= "auto" then mb.device(settings.device) end
  if settings.run then return of_run(settings) end
  return of_weights(settings)
end

--- Tokens to begin with: those of --prompt, of standard input for "-", or what a text begins with: the token between
--- documents, a line break, or the first token.
---@param settings table
---@param words moonbow.Tokenizer
---@return integer[] ids
---@return string text of them that is shown
function M.prompt(settings, words)
  local text = settings.prompt
  if text == "-" then text = io.stdin:read "*a" end
  if text == nil or text == "" then return { words.end_of_text or words.id_of["\n"] or 0 }, "" end
  return words:encode(text), text
end

return M
