-- SPDX-License-Identifier: MIT
--
-- train_spec.lua: scripts/train_gpt2.lua as a user runs it: it learns, logs, resumes bit for bit, stops on
-- Ctrl-C with a checkpoint, and answers wrong input with one line and the right exit code.

local runner = require "tests.smoke.runner"

local small = "--plain --n_layer 2 --n_head 2 --n_embd 16 --block_size 16 --batch_size 4 --sample_tokens 8 "
  .. "--warmup 2 --eval_iters 2 "

describe("train_gpt2.lua", function()
  local text

  setup(function() text = runner.corpus(runner.folder() .. "/text", 6000) end)
  teardown(runner.clean)

  local function train(arguments)
    return runner.script("train_gpt2", small .. ("--data '%s' "):format(text) .. arguments)
  end

  it("leaves a finished run's log as it is when there is nothing to add", function()
    local out = runner.folder() .. "/finished"
    assert.are.equal(0, (train(("--steps 4 --out '%s'"):format(out))))
    local before = runner.read(out .. "/log.jsonl")
    local code = runner.script("train_gpt2", ("--plain --resume '%s'"):format(out))
    assert.are.equal(0, code)
    assert.are.equal(before, runner.read(out .. "/log.jsonl"))
    local first = runner.records(out .. "/log.jsonl")[1]
    assert.are.equal(64, #first.data.sha256)
    assert.is_true(first.data.train_tokens > 0)
  end)

  it("trains the modern GPT, which samples, and refuses GPT-2's weights for it", function()
    local out = runner.folder() .. "/modern"
    local code, said, complaint = train(("--model gpt_modern --steps 3 --out '%s'"):format(out))
    assert.are.equal(0, code, complaint)
    assert.is_truthy(said:find("gpt_modern, 2 layers", 1, true), said)
    assert.is_truthy(said:find("h.0-1.attn.c_q.weight", 1, true), said)
    code, said, complaint = runner.script("sample", ("'%s' --tokens 5"):format(out))
    assert.are.equal(0, code, said .. complaint)
    code, said, complaint = train "--model gpt_modern --init_from w.safetensors"
    assert.are.equal(2, code, said)
    assert.is_truthy(complaint:find("--init_from w.safetensors: files of weights are GPT-2's", 1, true), complaint)
    code, said, complaint = train "--model gpt_modern --recompute off"
    assert.are.equal(2, code, said)
    assert.is_truthy(complaint:find("--recompute off: it is GPT-2's GELUs that are computed again", 1, true), complaint)
  end)

  it("learns, reports and logs", function()
    local out = runner.folder() .. "/run"
    local code, said, complaint = train(("--steps 60 --lr 0.01 --out '%s'"):format(out))
    assert.are.equal(0, code, complaint)
    local list = runner.losses(out)
    assert.are.equal(60, #list)
    assert.is_true(list[60] < list[1] - 0.5, "the loss did not fall")
    for _, part in ipairs { "h.0-1.attn.c_attn.weight", "gradients clipped", "log.jsonl", "validation", "sample" } do
      assert.is_truthy(said:find(part, 1, true), part .. " is missing in:\n" .. said)
    end
    assert.is_nil(said:find("\r", 1, true))
  end)

  it("logs spectra of gradients before they are clipped, and trains the same without", function()
    local with, without = runner.folder() .. "/with", runner.folder() .. "/without"
    local common = "--steps 5 --dropout 0.1 --method exact --threshold 0.01 "
    assert.are.equal(0, (train(common .. ("--spectra_every 2 --out '%s'"):format(with))))
    assert.are.equal(0, (train(common .. ("--out '%s'"):format(without))))
    assert.are.same(runner.losses(without), runner.losses(with))
    local steps, sigma, clipped = {}, {}, 0
    for _, record in ipairs(runner.records(with .. "/log.jsonl")) do
      if record.spectra then
        steps[#steps + 1], sigma = record.step, {}
        assert.are.equal("grad", record.spectra.of)
        for name, matrix in pairs(record.spectra.matrices) do
          local squares = 0
          for _, value in ipairs(matrix.sigma) do squares = squares + value ^ 2 end
          assert.are.equal(math.min(matrix.shape[1], matrix.shape[2]), #matrix.sigma)
          assert.is_true(matrix.exact and math.abs(math.sqrt(squares) / matrix.norm - 1) < 1e-5, name)
          sigma[name] = matrix.sigma[1]
        end
      elseif record.clip then
        for name, value in pairs(sigma) do -- as the clipper saw them
          local row = record.clip.sigma_tau_clipped[name]
          assert.is_true(not row or math.abs(row[1] / value - 1) < 1e-4, name)
          clipped = clipped + (row and row[3] or 0)
        end
        sigma = {}
      end
    end
    assert.are.same({ 1, 2, 4, 5 }, steps)
    assert.is_true(clipped > 0, "nothing was clipped")
  end)

  for _, clip in ipairs { "spectral --threshold ema:0.9 --dropout 0.1", "norm --max_norm 0.5",
    "spectral --method exact --threshold quantile:0.5:7 --scope block --view heads", "norm --threshold zscore:2:0.9:5",
    "spectral --clip_on momentum", "norm --clip_on update", "spectral --model gpt_modern --view heads --dropout 0.1" } do
    it("resumes bit for bit with --clip " .. clip, function()
      local whole, parts = runner.folder() .. "/whole", runner.folder() .. "/parts"
      local common = "--clip " .. clip .. " --schedule const "
      assert.are.equal(0, (train(common .. ("--steps 14 --out '%s'"):format(whole))))
      assert.are.equal(0, (train(common .. ("--steps 9 --out '%s'"):format(parts))))
      local code, said, complaint = runner.script("train_gpt2", ("--plain --resume '%s' --steps 14"):format(parts))
      assert.are.equal(0, code, said .. complaint)
      assert.are.same(runner.losses(whole), runner.losses(parts))
    end)
  end

  for _, optimizer in ipairs { "muon --lr 0.02 --rest_lr 0.005 --optim split=qkv,rest.eps=1e-7 --clip_on momentum",
    "clipped_scion --lr 0.05 --optim rho=100,constrained=true,norms.embedding=col_norm,radius.matrix=2 --clip none",
    "scion_light --clip none", "soap --optim every=4 --clip none" } do
    it("resumes bit for bit with --optimizer " .. optimizer, function()
      local whole, parts = runner.folder() .. "/whole", runner.folder() .. "/parts"
      local common = "--schedule const --optimizer " .. optimizer
      local first, said, complaint = train(common .. (" --steps 8 --out '%s'"):format(whole))
      assert.are.equal(0, first, complaint)
      assert.is_truthy(said:find("h%.0%-1%.attn%.c_attn%.weight .* " .. optimizer:match "^%S+"), said)
      assert.are.equal(0, (train(common .. (" --steps 5 --out '%s'"):format(parts))))
      local code, _, problem = runner.script("train_gpt2", ("--plain --resume '%s' --steps 8"):format(parts))
      assert.are.equal(0, code, problem)
      assert.are.same(runner.losses(whole), runner.losses(parts))
    end)
  end

  for _, how in ipairs { "--method polar", "--method soft", "--rank auto" } do
    it("trains with " .. how, function()
      local out = runner.folder() .. "/run"
      local code, said, complaint = train(("--steps 3 --threshold 0.02 %s --out '%s'"):format(how, out))
      assert.are.equal(0, code, complaint)
      assert.is_truthy(said:find(how:match "polar" or how:match "soft" or "r=auto", 1, true), said)
    end)
  end

  it("follows every schedule", function()
    for i, schedule in ipairs { "wsd", "inverse_sqrt", "linear" } do
      local code, _, complaint = train(("--steps 3 --schedule %s --out '%s/%d'"):format(schedule, runner.folder(), i))
      assert.are.equal(0, code, complaint)
    end
    local code, _, complaint = train("--schedule inverse_sqrt --min_lr 1e-5 --out '" .. runner.folder() .. "/no'")
    assert.are.equal(2, code)
    assert.is_truthy(complaint:find("--min_lr: --schedule inverse_sqrt has no end", 1, true), complaint)
  end)

  it("says what is clipped where it is not the gradient", function()
    local code, said, complaint = train("--clip_on update --method exact --steps 3 --out '" .. runner.folder() .. "/run'")
    assert.are.equal(0, code, complaint)
    assert.is_truthy(said:find("update spectral ema(0.9), exact", 1, true), said)
    assert.is_truthy(said:find("matrix updates clipped", 1, true), said)
  end)

  it("trains with sgd and from a folder elsewhere", function()
    local out = runner.folder() .. "/run"
    local code, _, complaint = runner.shell(("cd / && luajit '%s/scripts/train_gpt2.lua' %s --data '%s' --optimizer sgd "
      .. "--lr 0.1 --steps 5 --out '%s'"):format(runner.root, small, text, out))
    assert.are.equal(0, code, complaint)
  end)

  it("stops on an interrupt with a checkpoint and goes on from there", function()
    local out = runner.folder() .. "/run"
    local code, said, complaint = runner.shell(("luajit '%s/scripts/train_gpt2.lua' %s --data '%s' --steps 1000000 --out '%s' & "
      .. "pid=$!; for i in $(seq 200); do grep -q '\"step\":5[,}]' '%s/log.jsonl' 2>/dev/null && break; sleep 0.1; done; "
      .. "kill -TERM $pid; wait $pid"):format(runner.root, small, text, out, out))
    assert.are.equal(130, code, said .. complaint)
    assert.is_truthy(said:find("--resume", 1, true), said)
    local last = #runner.losses(out)
    assert.is_true(last >= 5)
    code, said, complaint = runner.script("train_gpt2", ("--plain --resume '%s' --steps %d"):format(out, last + 2))
    assert.are.equal(0, code, said .. complaint)
    assert.are.equal(last + 2, #runner.losses(out))
  end)

  it("stops before the update when a gradient is not finite, with exit code 3", function()
    local out = runner.folder() .. "/run"
    local wild = "--steps 30 --optimizer sgd --lr 1e30 --schedule const --clip none --out "
    local code, _, complaint = train(wild .. ("'%s'"):format(out))
    assert.are.equal(3, code, complaint)
    assert.is_truthy(complaint:find("not finite") or complaint:find("loss is"), complaint)
    code, _, complaint = train(wild .. ("'%s2' --on_nonfinite skip"):format(out))
    assert.are.equal(3, code, complaint)
    assert.is_truthy(complaint:find("in a row"), complaint)
  end)

  it("keeps the state before a step that is not finite, without taking older checkpoints away", function()
    local out = runner.folder() .. "/run"
    local code, _, complaint = train(("--steps 30 --optimizer sgd --lr 1e30 --schedule const --clip none --keep 1 --out '%s'")
      :format(out))
    assert.are.equal(3, code, complaint)
    local kept = complaint:match "the last checkpoint is (%S+)"
    assert.are.equal(out .. ("/step_%08d"):format(#runner.losses(out)), kept)
    assert.are_not.equal("", runner.read(kept .. "/manifest.json"))
  end)

  it("keeps runs apart: a folder with a run is refused, and so is a resume into another folder", function()
    local out = runner.folder() .. "/run"
    assert.are.equal(0, (train(("--steps 2 --out '%s'"):format(out))))
    local log = runner.read(out .. "/log.jsonl")
    local code, _, complaint = train(("--steps 2 --out '%s'"):format(out))
    assert.are.equal(1, code)
    assert.is_truthy(complaint:find("holds an earlier run", 1, true), complaint)
    assert.are.equal(log, runner.read(out .. "/log.jsonl"))
    code, _, complaint = runner.script("train_gpt2", ("--resume '%s' --out '%s2' --steps 4"):format(out, out))
    assert.are.equal(2, code)
    assert.is_truthy(complaint:find("--out", 1, true), complaint)
    code, _, complaint = runner.script("train_gpt2", ("--resume '%s' --preset gpt2-124m"):format(out))
    assert.are.equal(1, code)
    assert.is_truthy(complaint:find("preset = default", 1, true), complaint)
  end)

  it("names the process that trains in a folder, and says that it has no checkpoint yet", function()
    local out = runner.folder() .. "/run"
    local code, said, complaint = runner.shell(([[
      cd '%s'; luajit scripts/train_gpt2.lua %s --data '%s' --steps 1000000 --out '%s' >/dev/null & pid=$!
      for i in $(seq 200); do grep -q '"loss":' '%s/log.jsonl' 2>/dev/null && break; sleep 0.1; done
      echo $pid
      luajit scripts/train_gpt2.lua %s --data '%s' --out '%s'
      luajit scripts/train_gpt2.lua --resume '%s'
      luajit scripts/sample.lua '%s'
      kill -HUP $pid; wait $pid]]):format(runner.root, small, text, out, out, small, text, out, out, out))
    assert.are.equal(130, code, said .. complaint)
    local who = ("process %d is training in this folder"):format(tonumber(said:match "%d+"))
    assert.are.equal(("train_gpt2: --out %s: %s\ntrain_gpt2: --resume %s: %s and has made no checkpoint yet\n"
      .. "sample: %s: %s and has made no checkpoint yet\n"):format(out, who, out, who, out, who), complaint)
    code, said, complaint = runner.script("train_gpt2", ("--plain --resume '%s' --steps 1"):format(out))
    assert.are.equal(1, code, said) -- the hangup made a checkpoint
    assert.is_truthy(complaint:find("^train_gpt2: %-%-steps 1: the run in %S+ already has %d+ steps\n$"), complaint)
  end)

  it("goes back to an older checkpoint, from any folder, with a text named from another", function()
    local folder = runner.folder()
    os.execute(("cp '%s' '%s/text'"):format(text, folder))
    local command = ("cd '%s' && luajit '%s/scripts/train_gpt2.lua' "):format(folder, runner.root)
    assert.are.equal(0, (runner.shell(command .. small .. "--data text --steps 6 --save_every 3 --out run")))
    local before = runner.losses(folder .. "/run")
    local code, said, complaint = runner.script("train_gpt2", ("--plain --resume '%s/run/step_00000003'"):format(folder))
    assert.are.equal(0, code, complaint)
    assert.is_truthy(said:find("after step 3", 1, true), said)
    assert.are.same(before, runner.losses(folder .. "/run"))
    assert.are.equal("", runner.read(folder .. "/run/step_00000003/log.jsonl"))
  end)

  it("samples bytes that are no text, and no control character reaches the screen", function()
    local out = runner.folder() .. "/run"
    local code, said, complaint = train(("--tokenizer bytes --steps 2 --sample_tokens 120 --out '%s'"):format(out))
    assert.are.equal(0, code, complaint)
    assert.is_nil(said:find "[%z\1-\8\11-\31\127]")
    local sample
    for _, record in ipairs(runner.records(out .. "/log.jsonl")) do sample = record.sample or sample end
    assert.is_truthy(#sample > 100)
  end)

  describe("answers wrong input:", function()
    local nowhere
    setup(function() nowhere = runner.folder() end)

    local function refuses(what, arguments, expected_code, ...)
      local parts = { ... }
      it(what, function()
        local command_line = arguments:gsub("NOWHERE", nowhere):gsub("TEXT", text)
        local code, said, complaint = runner.script("train_gpt2", command_line)
        assert.are.equal(expected_code, code, said .. complaint)
        local _, lines = complaint:gsub("\n", "")
        assert.are.equal(1, lines, "more than one line: " .. complaint)
        for _, part in ipairs(parts) do
          assert.is_truthy(complaint:find(part, 1, true), ("no '%s' in: %s"):format(part, complaint))
        end
      end)
    end

    refuses("an unknown option", "--n_layers 3", 2, "--n_layers", "--n_layer?")
    refuses("a word that is no option", "train", 2, "train")
    refuses("an unknown preset", "--preset shakespear-char", 2, "shakespear-char", "shakespeare-char?")
    refuses("a missing value", "--steps", 2, "--steps")
    refuses("a value that is no number", "--lr fast", 2, "--lr", "fast")
    refuses("more steps than anybody makes", "--steps 1e18 --data TEXT --out NOWHERE/a", 2, "--steps: 1e18 is above 1000000000")
    refuses("a seed that is not exact", "--seed 1e16 --data TEXT --out NOWHERE/a", 2, "--seed: 1e16 is above 9007199254740992")
    refuses("layers past counting", "--n_layer 1e9 --data TEXT --out NOWHERE/a", 2, "--n_layer: 1e9 is above 10000")
    refuses("a width that heads do not divide", "--n_embd 30 --n_head 4 --data TEXT --out NOWHERE/a", 1, "30", "4")
    refuses("a missing file", "--data NOWHERE/none.txt --out NOWHERE/b", 1, "none.txt")
    refuses("a folder as file", "--data NOWHERE --out NOWHERE/b", 1)
    refuses("an empty file", "--data /dev/null --out NOWHERE/c", 1, "/dev/null")
    refuses("a context longer than the text", "--block_size 100000 --data TEXT --out NOWHERE/d", 1, "100000")
    refuses("a resume from nowhere", "--resume NOWHERE/none", 1, "none")
    refuses("a folder that cannot be made", "--data TEXT --out /proc/none/run", 1, "/proc/none")
    refuses("a device that is not there", "--device cuda --data TEXT --out NOWHERE/e", 1, "cuda")
    refuses("weights that are not there", "--init_from NOWHERE/w.safetensors --data TEXT --out NOWHERE/f", 1, "w.safetensors")
    refuses("an unknown optimizer", "--optimizer adamx --data TEXT --out NOWHERE/g", 2, "adamx", "did you mean adam?")
    refuses("an unknown option of it", "--optimizer muon --optim slit=qkv --data TEXT --out NOWHERE/g", 2,
      "--optimizer muon", "unknown option 'slit', did you mean 'split'?")
    refuses("an option of it without a value", "--optim eps --data TEXT --out NOWHERE/g", 2, "'eps' is not NAME=VALUE")
    refuses("a rest that is not there", "--rest_lr 1 --data TEXT --out NOWHERE/g", 2, "--rest_lr is for optimizers of matrices")
    refuses("a bad threshold", "--threshold emu:3 --data TEXT --out NOWHERE/h", 2, "emu:3")
    refuses("a threshold rule with too much in it", "--threshold ema:0.9:3 --data TEXT --out NOWHERE/h", 2, "ema:0.9:3")
    refuses("two ways to clip by norm", "--clip norm --max_norm 2 --threshold autoclip:10 --data TEXT --out NOWHERE/h", 2,
      "--max_norm 2 and --threshold autoclip:10 both say")
    refuses("a threshold out of bounds", "--threshold ema:2 --data TEXT --out NOWHERE/h", 2, "--threshold ema:2", "beta")
    refuses("a warm-up longer than the run", "--warmup 9 --steps 3 --data TEXT --out NOWHERE/h", 2, "--warmup 9", "--steps 3")
    refuses("a rank that is none", "--rank many --data TEXT --out NOWHERE/h", 2, "--rank: 'many' is not a number or auto")
    local function ignored(arguments, complaint)
      refuses("what would be ignored: " .. arguments, arguments .. " --data TEXT --out NOWHERE/h", 2, complaint)
    end
    for _, o in ipairs { "method exact", "rank 8", "oversample 5", "power_iters 1", "scope matrix", "view fused" } do
      ignored("--clip norm --" .. o, ("--%s is for --clip spectral, this run has --clip norm"):format(o))
      ignored("--clip none --" .. o, ("--%s is for --clip spectral, this run has --clip none"):format(o))
    end
    ignored("--clip none --clip_on grad", "--clip_on grad is for --clip spectral or norm")
    ignored("--clip none --threshold 1", "--threshold 1 is for --clip spectral or norm")
    ignored("--max_norm 1", "--max_norm 1 is for --clip norm, this run has --clip spectral")
    ignored("--method exact --rank auto", "--rank auto is for --method randomized, this run has --method exact")
    refuses("a threshold that is not finite", "--threshold 1e999 --data TEXT --out NOWHERE/h", 2,
      "--threshold: 1e999 is not finite")
    refuses("momentum that is not there", "--clip_on momentum --optimizer sgd --momentum 0 --data TEXT --out NOWHERE/h", 2,
      "--clip_on momentum: --optimizer sgd with --momentum 0 has no momentum to clip")
    refuses("an option in place of a value", "--out --plain", 2, "--out")
    refuses("bf16 without a device for it", "--dtype bf16 --device cpu --data TEXT --out NOWHERE/i", 1, "bf16")
  end)

  it("names what differs when a run is resumed with another configuration", function()
    local out = runner.folder() .. "/run"
    assert.are.equal(0, (train(("--steps 2 --out '%s'"):format(out))))
    local code, _, complaint = runner.script("train_gpt2", ("--resume '%s' --n_embd 32 --steps 4"):format(out))
    assert.are.equal(1, code)
    assert.is_truthy(complaint:find("n_embd = 16", 1, true), complaint)
    local other = runner.folder() .. "/other"
    os.execute(("{ cat '%s'; echo 0123; } >'%s'"):format(text, other))
    code, _, complaint = runner.script("train_gpt2", ("--resume '%s' --data '%s' --steps 4"):format(out, other))
    assert.are.equal(1, code)
    assert.is_truthy(complaint:find("the text is not the one of the checkpoint", 1, true), complaint)
  end)

  it("says in one line that the library is not there", function()
    local code, said, complaint = runner.shell(
      ("MOONBOW_LIB=/nowhere/lib.so luajit '%s'/scripts/train_gpt2.lua"):format(runner.root))
    assert.are.equal(1, code, said)
    assert.are.equal(1, select(2, complaint:gsub("\n", "")), complaint)
    assert.is_truthy(complaint:find("/nowhere/lib.so", 1, true), complaint)
  end)

  it("prints its options with --help", function()
    local code, said = runner.script("train_gpt2", "--help")
    assert.are.equal(0, code)
    assert.is_truthy(said:find("--grad_accum", 1, true))
  end)
end)
