-- SPDX-License-Identifier: MIT
--
-- tensorboard_spec.lua: event files: byte for byte as TensorFlow writes them, read back by us and by TensorBoard's own package
-- (pending where Python lacks it), resumed, cut off, damaged.

local helper = require "tests.helper"
local mb = require "moonbow"
local bytes = require "bindings.bytes"
local crc32c = require "moonbow.io.crc32c"
local events = require "moonbow.io.events"
local histogram = require "moonbow.io.histogram"
local json = require "moonbow.io.json"
local runner = require "tests.smoke.runner"

local function hex(s) return (s:gsub(".", function(c) return ("%02x"):format(c:byte()) end)) end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

local function says(part, fn, ...)
  local ok, problem = pcall(fn, ...)
  assert.is_false(ok, "an error was expected: " .. part)
  assert.is_truthy(tostring(problem):find(part, 1, true), tostring(problem))
  assert.is_nil(tostring(problem):find "\n")
end

-- What TensorBoard's own package makes of a folder: { scalars = { tag = {{step, value}} }, histograms = ... }, or nil.
local function seen_by_tensorboard(folder)
  local code, said = runner.shell(("python3 '%s/tests/lua/tensorboard_read.py' '%s'"):format(runner.root, folder))
  if code == 77 then return nil end
  assert.are.equal(0, code, said)
  return assert(json.decode(said))
end

local MISSING = "python3 has no package tensorboard (pip install tensorboard)"

