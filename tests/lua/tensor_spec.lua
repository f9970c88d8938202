-- Tensors as scripts see them: making, reading, methods, operators, and the text and place of errors. The
-- formulas of the operations are tested elsewhere (tests/c, tests/ops); here it is what Lua hands to them.
local helper = require "tests.helper"
local mb = require "moonbow"

mb.seed(helper.seed)

local F64 = { dtype = "f64" }

-- Text of the error of fn(), from the file's name on.
local function error_of(fn)
  return (helper.error_of(fn):gsub("^.*tensor_spec.lua:%d+: ", "HERE "))
end

describe("making a tensor", function()
  it("reads nested tables, rows first", function()
    local t = mb.tensor { { 1, 2, 3 }, { 4, 5, 6 } }
    assert.are.same({ 2, 3 }, t.shape)
    assert.are.same({ { 1, 2, 3 }, { 4, 5, 6 } }, t:totable())
    assert.are.equal("f32", t.dtype)
    assert.are.equal("cpu", mb.tensor({ 1 }, { device = "cpu" }).device)
    assert.are.same({}, mb.tensor(5).shape)
    assert.are.equal(5, mb.tensor(5):totable())
    assert.are.same({ 2, 2 }, mb.tensor({ 1, 2, 3, 4 }, { shape = { 2, 2 } }).shape)
  end)

  it("takes every dtype", function()
    for dtype, value in pairs { f32 = 0.5, f64 = 1 / 3, i32 = -2 ^ 31, u16 = 65535, u8 = 255 } do
      local t = mb.tensor({ value, 1 }, { dtype = dtype })
      assert.are.equal(dtype, t.dtype)
      assert.are.same({ value, 1 }, t:totable())
    end
  end)

  it("copies from pointers and strings", function()
    local source = mb.tensor({ 1, 2, 3, 4 }, { dtype = "u16", device = "cpu" })
    local copy = mb.tensor(source:data(), { shape = { 2, 2 } })
    assert.are.equal("u16", copy.dtype)
    source:fill_(0)
    assert.are.same({ { 1, 2 }, { 3, 4 } }, copy:totable())
    assert.are.same({ 104, 105 }, mb.tensor("hi"):totable())
    assert.are.same({ 256 + 1 }, mb.tensor("\1\1", { dtype = "u16" }):totable())
    assert.are.equal("\1\0\2\0", mb.tensor({ 1, 2 }, { dtype = "u16" }):bytes())
  end)

  it("fills", function()
    assert.are.same({ { 0, 0 } }, mb.zeros(1, 2):totable())
    assert.are.same({ 1, 1 }, mb.ones({ 2 }, F64):totable())
    assert.are.same({ 7, 7 }, mb.full(2, 7):totable())
    assert.are.same({ 0, 1, 2 }, mb.arange(3):totable())
    assert.are.same({ 2, 5, 8 }, mb.arange(2, 9, 3, { dtype = "i32" }):totable())
    assert.are.same({ 3, 2 }, mb.arange(3, 1, -1):totable())
    assert.are.same({ 2, 3 }, mb.arange(2, 4, { dtype = "i32" }):totable())
    assert.are.same({ { 1, 0, 0 }, { 0, 1, 0 } }, mb.eye(2, 3):totable())
    assert.are.same({ 2, 5 }, mb.empty(2, 5).shape)
    assert.are.equal("f64", mb.zeros_like(mb.ones(2, F64)).dtype)
    assert.are.same({ 1, 1 }, mb.ones_like(mb.zeros(2)):totable())
    assert.are.same({ 4 }, mb.randn_like(mb.zeros(4)).shape)
    assert.is_true(mb.ones(2, { requires_grad = true }).requires_grad)
  end)

  it("draws the same numbers from the same seed, and others from another", function()
    local function draw(seed)
      mb.seed(seed)
      return mb.randn(3, 3), mb.rand(5), mb.uniform({ 5 }, 2, 3)
    end
    local a, b, c = draw(1)
    local d, e, f = draw(1)
    assert.is_true(a:equal(d) and b:equal(e) and c:equal(f))
    assert.is_false(a:equal((draw(2))))
    for _, x in ipairs(c:totable()) do assert.is_true(x >= 2 and x < 3) end
    mb.seed(5)
    mb.set_step(7)
    assert.are.same({ 5, 7, 0 }, { mb.random_state() })
    local first = mb.randn(4)
    mb.random_state(5, 7, 0)
    assert.is_true(first:equal(mb.randn(4)))
  end)

  it("is refused with a text that says why", function()
    local cases = {
      { "value[2] has 1 values, where 2 values were expected", function() mb.tensor { { 1, 2 }, { 3 } } end },
      { "value[1][2] must be a number, not the string 'x'", function() mb.tensor { { 1, "x" } } end },
      { "value[2] has the number 3, where 2 values", function() mb.tensor { { 1, 2 }, 3 } end },
      { "value[1] is 1.5, which is no i32", function() mb.tensor({ 1.5 }, { dtype = "i32" }) end },
      { "value[1] is 256, which is no u8", function() mb.tensor({ 256 }, { dtype = "u8" }) end },
      { "an empty table is no tensor", function() mb.tensor {} end },
      { "not nil", function() mb.tensor(nil) end },
      { "a pointer has no sizes", function() mb.tensor(mb.ones(1, { device = "cpu" }):data()) end },
      { "nested more than 6 deep", function() mb.tensor { { { { { { { 1 } } } } } } } end },
      { "a string of 3 bytes is no whole number of u16", function() mb.tensor("abc", { dtype = "u16" }) end },
      { "has a size below 1", function() mb.zeros(2, 0) end },
      { "size 2 of the shape must be an integer", function() mb.zeros(2, 1.5) end },
      { "sizes are integers, argument 2 is the string 'x'", function() mb.zeros(2, "x") end },
      { "one of 'f32', 'f64', 'bf16', 'i32', 'u16', 'u8'", function() mb.zeros(2, { dtype = "f33" }) end },
      { "unknown option 'dtyp', did you mean 'dtype'?", function() mb.zeros(2, { dtyp = "f32" }) end },
      { "there is no number from 3 below 1 in steps of 1", function() mb.arange(3, 1) end },
      { "mb.seed: an integer", function() mb.seed(-1) end },
    }
    for _, case in ipairs(cases) do
      local text = error_of(case[2])
      assert.matches(case[1], text, 1, true)
      assert.matches("^HERE mb", text)
    end
  end)
end)

