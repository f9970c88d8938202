-- SPDX-License-Identifier: MIT
--
-- repl_spec.lua: scripts/repl.lua as its users have it: lines from a pipe, and keys in a terminal (tmux), where every step
-- waits for what the screen must show.

local runner = require "tests.smoke.runner"
local terminal = require "tests.terminal"

-- What the prompt makes of lines that come from no terminal.
local function piped(arguments, ...)
  local path = runner.folder() .. "/lines"
  local file = assert(io.open(path, "wb"))
  file:write(table.concat({ ... }, "\n"), "\n")
  file:close()
  return runner.shell(("luajit '%s/scripts/repl.lua' %s <'%s'"):format(runner.root, arguments, path))
end

describe("scripts/repl.lua without a terminal", function()
  teardown(runner.clean)

  it("runs lines, shows values and has no prompt", function()
    local code, out, err = piped("", "1 + 1", "x = 7", "x * 2", "x;", "_ + 1", "for i = 1, 2 do", "  print(i)", "end",
      "'text'", "nil", "{ 1, 2, { a = 3 } }")
    assert.are.equal("2\n14\n8\n1\n2\n\"text\"\n{ 1, 2, { a = 3 } }\n", out)
    assert.are.equal("", err)
    assert.are.equal(0, code)
  end)

  it("goes on after an error and has exit code 1", function()
    local code, out, err = piped("", "x = 1", "error 'no'", "x +", "+", "x")
    assert.are.equal("1\n", out)
    assert(err:find("error no\n", 1, true), err)
    assert.are.equal(1, code)
    code, out, err = piped("", "for i = 1, 2 do")
    assert.are.equal("", out)
    assert(err:find("ends in the middle", 1, true), err)
    assert.are.equal(1, code)
  end)

  it("has exit code 1 after an error however it is left", function()
    assert.are.equal(1, (piped("", "error 'no'", ":quit")))
    assert.are.equal(0, (piped("", "1", ":quit", "error 'not reached'")))
  end)

  it("shows numbers, members that are not loaded yet, data and variables", function()
    local _, out, err = piped("", "0.1 + 0.2", "1234567.5", "2^53", "-0", "1/3", "mb.schedule", "mb", "demo()", "data",
      "for i = 1, 60 do _G['v' .. i] = i end", "who()")
    assert.are.equal("", err)
    assert.are.equal(1, (out:find("0.3\n1234567.5\n9007199254740992\n-0\n0.33333333333333\n", 1, true)))
    assert(out:find("cosine  ", 1, true) and out:find("  threshold  ", 1, true), out)
    assert(out:find("\ntext: char tokens, a vocabulary of", 1, true), out)
    assert(out:find("\nv2 .*\nv10 .*\n… 25 more"), out)
  end)

  it("says that a variable hides a command", function()
    local code, _, err = piped("", "losses = 3", "losses = 4")
    assert.are.equal("note 'losses' is a variable now and hides the command; `losses = nil` gives that back\n", err)
    assert.are.equal(0, code)
  end)

  it("knows commands of the shell, help and exit codes", function()
    local code, out = piped("", "$ echo from the shell", "? mb.clip.norm", "os.exit(5)")
    assert(out:find("from the shell", 1, true), out)
    assert(out:find("mb.clip.norm(given)", 1, true), out)
    assert.are.equal(5, code)
    code = piped("--devcie cpu", "1")
    assert.are.equal(2, code)
    local _, err
    code, _, err = piped("no/such/file.lua", "1")
    assert.are.equal(2, code)
    assert.are.equal("repl: 'no/such/file.lua' is neither a script nor the folder of a run\n", err)
    code, out = runner.script("repl", "--help")
    assert.are.equal(0, code)
    assert(out:find("--history FILE", 1, true), out)
  end)

  it("opens a run, which it only reads", function()
    local folder = runner.folder()
    local train = ("--data '%s' --steps 4 --n_layer 1 --n_head 2 --n_embd 16 --block_size 16 --batch_size 4 --eval_iters 1 "
      .. "--sample_tokens 0 --quiet --out '%s/run'"):format(runner.corpus(folder .. "/text", 4000), folder)
    assert.are.equal(0, (runner.script("train_gpt2", train)))
    local list = ("cd '%s/run' && find . -type f ! -name '*lock' | sort | xargs sha256sum"):format(folder)
    local _, before = runner.shell(list)
    local _, out, err = piped(("'%s/run'"):format(folder), "optimizer.updates", "step(2);", "#losses()", "settings.n_embd",
      "spectra 'c_attn'", "save()")
    assert.are.equal("", err)
    assert(out:find("after step 4 of 4\n4\n6\n16\n", 1, true), out)
    assert(out:find("h.0.attn.c_attn ", 1, true), out)
    assert(out:find("run/step_00000006", 1, true), out)
    assert.are.equal(0, (runner.shell(("test -f '%s/run/step_00000006/manifest.json' && rm -r '%s/run/step_00000006'"):format(
      folder, folder))))
    assert.are.equal(before, (select(2, runner.shell(list))))
  end)

  it("goes on as the run did, whatever was looked at in between", function()
    local folder = runner.folder()
    local train = ("--data '%s' --steps 6 --save_every 3 --n_layer 1 --n_head 2 --n_embd 16 --block_size 16 --batch_size 4 "
      .. "--dropout 0.2 --eval_iters 1 --sample_tokens 0 --quiet --out '%s/run'"):format(
        runner.corpus(folder .. "/text", 4000), folder)
    assert.are.equal(0, (runner.script("train_gpt2", train)))
    local wanted = {}
    for _, record in ipairs(runner.records(folder .. "/run/log.jsonl")) do
      if record.loss and record.step > 3 then wanted[#wanted + 1] = ("%d %.9g\n"):format(record.step, record.loss) end
    end
    local _, out, err = piped(("'%s/run/step_00000003'"):format(folder), "spectrum 'h.0.attn.c_attn';", "steps = step(2)",
      "evaluate(2);", "generate('the ', { tokens = 3 })", "steps[3] = step(1)[1]",
      "for _, s in ipairs(steps) do io.write(('%d %.9g\\n'):format(s.step, s.loss)) end")
    assert.are.equal("", err)
    assert.are.equal(table.concat(wanted), out:sub(-#table.concat(wanted)))
  end)

  it("saves the threshold that was set, so that the run goes on with it", function()
    local folder = runner.folder()
    local train = ("--data '%s' --steps 2 --n_layer 1 --n_head 2 --n_embd 16 --block_size 16 --batch_size 4 --eval_iters 1 "
      .. "--sample_tokens 0 --quiet --out '%s/set'"):format(runner.corpus(folder .. "/text", 4000), folder)
    assert.are.equal(0, (runner.script("train_gpt2", train)))
    local _, out, err = piped(("'%s/set'"):format(folder), "clip.threshold = mb.threshold.quantile { q = 0.5, window = 7 }",
      "step(2);", "save()")
    assert.are.equal("", err)
    local code, said, complaint = runner.script("train_gpt2", ("--plain --resume '%s/set' --steps 6"):format(folder))
    assert.are.equal(0, code, out .. said .. complaint)
    local config = require("moonbow").checkpoint.peek(folder .. "/set").config
    assert.are.equal("quantile:0.5:7", config.threshold)
    _, out, err = piped(("'%s/set'"):format(folder), "clip.threshold = function(p) return 1 end", "step(1);",
      ("save '%s/other'"):format(folder))
    assert.are.equal("", err)
    assert(out:find("which no option of train_gpt2.lua makes", 1, true), out)
  end)

  it("takes another learning rate by hand, and refuses what is no field of an optimizer", function()
    local _, out, err = piped("", "demo()", "step(1);", "optimizer.lr = 0",
      "before = model:parameter('wte.weight').value:clone()", "step(1);",
      "mb.max(mb.abs(model:parameter('wte.weight').value - before)):item()", "optimizer.lr", "optimizer.lrr = 3")
    assert(out:find("\n0\n0\n$"), out)
    assert.are.equal("error optimizer 'adamw': 'lrr' cannot be set, did you mean 'lr'?\n", err)
  end)

  it("opens and resumes what demo() made, and saves there again", function()
    local folder = runner.folder()
    local _, out, err = piped("", "demo()", "step(2);", ("save '%s/mine'"):format(folder), "step(1);", "optimizer.lr = 5e-4",
      "save()", "next = step(1)[1].loss", ("open '%s/mine'"):format(folder), "optimizer.updates, optimizer.lr, settings.schedule",
      "step(1)[1].loss == next")
    assert.are.equal("", err)
    assert(out:find("mine/step_00000002", 1, true) and out:find("mine/step_00000003", 1, true), out)
    assert(out:find("\n3\n0.0005\n\"const\"\ntrue\n$"), out)
    local code, said, complaint = runner.script("train_gpt2",
      ("--plain --resume '%s/mine' --steps 4 --eval_iters 1 --sample_tokens 0"):format(folder))
    assert.are.equal(0, code, said .. complaint)
  end)

  it("saves other clippers with the options that make them", function()
    local folder = runner.folder()
    local clips = { "mb.clip.norm { max_norm = 0.5 }", "nil",
      "mb.clip.spectral { threshold = mb.threshold.ema { beta = 0.5 }, method = 'exact', view = 'qkv' }",
      "mb.clip.norm { threshold = mb.threshold.quantile { q = 0.5, window = 7 } }" }
    local lines = { "demo()" }
    for i, clip in ipairs(clips) do
      for _, line in ipairs { "clip = " .. clip, "step(1);", "was = tostring(clip or mb.clip.norm { max_norm = math.huge })",
        ("save '%s/%d'"):format(folder, i), "next = step(1)[1].loss", ("open '%s/%d'"):format(folder, i),
        "tostring(clip) == was, step(1)[1].loss == next" } do
        lines[#lines + 1] = line
      end
    end
    lines[#lines + 1] = "clip = mb.clip.spectral { threshold = 1, where = function(p) return p.role == 'matrix' end }"
    lines[#lines + 1] = ("save '%s/own'"):format(folder)
    local _, out, err = piped("", unpack(lines))
    assert.are.equal("", err)
    local _, right = out:gsub("\ntrue\ntrue\n", "%0")
    assert.are.equal(#clips, right, out)
    assert(out:find("no settings say how 'clip' was made", 1, true), out)
  end)

  it("says what a checkpoint of another model is good for", function()
    local folder = runner.folder()
    local path = folder .. "/own"
    local lines = { "model = mb.models.mlp { n_input = 3, n_hidden = 4, n_layer = 1, n_output = 2 }",
      "optimizer = mb.optim.sgd(model, { lr = 0.1 })", "function data() return { inputs = { { 1, 2, 3 } }, targets = { 1 } } end",
      "step(2);", ("save '%s'"):format(path), ("open '%s'"):format(path) }
    local _, out, err = piped("", unpack(lines))
    assert(out:find("a script that does goes on with mb.checkpoint.load(\"" .. path, 1, true), out)
    assert(err:find("own/step_00000002' is no run of train_gpt2.lua: its configuration has no n_layer; a script that makes the "
      .. "same model opens it, with mb.checkpoint.load(\"" .. path, 1, true), err)
    -- Settings that are there describe something else.
    _, out, err = piped("", "demo()", "optimizer = mb.optim.sgd(model, { lr = 0.1 })", ("save '%s/two'"):format(folder))
    assert.are.equal("", err)
    assert(out:find("no settings say how 'optimizer' was made", 1, true), out)
  end)

  it("refuses globals that are no parts of a step, and numbers of micro-batches that are none", function()
    local _, _, err = piped("", "demo()", "settings.grad_accum = 0", "step(1)", "settings.grad_accum = 'x'", "step(1)",
      "settings.grad_accum = 1", "was = model", "model = 4", "step(1)", "model = was", "was = data", "data = { 1 }", "step(1)",
      "data = was", "clip = 'no'", "step(1)", "clip = nil", "optimizer = 1", "step(1)")
    local expected = {
      "error step: settings.grad_accum must be at least 1, not the number 0",
      "error step: settings.grad_accum must be an integer, not the string 'x'",
      "error step: 'model' is the number 4, expected was a model, ",
      "error step: 'data' is a table, expected was data with a method batch, ",
      "error step: 'clip' is the string 'no', expected was a clipper, ",
      "error step: 'optimizer' is the number 1, expected was an optimizer, ",
    }
    local i = 0
    for line in err:gmatch "[^\n]+" do
      i = i + 1
      assert.are.equal(expected[i], line:sub(1, #expected[i]))
    end
    assert.are.equal(#expected, i)
  end)

  it("gives a step that failed the same batch again", function()
    local code, out = piped("", "demo()", "step(1);", "at = data:state_dict().train",
      "clip.threshold = function() error 'no' end",
      "step(1)", "data:state_dict().train == at", "mb.random_state()", "clip.threshold = 1", "again = step(1)[1]",
      "io.write(('%d %.9g\\n'):format(again.step, again.loss))", "demo()", "step(1);", "clip.threshold = 1", "mb.random_state()",
      "again = step(1)[1]", "io.write(('%d %.9g\\n'):format(again.step, again.loss))")
    assert.are.equal(1, code)
    local first, second = out:match "\ntrue\n%d+\n1\n%d+\n(2 [%d.]+)\n.*\n(2 [%d.]+)\n"
    assert(first, out)
    assert.are.equal(second, first)
  end)

  it("goes on counting steps when the optimizer is another one", function()
    local _, out, err = piped("", "demo()", "step(2);", "optimizer = mb.optim.sgd(model, { lr = 0.1 })", "step(2)", "#losses()",
      "#spectra 'c_attn'", "optimizer.updates")
    assert.are.equal("", err)
    assert(out:find("\nsteps 3 to 4, loss ", 1, true), out)
    assert(out:find("\n4\n8\n2\n$"), out)
  end)

  it("leaves the gradients of the last step when it looks at those of the next", function()
    local _, out, err = piped("", "demo()", "p = model:parameter 'h.0.attn.c_attn.weight'", "function gap() return "
      .. "mb.max(mb.abs(p.grad - was)):item() end", "was = p.grad:clone()", "spectrum(p.name);", "gap()", "step(1);",
      "was = p.grad:clone()", "top = spectrum(p.name).sigma[1]", "gap()", "optimizer.lr = 0", "clip = nil", "step(1);",
      "gap() > 0, math.abs(spectrum(p.grad).sigma[1] / top - 1) < 1e-5")
    assert.are.equal("", err)
    assert(out:find("\n0\n0\ntrue\n"), out)
  end)

  it("marks bounds, has a line for a vector, and looks at bf16", function()
    local _, out, err = piped("", "mb.seed(3)", "t = mb.randn { 1030, 1100 }", "s = spectrum(t)", "s",
      "math.abs(s.sigma[1] / mb.linalg.svdvals(t):totable()[1] - 1) < 2e-6", "spectrum(mb.tensor { 3, 4 })",
      "spectrum(mb.tensor(2))", "#spectrum(mb.ones { 3, 4 }:to 'bf16').sigma", "spectrum(mb.tensor { 1, 2 }:to 'i32')")
    assert(out:find("effective rank ≥", 1, true) and out:find("from below: a sketch", 1, true), out)
    assert.are.equal("\ntrue\ntensor (2): one singular value, its norm 5\ntensor (): one singular value, its norm 2\n3\n",
      out:sub(-93))
    assert.are.equal("error mb.spectrum: the tensor is i32; singular values are of f32, f64 and bf16\n", err)
  end)

  it("peeks at large tensors as at small ones", function()
    local _, out, err = piped("", "mb.seed(5)", "t = mb.randn { 1100, 1001 } + 3", "t:slice(1, 1, 1):fill_(0)", "p = peek(t)",
      "p",
      "v, sum, squares = t:reshape(-1):totable(), 0, 0", "for i = 1, #v do sum = sum + v[i] end",
      "for i = 1, #v do squares = squares + (v[i] - sum / #v) ^ 2 end",
      "math.abs(p.mean - sum / #v) < 1e-5, math.abs(p.std / math.sqrt(squares / #v) - 1) < 1e-5, p.zeros * 1100",
      "p.max == math.max(unpack(t:reshape(-1):max():reshape(-1):totable()))", "t:slice(1, 5, 5):fill_(0 / 0)", "peek(t).nan",
      "peek(mb.tensor({ 1, 2, 2 }):to 'i32').norm")
    assert.are.equal("", err)
    assert(out:find(" elements)", 1, true), out)
    assert(out:find("true\ntrue\n1\ntrue\n.*1001\n3\n$"), out)
  end)

  it("trains a model of its own", function()
    local _, out, err = piped("", "demo()", "steps = step(3)", "#steps", "steps", "optimizer.updates")
    assert.are.equal("", err)
    assert(out:find("\n3\nsteps 1 to 3, loss ", 1, true), out)
    assert(out:find("\n3\n$"), out)
  end)
end)

describe("scripts/repl.lua in a terminal", function()
  if not terminal.is_there() then
    pending "tmux is not installed; ./bootstrap.sh --tests installs it"
    return
  end
  local has_editor = io.open(((os.getenv "MOONBOW_LIB" or "build/libmoonbow.so"):gsub("libmoonbow%.so$", "libmoonbow_edit.so")))
  if not has_editor then
    pending "libmoonbow_edit was not built: libedit-dev is not installed"
    return
  end
  has_editor:close()
  teardown(runner.clean)

  local t
  after_each(function()
    if t then t:close() end
    t = nil
  end)

  local function open(width, folder, environment, arguments)
    folder = folder or runner.folder()
    local root = runner.root:sub(1, 1) == "/" and runner.root or os.getenv "PWD" .. "/" .. runner.root
    t = terminal.open(("luajit '%s/scripts/repl.lua' %s"):format(root, arguments or ""),
      { width = width, height = 40, folder = folder, environment = environment })
    t:wait "mb>"
    return t, folder
  end

  it("completes names, methods, parameters and files", function()
    local _, folder = open(100)
    os.execute(("touch '%s/notes.lua'"):format(folder))
    t:type "mb.clip.spe"
    t:key "Tab"
    t:wait "mb> mb.clip.spectral"
    t:type " { thr"
    t:key "Tab"
    t:wait "mb> mb.clip.spectral { threshold ="
    t:key "C-c"
    t:wait "^C"
    t:line "net = mb.models.mlp { n_input = 3, n_hidden = 4, n_layer = 1, n_output = 2 }; model = net"
    t:type "net:para"
    t:key "Tab"
    t:wait "mb> net:parameter"
    t:key "Tab" -- parameter and parameters
    t:wait "parameter   parameters"
    t:type ' "layers.0.w'
    t:key "Tab"
    t:wait 'net:parameter "layers.0.weight"'
    t:type ".value:tra"
    t:key "Tab"
    t:wait '"layers.0.weight".value:transpose'
    t:key "C-c"
    t:wait("^C", 2)
    t:type 'io.lines "no'
    t:key "Tab"
    t:wait 'io.lines "notes.lua"'
    t:key "C-c"
    t:type "mb.threshold.a" -- a list where there are several
    t:key "Tab"
    t:wait "adagc     autoclip"
  end)

  it("keeps a history between sessions, without doubles", function()
    local _, folder = open(80)
    t:line "first = 11"
    t:line "first * 2"
    t:wait "22"
    t:line "first * 2"
    t:wait("22", 2)
    t:key "Up"
    t:key "Up"
    t:wait("mb> first = 11", 2)
    t:key "C-c"
    t:wait "^C"
    t:key "C-d"
    t:wait "ended with 0"
    assert.are.equal("first = 11\nfirst * 2\n", runner.read(folder .. "/.local/state/moonbow/history"))
    t:close()
    open(80, folder)
    t:key "Up"
    t:wait "mb> first * 2"
    t:key "C-a" -- the cursor moves, and letters of two bytes are letters
    t:type "-- \195\164 "
    t:wait "mb> -- \195\164 first * 2"
    t:key "Enter"
    t:line "os.exit(3)"
    t:wait "ended with 3"
    assert.are.equal("first = 11\nfirst * 2\n-- \195\164 first * 2\nos.exit(3)\n",
      runner.read(folder .. "/.local/state/moonbow/history"))
  end)

  it("ends with Ctrl-C what runs, and keeps the session", function()
    open(100)
    t:line "demo()"
    t:wait "try step(50)"
    t:line "step(1000)"
    t:wait "/1000 | loss"
    t:key "C-c"
    t:wait "; all of it is kept"
    t:line "optimizer.updates > 0, optimizer.updates < 1000"
    t:wait "true\ntrue"
    t:line "while true do end"
    t:wait "while true do end\n"
    t:key "C-c"
    t:wait "interrupted\nmb>"
    t:type "not finished ("
    t:key "C-c"
    t:wait "(^C"
    t:line "error 'on purpose'"
    t:wait "error on purpose"
    t:line ":trace"
    t:wait "stack traceback"
    t:line "modle"
    t:wait "there is no 'modle', did you mean 'model'?"
    t:line "clip.threshold = 0.001"
    t:line "report = step()"
    t:line "report[1].tau['h.0.attn.c_attn.weight']"
    t:wait "0.001"
    t:line 'spectrum "h.3.attn.c_attn"'
    local screen = t:wait "singular values, 128"
    assert(screen:find("gradient of h.3.attn.c_attn.weight (384, 128)", 1, true), screen)
    assert(screen:find("\207\132 0.001", 1, true), screen)
    t:wait "128\nmb>"
    t:key "C-d"
    t:wait "ended with 0"
  end)

  it("ends a policy that does not come back, and goes on with the next line after Ctrl-C without an editor", function()
    open(100, nil, nil, "--plain")
    t:line "demo()"
    t:wait "try step(50)"
    t:line "clip.threshold = function() print 'called'; while true do end end"
    t:line "step(1)"
    t:wait "\ncalled"
    t:key "C-c"
    t:wait "interrupted\nmb>"
    t:line "clip.threshold = 0.5"
    t:line "#step(2)"
    t:wait "\n2\nmb>"
    t:type "for i = "
    t:key "C-c"
    t:wait "^C"
    t:line "'next' .. ' line'"
    t:wait '"next line"'
  end)

  it("stays at an empty line whatever key is pressed, and leaves with Ctrl-D or the terminal", function()
    open(100)
    for key in ("BSpace DC Left Right Up Down Home End C-a C-e C-k C-u C-l C-w"):gmatch "%S+" do
      t:key(key)
    end
    for key in ("F1 F5 F12 PPage NPage IC S-F5 M-x"):gmatch "%S+" do t:key(key) end
    t:type "x"
    t:key "BSpace"
    t:type "yy"
    t:key "C-u"
    t:line "'still' .. ' here'"
    assert(not t:wait('"still here"'):find("ended with", 1, true))
    t:key "C-a"
    t:key "C-d"
    t:wait "ended with 0"
  end)

  it("asks for the rest of what is not whole, and fits a narrow terminal", function()
    open(40, nil, "NO_COLOR=1")
    t:line "for i = 1, 2 do"
    t:wait "..."
    t:line "print('turn ' .. i) end"
    t:wait "turn 2"
    t:line "demo()"
    t:wait "try step(50)"
    t:line "step(2)"
    t:wait("a step")
    t:line "losses()"
    t:wait "step 2"
    t:line "spectra()"
    for line in t:wait("(log)"):gmatch "[^\n]+" do
      assert(not line:find "\226\150\136.*\27", line) -- no colours
    end
  end)
end)
