-- SPDX-License-Identifier: MIT
--
-- sample.lua: lets a GPT-2 write.
--   luajit scripts/sample.lua runs/default-20260101-120000            a run of train_gpt2.lua
--   luajit scripts/sample.lua --weights gpt2/model.safetensors --prompt "The moon"
--   luajit scripts/sample.lua --weights model.bin --bpe vocab.bpe --prompt - < text
-- The text goes to standard output as it comes, everything else to standard error. Ctrl-C ends it.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../lua/?.lua;%s/../lua/?/init.lua;%s/../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"

local options = {
  { "run", nil, "folder of a run of train_gpt2.lua, or of one of its checkpoints; may stand first without --run", kind = "string",
    value = "DIR" },
  { "weights", nil, "file or folder of Hugging Face's safetensors, or a model file of llm.c", kind = "string", value = "FILE" },
  { "n_head", nil, "attention heads, where no config.json beside the weights says so", kind = "integer", min = 1 },
  { "tokenizer", "auto", "of --weights", choices = { "auto", "gpt2", "bytes" } },
  { "bpe", nil, "GPT-2's vocab.bpe [beside the weights or the data, or in data/gpt2]", kind = "string", value = "FILE" },
  { "prompt", nil, "text to go on from, - for standard input [the start of a text]", kind = "string", value = "TEXT" },
  { "tokens", 200, "most tokens of a sample", kind = "integer", min = 1 },
  { "samples", 1, "how many, one after the other", kind = "integer", min = 1 },
  { "temperature", 0.8, "logits are divided by it; 0 takes the likeliest token always", min = 0 },
  { "top_k", nil, "draw from the k likeliest tokens", kind = "integer", min = 1 },
  { "top_p", nil, "draw from the fewest likeliest tokens with this share", kind = "number", min = 0, max = 1 },
  { "seed", 1337, "of the first sample; the next have the next", kind = "integer", min = 0, max = 2 ^ 53 },
  { "device", "auto", "where to compute", choices = { "auto", "cpu", "cuda" } },
  { "threads", nil, "threads of the CPU backend [all cores]", kind = "integer", min = 1, max = 4096 },
  { "no_cache", false, "compute the whole context again for every token" },
  { "quiet", false, "nothing but the text" },
}

cli.main("sample", function()
  local argv = { unpack(arg) }
  if argv[1] and argv[1]:sub(1, 1) ~= "-" then table.insert(argv, 1, "--run") end
  local given = cli.parse(options, argv)
  if given.help then
    print(cli.help("Lets a GPT-2 write: luajit scripts/sample.lua RUN, or with --weights FILE.", options))
    return 0
  end
  local settings = cli.settings(options, given)
  if settings.top_p == 0 then cli.fail(2, "--top_p: 0 leaves no token") end
  local mb = require "moonbow"
  local sample = require "moonbow.report.sample"
  local stream = require "moonbow.report.stream"
  local writing = require "moonbow.io.writing"

  local model, words, name = sample.open(settings)
  local prompt, shown = sample.prompt(settings, words)
  local function say(...)
    if not settings.quiet then io.stderr:write((...):format(select(2, ...)), "\n") end
  end
  say("%s: %d layers, width %d, context %d, %d tokens, on %s", name, model.config.n_layer, model.config.n_embd,
    model.config.block_size, model.config.vocab_size, model.device)
  mb.system.interrupt_install()

  for k = 1, settings.samples do
    if settings.samples > 1 then say("----- sample %d, seed %d", k, settings.seed + k - 1) end
    local out = stream.new(function(text) writing.standard_output(text) end, mb.system.is_terminal(1))
    out:write(shown)
    local started, count = mb.system.time(), 0
    model:generate(prompt, {
      max_tokens = settings.tokens, temperature = settings.temperature, top_k = settings.top_k, top_p = settings.top_p,
      seed = settings.seed + k - 1, cache = not settings.no_cache,
      on_token = function(id)
        if id == words.end_of_text then return true end
        count = count + 1
        if id < words.vocab_size then out:write(words:decode { id }) end -- a padded vocabulary has ids without a text
        return mb.system.interrupted() ~= 0
      end,
    })
    out:finish()
    writing.standard_output "\n"
    local seconds = mb.system.time() - started
    say("(%d tokens, %.1f a second)", count, count / seconds)
    if mb.system.interrupted() ~= 0 then return 130 end
  end
end)
