-- SPDX-License-Identifier: MIT
--
-- checkpoint_spec.lua: whatever happens to a run or to its files, a checkpoint that was whole can be loaded, or
-- one clear line says why none can. Killed processes, a crash at every system call of a save, every byte of
-- every file cut off or changed, full and limited disks, folders that cannot be written, two runs in one.
--
-- MB_FAULT_KILLS=1000 makes the first test long (about four kills a second); MB_SEED replays its times.

local helper = require "tests.helper"
local saver = require "tests.fault.saver"
local scratch = require "tests.scratch"
local system = require "bindings.system"
local writing = require "moonbow.io.writing"

local root = os.getenv "MOONBOW_ROOT" or "."
local child = ("MOONBOW_LIB='%s' LUA_PATH='%s/?.lua;%s/lua/?.lua;%s/lua/?/init.lua;;' luajit '%s/tests/fault/saver.lua'"):format(
  require("bindings.load").path, root, root, root, root)

local function shell(command)
  local pipe = assert(io.popen("{ " .. command .. "\n} 2>&1"))
  local output = pipe:read "*a"
  pipe:close()
  return output
end

describe("a checkpoint", function()
  local dir

  before_each(function() dir = scratch.folder(true) .. "/run" end)
  after_each(scratch.clean)

  -- Names of checkpoints and of what saves left behind.
  local function names()
    local list = {}
    for _, name in ipairs(system.list(dir)) do
      if name ~= "checkpoint.lock" then list[#list + 1] = name end
    end
    return list
  end

  it("survives kill -9 at random times", function()
    math.randomseed(helper.seed)
    local kills = tonumber(os.getenv "MB_FAULT_KILLS") or 50
    local last, advanced = 0, 0
    for kill = 1, kills do
      local said = shell(("%s '%s' %d 1000 20000 & p=$!; sleep %.3f; kill -9 $p; wait $p"):format(child, dir, last + 1,
        0.05 + 0.25 * math.random()))
      local saved = last
      for step in said:gmatch "saved (%d+)" do saved = tonumber(step) end
      assert(not said:find "failed", said)
      if saved > 0 then
        local step = saver.load(dir)
        assert(step == saved or step == saved + 1, ("kill %d: step %d was saved, %d was loaded; MB_SEED=%d")
          :format(kill, saved, step, helper.seed))
        if step > last then advanced = advanced + 1 end
        last = step
      end
    end
    assert.is_true(advanced > kills / 4, "too few saves between the kills to say anything")
  end)

  -- Runs fn with every function of the system layer counted; call number n, and with `dead` all behind it, do
  -- not happen but raise an error. A write that fails so has written a few bytes. Returns the number of calls.
  local function with_failure(n, dead, fn)
    local calls, originals = 0, {}
    local function wrap(module, name, path_position)
      local original = module[name]
      originals[#originals + 1] = { module, name, original }
      module[name] = function(...)
        calls = calls + 1
        if calls == n or (dead and calls > n) then
          if path_position and calls == n then
            local file = io.open((select(path_position, ...)), "ab")
            if file then
              file:write "torn"
              file:close()
            end
          end
          error("the test lets call " .. calls .. ", " .. name .. ", fail", 0)
        end
        return original(...)
      end
    end
    for _, name in ipairs { "make_folder", "rename", "remove", "sync", "list", "path_size", "sha256_file", "lock" } do
      wrap(system, name)
    end
    wrap(system, "append_tensor", 2)
    wrap(writing, "text", 1)
    local ok, problem = pcall(fn)
    for _, o in ipairs(originals) do o[1][o[2]] = o[3] end
    return calls, ok, problem
  end

  for _, case in ipairs {
    { "a new step", 6, 2 }, { "a new step, keeping one", 6, 1 }, { "the same step again, keeping one", 5, 1 },
  } do
    for _, dead in ipairs { true, false } do
      it(("is there after %s at any system call of saving %s"):format(dead and "a crash" or "an error", case[1]), function()
        local n = 0
        repeat
          n = n + 1
          os.execute(("rm -rf '%s'"):format(dir))
          saver.save(dir, 4, 10, case[3])
          saver.save(dir, 5, 10, case[3])
          local _, ok, problem = with_failure(n, dead, function() saver.save(dir, case[2], 11, case[3]) end)
          assert(ok or problem:find("the test lets call", 1, true), problem)
          local step = saver.load(dir)
          assert(step == 5 or step == case[2], ("after failing call %d, step %d was loaded"):format(n, step))
          saver.save(dir, 7, 12, case[3])
          assert.are.equal(7, (saver.load(dir)))
          assert.are.equal(case[3], #names(), ("call %d: %s"):format(n, table.concat(names(), ", ")))
        until ok
        assert.is_true(n > 20, "only " .. n .. " calls were seen")
      end)
    end
  end

  describe("with damaged files", function()
    local newest, files

    before_each(function()
      saver.save(dir, 1, 3)
      newest = saver.save(dir, 2, 3)
      files = system.list(newest)
      assert.are.equal(7, #files)
    end)

    -- Loads after `text` has taken the place of a file: the newest, or the one before with a note about the newest.
    local function check(file, text)
      scratch.write(newest .. "/" .. file, text)
      local step, notes = saver.load(dir)
      if step == 1 then
        assert(#notes == 1 and notes[1]:find("step_00000002 is damaged", 1, true) and notes[1]:find(file, 1, true),
          table.concat(notes, "; "))
      end
      return step
    end

    it("falls back when a file is cut off at any byte", function()
      for _, file in ipairs(files) do
        local whole = scratch.read(newest .. "/" .. file)
        for n = 0, #whole - 1 do
          local harmless = file == "manifest.json" and n == #whole - 1 -- only its line break is missing
          assert.are.equal(harmless and 2 or 1, check(file, whole:sub(1, n)), ("%s cut to %d"):format(file, n))
        end
        assert.are.equal(2, check(file, whole))
      end
    end)

    it("falls back when any byte is another", function()
      for _, file in ipairs(files) do
        local whole, harmless = scratch.read(newest .. "/" .. file), 0
        for at = 1, #whole do
          local byte = whole:byte(at)
          for _, other in ipairs { (byte + 1) % 256, (byte + 128) % 256, 32 } do
            if other ~= byte and check(file, whole:sub(1, at - 1) .. string.char(other) .. whole:sub(at + 1)) == 2 then
              harmless = harmless + 1
            end
          end
        end
        assert.is_true(harmless <= (file == "manifest.json" and 2 or 0), ("%s: %d changes went unseen"):format(file, harmless))
        scratch.write(newest .. "/" .. file, whole)
      end
    end)

    it("falls back when a file is missing or a folder", function()
      for _, file in ipairs(files) do
        local path = newest .. "/" .. file
        system.rename(path, path .. ".away")
        assert.are.equal(1, (saver.load(dir)))
        system.make_folder(path)
        assert.are.equal(1, (saver.load(dir)))
        system.remove(path)
        system.rename(path .. ".away", path)
      end
      assert.are.equal(2, (saver.load(dir)))
    end)

    it("is named, with what is wrong, when none is whole", function()
      for _, step in ipairs { 1, 2 } do
        scratch.write(("%s/step_%08d/model.safetensors"):format(dir, step), "x")
      end
      local problem = helper.error_of(saver.load, dir)
      assert.is_truthy(problem:find("no checkpoint in '" .. dir .. "' is whole", 1, true), problem)
      assert.is_truthy(problem:find("step_00000001: model.safetensors has 1 bytes", 1, true), problem)
      assert.is_truthy(problem:find("step_00000002: model.safetensors has 1 bytes", 1, true), problem)
    end)

    it("is not taken from a newer format", function()
      local path = newest .. "/manifest.json"
      scratch.write(path, (scratch.read(path):gsub('"version":1', '"version":2')))
      local step, notes = saver.load(dir)
      assert.are.equal(1, step)
      assert.is_truthy(notes[1]:find("version 2, this program reads 1", 1, true), notes[1])
    end)

    it("does not let a manifest point outside its folder", function()
      local path = newest .. "/manifest.json"
      local text = scratch.read(path):gsub("model.json", "../x.json")
      scratch.write(path, text)
      assert.are.equal(1, (saver.load(dir)))
    end)
  end)

  -- A save that must fail for want of room, in a process of its own: one line that names a file, the old
  -- checkpoint whole, and nothing else left.
  local function fails_for_room(said, reason)
    local lines = select(2, said:gsub("\n", ""))
    assert.are.equal(1, lines, said)
    assert.is_truthy(said:find("^failed .*" .. reason), said)
    assert.is_truthy(said:find("step_00000002.tmp/", 1, true), said)
  end

  it("stays when the disk is full", function()
    local mount = "mount -t tmpfs -o size=300k tmpfs"
    local inside = scratch.folder()
    if shell(("unshare -rm sh -c \"%s '%s' && echo yes\""):format(mount, inside)) ~= "yes\n" then
      pending "a small file system cannot be mounted here"
      return
    end
    local script = scratch.write(inside .. "-script", table.concat({
      ("%s '%s' || exit"):format(mount, inside),
      ("%s '%s/run' 1 1 10"):format(child, inside),
      ("%s '%s/run' 2 1 50000"):format(child, inside),
      ("ls '%s/run'"):format(inside),
      ("%s '%s/run' 3 1 10"):format(child, inside),
      ("ls '%s/run'"):format(inside),
    }, "\n"))
    local said = shell(("unshare -rm sh '%s'"):format(script))
    os.remove(script)
    local first, failure, rest = said:match "^(saved 1\n)(failed [^\n]*\n)(.*)$"
    assert(first, said)
    fails_for_room(failure, "No space left on device")
    assert.are.equal("checkpoint.lock\nstep_00000001\nsaved 3\ncheckpoint.lock\nstep_00000001\nstep_00000003\n", rest)
  end)

  it("stays when files may not grow so large", function()
    shell(("%s '%s' 1 1 10"):format(child, dir))
    fails_for_room(shell(("ulimit -f 100; %s '%s' 2 1 50000"):format(child, dir)), "File too large")
    assert.are.same({ "step_00000001" }, names())
    assert.are.equal(1, (saver.load(dir)))
  end)

  it("is not written where it cannot be", function()
    local file = scratch.write(scratch.folder() .. "/file", "")
    for _, where in ipairs { file, file .. "/run", "/proc/moonbow" } do
      local problem = helper.error_of(saver.save, where, 1, 3)
      assert.is_truthy(problem:find(where, 1, true), problem)
    end
    system.make_folder(dir .. "/checkpoint.lock") -- and where the lock cannot be made
    assert.is_truthy(helper.error_of(saver.save, dir, 1, 3):find("checkpoint.lock", 1, true))
  end)

  it("is not mixed up by two processes in one folder", function()
    local said = shell(("%s '%s' 100 30 2000 & %s '%s' 200 30 2000 & wait"):format(child, dir, child, dir))
    -- "by another process": the holder of the lock had not written its number yet.
    local saved, locked = select(2, said:gsub("saved", "")), select(2, said:gsub("is locked by ", ""))
    assert.are.equal(60, saved + locked, said)
    assert.is_true(saved > 0)
    saver.load(dir)
    assert.are.equal(2, #names())
  end)
end)