describe("event files", function()
  local folder
  before_each(function() folder = runner.folder() end)
  after_each(runner.clean)

  it("have the check of Castagnoli", function()
    assert.are.equal(0xE3069283, crc32c.of "123456789")
    assert.are.equal(0, crc32c.of "")
    assert.are.equal(0x8A9136AA, crc32c.of(("\0"):rep(32))) -- RFC 3720, B.4
    assert.are.equal(0x62A8AB43, crc32c.of(("\255"):rep(32)))
  end)

  it("are made of these bytes", function()
    assert.are.equal("1800000000000000a37f4b2209000000000000f03f1a0d627261696e2e4576656e743a3286bf577a",
      hex(events.record(events.version(1))))
    assert.are.equal("1a00000000000000129bd82d09000000000000f03f10072a0d0a0b0a046c6f7373150000003f862c9a2f",
      hex(events.record(events.summary(1, 7, { events.scalar("loss", 0.5) }))))
  end)

  it("are read back", function()
    local log = mb.tensorboard.open(folder .. "/run")
    assert.is_truthy(log.path:find("/run/events%.out%.tfevents%.%d%d%d%d%d%d%d%d%d%d%.[%w_-]+%.%d+$"), log.path)
    log:scalar("loss", 2.5, 1)
    log:scalars({ ["a/b"] = 0 / 0, c = -math.huge, ["d.e-f_g"] = 1e-300 }, 2 ^ 33 + 5)
    assert.are.equal(1, log:histogram("h", { 1, 2, 0 / 0, -3 }, 3))
    assert.are.equal(2, log:histogram("nothing", { 0 / 0, math.huge }, 3))
    assert.are.equal(0, log:histogram("empty", {}, 3))
    log:close()
    log:close()
    local list, cut = mb.tensorboard.read(log.path)
    assert.is_nil(cut)
    assert.are.equal(4, #list)
    assert.are.equal("brain.Event:2", list[1].file_version)
    assert.are.same({ loss = 2.5 }, list[2].scalars)
    assert.are.equal(1, list[2].step)
    assert.is_true(math.abs(list[2].wall_time - os.time()) < 100)
    assert.are.equal(2 ^ 33 + 5, list[3].step)
    assert.is_true(list[3].scalars["a/b"] ~= list[3].scalars["a/b"])
    assert.are.equal(-math.huge, list[3].scalars.c)
    assert.are.equal(0, list[3].scalars["d.e-f_g"]) -- a float
    local h = list[4].histograms.h
    assert.are.same({ 3, -3, 2, 0, 14 }, { h.num, h.min, h.max, h.sum, h.sum_squares })
    says("is closed", log.scalar, log, "loss", 1, 1)
  end)

  it("count every value once, in a bucket that holds it", function()
    mb.seed(helper.seed)
    local t = mb.randn { 7, 301 }
    local wide = mb.exp(mb.randn({ 999 }, { dtype = "f64" }) * 90):totable()
    for i = 1, #wide, 3 do wide[i] = -wide[i] end
    local special = { 0, -0, 5e-324, 1, -1, 1.125, 2, 1.7976931348623157e308, 2 ^ -1022 }
    local function flat(x) return x:reshape(x.numel):totable() end
    local turned = t:transpose(1, 2)
    local cases = { { t, flat(t) }, { wide, wide }, { special, special }, { t:to "f64", flat(t) }, { turned, flat(turned) } }
    for _, case in ipairs(cases) do
      local h, values = histogram.of(case[1]), case[2]
      local counted, sum = 0, 0
      for i, right in ipairs(h.limits) do
        local left = h.limits[i - 1] or -math.huge
        assert.is_true(right > left)
        local inside = 0
        for _, x in ipairs(values) do
          -- An edge belongs to the bucket that is farther from zero.
          if x > 0 and x >= left and x < right or x < 0 and x > left and x <= right then inside = inside + 1 end
          if x == 0 and (left == 0 and 1 / x > 0 or right == 0 and 1 / x < 0) then inside = inside + 1 end
        end
        assert.are.equal(inside, h.counts[i], ("%g .. %g"):format(left, right))
        counted = counted + h.counts[i]
      end
      for _, x in ipairs(values) do sum = sum + x end
      assert.are.same({ #values, #values, 0, sum }, { counted, h.num, h.nonfinite, h.sum })
      assert.are.equal(0, h.counts[1]) -- the left edge
      assert.are.equal(math.min(unpack(values)), h.min)
      assert.are.equal(math.max(unpack(values)), h.max)
    end
    assert.is_nil(histogram.of { 0 / 0 })
    assert.is_nil(histogram.of(mb.full({ 3 }, math.huge)))
  end)

  it("are what TensorBoard reads", function()
    mb.seed(helper.seed)
    local log, expected, shown = mb.tensorboard.open(folder), {}, {}
    for step = 1, 20 do
      log:scalar("loss", 1 / step, step)
      log:scalars({ ["tau/h.0.attn.c_attn.weight"] = step * 0.1, lr = step == 7 and 0 / 0 or 1e-3 }, step)
      expected[step] = 1 / step
    end
    for step = 1, 2 do
      local t = mb.randn { 50, 40 } * step
      log:histogram("weights/wte", t, step)
      shown[step] = histogram.of(t)
    end
    log:close()
    local found = seen_by_tensorboard(folder)
    if not found then pending(MISSING) return end
    assert.are.equal(20, #found.scalars.loss)
    for step, pair in ipairs(found.scalars.loss) do
      assert.are.same({ step, bytes.read_f32(bytes.f32(expected[step]), 1) }, { pair[1], pair[2] })
    end
    assert.are.equal("NaN", found.scalars.lr[7][2])
    assert.are.equal(20, #found.scalars["tau/h.0.attn.c_attn.weight"])
    for step, h in ipairs(found.histograms["weights/wte"]) do
      local mine = shown[step]
      assert.are.same({ step, mine.min, mine.max, mine.num, mine.sum, mine.sum_squares },
        { h.step, h.min, h.max, h.num, h.sum, h.sum_squares })
      assert.are.same(mine.limits, { unpack(h.limits) })
      assert.are.same(mine.counts, { unpack(h.counts) })
    end
    assert.are.equal(2, #found.histograms["weights/wte"])
  end)

  it("go on behind a checkpoint: later steps of the files before count no more", function()
    local first = mb.tensorboard.open(folder)
    for step = 1, 10 do first:scalar("loss", step, step) end
    first:close()
    local second = mb.tensorboard.open(folder, { resume_after = 6 })
    for step = 7, 9 do second:scalar("loss", 100 + step, step) end
    second:close()
    assert.is_true(second.path > first.path)
    local list = mb.tensorboard.read(second.path)
    assert.are.same({ 7, 1 }, { list[2].step, list[2].session })
    local found = seen_by_tensorboard(folder)
    if not found then pending(MISSING) return end
    local got = {}
    for i, pair in ipairs(found.scalars.loss) do got[i] = pair[2] end
    assert.are.same({ 1, 2, 3, 4, 5, 6, 107, 108, 109 }, got)
  end)

  it("are told from damaged ones", function()
    local log = mb.tensorboard.open(folder)
    log:scalar("loss", 0.5, 7)
    log:close()
    local path = folder .. "/copy"
    local text = runner.read(log.path)
    -- Cut anywhere: what was written whole is there, and the rest is told.
    for length = 0, #text do
      local list, cut = mb.tensorboard.read(write(path, text:sub(1, length)))
      assert.are.equal(length == #text and 2 or length >= 40 and 1 or 0, #list)
      assert.are.equal(length ~= 0 and length ~= 40 and length ~= #text, cut ~= nil)
      if cut then assert.is_truthy(cut:find(length < 40 and "at byte 0: " or "at byte 40: ", 1, true), cut) end
    end
    -- Flipped anywhere: an error with the place.
    for i = 1, #text do
      write(path, text:sub(1, i - 1) .. string.char(bit.bxor(text:byte(i), 16)) .. text:sub(i + 1))
      says(i <= 40 and i <= 12 and "copy' at byte 0: the check of a record's length"
        or i <= 40 and "copy' at byte 12: the check of a record's data"
        or i <= 52 and "at byte 40: the check of a record's length" or "at byte 52: the check of a record's data",
        mb.tensorboard.read, path)
    end
    local function wrong(data, part) says(part, mb.tensorboard.read, write(path, events.record(data))) end
    wrong("\8", "at byte 13: the event cannot be read: a number is cut off")
    wrong(("\255"):rep(11), "a number has more than ten bytes")
    wrong("\9\1\2", "a field claims 8 bytes, 2 are left in its message")
    wrong("\11", "a field of the unknown kind 3")
    wrong("\2", "a field has the number 0")
    wrong("\8\1", "wall_time is a number, eight bytes was expected")
    wrong("\42\255\255\255\255\127", "a field claims 34359738367 bytes, 0 are left")
    wrong("\16" .. ("\255"):rep(9) .. "\1", "step is 18446744073709551616, at most 9007199254740992 can be read")
    wrong("\42\9\10\7\42\5\50\3abc", "bucket_limit has 3 bytes, which are no doubles")
    assert.are.same({}, (mb.tensorboard.read(write(path, events.record "\42\2\18\0")))[1].scalars) -- an unknown field
    says("No such file", mb.tensorboard.read, folder .. "/nowhere")
  end)

  it("refuse what they cannot hold", function()
    local log = mb.tensorboard.open(folder)
    says("the tag 'a b' is not made of letters", log.scalar, log, "a b", 1, 1)
    says("the tag must be a string", log.scalar, log, 5, 1, 1)
    says("the step must be", log.scalar, log, "a", 1, 1.5)
    says("the step must be at least 0", log.scalar, log, "a", 1, -1)
    says("the value of 'a' must be a number, not", log.scalar, log, "a", "x", 1)
    says("the value of 'a' must be a number, not", log.scalars, log, { a = true }, 1)
    says("must be a tensor or a list of numbers", log.histogram, log, "a", 1, 1)
    says("value 2 is", log.histogram, log, "a", { 1, "x" }, 1)
    says("did you mean 'resume_after'", mb.tensorboard.open, folder, { resume = 1 })
    log:close()
  end)
end)
