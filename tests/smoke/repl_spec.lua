-- SPDX-License-Identifier: MIT
--
-- repl_spec.lua: scripts/repl.lua as its users have it: lines from a pipe.

local runner = require "tests.smoke.runner"

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

  it("trains a model of its own", function()
    local _, out, err = piped("", "demo()", "steps = step(3)", "#steps", "steps", "optimizer.updates")
    assert.are.equal("", err)
    assert(out:find("\n3\nsteps 1 to 3, loss ", 1, true), out)
    assert(out:find("\n3\n$"), out)
  end)
end)
