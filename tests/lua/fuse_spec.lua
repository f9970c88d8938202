-- SPDX-License-Identifier: MIT
--
-- mb.fuse: tracing a Lua function, what runs equals what the function says, and errors at its lines.
local helper = require "tests.helper"
local mb = require "moonbow"

local says = helper.says

-- Fails unless fn raises `text` at the line below the one that says here().
local line
local function here() line = debug.getinfo(2, "l").currentline + 1 end
local function says_here(text, fn, ...)
  local got = helper.error_of(fn, ...)
  assert.is_truthy(got:find(text, 1, true), got)
  assert.is_truthy(got:find(("fuse_spec.lua:%d:"):format(line), 1, true), ("line %d: %s"):format(line, got))
end

describe("mb.fuse", function()
  it("changes tensors in place by the function's formulas", function()
    local axpy = mb.fuse(function(p, h) p.y = h.a * p.x + p.y end)
    local x, y = mb.tensor { 1, 2, 3 }, mb.tensor { 10, 20, 30 }
    local result = axpy({ x = x, y = y }, { a = 2 })
    assert.are.equal(y, result.y)
    assert.are.same({ 12, 24, 36 }, y:totable())
    assert.are.same({ 1, 2, 3 }, x:totable())
    axpy({ x = x, y = y }, { a = -1 })
    assert.are.same({ 11, 22, 33 }, y:totable())
  end)

  it("agrees with the same function run on tensors, one operation after another", function()
    mb.seed(helper.seed)
    local function body(p, h)
      local a = mb.abs(p.x) + 0.5
      local s = mb.where(mb.less(p.y, h.edge), mb.sign(p.x) * p.y, p.x / a)
      p.z = mb.tanh(s) + mb.exp(-a) * mb.log(a) - a ^ 1.5 + h.edge ^ 2
      p.x = mb.maximum(p.z, mb.minimum(p.x, 0.1)) + mb.sigmoid(p.y) - mb.rsqrt(a) * mb.reciprocal(a)
      p.y = mb.clamp(p.x:square() + mb.sqrt(a), 0.2, h.top) + mb.silu(p.y) + mb.relu(p.z) - mb.gelu(p.y)
      p.c = mb.equal(mb.le(p.y, p.x), 1) + mb.ge(p.z, 0) * mb.gt(p.x, h.edge)
    end
    for _, dtype in ipairs { "f32", "f64" } do
      local fused, plain = {}, {}
      for _, name in ipairs { "x", "y", "z", "c" } do
        fused[name] = mb.randn(13, 37):to(dtype)
        plain[name] = fused[name]:clone()
      end
      local h = { edge = 0.25, top = 1.75 }
      mb.fuse(body)(fused, h)
      body(plain, h)
      for name, t in pairs(fused) do
        local difference = mb.max(mb.abs(t - plain[name])):item()
        assert.is_true(difference <= (dtype == "f32" and 2e-6 or 1e-13), name .. " differs by " .. difference)
      end
    end
  end)

  it("reads what was assigned, and loads before it stores", function()
    local f = mb.fuse(function(p)
      p.a, p.b = p.b, p.a
      p.a = p.a + 1
      p.c = p.a
    end)
    local t = f { a = mb.tensor { 1 }, b = mb.tensor { 5 }, c = mb.tensor { 0 } }
    assert.are.same({ { 6 }, { 1 }, { 6 } }, { t.a:totable(), t.b:totable(), t.c:totable() })
  end)

  it("stores numbers, and formulas of numbers alone", function()
    local f = mb.fuse(function(p, h) p.a, p.b = 3, mb.sqrt(h.x) end)
    local t = f({ a = mb.zeros(2), b = mb.zeros(2) }, { x = 16 })
    assert.are.same({ { 3, 3 }, { 4, 4 } }, { t.a:totable(), t.b:totable() })
  end)

  it("shares common subexpressions and leaves out dead code", function()
    local f = mb.fuse(function(p, h)
      local unused = mb.exp(p.x)
      assert(unused)
      p.y = (p.x * p.x + h.a) * (p.x * p.x + h.a) + (1 - h.a) / mb.sqrt(h.a)
    end)
    says("has not been called", function() f:size() end)
    f({ x = mb.ones(3), y = mb.ones(3) }, { a = 1 })
    assert.are.equal(4, f:size()) -- x x, + a, product, + number
    assert.are.equal("fused function of x, y: 4 operations an element", tostring(f))
  end)

  it("traces again when it gets other fields", function()
    local calls = 0
    local f = mb.fuse(function(p)
      calls = calls + 1
      p.y = p.x
    end)
    for _ = 1, 3 do f { x = mb.ones(2), y = mb.zeros(2) } end
    assert.are.equal(1, calls)
    f { x = mb.ones(2), y = mb.zeros(2), z = mb.zeros(2) }
    assert.are.equal(2, calls)
  end)

  it("allocates nothing for other numbers", function()
    local f = mb.fuse(function(p, h) p.y = p.y - h.lr * p.x end)
    local arrays = { x = mb.ones(1000), y = mb.ones(1000) }
    f(arrays, { lr = 1 })
    local before = mb.memory().allocations
    for i = 1, 50 do f(arrays, { lr = 1 / i }) end
    assert.are.equal(before, mb.memory().allocations)
  end)

  it("points at the line of a mistake in the function", function()
    local t = { x = mb.ones(3), y = mb.ones(3) }
    says_here("mb.fuse: there is no field 'yy', did you mean 'y'?", mb.fuse(function(p)
      here()
      p.x = p.yy
    end), t)
    says_here("mb.fuse: there is no field 'result'; there are x, y", mb.fuse(function(p)
      here()
      p.result = p.x
    end), t)
    says_here("mb.fuse: there is no number 'beta', did you mean 'betas'?", mb.fuse(function(p, h)
      here()
      p.x = p.x * h.beta
    end), t, { betas = 1 })
    says_here("'<' of traced values has no answer when the function is traced; use mb.where(mb.less(a, b), x, y)",
      mb.fuse(function(p)
        here()
        if p.x < p.y then p.x = 1 end
      end), t)
    says_here("'<=' of traced values", mb.fuse(function(p)
      here()
      if p.x >= p.y then p.x = 1 end
    end), t)
    says_here("'==' of traced values", mb.fuse(function(p)
      here()
      if p.x + 1 == p.y then p.x = 1 end
    end), t)
    says_here("attempt to compare", mb.fuse(function(p)
      here()
      if p.x > 0 then p.x = 1 end
    end), t)
    says("; for traced values use mb.where(mb.less(a, b), x, y)", mb.fuse(function(p)
      if p.x > 0 then p.x = 1 end
    end), t)
    says_here("field 'x' must be set to a traced value or a number, not nil", mb.fuse(function(p)
      here()
      p.x = nil
    end), t)
    says_here("a tensor is used inside the function", mb.fuse(function(p)
      here()
      p.x = p.x + t.y
    end), t)
    says_here("mb.argmax: a must be a tensor", mb.fuse(function(p)
      here()
      p.x = mb.argmax(p.x)
    end), t)
    says_here("mb.maximum takes two values", mb.fuse(function(p)
      here()
      p.x = mb.max(p.x, p.y)
    end), t)
    says_here('mb.sum of a traced value takes { over = "rows" } and its like, not the number 1', mb.fuse(function(p)
      here()
      p.x = mb.sum(p.x, 1)
    end), t)
    says_here("option 'over' must be one of 'all', 'columns', 'group', 'parameter', 'rows' (did you mean 'rows'?)",
      mb.fuse(function(p)
        here()
        p.x = mb.norm(p.x, { over = "row" })
      end), t)
    says_here("mb.mean: there is nothing to reduce", mb.fuse(function(p, h)
      here()
      p.x = p.x * mb.mean(h.lr + 1)
    end), t, { lr = 1 })
    says_here("'lr' cannot be set", mb.fuse(function(_, h)
      here()
      h.lr = 1
    end), t, { lr = 1 })
    says_here("a traced value has no 'shape'", mb.fuse(function(p)
      here()
      p.x = p.x.shape
    end), t)
    says_here("a value of the trace or a number was expected, not nil", mb.fuse(function(p)
      here()
      p.x = p.x + nil
    end), t)
  end)

  it("refuses values of another trace, and use after the trace", function()
    local t, escaped, set_later = { x = mb.ones(3) }, nil, nil
    mb.fuse(function(p)
      escaped, set_later = p.x, function() p.x = 1 end
      p.x = p.x + 1
    end)(t)
    says("a value of another fused function", mb.fuse(function(p) p.x = p.x + escaped end), t)
    says("used after the function has returned", function() return escaped + 1 end)
    says("set after the function has returned", set_later)
  end)

  it("says what is wrong with its arguments", function()
    local f = mb.fuse(function(p, h) p.y = p.x * (h.a or 1) end)
    says("the argument must be a function, not nil", mb.fuse)
    says("the first argument must be a table", f, mb.ones(2))
    says("names no tensors", f, {})
    says("field 'x' must be a tensor, not the number 2", f, { x = 2, y = mb.ones(2) }, { a = 1 })
    says("number 'a' must be a number", f, { x = mb.ones(2), y = mb.ones(2) }, { a = "1" })
    says("array 0 has 2 elements, array 1 has 3", f, { x = mb.ones(2), y = mb.ones(3) }, { a = 1 })
    says("array 0 is f32, array 1 is f64", f, { x = mb.ones(2), y = mb.ones(2):to "f64" }, { a = 1 })
    says("stores nothing", mb.fuse(function() end), { x = mb.ones(2) })
  end)

  it("leaves no tensors behind", function()
    helper.no_leaks(function()
      local f = mb.fuse(function(p, h) p.y = h.a * p.x end)
      for _ = 1, 10 do f({ x = mb.ones(5), y = mb.ones(5) }, { a = 2 }) end
    end)
  end)
end)
