-- SPDX-License-Identifier: MIT
--
-- system_spec.lua: the system layer as scripts use it. What it does is tested in tests/c/test_system.c.

local mb = require "moonbow"
local scratch = require "tests.scratch"

describe("mb.system", function()
  local system = mb.system
  local folder

  before_each(function() folder = scratch.folder() end)
  after_each(scratch.clean)

  it("tells of the process", function()
    local before = system.time()
    assert.is_true(system.time() >= before)
    assert.is_true(system.peak_rss() > 2 ^ 20)
    assert.is_true(system.process_id() > 1)
    assert.are.equal("boolean", type(system.is_terminal(2)))
    assert.is_true(system.terminal_width(2) > 0)
    assert.are.equal(0, system.interrupted())
    system.interrupt_clear()
  end)

  it("makes, lists, renames and removes", function()
    system.make_folder(folder .. "/b/c")
    scratch.write(folder .. "/a", "hello")
    assert.are.same({ "a", "b" }, system.list(folder))
    assert.are.same({}, system.list(folder .. "/b/c"))
    assert.are.equal("file", system.path_kind(folder .. "/a"))
    assert.are.equal("folder", system.path_kind(folder .. "/b"))
    assert.are.equal("none", system.path_kind(folder .. "/none"))
    assert.are.equal(5, system.path_size(folder .. "/a"))
    system.rename(folder .. "/a", folder .. "/b/d")
    system.sync(folder .. "/b/d")
    assert.are.equal("hello", scratch.read(folder .. "/b/d"))
    system.remove(folder .. "/b")
    assert.are.same({}, system.list(folder))
    assert.are.equal(system.absolute(folder), system.absolute(folder .. "/./"))
  end)

  it("says what the system refused, not what a later look found", function()
    os.execute(("ln -s '%s/nowhere' '%s/link'"):format(folder, folder))
    local ok, problem = pcall(system.make_folder, folder .. "/link")
    assert.is_false(ok)
    assert.is_truthy(tostring(problem):find("link' is there and is not a folder", 1, true), problem)
  end)

  it("hashes", function()
    local hex = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" -- sha256sum of hello
    scratch.write(folder .. "/a", "hello")
    assert.are.equal(hex, system.sha256 "hello")
    assert.are.equal(hex, system.sha256_file(folder .. "/a"))
  end)

  it("locks", function()
    local lock = system.lock(folder .. "/lock")
    assert.has_error(function() system.lock(folder .. "/lock") end)
    system.unlock(lock)
    system.unlock(system.lock(folder .. "/lock"))
  end)

  it("moves tensors, dense or not, to files and back", function()
    local path = folder .. "/t"
    local t = mb.arange(12):reshape(3, 4)
    system.append_tensor(t:transpose(1, 2), path)
    local back = system.read_tensor(mb.zeros(4, 3), path)
    assert.are.same(t:transpose(1, 2):totable(), back:totable())
    local into = mb.zeros(3, 4)
    system.read_tensor(into:transpose(1, 2), path)
    assert.are.same(t:totable(), into:totable())
    system.read_tensor(into:reshape(12), path, 0)
    assert.has_error(function() system.read_tensor(into, path, 4) end)
  end)

  it("says what is wrong, at the user's line", function()
    local ok, problem = pcall(system.path_size, folder .. "/none")
    assert.is_false(ok)
    assert.is_truthy(problem:find("none': No such file", 1, true), problem)
    ok, problem = pcall(function() system.remove(7) end)
    assert.is_false(ok)
    assert.is_truthy(problem:find("system_spec.lua:%d+: remove: a path was expected, not the number 7"), problem)
    ok, problem = pcall(system.path_kind, "a\0b")
    assert.is_false(ok)
    assert.is_truthy(problem:find("a\\0b' holds a NUL", 1, true), problem)
  end)
end)
