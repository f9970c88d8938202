-- SPDX-License-Identifier: MIT
--
-- install_spec.lua: an installation by CMake, and one by luarocks, each moved to another place, works from any folder with no
-- variable set: a script of a user, the project's scripts, a program in C. Nothing is compiled a second time: luarocks gets
-- the library that is there (MOONBOW_PREBUILT), so that what it says to CMake, the places and the launcher are tested,
-- and its compilation is not.

local runner = require "tests.smoke.runner"

local root = require("bindings.system").absolute(runner.root)
local library = require("bindings.load").path
local build = library:match "^(.*)/" or "."
local clean = "env -u LUA_PATH -u MOONBOW_LIB -u MOONBOW_ROOT "

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

-- Output of a command that must succeed, run in a folder.
local function ok(folder, command, ...)
  local code, out, err = runner.shell(("cd '%s' && %s"):format(folder, command:format(...)))
  assert(code == 0, ("%s\nexit %s\n%s%s"):format(command:format(...), code, out, err))
  return out
end

local function has(command)
  return (runner.shell("command -v " .. command)) == 0
end

-- What works in every installation, by its launcher.
local function check(launcher)
  local here = runner.folder()
  write(here .. "/mine.lua", 'local mb = require "moonbow"\nprint(mb.ones(2, 3):sum():item(), arg[1])\n')
  assert.are.equal("6\thello\n", ok(here, clean .. "'%s' mine.lua hello", launcher))
  assert.are.equal("moonbow " .. require("moonbow").version .. "\n", ok(here, clean .. "'%s' --version", launcher))
  local help = ok(here, clean .. "'%s' --help", launcher)
  for _, name in ipairs { "train_gpt2", "sample", "data/get" } do assert(help:find(name, 1, true), name) end
  ok(here, clean .. "'%s' train_gpt2 --steps 5 --n_layer 1 --n_embd 32 --batch_size 2 --block_size 16 --eval_iters 1 "
    .. "--sample_tokens 4 --device cpu --quiet --out run", launcher)
  local records = runner.records(here .. "/run/log.jsonl")
  assert.are.equal(5, records[#records].step)
  assert(#ok(here, clean .. "'%s' sample run --tokens 5", launcher) > 0)
  local code, _, err = runner.shell(clean .. ("'%s' trian_gpt2"):format(launcher))
  assert.are.equal(2, code)
  assert.matches("there is no script 'trian_gpt2', did you mean 'train_gpt2'%?", err)
  return here
end

teardown(runner.clean)

describe("cmake --install", function()
  it("gives an installation that may be moved, for Lua and for C", function()
    if runner.shell(("test -f '%s/cmake_install.cmake'"):format(build)) ~= 0 then
      pending "the library's folder is no build folder"
      return
    end
    local place = runner.folder()
    ok(place, "cmake --install '%s' --prefix '%s/first' && mv first second", build, place)
    local here = check(place .. "/second/bin/moonbow")
    write(here .. "/doc.lua", 'print(require("moonbow.doc").find("mb.threshold.ema").file)\n')
    assert.are.equal("lua/moonbow/threshold/ema.lua\n", ok(here, clean .. "'%s/second/bin/moonbow' doc.lua", place))

    if os.getenv "ASAN_OPTIONS" then return end -- the program in C would need the sanitizer too
    write(here .. "/main.c", '#include <moonbow.h>\n#include <stdio.h>\nint main(void) { puts(mb_version()); return 0; }\n')
    write(here .. "/CMakeLists.txt", "cmake_minimum_required(VERSION 3.16)\nproject(user LANGUAGES C)\n"
      .. "find_package(moonbow REQUIRED)\nadd_executable(user main.c)\ntarget_link_libraries(user PRIVATE moonbow::moonbow)\n")
    local said = require("moonbow").version .. "\n"
    ok(here, "cmake -B out -DCMAKE_PREFIX_PATH='%s/second' && cmake --build out", place)
    assert.are.equal(said, ok(here, "out/user"))
    if has "pkg-config" then
      ok(here, "cc main.c -o by_pc $(PKG_CONFIG_PATH='%s/second/lib/pkgconfig' pkg-config --cflags --libs moonbow)", place)
      assert.are.equal(said, ok(here, "LD_LIBRARY_PATH='%s/second/lib' ./by_pc", place))
    end
  end)
end)

describe("luarocks make", function()
  it("gives a tree that may be moved", function()
    if not has "luarocks" then
      pending "luarocks is not installed (./bootstrap.sh --tests installs it)"
      return
    end
    local place = runner.folder()
    ok(place, "mkdir -p source/engine && cd '%s' && cp -r CMakeLists.txt bindings lua scripts docs moonbow-scm-1.rockspec "
      .. "'%s/source' && cp -r engine/include '%s/source/engine'", root, place, place)
    ok(place .. "/source", "MOONBOW_PREBUILT='%s' HOME='%s' luarocks --lua-version=5.1 make --tree='%s/first'",
      require("bindings.system").absolute(library), place, place)
    ok(place, "mv first second")
    local here = check(place .. "/second/bin/moonbow")
    local path = ("LUA_PATH='%s/second/share/lua/5.1/?.lua;%s/second/share/lua/5.1/?/init.lua;;'"):format(place, place)
    assert.are.equal("6\tx\n", ok(here, "env -u MOONBOW_LIB %s luajit mine.lua x", path))
  end)
end)
