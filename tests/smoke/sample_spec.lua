-- SPDX-License-Identifier: MIT
--
-- sample_spec.lua: scripts/sample.lua as a user runs it: a run goes on writing without its text, weights of other programs
-- with GPT-2's tokens, text that arrives in pieces, Ctrl-C, and wrong input.

local mb = require "moonbow"
local runner = require "tests.smoke.runner"
local stream = require "moonbow.report.stream"

local small = "--plain --quiet --n_layer 2 --n_head 2 --n_embd 16 --block_size 16 --batch_size 4 --sample_tokens 0 "
  .. "--warmup 2 --eval_iters 1 --steps 3 "

local function sample(arguments) return runner.script("sample", arguments) end

describe("sample.lua", function()
  local folder

  setup(function()
    folder = runner.folder()
    local text = runner.corpus(folder .. "/text", 4000)
    for _, tokenizer in ipairs { "char", "bytes" } do
      local code, _, complaint = runner.script("train_gpt2", small .. ("--data '%s' --tokenizer %s --out '%s/%s'"):format(text,
        tokenizer, folder, tokenizer))
      assert(code == 0, complaint)
    end
    os.remove(text) -- the checkpoint knows its characters
  end)
  teardown(runner.clean)

  local function refused(expected_code, text, arguments)
    local code, said, complaint = sample(arguments)
    assert.are.equal(expected_code, code, said .. complaint)
    assert.is_truthy(complaint:find(text, 1, true), complaint)
    assert.are.equal(1, select(2, complaint:gsub("\n", "")), complaint)
  end

  it("goes on with a run's characters, the same for the same seed, cache or none", function()
    local run = ("'%s/char' "):format(folder)
    local code, said, complaint = sample(run .. "--prompt 'the moon ' --tokens 40")
    assert.are.equal(0, code, complaint)
    assert.are.equal("the moon ", said:sub(1, 9))
    assert.are.equal(9 + 40 + 1, #said)
    assert.is_truthy(complaint:find("step_00000003 after step 3: 2 layers, width 16, context 16, ", 1, true), complaint)
    assert.is_truthy(complaint:find("(40 tokens, ", 1, true), complaint)
    local _, again, silence = sample("--quiet --run " .. run .. "--prompt='the moon ' --tokens 40 --no_cache")
    assert.are.equal(said, again)
    assert.are.equal("", silence)
    local _, other = sample(run .. "--prompt 'the moon ' --tokens 40 --seed 1 --top_k 3 --top_p 0.9 --temperature 1.5")
    assert.are_not.equal(said, other)
  end)

  it("reads the prompt from standard input, and writes several samples", function()
    local code, said = runner.shell(("printf 'rain and' | luajit '%s/scripts/sample.lua' '%s/bytes' --prompt - --tokens 5 "
      .. "--samples 2 --temperature 0"):format(runner.root, folder))
    assert.are.equal(0, code)
    assert.are.equal(2 * (8 + 5 + 1), #said)
    assert.are.equal(said:sub(1, 14), said:sub(15))
    assert.are.equal("rain and", said:sub(1, 8))
  end)

  it("writes GPT-2's tokens with llm.c's and Hugging Face's weights", function()
    local merges = runner.root .. "/tests/golden/bpe_small.bpe"
    local model = mb.models.gpt2 { vocab_size = 2257, block_size = 12, n_layer = 1, n_head = 2, n_embd = 8, seed = 3,
      device = "cpu" }
    model:save_llmc(folder .. "/model.bin")
    model:save_hf(folder .. "/hf/")
    runner.shell(("cp '%s' '%s/hf/merges.txt'"):format(merges, folder))
    local options = " --tokenizer gpt2 --prompt 'The moon é' --tokens 20"
    local code, said, complaint = sample(("--weights '%s/model.bin' --bpe '%s'"):format(folder, merges) .. options)
    assert.are.equal(0, code, complaint)
    assert.are.equal("The moon é", said:sub(1, 11))
    local _, same = sample(("--weights '%s/hf'"):format(folder) .. options)
    assert.are.equal(said, same)
    refused(1, "has 2257 tokens, which are neither GPT-2's 50257 nor 256 bytes; say --tokenizer",
      ("--weights '%s/hf'"):format(folder))
  end)

  it("ends cleanly on Ctrl-C", function()
    local command = "luajit '%s/scripts/sample.lua' '%s/char' --tokens 100000000 --prompt moon --quiet > '%s/long' & pid=$!; "
      .. "while [ ! -s '%s/long' ]; do sleep 0.1; done; kill -INT $pid; wait $pid"
    local code = runner.shell(command:format(runner.root, folder, folder, folder))
    local said = runner.read(folder .. "/long")
    assert.are.equal(130, code)
    assert.are.equal("moon", said:sub(1, 4))
    assert.are.equal("\n", said:sub(-1))
  end)

  it("finds out that standard output is full", function()
    local code, _, complaint = runner.shell(("luajit '%s/scripts/sample.lua' '%s/char' --tokens 5 --quiet > /dev/full")
      :format(runner.root, folder))
    assert.are.equal("sample: cannot write to standard output: No space left on device\n", complaint)
    assert.are.equal(1, code)
  end)

  it("is timed by a bench", function()
    local code, said, complaint = runner.script("bench/generate",
      "--rounds 1 --tokens 3 --prompt 2 --n_layer 1 --n_head 2 --n_embd 16 --vocab_size 50 --block_size 8")
    assert.are.equal(0, code, complaint)
    assert.is_truthy(said:find("keeping them is [%d.]+ times as fast as not"), said)
  end)

  it("answers wrong input with one line", function()
    refused(2, "name either the folder of a run or --weights FILE", "")
    refused(2, "name either the folder of a run or --weights FILE", ("'%s/char' --weights x"):format(folder))
    refused(1, "there is no file '/nowhere/model.bin'", "--weights /nowhere/model.bin")
    refused(1, "there is no folder '/nowhere'", "/nowhere")
    refused(1, "the text has no character 'Z'", ("'%s/char' --prompt Z"):format(folder))
    refused(2, "--top_p: 0 leaves no token", ("'%s/char' --top_p 0"):format(folder))
    refused(2, "did you mean --top_k", ("'%s/char' --topk 3"):format(folder))
    runner.shell(("head -c 3000 '%s/char/step_00000003/model.safetensors' > '%s/cut.safetensors'"):format(folder, folder))
    refused(1, "safetensors: ", ("--weights '%s/cut.safetensors'"):format(folder))
  end)
end)

describe("a stream of text", function()
  -- What arrives when the bytes of `text` come in pieces of `size`.
  local function written(text, size, is_terminal)
    local parts = {}
    local out = stream.new(function(part) parts[#parts + 1] = part end, is_terminal)
    for i = 1, #text, size do out:write(text:sub(i, i + size - 1)) end
    out:finish()
    return table.concat(parts), parts
  end

  it("keeps characters whole, whatever the pieces", function()
    local text = "a é 日本 🌙 z"
    for size = 1, 9 do
      for _, is_terminal in ipairs { true, false } do
        local all, parts = written(text, size, is_terminal)
        assert.are.equal(text, all)
        for _, part in ipairs(parts) do assert.is_nil(require("moonbow.io.utf8").invalid_at(part)) end
      end
    end
  end)

  it("gives a terminal no control characters, and a file every byte", function()
    local text = "a\27[2J\255\240\159b\200"
    assert.are.equal(text, (written(text, 1, false)))
    for size = 1, 4 do assert.are.equal("a\nb\239\191\189", (written("a\r\nb\r", size, true))) end
    local shown = written(text, 1, true)
    assert.is_nil(shown:find "[\27\255]")
    assert.is_nil(require("moonbow.io.utf8").invalid_at(shown))
  end)
end)
