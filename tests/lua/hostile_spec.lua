-- SPDX-License-Identifier: MIT
--
-- hostile_spec.lua: what files of others can do to Lua itself: bits that LuaJIT takes for its own references, and texts that
-- would make more than one line of an error. The fuzzers of tests/fuzz found both.

local helper = require "tests.helper"
local mb = require "moonbow"
local bytes = require "bindings.bytes"
local host = require "bindings.host"
local json = require "moonbow.io.json"
local runner = require "tests.smoke.runner"
local status = require "bindings.status"

-- NaNs of every sign and kind: LuaJIT's own references have the high bits of some.
local nans = {
  f32 = { "\255\255\255\255", "\255\255\255\127", "\1\0\192\255", "\1\0\128\255", "\0\0\192\127", "\255\255\191\255" },
  f64 = { "\255\255\255\255\255\255\255\255", "\1\0\0\0\1\0\250\255", "\1\0\0\0\0\0\240\255", "\255\255\255\255\255\255\255\127",
          "\0\0\0\0\1\0\240\127", "\0\0\0\0\0\0\248\255" },
  bf16 = { "\255\255", "\255\127", "\129\255" },
}

local function assert_nan(x)
  assert.are.equal("number", type(x))
  assert.is_true(x ~= x and -x ~= -x)
  assert.is_true(type(-x) == "number")
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

describe("bits of a NaN", function()
  after_each(runner.clean)

  it("are a number wherever they come from", function()
    local path = runner.folder() .. "/x"
    for dtype, list in pairs(nans) do
      for _, text in ipairs(list) do
        local t = host.from_string(text, dtype, "cpu")
        assert_nan(t:item())
        assert_nan(t:totable()[1])
        assert.is_truthy(tostring(t):find("[nan]", 1, true), tostring(t))
        assert.is_false((t:allclose(t)))
        write(path, text)
        local loaded = mb.system.read_tensor(mb.zeros({ 1 }, { dtype = dtype }), path)
        if dtype ~= "bf16" then assert_nan(loaded:data()[0]) end
        local rest, last = host.bytes(loaded):match "^(.*)(.)$"
        assert.are.equal(text:byte(-1) > 127 and 255 or 127, last:byte()) -- the sign
        assert.are.equal(({ f32 = "\0\0\192", f64 = "\0\0\0\0\0\0\248", bf16 = "\192" })[dtype], rest)
      end
    end
    for _, text in ipairs(nans.f32) do assert_nan(bytes.read_f32(text, 1)) end
    for _, text in ipairs(nans.f64) do assert_nan(bytes.read_f64(text, 1)) end
  end)

  it("leave other numbers alone", function()
    mb.seed(helper.seed)
    local path = runner.folder() .. "/x"
    for dtype, size in pairs { f32 = 4, f64 = 8, bf16 = 2 } do
      local special = { 0, -0, math.huge, -math.huge, 1e-310, 1e-45, 3e38 }
      local t = mb.concat({ mb.tensor(special, { dtype = "f64" }), mb.randn({ 301 }, { dtype = "f64" }) }, 1):to(dtype)
      write(path, host.bytes(t))
      local loaded = mb.system.read_tensor(mb.zeros({ 308 }, { dtype = dtype }), path)
      assert.are.equal(host.bytes(t), host.bytes(loaded))
      assert.are.equal(308 * size, #host.bytes(loaded))
      assert.are.same(t:totable(), loaded:totable())
    end
  end)
end)

describe("an error", function()
  it("is one line that a terminal can show", function()
    assert.are.equal("a\\nb\\27[2J\\0", status.one_line "a\nb\27[2J\0")
    assert.are.equal("é", status.one_line "é")
    local long = status.one_line(("é"):rep(5000))
    assert.is_true(#long < 1010 and long:sub(-4) == " ...")
    assert.is_nil(require("moonbow.io.utf8").invalid_at(long))
    local _, problem = json.decode '{"a\\n":1,"a\\n":2}'
    assert.are.equal("at byte 9: the key 'a\\n' is there twice", problem)
  end)

  it("is what a number with an endless exponent gives, or its value", function()
    assert.are.same({ 0, 0, 0 }, json.decode "[0e99999999999999999999,1e-99999999999999999999,-0.0E99999999999999999999]")
    local _, problem = json.decode "1e99999999999999999999"
    assert.are.equal("at byte 0: the number 1e99999999999999999999 is too large", problem)
  end)
end)