describe("a tensor's properties", function()
  local t = mb.tensor({ { 1, 2, 3 }, { 4, 5, 6 } }, F64)

  it("can be read", function()
    assert.are.equal(2, t.ndim)
    assert.are.equal(6, t.numel)
    assert.are.equal(2, #t)
    assert.is_true(t.is_contiguous)
    assert.is_false(t:transpose().is_contiguous)
    assert.is_true(t.is_live)
    assert.is_false(t.requires_grad)
    assert.is_nil(t.grad)
    assert.are_not.equal(t.id, t:clone().id)
    assert.is_true(mb.is_tensor(t))
    assert.is_false(mb.is_tensor {})
    assert.is_false(mb.is_tensor(nil))
  end)

  it("turn into text and numbers", function()
    assert.are.equal("tensor (2, 3) f64 " .. helper.device .. " [1, 2, 3, 4, 5, 6]", tostring(t))
    assert.are.equal("tensor (3, 2) f64 " .. helper.device .. " [1, 4, 2, 5, 3, 6]", tostring(t:transpose()))
    assert.are.equal("tensor (9) u8 " .. helper.device .. " [0, 1, 2, 3, 4, 5, ...]", tostring(mb.arange(9, { dtype = "u8" })))
    assert.are.equal("t = tensor () f32 " .. helper.device .. " [2]", "t = " .. mb.tensor(2))
    assert.are.equal(6, t:select(1, 2):select(1, 3):item())
    assert.are.equal(4, t:to("cpu"):data()[3])
  end)

  it("are guarded", function()
    assert.matches("HERE a tensor has no method or property 'shap'", error_of(function() return t.shap .. "" end))
    assert.matches("HERE 'shape' of a tensor cannot be set", error_of(function() t.shape = {} end))
    assert.matches("zero_grad", error_of(function() t.grad = nil end))
    assert.matches("HERE mb_tensor_item: one element was expected", error_of(function() t:item() end))
    assert.matches("HERE data: the tensor is not contiguous", error_of(function() t:to("cpu"):transpose():data() end))
    assert.matches("HERE a tensor without dimensions has no length", error_of(function() return #mb.tensor(1) + 0 end))
    assert.matches("HERE mb_set_requires_grad: .*floating", error_of(function()
      mb.tensor({ 1 }, { dtype = "i32" }).requires_grad = true
    end))
  end)
end)

describe("arithmetic", function()
  local a = mb.tensor({ { 1, 2 }, { 3, 4 } }, F64)

  it("takes tensors and numbers on either side", function()
    assert.are.same({ { 2, 3 }, { 4, 5 } }, (a + 1):totable())
    assert.are.same({ { 2, 3 }, { 4, 5 } }, (1 + a):totable())
    assert.are.same({ { 0, -1 }, { -2, -3 } }, (1 - a):totable())
    assert.are.same({ { 0, 1 }, { 2, 3 } }, (a - 1):totable())
    assert.are.same({ { 3, 6 }, { 9, 12 } }, (3 * a):totable())
    assert.are.same({ { 3, 6 }, { 9, 12 } }, (a * 3):totable())
    assert.are.same({ { 1 / 3, 2 / 3 }, { 3 / 3, 4 / 3 } }, (a / 3):totable())
    assert.are.same({ { 12, 6 }, { 4, 3 } }, (12 / a):totable())
    assert.are.same({ { 1, 4 }, { 9, 16 } }, (a ^ 2):totable())
    assert.are.same({ { 2, 4 }, { 8, 16 } }, (2 ^ a):totable())
    assert.are.same({ { -1, -2 }, { -3, -4 } }, (-a):totable())
    assert.are.same({ { 2, 4 }, { 6, 8 } }, (a + a):totable())
    assert.are.same({ { 0, 0 }, { 0, 0 } }, (a - a):totable())
    assert.are.same({ { 1, 4 }, { 9, 16 } }, (a * a):totable())
    assert.are.same({ { 1, 1 }, { 1, 1 } }, (a / a):totable())
    assert.are.same({ { 1, 4 }, { 27, 256 } }, (a ^ a):totable())
    assert.are.same({ { 11, 22 }, { 13, 24 } }, (a + mb.tensor({ 10, 20 }, F64)):totable())
  end)

  it("has functions of the same names as methods, for tensors and for numbers", function()
    local x = 0.3
    local t = mb.tensor({ x, -x }, F64)
    for _, name in ipairs { "neg", "abs", "sign", "exp", "square", "reciprocal", "tanh", "sigmoid", "silu", "relu",
                            "gelu", "gelu_tanh" } do
      local by_function, by_method = mb[name](t):totable(), t[name](t):totable()
      assert.are.same(by_function, by_method)
      for i, number in ipairs { x, -x } do
        local difference = math.abs(mb[name](number) - by_function[i])
        assert.is_true(difference < 1e-14, name .. " of a number and of a tensor differ")
      end
    end
    for _, name in ipairs { "log", "sqrt", "rsqrt" } do
      assert.is_true(math.abs(mb[name](x) - mb[name](t):totable()[1]) < 1e-14, name)
    end
    assert.are.equal(2, mb.gelu_erf(mb.zeros(2)).numel)
  end)

  it("compares element by element, and chooses", function()
    local b = mb.tensor({ { 2, 2 }, { 2, 2 } }, F64)
    local cases = { lt = { 1, 0, 0, 0 }, le = { 1, 1, 0, 0 }, eq = { 0, 1, 0, 0 }, ge = { 0, 1, 1, 1 },
                    gt = { 0, 0, 1, 1 } }
    for name, expected in pairs(cases) do
      assert.are.same(expected, mb[name](a, b):flatten():totable(), name)
      assert.are.same(expected, a[name](a, 2):flatten():totable(), name)
    end
    assert.are.same({ { 2, 2 }, { 3, 4 } }, mb.maximum(a, 2):totable())
    assert.are.same({ { 1, 2 }, { 2, 2 } }, mb.minimum(2, a):totable())
    assert.are.same({ { 2, 2 }, { 3, 3 } }, a:clamp(2, 3):totable())
    assert.are.same({ { 0, 0 }, { 3, 4 } }, mb.where(mb.gt(a, b), a, 0):totable())
    assert.are.equal(3, mb.maximum(2, 3))
    assert.are.equal(1, mb.lt(2, 3))
    assert.are.equal("x", mb.where(1, "x", "y"))
  end)

  it("compares whole tensors", function()
    assert.is_true(a:equal(a:clone()))
    assert.is_false(a:equal(a + 1e-12))
    assert.is_false(a:equal(a:to "f32"))
    assert.is_false(a:equal(mb.zeros(2, F64)))
    assert.is_true(a:allclose(a + 1e-9))
    assert.is_true(a:allclose(a:to "f32"))
    local same, why = a:allclose(mb.tensor({ { 1, 2 }, { 3, 5 } }, F64), { rtol = 0.1 })
    assert.is_false(same)
    assert.are.equal("1 of 4 elements differ, the worst is element 3: 4 and 5", why)
    assert.is_false((a:allclose(a * (0 / 0))))
    assert.is_false((a:allclose(mb.zeros(3))))
    local infinite = mb.full({ 1 }, math.huge)
    assert.is_true(infinite:allclose(infinite))
  end)

  it("refuses what is no operand, at the user's line", function()
    local cases = {
      { "HERE mb.add: tensors or numbers were expected, not a f64 tensor of shape (2, 2) and nil",
        function() return a + nil == 1 end },
      { "HERE mb.mul: tensors or numbers were expected, not the string 'x' and a f64 tensor of shape (2, 2)",
        function() return "x" * a == 1 end },
      { "HERE mb.exp: a tensor or a number was expected, not a table", function() mb.exp {} end },
      { "HERE mb_add: shapes do not fit, a is (2, 2), b is (3)", function() return a + mb.zeros(3, F64) == 1 end },
      { "HERE mb_add: dtypes differ, a is f64, b is f32", function() return a + mb.zeros(2, 2) == 1 end },
      { "HERE mb_mul: a is i32", function()
        local i = mb.zeros(2, { dtype = "i32" })
        return i * i == 1
      end },
      { "HERE mb.where: condition must be a tensor, not nil", function() mb.where(nil, a, a) end },
      { "HERE equal: b must be a tensor, not nil", function() a:equal(nil) end },
    }
    for _, case in ipairs(cases) do assert.matches(case[1], error_of(case[2]), 1, true) end
  end)

  it("hands symbolic values on", function()
    local calls = {}
    local symbol = setmetatable({}, { fuse_apply = function(...)
      calls[#calls + 1] = { ... }
      return "symbol"
    end })
    local results = { mb.sqrt(symbol), mb.add(symbol, 2), mb.maximum(3, symbol), mb.where(symbol, 1, 2), a + symbol,
                      mb.greater(symbol, 0), mb.rsqrt(symbol) }
    assert.are.equal(7, #results)
    local names = {}
    for i, call in ipairs(calls) do names[i] = call[1] end
    assert.are.same({ "sqrt", "add", "maximum", "where", "add", "less", "rsqrt" }, names)
    assert.are.equal(3, calls[3][2])
    assert.are.equal(symbol, calls[6][3])
  end)
end)

describe("dimensions", function()
  local t = mb.arange(24, F64):reshape(2, 3, 4)

  it("count from 1, or from the end", function()
    assert.are.same({ 3, 4 }, t:sum(1).shape)
    assert.are.same({ 2, 3 }, t:sum(-1).shape)
    assert.are.same({ 3 }, t:sum({ 1, 3 }).shape)
    assert.are.same({ 1, 3, 1 }, t:sum({ 1, -1 }, true).shape)
    assert.are.same({ 2, 1, 4 }, t:mean(2, { keepdim = true }).shape)
    assert.are.equal(276, t:sum():item())
    assert.are.equal(11.5, t:mean():item())
    assert.are.equal(23, t:max():item())
    assert.are.equal(0, t:min():item())
    assert.are.same({ { 3, 7, 11 }, { 15, 19, 23 } }, t:max(3):totable())
    assert.are.same({ { 0, 1, 2, 3 }, { 12, 13, 14, 15 } }, t:min(2):totable())
    assert.are.same({ 2, 3 }, t:argmax(-1).shape)
    assert.are.same({ { 3, 3, 3 }, { 3, 3, 3 } }, t:argmax(3):totable())
    assert.are.equal(23, t:argmax():item())
    assert.are.equal(5, mb.tensor({ 3, 4 }, F64):norm():item())
    assert.are.same({ 3, 2, 4 }, t:transpose(1, 2).shape)
    assert.are.same({ 2, 4, 3 }, t:transpose().shape)
    assert.are.same({ 4, 2, 3 }, t:permute(3, 1, 2).shape)
    assert.are.same({ 4, 2, 3 }, t:permute({ -1, 1, 2 }).shape)
  end)

  it("are refused outside 1..n", function()
    for _, dim in ipairs { 0, 4, -4 } do
      local expected = ("HERE mb.sum: dimension %d does not exist, there are 3, counted from 1"):format(dim)
      assert.matches(expected, error_of(function() t:sum(dim) end), 1, true)
    end
    assert.matches("dimension must be an integer, not 1.5", error_of(function() t:sum(1.5) end), 1, true)
    assert.matches("HERE mb.transpose: dimension 9", error_of(function() t:transpose(1, 9) end), 1, true)
  end)

  it("are cut and joined by position, from 1", function()
    assert.are.same({ { 4, 5, 6, 7 } }, t:select(1, 1):slice(1, 2, 2):totable())
    assert.are.same({ 2, 3, 2 }, t:slice(3, 2, -2).shape)
    assert.are.same({ 0, 2 }, t:select(1, 1):select(1, 1):slice(1, 1, 4, 2):totable())
    assert.are.same({ 20, 21, 22, 23 }, t:select(1, -1):select(1, 3):totable())
    assert.are.same({ 12, 2 }, mb.concat({ t:reshape(12, 2) }).shape)
    assert.are.same({ 4, 3, 4 }, mb.concat({ t, t }).shape)
    assert.are.same({ 2, 3, 8 }, mb.concat({ t, t }, -1).shape)
    assert.are.same({ 2, 2, 3, 4 }, mb.stack({ t, t }).shape)
    assert.are.same({ { 1, 3 }, { 2, 4 } }, mb.stack({ mb.tensor { 1, 2 }, mb.tensor { 3, 4 } }, 2):totable())
    assert.are.same({ 2, 1, 3, 4 }, t:unsqueeze(2).shape)
    assert.are.same({ 2, 3, 4, 1 }, t:unsqueeze(-1).shape)
    assert.are.same({ 2, 3, 4 }, t:unsqueeze(2):squeeze(2).shape)
    assert.are.same({ 2, 3, 4 }, t:unsqueeze(1):unsqueeze(-1):squeeze().shape)
    assert.are.same({ 5, 3 }, mb.tensor({ 1, 2, 3 }):expand(5, 3).shape)
    assert.are.same({ 6, 4 }, t:reshape({ -1, 4 }).shape)
    assert.matches("position 0 does not exist", error_of(function() t:slice(1, 0) end), 1, true)
    assert.matches("position 5 does not exist", error_of(function() t:slice(1, 1, 5) end), 1, true)
    assert.matches("dimension 1 has size 2, not 1", error_of(function() t:squeeze(1) end), 1, true)
    assert.matches("mb.concat: tensor 2 must be a tensor, not nil", error_of(function() mb.concat { t, nil, t } end),
      1, true)
    assert.matches("an array of tensors was expected, not a table", error_of(function() mb.concat {} end), 1, true)
  end)

  it("gather with ids that count from 0, being data", function()
    local rows = mb.tensor({ { 10, 20 }, { 30, 40 } })
    local index = mb.tensor({ { 1, 0 } }, { dtype = "i32" })
    assert.are.same({ { 30, 20 } }, rows:gather(1, index):totable())
  end)
end)

describe("copies", function()
  local t = mb.tensor { { 1, 2 }, { 3, 4 } }

  it("share memory or do not, as their names say", function()
    local clone, detached, view = t:clone(), t:detach(), t:transpose()
    local changed = t:contiguous()
    t:add_(10)
    assert.are.same({ { 1, 2 }, { 3, 4 } }, clone:totable())
    assert.are.same({ { 11, 12 }, { 13, 14 } }, detached:totable())
    assert.are.same({ { 11, 13 }, { 12, 14 } }, view:totable())
    assert.are.same({ { 11, 12 }, { 13, 14 } }, changed:totable())
    t:add_(-10)
  end)

  it("convert dtypes and devices", function()
    assert.are.equal("f64", t:to("f64").dtype)
    assert.are.same({ { 1, 2 }, { 3, 4 } }, t:to("u8"):totable())
    assert.are.equal(t.id, t:to("f32").id)
    assert.are.equal(t.id, t:to(helper.device).id)
    assert.matches("HERE mb.to: expected a dtype", error_of(function() t:to "f16" end))
  end)
end)

describe("changes in place", function()
  local function fresh() return mb.tensor({ { 1, 2 }, { 3, 4 } }, F64) end
  local g = mb.tensor({ { 1, 1 }, { 2, 2 } }, F64)

  it("return the tensor they changed", function()
    local cases = {
      { function(t) return t:add_(g, -0.5) end, { { 0.5, 1.5 }, { 2, 3 } } },
      { function(t) return t:add_(g) end, { { 2, 3 }, { 5, 6 } } },
      { function(t) return t:add_(1) end, { { 2, 3 }, { 4, 5 } } },
      { function(t) return t:add_(2, 0.5) end, { { 2, 3 }, { 4, 5 } } },
      { function(t) return t:sub_(g) end, { { 0, 1 }, { 1, 2 } } },
      { function(t) return t:sub_(1, 2) end, { { -1, 0 }, { 1, 2 } } },
      { function(t) return t:mul_(g) end, { { 1, 2 }, { 6, 8 } } },
      { function(t) return t:mul_(2) end, { { 2, 4 }, { 6, 8 } } },
      { function(t) return t:scale_(2) end, { { 2, 4 }, { 6, 8 } } },
      { function(t) return t:div_(g) end, { { 1, 2 }, { 1.5, 2 } } },
      { function(t) return t:div_(2) end, { { 0.5, 1 }, { 1.5, 2 } } },
      { function(t) return t:affine_(2, 1) end, { { 3, 5 }, { 7, 9 } } },
      { function(t) return t:lerp_(g, 0.5) end, { { 1, 1.5 }, { 2.5, 3 } } },
      { function(t) return t:copy_(g) end, { { 1, 1 }, { 2, 2 } } },
      { function(t) return t:copy_(mb.tensor { 8, 9 }) end, { { 8, 9 }, { 8, 9 } } },
      { function(t) return t:fill_(5) end, { { 5, 5 }, { 5, 5 } } },
      { function(t) return t:zero_() end, { { 0, 0 }, { 0, 0 } } },
      { function(t) return t:mul_(0.5):add_(g, 0.5) end, { { 1, 1.5 }, { 2.5, 3 } } },
    }
    for _, case in ipairs(cases) do
      local t = fresh()
      assert.are.equal(t.id, case[1](t).id)
      assert.are.same(case[2], t:totable())
    end
    assert.is_true(math.abs(mb.zeros(4000):randn_(3, 0.1):mean():item() - 3) < 0.02)
    assert.is_true(math.abs(mb.zeros(4000):uniform_(2, 4):mean():item() - 3) < 0.1)
  end)

  it("refuse what does not fit", function()
    local t = fresh()
    assert.matches("HERE add_: a must be a tensor, not nil", error_of(function() t:add_(nil) end))
    assert.matches("HERE add_: alpha must be a number, not a table", error_of(function() t:add_(g, {}) end))
    assert.matches("HERE lerp_: weight must be a number, not nil", error_of(function() t:lerp_(g) end))
    assert.matches("HERE mb_add_: ", error_of(function() t:add_(mb.zeros(3, F64)) end))
    assert.matches("HERE fill_: value must be a number", error_of(function() t:fill_ "x" end))
    local w = mb.ones(2, { requires_grad = true })
    local y = w * 2
    assert.matches("HERE mb_affine_: the tensor is the result of", error_of(function() y:mul_(2) end))
  end)

  it("discard memory that cannot wait", function()
    local t = fresh()
    t:discard()
    assert.is_false(t.is_live)
    assert.matches("it was discarded with t:discard", error_of(function() t:add_(1) end))
  end)
end)

describe("backward", function()
  it("adds into the gradients of leaves", function()
    local w = mb.tensor({ 1, 2, 3 }, { dtype = "f64", requires_grad = true })
    assert.is_nil(w.grad);
    (w * w * 2):backward(mb.ones_like(w))
    assert.are.same({ 4, 8, 12 }, w.grad:totable());
    (w * 10):sum():backward()
    assert.are.same({ 14, 18, 22 }, w.grad:totable())
    w:zero_grad()
    assert.are.same({ 0, 0, 0 }, w.grad:totable())
    w.requires_grad = false
    assert.is_false((w * 2).requires_grad)
    assert.is_true(w:requires_grad_().requires_grad)
  end)

  it("refuses what has no gradient, at the user's line", function()
    local w = mb.ones(2, { requires_grad = true })
    assert.matches("HERE mb_backward: the loss has no history", error_of(function() mb.ones(1):backward() end))
    assert.matches("HERE mb_backward: the loss has shape %(2%)", error_of(function() (w * 2):backward() end))
    local loss = (w * 2):sum()
    loss:backward()
    assert.matches("HERE mb_backward: the graph .* was freed", error_of(function() loss:backward() end))
    assert.matches("HERE backward: seed must be a tensor", error_of(function() (w * 2):backward(1) end))
  end)
end)
