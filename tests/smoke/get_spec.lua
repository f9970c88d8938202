-- SPDX-License-Identifier: MIT
--
-- get_spec.lua: scripts/data/get.lua without a network: curl and wget are stand-ins on the PATH that say what
-- they were asked and write a file.

local runner = require "tests.smoke.runner"

local shakespeare = (os.getenv "MOONBOW_SHARED" or runner.root .. "/../shared") .. "/data/tinyshakespeare/input.txt"
local sha256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

describe("get.lua", function()
  local folder

  before_each(function()
    folder = runner.folder()
    os.execute(("mkdir '%s/bin'"):format(folder))
  end)
  after_each(runner.clean)

  -- A program of that name, which runs `body` with $out as the file it was asked to write.
  local function stand_in(name, body)
    local path = ("%s/bin/%s"):format(folder, name)
    write(path, ([[#!/bin/sh
for word; do
  case "$before$word" in --output-document=*) out="${word#--output-document=}";; --output*) [ -n "$before" ] && out="$word";; esac
  before=; [ "$word" = --output ] && before=--output
  last="$word"
done
echo "%s $last" >>'%s/asked'
%s
]]):format(name, folder, body))
    os.execute(("chmod +x '%s'"):format(path))
  end

  -- Runs the script with nothing on the PATH but the stand-ins, a shell and what the script itself is run by.
  local function get(arguments)
    for _, tool in ipairs { "luajit", "sh", "cp", "printf" } do
      os.execute(("ln -sf \"$(command -v %s)\" '%s/bin/'"):format(tool, folder))
    end
    return runner.shell(("PATH='%s/bin' luajit '%s/scripts/data/get.lua' %s"):format(folder, runner.root, arguments))
  end

  -- Names in the folder that the files go to.
  local function files()
    local _, names = runner.shell(("ls -A '%s/out' 2>/dev/null"):format(folder))
    return names
  end

  for _, program in ipairs { "curl", "wget" } do
    it("fetches a file with " .. program .. ", checks it and leaves it alone afterwards", function()
      if runner.read(shakespeare) == "" then pending "the shared data are not there" return end
      stand_in(program, ("cp '%s' \"$out\""):format(shakespeare))
      local path = folder .. "/out/it's a file.txt"
      local code, said, complaint = get(('shakespeare --out "%s" --url "http://x/it\'s; touch %s/evil"'):format(path, folder))
      assert.are.equal(0, code, complaint)
      assert.is_truthy(said:find("1115394 bytes", 1, true), said)
      assert.are.equal(runner.read(shakespeare), runner.read(path))
      assert.are.equal("it's a file.txt\n", files())
      assert.are.equal("", runner.read(folder .. "/evil"))
      assert.are.equal(("%s http://x/it's; touch %s/evil\n"):format(program, folder), runner.read(folder .. "/asked"))
      code, said = get(('shakespeare --out "%s"'):format(path))
      assert.are.equal(0, code)
      assert.is_truthy(said:find("there already", 1, true), said)
      assert.are.equal(1, select(2, runner.read(folder .. "/asked"):gsub("\n", "")))
    end)
  end

  it("fetches FineWeb's token files, as many as asked for, and goes on where it stopped", function()
    local header = "\\210\\330\\064\\001\\001\\000\\000\\000\\003\\000\\000\\000" -- 20240520, 1, 3 tokens; in octal
    local zeros = folder .. "/zeros"
    write(zeros, ("\0"):rep(1018)) -- the rest of the header, and the tokens
    os.execute(("ln -sf \"$(command -v cat)\" '%s/bin/'"):format(folder))
    local function serve(bytes)
      stand_in("curl", ("printf '%s' >\"$out\"; cat '%s' >>\"$out\""):format(bytes, zeros))
    end
    serve(header)
    local base, place = "--url http://x/y", ("--out '%s/out'"):format(folder)
    assert.are.equal(0, (get(("fineweb %s %s"):format(base, place))))
    assert.are.equal("fineweb_train_000001.bin\nfineweb_val_000000.bin\n", files())
    assert.are.equal("curl http://x/y/fineweb_val_000000.bin\ncurl http://x/y/fineweb_train_000001.bin\n",
      runner.read(folder .. "/asked"))
    local code, said = get(("fineweb --files 2 %s %s"):format(base, place))
    assert.are.equal(0, code)
    assert.are.equal(2, select(2, said:gsub("is there already", "")))
    assert.are.equal(3, select(2, runner.read(folder .. "/asked"):gsub("\n", "")))

    serve((header:gsub("003", "004", 1)))
    local function refused(expected_code, arguments, text)
      local rc, _, problem = get(arguments)
      assert.are.equal(expected_code, rc)
      assert.is_truthy(problem:find(text, 1, true), problem)
    end
    refused(1, ("fineweb --files 3 %s %s"):format(base, place), "has 1030 bytes, its header says 1032; it was not kept")
    serve "not a token file"
    refused(1, ("fineweb --files 3 %s %s"):format(base, place), "is no token file of GPT-2")
    assert.is_falsy(files():find("000003", 1, true))
    refused(2, "gpt2 --files 2", "--files is for fineweb")
  end)

  local function fails(expected_code, arguments, ...)
    local code, said, complaint = get(arguments)
    assert.are.equal(expected_code, code, said .. complaint)
    assert.are.equal(1, select(2, complaint:gsub("\n", "")), complaint)
    for _, part in ipairs { ... } do assert.is_truthy(complaint:find(part, 1, true), complaint) end
    assert.are.equal("", files())
  end

  it("keeps nothing that is wrong or half there", function()
    stand_in("curl", "printf half >\"$out\"")
    fails(1, ("shakespeare --out '%s/out/x'"):format(folder), "SHA-256", sha256, "not kept")
    stand_in("curl", "printf half >\"$out\"; echo 'curl: (6) Could not resolve host: x' >&2; exit 6")
    fails(1, ("shakespeare --out '%s/out/x'"):format(folder), "cannot download https://", "Could not resolve host")
    stand_in("curl", "exit 1")
    fails(1, ("shakespeare --out '%s/out/x'"):format(folder), "cannot download")
  end)

  it("does not overwrite another file", function()
    stand_in("curl", "exit 1")
    write(folder .. "/mine", "mine")
    fails(1, ("shakespeare --out '%s/mine'"):format(folder), "other contents")
    assert.are.equal("mine", runner.read(folder .. "/mine"))
    fails(1, ("shakespeare --out '%s'"):format(folder), "is a folder")
    fails(1, ("shakespeare --out '%s/mine/x'"):format(folder), "is not a folder")
  end)

  it("says what is wrong with its command line, and asks nobody", function()
    stand_in("curl", "exit 1")
    fails(2, "", "missing", "shakespeare")
    fails(2, "shakespear", "did you mean shakespeare")
    fails(2, "mnist", "there are fineweb, gpt2, shakespeare")
    fails(2, "shakespeare --uot x", "--out")
    fails(2, ("shakespeare --out '%s/out/x' --url -K"):format(folder), "'-K' is no URL")
    local code, said = get "--help"
    assert.are.equal(0, code)
    assert.is_truthy(said:find("shakespeare", 1, true) and said:find("--url URL", 1, true), said)
    assert.are.equal("", runner.read(folder .. "/asked"))
  end)

  it("says so when there is no program to fetch with", function()
    fails(1, ("shakespeare --out '%s/out/x'"):format(folder), "neither curl nor wget")
  end)
end)
