-- SPDX-License-Identifier: MIT
--
-- safetensors_spec.lua: files of this format go out and in unchanged, those of the reference implementation
-- are read, and damaged or hostile ones are refused with a line that names the file, the tensor, what was
-- found and what was expected. No file may crash the process.

local mb = require "moonbow"
local helper = require "tests.helper"
local scratch = require "tests.scratch"

local root = os.getenv "MOONBOW_ROOT" or "."

-- Eight bytes of length, little-endian.
local function length_bytes(n)
  local bytes = {}
  for i = 1, 8 do
    bytes[i] = string.char(n % 256)
    n = math.floor(n / 256)
  end
  return table.concat(bytes)
end

local function file_text(header, data) return length_bytes(#header) .. header .. (data or "") end

describe("mb.safetensors", function()
  local folder, path

  before_each(function()
    folder = scratch.folder()
    path = folder .. "/t.safetensors"
  end)
  after_each(scratch.clean)

  local function load_text(text)
    scratch.write(path, text)
    return mb.safetensors.load(path)
  end

  -- The error for a file, which must name the file and every given part.
  local function refused(text, ...)
    local problem = helper.error_of(load_text, text)
    for _, part in ipairs { path, ... } do
      assert(problem:find(part, 1, true), ("no '%s' in: %s"):format(part, problem))
    end
    assert(not problem:find("\n", 1, true), problem)
  end

  describe("round trip", function()
    it("keeps every dtype, shape, name and bit", function()
      local tensors = {
        ["a.f32"] = mb.randn({ 3, 5 }), ["a.f64"] = mb.randn({ 2, 1, 7 }, { dtype = "f64" }),
        ["i32"] = mb.tensor({ -2 ^ 31, 0, 2 ^ 31 - 1 }, { dtype = "i32" }),
        ["u16"] = mb.tensor({ 0, 1, 65535 }, { dtype = "u16" }), ["u8"] = mb.tensor({ 0, 255 }, { dtype = "u8" }),
        ["scalar"] = mb.tensor(2.5), ["1"] = mb.ones(1, 1, 1, 1, 1, 1), ["ä\n\"\\"] = mb.ones(2), [""] = mb.ones(1),
        ["view"] = mb.arange(12):reshape(3, 4):transpose(1, 2),
        ["specials"] = mb.tensor { 0 / 0, math.huge, -math.huge, -0.0, 1e-45, 3.4028234e38 },
      }
      mb.safetensors.save(path, tensors, { format = "pt", note = "ä\n" })
      local back, metadata = mb.safetensors.load(path)
      assert.are.same({ format = "pt", note = "ä\n" }, metadata)
      for name, t in pairs(tensors) do
        local b = assert(back[name], name)
        assert.are.same(t.shape, b.shape, name)
        assert.are.equal(t.dtype, b.dtype)
        assert.are.equal(t:contiguous():bytes(), b:bytes(), name)
        back[name] = nil
      end
      assert.is_nil(next(back))
      assert.are.same({ "t.safetensors" }, mb.system.list(folder))
    end)

    it("puts larger elements first and the data at a multiple of 64", function()
      for n = 1, 70 do
        local name = ("x"):rep(n)
        mb.safetensors.save(path, { [name] = mb.ones(3), b = mb.tensor({ 1 }, { dtype = "u8" }),
                                    a = mb.ones({ 1 }, { dtype = "f64" }) })
        local text = scratch.read(path)
        local header = text:byte(1) + 256 * text:byte(2)
        assert.are.equal(0, (8 + header) % 64)
        local entries = require("moonbow.io.safetensors").inspect(path)
        assert.are.equal("a", entries[1].name)
        assert.are.equal(name, entries[2].name)
        assert.are.equal("b", entries[3].name)
      end
    end)

    it("replaces a file, and gives the same bytes each time", function()
      local tensors = {}
      for i = 1, 20 do tensors["t" .. i] = mb.full({ i }, i) end
      mb.safetensors.save(path, tensors)
      local first = scratch.read(path)
      mb.safetensors.save(path, tensors)
      assert.are.equal(first, scratch.read(path))
      mb.safetensors.save(path, {})
      assert.are.same({}, (mb.safetensors.load(path)))
    end)
  end)

  describe("of the reference implementation", function()
    it("reads every dtype", function()
      local t, metadata = mb.safetensors.load(root .. "/tests/golden/python.safetensors")
      assert.are.same({ ["made by"] = "safetensors", text = "Aä\n\"\\" }, metadata)
      local halves = { { -0.75, -0.5, -0.25 }, { 0, 0.25, 0.5 } }
      local signed, unsigned = { { -3, -2, -1 }, { 0, 1, 2 } }, { { 0, 1, 2 }, { 3, 4, 5 } }
      local expected = {
        f64 = { "f64", halves }, f32 = { "f32", halves }, f16 = { "f32", halves }, i8 = { "i32", signed },
        i16 = { "i32", signed }, i32 = { "i32", signed }, i64 = { "i32", signed }, u8 = { "u8", unsigned },
        u16 = { "u16", unsigned }, u32 = { "i32", unsigned }, u64 = { "i32", unsigned },
        bool = { "u8", { { 1, 0, 1 }, { 0, 1, 0 } } }, bf16 = { "f32", { 1, -2.5, 2 ^ -133, math.huge } },
      }
      for name, e in pairs(expected) do
        assert.are.equal(e[1], t["of." .. name].dtype, name)
        assert.are.same(e[2], t["of." .. name]:totable(), name)
      end
      assert.are.same({}, t.scalar.shape)
      assert.are.equal(2.5, t.scalar:item())
      local limits = t["limits.f16"]:totable()
      assert.are.same({ 65504, 2 ^ -24, 0, math.huge, -math.huge }, { unpack(limits, 1, 5) })
      assert.are.equal(-math.huge, 1 / limits[3])
      assert.is_true(limits[6] ~= limits[6])
    end)

    it("reads the shared fixtures", function()
      local fixtures = helper.fixtures()
      if not fixtures then pending "the shared fixtures are not there" return end
      local t = mb.safetensors.load(fixtures .. "/matrices.safetensors")
      local count = 0
      for _, value in pairs(t) do
        assert.is_true(value.numel > 0)
        count = count + 1
      end
      assert.is_true(count > 0)
    end)
  end)

  describe("refuses", function()
    local four = "\0\0\0\0"

    local function entry(dtype, shape, first, last)
      return ('{"dtype":"%s","shape":[%s],"data_offsets":[%s,%s]}'):format(dtype, shape, first, last)
    end

    local function one(dtype, shape, first, last, data)
      return file_text(('{"w":%s}'):format(entry(dtype, shape, first, last)), data)
    end

    it("what is not there or no file", function()
      assert.is_truthy(helper.error_of(mb.safetensors.load, folder .. "/none"):find("none': No such file", 1, true))
      assert.is_truthy(helper.error_of(mb.safetensors.load, folder):find("is a folder", 1, true))
    end)

    it("files without a header", function()
      refused("", "0 bytes", "at least 8")
      refused("\1\0\0", "3 bytes", "at least 8")
      refused(length_bytes(0), "does not begin with '{'")
      refused(length_bytes(2), "claims 2 bytes", "has 0 after the length")
    end)

    it("headers longer than the file, or absurdly long", function()
      refused(length_bytes(100) .. "{}", "claims 100 bytes", "has 2")
      refused(length_bytes(100000001) .. "{}", "100000001")
      refused(("\255"):rep(8) .. "{}", "claims 1844674407370955", "has 2")
      refused(length_bytes(2 ^ 52) .. "{}", "claims 4503599627370496 bytes")
    end)

    it("headers that are no JSON object", function()
      refused(file_text " {}", "begin with '{'")
      refused(file_text "[]", "begin with '{'")
      refused(file_text "{", "not valid JSON", "at byte 1")
      refused(file_text '{"a":}', "not valid JSON")
      refused(file_text "{}\0\0", "not valid JSON", "after the value")
      refused(file_text '{"\255":1}', "not UTF-8")
      refused(file_text('{"a":' .. ("["):rep(100000)), "nested deeper")
    end)

    it("duplicate names", function()
      refused(file_text('{"w":' .. entry("U8", "4", 0, 4) .. ',"w":' .. entry("U8", "4", 4, 8) .. "}", four .. four),
        "'w' is there twice")
      refused(file_text('{"w":{"dtype":"U8","dtype":"F32","shape":[4],"data_offsets":[0,4]}}', four), "'dtype' is there twice")
    end)

    it("tensors without a full description", function()
      refused(file_text '{"w":1}', "tensor 'w'", "no object")
      refused(file_text '{"w":[]}', "tensor 'w'", "no object")
      refused(file_text '{"w":{}}', "tensor 'w'", "'dtype'")
      refused(file_text '{"w":{"dtype":1,"shape":[],"data_offsets":[0,0]}}', "'dtype'")
      refused(file_text '{"w":{"dtype":"F32","data_offsets":[0,4]}}', "'shape'")
      refused(file_text '{"w":{"dtype":"F32","shape":{},"data_offsets":[0,4]}}', "'shape'")
      refused(file_text '{"w":{"dtype":"F32","shape":[1]}}', "'data_offsets'")
      refused(file_text '{"w":{"dtype":"F32","shape":[1],"data_offsets":[0]}}', "'data_offsets'")
      refused(file_text '{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}', "'data_offsets'")
      refused(file_text '{"w":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}', "'data_offsets'")
      refused(file_text '{"w":{"dtype":"F32","shape":[1],"data_offsets":[0.5,4.5]}}', "'data_offsets'")
      refused(file_text '{"w":{"dtype":"F32","shape":[1],"data_offsets":["0","4"]}}', "'data_offsets'")
      refused(file_text '{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,1e300]}}', "'data_offsets'")
    end)

    it("dtypes it cannot read", function()
      refused(one("F8_E4M3", "4", 0, 4, four), "tensor 'w'", "F8_E4M3", "BF16")
      refused(one("f32", "1", 0, 4, four), "tensor 'w'", "'f32'", "F32")
    end)

    it("shapes that make no sense or overflow", function()
      refused(one("F32", "-1", 0, 4, four), "tensor 'w'", "-1")
      refused(one("F32", "1.5", 0, 4, four), "tensor 'w'", "1.5")
      refused(one("F32", '"1"', 0, 4, four), "tensor 'w'")
      refused(one("F32", "[1]", 0, 4, four), "tensor 'w'")
      refused(one("F32", "2,0", 0, 0), "tensor 'w'", "(2, 0)", "no elements")
      refused(one("F32", "4294967296,4294967296", 0, 0), "tensor 'w'", "overflows")
      refused(one("F32", "9007199254740992,9007199254740992,9007199254740992", 0, 4, four), "overflows")
      refused(one("F32", "1e15,1e3", 0, 4, four), "overflows")
      refused(one("F32", "1,1,1,1,1,1,1", 0, 4, four), "tensor 'w'", "7 dimensions", "6")
    end)

    it("sizes that do not fit the offsets", function()
      refused(one("F32", "2", 0, 4, four), "tensor 'w'", "takes 8 bytes", "give it 4")
      refused(one("F32", "1", 0, 8, four .. four), "tensor 'w'", "takes 4 bytes", "give it 8")
      refused(one("F32", "2", 0, 8, four), "tensor 'w'", "[0, 8]", "4 bytes of data")
      refused(one("F32", "1", 8, 4, four .. four), "tensor 'w'", "[8, 4]")
    end)

    it("holes, overlaps and leftovers", function()
      refused(one("F32", "1", 4, 8, four .. four), "'w'", "hole", "offset 4, 0 was expected")
      refused(one("F32", "1", 0, 4, four .. "x"), "5 bytes of data", "take 4")
      refused(file_text("{}", "x"), "1 bytes of data", "take 0")
      local function two(a, b, data) return file_text(('{"a":%s,"b":%s}'):format(a, b), data) end
      refused(two(entry("F32", "1", 0, 4), entry("F32", "1", 2, 6), four .. "xx"), "'b'", "overlaps", "'a'", "offset 2, 4")
      refused(two(entry("F32", "1", 0, 4), entry("F32", "1", 0, 4), four), "overlaps")
      refused(two(entry("F32", "1", 0, 4), entry("F32", "1", 5, 9), four .. four .. "x"), "'b'", "hole", "'a'")
    end)

    it("metadata that is not strings", function()
      refused(file_text '{"__metadata__":1}', "__metadata__")
      refused(file_text '{"__metadata__":["a"]}', "__metadata__")
      refused(file_text '{"__metadata__":{"a":1}}', "__metadata__", "'a'")
    end)

    it("integers that do not fit i32", function()
      refused(one("I64", "2", 0, 16, length_bytes(5) .. length_bytes(2 ^ 31)), "tensor 'w'", "I64", "element 1")
      refused(one("U64", "1", 0, 8, ("\255"):rep(8)), "tensor 'w'", "U64", "element 0")
      refused(one("U32", "1", 0, 4, ("\255"):rep(4)), "tensor 'w'", "U32")
      refused(one("BOOL", "4", 0, 4, "\1\0\2\1"), "tensor 'w'", "element 2")
      local t = load_text(one("I64", "2", 0, 16, length_bytes(2 ^ 31 - 1) .. ("\0\0\0\128\255\255\255\255")))
      assert.are.same({ 2 ^ 31 - 1, -2 ^ 31 }, t.w:totable())
    end)
  end)

  describe("a damaged file", function()
    local whole, tensors

    before_each(function()
      tensors = { weight = mb.arange(3):reshape(1, 3), ids = mb.tensor({ 7, 8 }, { dtype = "u8" }) }
      mb.safetensors.save(path, tensors, { a = "b" })
      whole = scratch.read(path)
    end)

    -- Loads `text`: true if it loads, false for an error that is one line and names the file.
    local function loads(text)
      local ok, result = pcall(load_text, text)
      if ok then return true, result end
      assert(type(result) == "string" and result:find(path, 1, true) and not result:find("\n", 1, true), tostring(result))
      return false
    end

    it("is refused when cut off at any byte", function()
      for n = 0, #whole - 1 do
        assert.is_false((loads(whole:sub(1, n))), "loads when cut to " .. n)
      end
      assert.is_false((loads(whole .. "x")))
      assert.is_true((loads(whole)))
    end)

    it("never crashes when a byte of the header is another", function()
      local header = 8 + whole:byte(1) + 256 * whole:byte(2)
      local loaded = 0
      for at = 1, header do
        local byte = whole:byte(at)
        for _, other in ipairs { 0, 32, 34, 48, 49, 57, 91, 92, 93, 123, 125, 128, 255, (byte + 1) % 256, (byte + 128) % 256 } do
          if other ~= byte then
            local ok, result = loads(whole:sub(1, at - 1) .. string.char(other) .. whole:sub(at + 1))
            if ok then -- another name, another piece of metadata, more spaces: the elements are the same
              loaded = loaded + 1
              local bytes = 0
              for _, t in pairs(result) do bytes = bytes + #t:bytes() end
              assert.are.equal(14, bytes)
            end
          end
        end
      end
      assert.is_true(loaded > 0 and loaded < header * 15)
    end)

    it("never crashes on random bytes", function()
      math.randomseed(helper.seed)
      for _ = 1, 300 do
        local bytes = {}
        for i = 1, math.random(0, 60) do bytes[i] = string.char(math.random(0, 255)) end
        loads(file_text("{" .. table.concat(bytes)))
        loads(table.concat(bytes))
      end
      collectgarbage()
    end)
  end)

  describe("saving", function()
    it("leaves nothing behind when it fails", function()
      local t = { w = mb.ones(4) }
      local problem = helper.error_of(mb.safetensors.save, folder .. "/none/t", t)
      assert.is_truthy(problem:find(folder .. "/none/t", 1, true), problem)
      scratch.write(folder .. "/file", "")
      problem = helper.error_of(mb.safetensors.save, folder .. "/file/t", t)
      assert.is_truthy(problem:find("Not a directory", 1, true), problem)
      mb.system.make_folder(folder .. "/taken/x")
      problem = helper.error_of(mb.safetensors.save, folder .. "/taken", t)
      assert.is_truthy(problem:find("cannot rename", 1, true), problem)
      assert.are.same({ "file", "taken" }, mb.system.list(folder))
    end)

    it("refuses what cannot be a tensor, a name or metadata", function()
      local function fails(part, ...)
        local problem = helper.error_of(mb.safetensors.save, path, ...)
        assert.is_truthy(problem:find(part, 1, true), problem)
        assert.are.equal("none", mb.system.path_kind(path))
      end
      fails("'w' must be a tensor, not the number 1", { w = 1 })
      fails("'1' cannot be the name", { mb.ones(1) })
      fails("__metadata__", { __metadata__ = mb.ones(1) })
      fails("'a' is the number 1", { w = mb.ones(1) }, { a = 1 })
      fails("UTF-8", { ["\255"] = mb.ones(1) })
    end)
  end)

  it("frees what it read", function()
    helper.no_leaks(function()
      mb.safetensors.save(path, { w = mb.ones(3), v = mb.ones(2, 2) })
      mb.safetensors.load(path)
      pcall(load_text, scratch.read(path):sub(1, -2))
    end)
  end)
end)
