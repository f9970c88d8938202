-- SPDX-License-Identifier: MIT
--
-- safetensors.lua: a fuzz target for the reader of safetensors: a file is refused before memory is taken for its elements, or
-- its tensors are as long as its header says and survive being written and read.

local mb = require "moonbow"
local bytes = require "bindings.bytes"
local host = require "bindings.host"
local random = require "tests.fuzz.random"
local safetensors = require "moonbow.io.safetensors"

local M = { sources = { "lua/moonbow/io/safetensors.lua", "lua/moonbow/io/convert.lua" }, is_file = true }

local sizes = {
  F32 = 4, F64 = 8, I32 = 4, U16 = 2, U8 = 1, F16 = 2, BF16 = 2, BOOL = 1, I8 = 1, I16 = 2, U32 = 4, I64 = 8, U64 = 8,
}
local dtypes = { "F32", "F64", "I32", "U16", "U8", "F16", "BF16", "BOOL", "I8", "I16", "U32", "I64", "U64" }

-- ----- files that are right ------------------------------------------------------------------------------

local function entries_of(r)
  local list, offset = {}, 0
  for i = 1, r:to(5) - 1 do
    local dtype, shape, numel = r:pick(dtypes), {}, 1
    for d = 1, r:to(4) - 1 do
      shape[d] = r:to(4)
      numel = numel * shape[d]
    end
    local size = numel * sizes[dtype]
    list[i] = { name = '"t' .. i .. '"', dtype = '"' .. dtype .. '"', shape = shape, first = offset, last = offset + size }
    offset = offset + size
  end
  return list, offset
end

-- ----- lies about them ------------------------------------------------------------------------------------

local lies = {
  function(r, e) e.first = r:pick(random.numbers) end,
  function(r, e) e.last = r:pick(random.numbers) end,
  function(r, e) e.first, e.last = e.last, r:to(3) end,
  function(r, e) e.shape[r:to(#e.shape + 1)] = r:pick(random.numbers) end,
  function(_, e) e.shape = { 4294967296, 4294967296 } end, -- the product is 0 in 64 bits
  function(_, e) e.shape = { 0 } end,
  function(r, e) for d = 1, r:to(12) do e.shape[d] = 1 end end,
  function(r, e) e.dtype = r:pick { '"F8_E4M3"', '"f32"', "5", "null", '""', '"BF16\\n"', '"C64"' } end,
  function(r, e)
    e.name = r:pick { '"t1"', '""', '"__metadata__"', '"a\\nb"', '"\\u0000"', '"' .. ("n"):rep(500) .. '"', "5" }
  end,
  function(r, e) e.more = r:pick { ',"x":1', ',"dtype":"F32"', ',"shape":[1]', "," } end,
  function(_, e) e.whole = "[]" end,
  function(r, e) e.whole = r:pick(random.numbers) end,
}

local metadata = {
  '"__metadata__":{"format":"pt"}', '"__metadata__":{}', '"__metadata__":[]', '"__metadata__":{"a":1}', '"__metadata__":null',
  '"__metadata__":{"a":{"b":"c"}}', '"__metadata__":{"a\\n":null}',
}

function M.generate(r)
  local list, total = entries_of(r)
  for _ = 1, #list > 0 and not r:once_in(4) and r:to(2) or 0 do r:pick(lies)(r, r:pick(list)) end
  if r:once_in(4) and #list > 1 then list[1].first, list[2].first = list[2].first, list[1].first end
  local parts = {}
  for i, e in ipairs(list) do
    parts[i] = e.name .. ":" .. (e.whole or ('{"dtype":%s,"shape":[%s],"data_offsets":[%s,%s]%s}'):format(e.dtype,
      table.concat(e.shape, ","), e.first, e.last, e.more or ""))
  end
  if r:once_in(3) then table.insert(parts, r:to(#parts + 1), r:pick(metadata)) end
  local header = (r:once_in(30) and " " or "") .. "{" .. table.concat(parts, ",") .. "}"
  header = header .. (r:once_in(30) and "\0" or " "):rep(r:once_in(2) and -(8 + #header) % 64 or 0)
  local length = r:once_in(12) and r:pick { 0, 1, #header - 1, #header + 1, 100000001, 2 ^ 53 } or #header
  local data = r:once_in(2) and ("\0"):rep(total) or r:bytes(total)
  if r:once_in(12) then data = data .. r:bytes(r:to(9)) end
  if r:once_in(12) then data = data:sub(1, -2) end
  return bytes.u64(length) .. header .. data
end

-- ----- the property -------------------------------------------------------------------------------------

-- The same elements, NaN being NaN, and nothing but numbers among them.
local function same(a, b)
  if host.bytes(a) == host.bytes(b) then return true end
  local x, y = a:reshape(a.numel):totable(), b:reshape(b.numel):totable()
  for i, value in ipairs(x) do
    if type(value) ~= "number" or value ~= y[i] and (value == value or y[i] == y[i]) then return false end
  end
  return #x == a.numel and #y == #x
end

function M.check(text, path)
  local tensors, notes = safetensors.load(path)
  local used, count = 0, 0
  for _, entry in ipairs((safetensors.inspect(path))) do
    local t = tensors[entry.name]
    assert(t and t.numel == entry.numel and #t.shape == #entry.shape, "a tensor is not as its entry says")
    used, count = used + entry.bytes, count + 1
  end
  assert(8 + bytes.read_u64(text, 1) + used == #text, "not every byte belongs to a tensor")
  local again = path .. ".again"
  safetensors.save(again, tensors, notes)
  local back, notes_back = safetensors.load(again)
  os.remove(again)
  for name, t in pairs(tensors) do
    assert(back[name] and same(t, back[name]), "a tensor is another after being written and read")
  end
  for key, value in pairs(notes) do assert(notes_back[key] == value, "metadata are lost") end
  return count > 0 and "tensors" or "no tensor"
end

-- Half floats become floats, bytes 32-bit integers.
function M.most_tensor_bytes(text) return 64 * #text end

M.scope = mb.scope

return M
