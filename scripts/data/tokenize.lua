-- SPDX-License-Identifier: MIT
--
-- tokenize.lua: texts into token files that llm.c, nanoGPT and mb.data.shards read.
--   luajit scripts/data/tokenize.lua books/*.txt --out data/books
--   xzcat corpus.jsonl.xz | luajit scripts/data/tokenize.lua - --field text --val 0.001 --out data/corpus
-- An input is a text file, one document; or JSON lines (.jsonl, or anything with --field), a document a line; or "-", stdin.
-- Documents have <|endoftext|> between them (a line break, where bytes or characters are the tokens). Of a text its end is
-- for validation; of JSON lines, documents at even distances. Files have other names until all are complete, so that a run
-- that was interrupted leaves nothing that could be taken for data; the same command goes on with it.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here)
  .. package.path

local cli = require "moonbow.cli"

local rows = {
  { "out", nil, "folder of the token files", kind = "string", value = "FOLDER" },
  { "format", "llmc", "llmc: shards with a header; nanogpt: train.bin and val.bin without one", choices = { "llmc", "nanogpt" } },
  { "tokenizer", "gpt2", "how text becomes tokens", choices = { "gpt2", "bytes", "char" } },
  { "bpe", nil, "GPT-2's vocab.bpe [beside the first input, or in data/gpt2]", kind = "string", value = "PATH" },
  { "shard_size", 1e8, "tokens of a file of format llmc", kind = "integer", min = 1, max = 2 ^ 31 - 1 },
  { "val", 0.1, "share for validation", min = 0, max = 0.9 },
  { "field", nil, "inputs are JSON lines with the text in this field [text, for .jsonl]", kind = "string" },
  { "name", "tokens", "of shards: NAME_train_000001.bin", kind = "string" },
  { "threads", nil, "threads of the encoder [all cores]", kind = "integer", min = 1, max = 4096 },
  { "piece", 4e6, "bytes of a text that are read and encoded at once", kind = "integer", min = 1, max = 2 ^ 31 - 1 },
  { "restart", false, "begin anew where an earlier run was interrupted" },
  { "quiet", false, "print errors only" },
}

-- Inputs and options of the command line: a word that belongs to no option is an input.
local function command_line()
  local flags, inputs, rest = { ["--quiet"] = true, ["--restart"] = true, ["--help"] = true }, {}, {}
  local i = 1
  while i <= #arg do
    if arg[i]:sub(1, 2) ~= "--" and arg[i] ~= "-h" then
      inputs[#inputs + 1] = arg[i]
    else
      rest[#rest + 1] = arg[i]
      if not arg[i]:find "=" and not flags[arg[i]] and arg[i] ~= "-h" then
        i = i + 1
        rest[#rest + 1] = arg[i]
      end
    end
    i = i + 1
  end
  local given = cli.parse(rows, rest)
  if given.help then
    print((cli.help("Usage: luajit scripts/data/tokenize.lua INPUT... --out FOLDER [options]", rows)))
    return nil
  end
  if #inputs == 0 then cli.fail(2, "the inputs are missing: text files, .jsonl files, or - for stdin") end
  if not given.out then cli.fail(2, "--out FOLDER is missing") end
  return inputs, cli.settings(rows, given)
end

cli.main("tokenize", function()
  local inputs, settings = command_line()
  if not inputs then return 0 end
  return require("moonbow.data.tokenize").run(inputs, settings)
end)
