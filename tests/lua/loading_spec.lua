-- Finding the library: from any working directory, through the launcher, after an installation, and what is
-- said when it is not there. Each case is a process of its own.
local root = os.getenv "MOONBOW_ROOT" or "."
local library = os.getenv "MOONBOW_LIB" or root .. "/build/libmoonbow.so"
local system = require "bindings.system"

root, library = system.absolute(root), system.absolute(library)
local scratch

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

-- Output (both streams) and exit code of a shell command run in the scratch folder.
local function run(command)
  local pipe = assert(io.popen(("cd '%s' && { %s ; } 2>&1; echo \"exit $?\""):format(scratch, command)))
  local text = pipe:read "*a"
  pipe:close()
  local output, code = text:match "^(.*)exit (%d+)\n$"
  return output, tonumber(code)
end

setup(function()
  scratch = os.tmpname()
  os.remove(scratch)
  system.make_folder(scratch)
  write(scratch .. "/script.lua", [[
    local mb = require "moonbow"
    print((mb.ones(2) + 1):totable()[2], arg[1])
  ]])
end)

teardown(function() system.remove(scratch) end)

describe("the launcher", function()
  it("runs a script from any folder, with its arguments", function()
    local output, code = run(("env -u LUA_PATH MOONBOW_LIB='%s' '%s/scripts/moonbow' script.lua hello")
      :format(library, root))
    assert.are.equal("2\thello\n", output)
    assert.are.equal(0, code)
  end)

  it("follows links to itself, and keeps a LUA_PATH that is set", function()
    run(("ln -s '%s/scripts/moonbow' here"):format(root))
    run "mkdir mine && echo 'return 42' > mine/answer.lua && echo 'print(require \"answer\")' > other.lua"
    local output = run(("MOONBOW_LIB='%s' LUA_PATH='mine/?.lua' ./here other.lua"):format(library))
    assert.are.equal("42\n", output)
    output = run(("MOONBOW_LIB='%s' LUA_PATH='mine/?.lua' ./here script.lua x"):format(library))
    assert.are.equal("2\tx\n", output)
  end)

  it("says how it is used", function()
    local output, code = run(("'%s/scripts/moonbow'"):format(root))
    assert.matches("usage: moonbow script.lua [arguments]", output, 1, true)
    assert.matches("train_gpt2", output, 1, true)
    assert.are.equal(2, code)
  end)
end)

describe("the library", function()
  local path = ("LUA_PATH='%s/lua/?.lua;%s/lua/?/init.lua;;'"):format(root, root)

  it("is found with lua/ alone on the path", function()
    local output = run(("%s MOONBOW_LIB='%s' luajit script.lua x"):format(path, library))
    assert.are.equal("2\tx\n", output)
  end)

  it("may be loaded again by a program that forgets its modules", function()
    write(scratch .. "/again.lua", [[
      local first = require("moonbow").ones(2)
      for name in pairs(package.loaded) do
        if name:match "^moonbow" or name:match "^bindings" then package.loaded[name] = nil end
      end
      print((first + require("moonbow").ones(2)):sum():item())
    ]])
    assert.are.equal("4\n", run(("%s MOONBOW_LIB='%s' luajit again.lua"):format(path, library)))
  end)

  it("is released in order at the end, with tensors alive", function()
    write(scratch .. "/exit.lua", [[
      local mb = require "moonbow"
      kept = { mb.ones(1000), mb.ones(3, { requires_grad = true }) * 2 }
      os.exit(0, true)
    ]])
    local output, code = run(("%s MOONBOW_LIB='%s' luajit exit.lua"):format(path, library))
    assert.are.equal("", output)
    assert.are.equal(0, code)
  end)

  it("is named when MOONBOW_LIB does not load", function()
    local output, code = run(path .. " MOONBOW_LIB=/nowhere/lib.so luajit script.lua")
    assert.are.equal(1, code)
    assert.matches("moonbow: MOONBOW_LIB is '/nowhere/lib.so', which does not load", output, 1, true)
  end)

  it("is missed with a list of the places tried", function()
    run(("mkdir -p bare/engine && cp -r '%s/lua' '%s/bindings' bare/"):format(root, root))
    local bare = "env -u MOONBOW_LIB LUA_PATH='bare/lua/?.lua;bare/lua/?/init.lua;bare/?.lua;;' luajit script.lua"
    local output = run(bare)
    assert.matches("moonbow: the header moonbow.h was not found; tried bare/engine/include/moonbow.h", output, 1, true)
    run(("cp -r '%s/engine/include' bare/engine/"):format(root))
    output = run(bare)
    assert.matches("moonbow: the engine's library was not found; build it with ./bootstrap.sh", output, 1, true)
    assert.matches("Tried bare/build/libmoonbow.so, bare/lib/libmoonbow.so", output, 1, true)
    run "mkdir -p bare/build && echo broken > bare/build/libmoonbow.so"
    assert.matches("'bare/build/libmoonbow.so' does not load", run(bare), 1, true)
    run(("cp '%s' bare/build/libmoonbow.so"):format(library))
    assert.are.equal("2\tnil\n", (run(bare)))
  end)

  it("is found after an installation", function()
    local build = library:match "^(.*)/"
    if system.path_kind(build .. "/cmake_install.cmake") == "none" then
      pending "the library's folder is no build folder"
      return
    end
    local output, code = run(("cmake --install '%s' --prefix '%s/prefix'"):format(build, scratch))
    assert.are.equal(0, code, output)
    output = run "env -u LUA_PATH -u MOONBOW_LIB prefix/bin/moonbow script.lua x"
    assert.are.equal("2\tx\n", output)
  end)
end)
