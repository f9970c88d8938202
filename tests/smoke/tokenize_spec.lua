-- SPDX-License-Identifier: MIT
--
-- tokenize_spec.lua: scripts/data/tokenize.lua as a user runs it: files that llm.c and nanoGPT would read, documents with
-- separators, both parts; nothing half-done stays; and training on what it wrote, resumed bit for bit.

local json = require "moonbow.io.json"
local runner = require "tests.smoke.runner"

local shared = (os.getenv "MOONBOW_SHARED" or runner.root .. "/../shared") .. "/data/"
local small_bpe = runner.root .. "/tests/golden/bpe_small.bpe"

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

-- Little-endian numbers of `size` bytes each.
local function numbers(text, size)
  local list = {}
  for i = 1, #text, size do
    local value = 0
    for k = size - 1, 0, -1 do value = value * 256 + text:byte(i + k) end
    list[#list + 1] = value
  end
  return list
end

describe("tokenize.lua", function()
  local folder, out

  before_each(function()
    folder = runner.folder()
    out = folder .. "/out"
  end)
  after_each(runner.clean)

  local function tokenize(arguments, input)
    local pipe = input and "printf '" .. input .. "' | " or ""
    return runner.shell(("%sluajit '%s/scripts/data/tokenize.lua' --out '%s' %s"):format(pipe, runner.root, out, arguments))
  end

  local function ok(...)
    local code, said, complaint = tokenize(...)
    assert.are.equal(0, code, complaint)
    assert.are.equal("", complaint)
    return said
  end

  local function refused(code, part, ...)
    local found, _, complaint = tokenize(...)
    assert.are.equal(code, found, complaint)
    assert.is_truthy(complaint:find(part, 1, true), complaint)
    assert.is_nil(complaint:find("\n.", 1), complaint)
  end

  local function names()
    local _, list = runner.shell(("ls -A '%s' 2>/dev/null"):format(out))
    return (list:gsub("\n", " "))
  end

  -- The tokens of a file of llm.c.
  local function shard(name)
    local text = runner.read(out .. "/" .. name)
    local header = numbers(text:sub(1, 1024), 4)
    local tokens = numbers(text:sub(1025), 2)
    assert.are.same({ 20240520, 1, #tokens, 0, 0 }, { header[1], header[2], header[3], header[4], header[256] })
    return tokens
  end

  it("has nanoGPT's numbers for Tiny Shakespeare", function()
    local text, merges = shared .. "tinyshakespeare/input.txt", shared .. "gpt2_bpe/vocab.bpe"
    if runner.read(merges) == "" then pending "the shared data are not there" return end
    local said = ok(("'%s' --bpe '%s' --format nanogpt"):format(text, merges))
    assert.is_truthy(said:find("301966 training and 36059 validation tokens in 2 files, vocabulary 50257", 1, true), said)
    assert.is_nil(said:find("\r", 1, true))
    assert.are.equal("meta.json train.bin val.bin ", names())
    local val = numbers(runner.read(out .. "/val.bin"), 2)
    assert.are.equal(36059, #val)
    out = folder .. "/char"
    said = ok(("'%s' --tokenizer char --format nanogpt"):format(text))
    assert.is_truthy(said:find("1003854 training and 111540 validation tokens in 2 files, vocabulary 65", 1, true), said)
    assert.are.same({ 18, 47, 56 }, { unpack(numbers(runner.read(out .. "/train.bin"):sub(1, 6), 2)) }) -- "Fir"
    assert.are.equal(65, #json.decode(runner.read(out .. "/meta.json")).codes)
  end)

  it("cuts shards, and separates documents", function()
    local lines = {}
    for i = 1, 20 do lines[i] = ('{"text":"ab%d<|endoftext|>","n":1}'):format(i % 10) end
    write(folder .. "/in.jsonl", table.concat(lines, "\n\n") .. "\n")
    ok(("'%s/in.jsonl' --bpe '%s' --shard_size 25 --val 0.1 --name x --quiet"):format(folder, small_bpe))
    assert.are.equal("meta.json x_train_000001.bin x_train_000002.bin x_train_000003.bin x_val_000001.bin ", names())
    local train = {}
    for i = 1, 3 do
      local tokens = shard(("x_train_%06d.bin"):format(i))
      assert.are.equal(i < 3 and 25 or 21, #tokens)
      for _, id in ipairs(tokens) do train[#train + 1] = id end
    end
    -- 18 documents of "ab", a digit and the token that the text itself names; the 10th and the 20th are for validation.
    local expected = {}
    for i = 1, 20 do
      if i % 10 ~= 0 then
        if #expected > 0 then expected[#expected + 1] = 2256 end
        for _, id in ipairs { 397, 15 + i % 10, 2256 } do expected[#expected + 1] = id end
      end
    end
    assert.are.same(expected, train)
    assert.are.same({ 397, 15, 2256, 2256, 397, 15, 2256 }, shard "x_val_000001.bin")
  end)

  it("reads stdin, bytes, several texts, and another field", function()
    ok("- --tokenizer bytes --val 0 --quiet", "hello")
    assert.are.same({ 104, 101, 108, 108, 111 }, shard "tokens_train_000001.bin")
    assert.are.equal("meta.json tokens_train_000001.bin ", names())
    out = folder .. "/b"
    ok("- --tokenizer bytes --val 0.5 --field body --quiet", '{"body":"ab"}\\n{"body":"c"}\\n{"body":""}\\n')
    assert.are.same({ { 97, 98 }, { 99 } }, { shard "tokens_train_000001.bin", shard "tokens_val_000001.bin" })
    out = folder .. "/c"
    write(folder .. "/1", "aé")
    write(folder .. "/2", "ba")
    ok(("'%s/1' '%s/2' --tokenizer char --val 0.2 --quiet"):format(folder, folder))
    assert.are.same({ { 1, 3, 0, 2 }, { 1 } }, { shard "tokens_train_000001.bin", shard "tokens_val_000001.bin" })
  end)

  it("refuses, and leaves nothing behind", function()
    write(folder .. "/bad.jsonl", '{"text":"fine"}\n{"text":5}\n')
    local bytes = "--tokenizer bytes"
    refused(1, "bad.jsonl' line 2: there is no text in the field 'text'", ("'%s/bad.jsonl' %s"):format(folder, bytes))
    assert.are.equal("", names())
    refused(1, "line 1: at byte 0", "- --field text " .. bytes, "nonsense")
    refused(1, "there is no file", "/nowhere " .. bytes)
    refused(1, "is a folder", "/tmp " .. bytes)
    refused(1, "the inputs have no text", "- " .. bytes, "")
    refused(1, "not UTF-8", "- --tokenizer char", "a\\377")
    refused(2, "the inputs are missing", bytes)
    refused(2, "did you mean --shard_size", "- --shardsize 5")
    refused(2, "files with 'val' in their names", "- --name interval " .. bytes)
    refused(2, "--bpe is for --tokenizer gpt2", "- --bpe x " .. bytes)
    refused(1, "cannot open", "- --bpe /nowhere/vocab.bpe", "a")
    assert.are.equal("", names())
    ok("- --quiet " .. bytes, "hello hello")
    local before = names()
    refused(1, "holds token files already", "- " .. bytes, "a")
    os.remove(out .. "/meta.json")
    refused(1, "tokens_train_000001.bin is there already", "- " .. bytes, "aaaaaaaaaaaaaaa")
    assert.are.equal(before, "meta.json " .. names())
  end)

  it("sweeps away what a process left that was killed while it wrote a file", function()
    os.execute(("mkdir -p '%s'"):format(out))
    for _, name in ipairs { "train.bin.part", "tokenize.part.json", "meta.json" } do
      write(("%s/%s.4711.part"):format(out, name), "x")
    end
    write(out .. "/mine.part", "x")
    ok("- --tokenizer bytes --val 0 --quiet", "hello")
    assert.are.equal("meta.json mine.part tokens_train_000001.bin ", names())
  end)

  it("keeps a second process out of the folder", function()
    local slow = ("mkfifo '%s/pipe'; luajit '%s/scripts/data/tokenize.lua' '%s/pipe' --tokenizer bytes --quiet --out '%s' & "
      .. "echo $! > '%s/pid'; exec 3>'%s/pipe'; "):format(folder, runner.root, folder, out, folder, folder)
    local second = ("echo a | luajit '%s/scripts/data/tokenize.lua' - --tokenizer bytes --out '%s' 2>'%s/second'; "
      .. "echo $? >'%s/rc'; "):format(runner.root, out, folder, folder)
    local code, _, complaint = runner.shell(slow
      .. ("while [ ! -s '%s/tokenize.lock' ]; do sleep 0.05; done; "):format(out) .. second
      .. "echo hello there >&3; exec 3>&-; wait")
    assert.are.equal(0, code, complaint)
    assert.are.equal("1\n", runner.read(folder .. "/rc"))
    assert.are.equal(("tokenize: --out %s: process %d is writing into this folder\n"):format(out,
      tonumber(runner.read(folder .. "/pid"))), runner.read(folder .. "/second"))
    assert.are.equal("meta.json tokens_train_000001.bin tokens_val_000001.bin ", names())
  end)

  -- Runs the command in the background and ends it with a signal after a while; returns whether it was still at work.
  local function cut_short(signal, seconds, arguments)
    -- --foreground: else it signals its group too, and a second Ctrl-C ends a process at once
    local command = "timeout --foreground -s %s %s luajit '%s/scripts/data/tokenize.lua' --out '%s' %s"
    local code = runner.shell(command:format(signal, seconds, runner.root, out, arguments))
    return code ~= 0
  end

  it("goes on where it was interrupted or killed, and ends with the same files", function()
    local text = runner.corpus(folder .. "/in.txt", 60000)
    local lines = {}
    for i = 1, 2500 do lines[i] = ('{"text":"document %d with some words"}'):format(i) end
    write(folder .. "/in.jsonl", table.concat(lines, "\n") .. "\n")
    local kinds = { "--shard_size 3000", "--format nanogpt", "--tokenizer bytes --shard_size 7777", "--tokenizer char" }
    for _, options in ipairs(kinds) do
      local inputs = ("'%s' '%s'"):format(text, options:find "char" and text or folder .. "/in.jsonl")
      local bpe = options:find "tokenizer" and "" or ("--bpe '%s'"):format(small_bpe)
      local arguments = ("%s %s %s --piece 50"):format(inputs, bpe, options)
      out = folder .. "/whole"
      ok(arguments .. " --quiet")
      local whole, list = {}, names()
      for name in list:gmatch "%S+" do whole[name] = runner.read(out .. "/" .. name) end
      out = folder .. "/parts"
      local cuts = 0
      for i = 1, 60 do
        local signal = i % 3 == 0 and "KILL" or "INT"
        local is_cut = cut_short(signal, 0.02 + 0.01 * (i % 5), arguments) and not names():find "meta.json"
        if not is_cut and cuts > 0 then break end
        if is_cut then cuts = cuts + 1 else os.execute(("rm -rf '%s'"):format(out)) end -- it was through before the signal came
        if signal == "INT" then assert.is_nil(names():find "bin%f[%s]", names()) end -- no name of a file that is complete
      end
      if not names():find "meta.json" then ok(arguments .. " --quiet") end
      for _, name in ipairs { "part.json", "lock" } do os.remove(out .. "/tokenize." .. name) end -- killed at its very end
      assert.is_true(cuts > 0)
      assert.are.equal(list, names(), options)
      for name in list:gmatch "%S+" do assert.is_true(whole[name] == runner.read(out .. "/" .. name), name) end
      os.execute(("rm -rf '%s/whole' '%s/parts'"):format(folder, folder))
    end
  end)

  it("goes on with the same work only", function()
    local text = runner.corpus(folder .. "/in.txt", 4e6)
    local arguments = ("'%s' --tokenizer bytes --shard_size 50000 --piece 10"):format(text)
    for i = 1, 50 do
      cut_short("INT", 0.1 + 0.02 * i, arguments)
      if names():find "tokens_train_000002" then break end -- so that the first is complete
    end
    assert.is_truthy(names():find "tokenize%.part%.json", names())
    refused(1, "is of an interrupted run with --val = 0.1, this one has --val = 0.2", arguments .. " --val 0.2")
    refused(1, "the number of inputs = 1, this one has the number of inputs = 2", ("%s '%s'"):format(arguments, text))
    local before = runner.read(out .. "/tokens_train_000001.bin.part")
    write(out .. "/tokens_train_000001.bin.part", before:sub(1, -3) .. "xx")
    refused(1, "is not as the interrupted run left it", arguments)
    write(out .. "/tokens_train_000001.bin.part", before)
    local state = runner.read(out .. "/tokenize.part.json")
    write(out .. "/tokenize.part.json", state:sub(1, -9))
    refused(1, "cannot be read (at byte", arguments)
    write(out .. "/tokenize.part.json", state)
    write(text, runner.read(text) .. " ")
    refused(1, "of an interrupted run with the input", arguments)
    local said = ok(arguments:gsub("piece 10", "piece 99999") .. " --restart")
    assert.is_nil(said:find("going on", 1, true))
    assert.is_nil(names():find "part")
  end)

  it("shows a bar on a terminal", function()
    if runner.shell "command -v script" ~= 0 then pending "script(1) is not installed" return end
    local text = runner.corpus(folder .. "/in", 5000)
    local command = ("luajit %s/scripts/data/tokenize.lua %s --tokenizer bytes --out %s"):format(runner.root, text, out)
    local _, said = runner.shell(("TERM=xterm script -qec '%s' /dev/null"):format(command))
    assert.is_truthy(said:find("\r%[#+%] 100%%"), said)
    assert.is_truthy(said:find("450%d training"), (said:gsub("%c", ".")))
  end)

  it("gives files that train_gpt2.lua learns from, resumes on and samples", function()
    ok(("'%s' --bpe '%s' --shard_size 1000 --quiet"):format(runner.corpus(folder .. "/in", 20000), small_bpe))
    local function train(arguments) return runner.script("train_gpt2", "--plain " .. arguments) end
    local options = ("--data '%s' --bpe '%s' --n_layer 1 --n_head 2 --n_embd 16 --block_size 16 --batch_size 4 --eval_iters 2 "
      .. "--sample_tokens 8 --schedule const --warmup 2 "):format(out, small_bpe)
    for _, order in ipairs { "", "--in_order " } do
      local whole, parts = folder .. "/whole" .. #order, folder .. "/parts" .. #order
      local code, said, complaint = train(options .. order .. ("--steps 12 --out '%s'"):format(whole))
      assert.are.equal(0, code, complaint)
      assert.is_truthy(said:find("vocabulary 2257 (gpt2)", 1, true), said)
      assert.are.equal(0, (train(options .. order .. ("--steps 7 --out '%s'"):format(parts))))
      code, said, complaint = train(("--resume '%s' --steps 12"):format(parts))
      assert.are.equal(0, code, said .. complaint)
      assert.are.equal(12, #runner.losses(whole))
      assert.are.same(runner.losses(whole), runner.losses(parts))
      local texts = {}
      for k, run in ipairs { whole, parts } do
        code, texts[k], complaint = runner.script("sample", ("'%s' --tokens 20 --prompt 'the moon'"):format(run))
        assert.are.equal(0, code, complaint)
        assert.is_truthy(complaint:find("2257 tokens", 1, true), complaint)
      end
      assert.are.equal("the moon", texts[1]:sub(1, 8))
      assert.is_true(#texts[1] > 20 and texts[1] == texts[2], texts[1])
    end
    local function fails(code, part, arguments)
      local found, _, complaint = train(arguments)
      assert.are.equal(code, found, complaint)
      assert.is_truthy(complaint:find(part, 1, true), complaint)
    end
    fails(2, "is of tokens already", options .. "--tokenizer char")
    fails(2, "--in_order is for token files", "--in_order")
    fails(1, "none of the files has 'val' in its name", options .. ("--data '%s/tokens_train_*'"):format(out))
    fails(2, "--bpe is for --tokenizer gpt2", "--bpe x")
    fails(1, "there is no vocab.bpe in", ("--tokenizer gpt2 --data '%s/in'"):format(folder))
  end)

  it("needs no vocab.bpe to train on GPT-2's tokens, nor to choose bytes without it", function()
    ok("- --tokenizer bytes --val 0.3 --quiet", ("hello world "):rep(20))
    os.remove(out .. "/meta.json")
    local small = "--plain --n_layer 1 --n_head 1 --n_embd 8 --block_size 8 --batch_size 2 --grad_accum 1 --steps 1 "
      .. "--warmup 0 --eval_iters 1 --sample_tokens 3 "
    local code, said, complaint = runner.script("train_gpt2", small .. ("--data '%s' --out '%s/run'"):format(out, folder))
    assert.are.equal(0, code, complaint)
    assert.is_truthy(said:find("vocabulary 50257 (gpt2)", 1, true), said)
    assert.is_truthy(said:find("\n50256 %d+ %d+ %d+ \n"), said)
    if runner.read(runner.root .. "/data/gpt2/vocab.bpe") ~= "" then return end
    code, said, complaint = runner.script("sample", ("'%s/run' --tokens 3"):format(folder))
    assert.are.equal(1, code, said)
    assert.is_truthy(complaint:find("; name it with --bpe FILE, or fetch it with: ", 1, true), complaint)
    local text = runner.corpus(folder .. "/in", 500)
    local preset = small .. "--preset gpt2-124m --data '" .. text .. "' "
    code, said, complaint = runner.script("train_gpt2", preset .. ("--out '%s/bytes'"):format(folder))
    assert.are.equal(0, code, complaint)
    assert.is_truthy(said:find("there is no vocab.bpe, so bytes are the tokens", 1, true), said)
    assert.is_truthy(said:find("vocabulary 256 (bytes)", 1, true), said)
    os.execute(("cp '%s' '%s/vocab.bpe'"):format(small_bpe, folder))
    code, said, complaint = runner.script("train_gpt2", preset .. ("--out '%s/gpt2'"):format(folder))
    assert.are.equal(0, code, complaint)
    assert.is_truthy(said:find("vocabulary 2257 (gpt2)", 1, true), said)
  end)
end)
