-- SPDX-License-Identifier: MIT
--
-- Reductions and random numbers in fused functions, and in optimizers that are made of them: against the same formulas
-- on tensors, one operation after another.
local helper = require "tests.helper"
local mb = require "moonbow"

local says = helper.says

local function difference(a, b) return mb.max(mb.abs(a - b)):item() end

local function near(want, got, tolerance, what)
  local scale = math.max(1, mb.max(mb.abs(want)):item())
  local d = difference(want, got)
  assert.is_true(d <= tolerance * scale, ("%s differs by %g, MB_SEED=%d"):format(what or "a result", d, helper.seed))
end

local tolerances = { f32 = 2e-6, f64 = 1e-13 }

describe("reductions in a fused function", function()
  it("go over tensors, rows and columns, and stretch", function()
    mb.seed(helper.seed)
    for dtype, tolerance in pairs(tolerances) do
      for _, shape in ipairs { { 1, 1 }, { 7, 5 }, { 1, 300 }, { 300, 1 }, { 65, 129 }, { 3, 9001 }, { 700, 130 } } do
        local x, y = mb.randn(shape):to(dtype), mb.zeros(shape, { dtype = dtype })
        local f = mb.fuse(function(p, h)
          p.y = p.x / mb.norm(p.x) + mb.mean(p.x * p.x) * mb.max(p.x) - mb.min(p.x, { over = "rows" }) * h.a
            + mb.sum(p.x + 1, { over = "columns" }) / p.x:rows()
            + mb.norm(p.x, { over = "columns" }) * mb.mean(p.x, { over = "rows" })
            + mb.max(p.x, { over = "columns" })
        end)
        f({ x = x, y = y }, { a = 0.5 })
        local want = x / mb.norm(x) + mb.mean(x * x) * mb.max(x) - mb.min(x, 2, true) * 0.5
          + mb.sum(x + 1, 1, true) / shape[1] + mb.norm(x, 1, true) * mb.mean(x, 2, true) + mb.max(x, 1, true)
        near(want, y, 4 * tolerance, ("(%d, %d) in %s"):format(shape[1], shape[2], dtype))
      end
    end
  end)

  it("go over what is reduced already", function()
    mb.seed(helper.seed)
    local x = mb.randn(37, 53, { dtype = "f64" })
    local t = { x = x, y = mb.zeros(37, 53, { dtype = "f64" }) }
    mb.fuse(function(p)
      local rows = mb.norm(p.x, { over = "rows" })
      p.y = mb.mean(rows) + mb.sum(rows, { over = "columns" }) + mb.max(mb.sqrt(rows) * 2)
        + mb.norm(mb.norm(p.x)) + mb.sum(mb.mean(p.x, { over = "columns" }) ^ 2, { over = "group" })
        + mb.mean(rows, { over = "all" }) + p.x:columns() + p.x:numel()
    end)(t)
    local rows = mb.norm(x, 2)
    local want = mb.mean(rows) + mb.sum(rows) + 2 * mb.max(mb.sqrt(rows)) + mb.norm(x)
      + mb.sum(mb.square(mb.mean(x, 1))) + mb.mean(rows) + 53 + 37 * 53
    near(want + mb.zeros(37, 53, { dtype = "f64" }), t.y, 1e-13)
  end)

  it("take vectors as one row, filters as (out, in k k)", function()
    local v = { x = mb.tensor { 1, 2, 3 }, y = mb.zeros(3) }
    mb.fuse(function(p)
      p.y = mb.sum(p.x, { over = "rows" }) + 100 * mb.sum(p.x, { over = "columns" }) + 10000 * p.x:rows()
    end)(v)
    assert.are.same({ 10106, 10206, 10306 }, v.y:totable())
    local w = { x = mb.ones(2, 3, 4), y = mb.zeros(2, 3, 4) }
    mb.fuse(function(p) p.y = mb.sum(p.x, { over = "rows" }) + 100 * mb.sum(p.x, { over = "columns" }) end)(w)
    assert.are.equal(212, mb.min(w.y):item())
    assert.are.equal(212, mb.max(w.y):item())
  end)

  it("keep NaN, and norms beyond the square root of the largest number", function()
    local t = { x = mb.tensor { 3e30, 0, -4e30 }, y = mb.zeros(3) }
    mb.fuse(function(p) p.y = mb.norm(p.x) end)(t)
    assert.is_true(math.abs(t.y:totable()[1] / 5e30 - 1) < 1e-6)
    t.x = mb.tensor { 1, 0 / 0, 3 }
    for _, name in ipairs { "max", "min", "sum", "norm", "mean" } do
      mb.fuse(function(p) p.y = mb[name](p.x) end)(t)
      local got = t.y:totable()[1]
      assert.is_true(got ~= got, name)
    end
  end)

  it("store one number a row, a column, a tensor", function()
    local t = { x = mb.tensor { { 1, 2, 3 }, { 4, 5, 6 } }, r = mb.ones(2), c = mb.ones(3), s = mb.ones(1), y = mb.zeros(2, 3) }
    local f = mb.fuse(function(p, h)
      p.r = h.b * p.r + mb.sum(p.x, { over = "rows" })
      p.c = p.c + mb.max(p.r)
      p.y = p.r * p.c
      p.s = mb.mean(p.r) - p.s
    end, { shapes = { r = "rows", c = "columns", s = "parameter" } })
    f(t, { b = 2 })
    assert.are.same({ { 8, 17 }, { 18, 18, 18 }, { 11.5 } }, { t.r:totable(), t.c:totable(), t.s:totable() })
    assert.are.same({ { 144, 144, 144 }, { 306, 306, 306 } }, t.y:totable())
    f(t, { b = 0 })
    assert.are.same({ { 6, 15 }, { 33, 33, 33 }, { -1 } }, { t.r:totable(), t.c:totable(), t.s:totable() })
  end)

  it("run before anything is stored", function()
    local t = { x = mb.tensor { 1, 2, 3 }, y = mb.zeros(3) }
    mb.fuse(function(p)
      p.y = mb.sum(p.x)
      p.x = p.x * 2
      p.y = p.y + mb.sum(p.x)
    end)(t)
    assert.are.same({ 18, 18, 18 }, t.y:totable())
  end)

  it("make few passes", function()
    local t = { x = mb.randn(20, 30), y = mb.zeros(20, 30) }
    local function passes(fn)
      local f = mb.fuse(fn)
      f(t)
      return f:passes()
    end
    assert.are.equal(1, passes(function(p) p.y = p.x * 2 end))
    assert.are.equal(2, passes(function(p) p.y = p.x / mb.norm(p.x) + mb.max(p.x * p.x, { over = "rows" }) end))
    assert.are.equal(3, passes(function(p) p.y = p.x / (mb.norm(p.x) + mb.sum(p.x)) end)) -- the sum, once a tensor
    assert.are.equal(4, passes(function(p) p.y = p.x / mb.sum(mb.square(p.x - mb.mean(p.x))) + 1 / mb.mean(p.x) end))
  end)

  it("give the same bits for any number of threads, and allocate nothing", function()
    local t = { x = mb.randn(300, 517), y = mb.zeros(300, 517) }
    local f = mb.fuse(function(p, h)
      p.y = p.x * (h.a / mb.norm(p.x)) + mb.sum(p.x, { over = "columns" }) - mb.mean(p.x, { over = "rows" })
    end)
    local before = mb.threads()
    mb.threads(1)
    f(t, { a = 2 })
    local one = t.y:clone()
    for threads = 2, 5 do
      mb.threads(threads)
      f(t, { a = 2 })
      assert.is_true(one:equal(t.y))
    end
    local count = mb.memory().allocations
    for i = 1, 20 do f(t, { a = i }) end
    assert.are.equal(count, mb.memory().allocations)
    mb.threads(before)
  end)

  it("say what is wrong", function()
    local t = { x = mb.ones(2, 3), r = mb.ones(2), y = mb.ones(2, 3) }
    local shapes = { shapes = { r = "rows" } }
    says("field 'r' has one number for each row, and is set to a value that differs from element to element",
      mb.fuse(function(p) p.r = p.x end, shapes), t)
    says("field 'r' has one number for each row, and is set to a value that differs from column to column",
      mb.fuse(function(p) p.r = mb.sum(p.x, { over = "columns" }) end, shapes), t)
    says("one for each of 3 columns was expected", mb.fuse(function(p) p.y = p.r end, { shapes = { r = "columns" } }), t)
    says("the shape of field 'r' must be one of 'rows', 'columns', 'parameter'", mb.fuse, function() end,
      { shapes = { r = "row" } })
    says("option 'shapes' names 'q'", mb.fuse(function(p) p.y = p.x end, { shapes = { q = "rows" } }), t)
  end)
end)

describe("random numbers in a fused function", function()
  it("are those of mb.randn and mb.rand, call by call", function()
    for dtype in pairs(tolerances) do
      local n = 4099
      local t = { x = mb.zeros(n, { dtype = dtype }), y = mb.zeros(n, { dtype = dtype }), z = mb.zeros(n, { dtype = dtype }) }
      local f = mb.fuse(function(p)
        p.x, p.y = mb.rand_like(p.x), mb.randn_like(p.x)
        p.z = mb.randn_like(p.x)
      end)
      mb.seed(5)
      f(t)
      mb.seed(5)
      assert.is_true(t.x:equal(mb.rand(n, { dtype = dtype })))
      mb.random_state(5, 0, 2 ^ 32)
      near(mb.randn(n, { dtype = dtype }), t.y, 1e-6)
      mb.random_state(5, 0, 2 ^ 33)
      near(mb.randn(n, { dtype = dtype }), t.z, 1e-6)
      f(t)
      mb.random_state(5, 0, 1)
    end
  end)
end)
