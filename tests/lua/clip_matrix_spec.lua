-- SPDX-License-Identifier: MIT
--
-- clip_matrix_spec.lua: what a clipped matrix must satisfy whatever the matrix: known singular values in random
-- directions, shapes, scales, methods; symmetries; and mb.clip.matrix's own manners.

local helper = require "tests.helper"
local mb = require "moonbow"

local f64 = { dtype = "f64" }

local says = helper.says

-- Largest |a - b|.
local function gap(a, b)
  assert.are.same(b.shape, a.shape)
  return (a:to "f64" - b:to "f64"):abs():max():item()
end

local function near(a, b, distance, what)
  local got = gap(a, b)
  assert(got <= distance, ("%s: %g apart, %g allowed; MB_SEED=%d"):format(what or "tensors", got, distance, helper.seed))
end

-- An orthogonal (n, n): reflections in random directions, one after the other.
local function orthogonal(n)
  local q = mb.eye(n, f64)
  for _ = 1, 3 do
    local v = mb.randn({ n, 1 }, f64)
    q = q - mb.matmul(mb.matmul(q, v), v:transpose()) * (2 / v:square():sum():item())
  end
  return q
end

-- compose(values) -> the (m, n) matrix with these singular values, always in the same directions.
local function directions(m, n)
  local k = math.min(m, n)
  local u, v = orthogonal(m):slice(2, 1, k), orthogonal(n):slice(2, 1, k)
  return function(values)
    return mb.matmul(u * mb.tensor(values, f64):reshape(1, k), v:transpose())
  end
end

local function map(values, fn)
  local result = {}
  for i, value in ipairs(values) do result[i] = fn(value, i) end
  return result
end

local function spectrum(k, fn)
  local values = {}
  for i = 1, k do values[i] = fn(i) end
  return values
end

local spectra = {
  geometric = function(i) return 0.8 ^ i end,
  repeated = function(i) return i <= 5 and 2 or 0.5 end,
  equal = function() return 3 end,
  deficient = function(i) return i <= 4 and 5 - i or 0 end,
}

before_each(function() mb.seed(helper.seed) end)

describe("mb.clip.matrix", function()
  -- The exact method works with squares in float64: values are good to 1e-8 of the largest, or to float32's own
  -- rounding. A sketch of all directions is held to the same.
  local function check(values, m, n, dtype, method, scale)
    local tolerance = (dtype == "f32" and 4e-6 or 1e-7) * scale
    local compose, top = directions(m, n), math.max(unpack(values))
    local g = (compose(values) * scale):to(dtype)
    for _, where in ipairs { 0.1, 0.7 } do
      local tau = where * top * scale
      local rank = method == "randomized" and #values or nil
      local clipped, info = mb.clip.matrix(g, { threshold = tau, method = method, rank = rank })
      local want = compose(map(values, function(s) return math.min(s, where * top) end)) * scale
      local what = ("(%d, %d) %s %s, tau %g"):format(m, n, dtype, method, tau)
      near(clipped, want, tolerance * top, what)
      assert(math.abs(info.sigma - top * scale) <= tolerance * top, what)
      assert.is_true(info.clipped)
      assert.is_false(info.saturated)
      local again, second = mb.clip.matrix(clipped, { threshold = tau, method = method, rank = rank })
      assert(second.sigma <= tau + tolerance * top, what)
      near(again, clipped, tolerance * top, what .. " again")
    end
  end

  for name, value in pairs(spectra) do
    for _, method in ipairs { "exact", "randomized" } do
      it(("lowers what exceeds tau: %s, %s"):format(name, method), function()
        for _, shape in ipairs { { 20, 12 }, { 12, 20 }, { 17, 17 }, { 5, 70 } } do
          local values = spectrum(math.min(shape[1], shape[2]), value)
          check(values, shape[1], shape[2], "f64", method, 1)
          check(values, shape[1], shape[2], "f32", method, 1)
        end
      end)
    end
  end

  it("takes rows, columns and single numbers", function()
    for _, shape in ipairs { { 9, 1 }, { 1, 9 }, { 1, 1 } } do
      for _, method in ipairs { "exact", "randomized" } do check({ 2.5 }, shape[1], shape[2], "f32", method, 1) end
    end
  end)

  it("takes gradients of 1e30 and of 1e-30", function()
    for _, scale in ipairs { 1e30, 1e-30 } do
      for _, method in ipairs { "exact", "randomized" } do
        check(spectrum(8, spectra.geometric), 10, 8, "f32", method, scale)
        check({ 2.5 }, 10, 1, "f32", method, scale)
      end
    end
  end)

  it("leaves zero as it is", function()
    for _, method in ipairs { "exact", "randomized" } do
      for _, shape in ipairs { { 4, 3 }, { 7 }, { 1, 1 } } do
        local clipped, info = mb.clip.matrix(mb.zeros(shape), { threshold = 0.5, method = method })
        assert.is_true(clipped:equal(mb.zeros(shape)))
        assert.are.same({ sigma = 0, tau = 0.5, clipped = false, saturated = false }, info)
      end
    end
  end)

  it("returns the same bits when nothing exceeds tau", function()
    for _, method in ipairs { "exact", "randomized" } do
      local g = mb.randn { 13, 9 }
      local rank = method == "randomized" and 9 or nil
      local _, first = mb.clip.matrix(g, { threshold = 1, method = method, rank = rank })
      local clipped, info = mb.clip.matrix(g, { threshold = first.sigma * (1 + 1e-6), method = method, rank = rank })
      assert.is_true(clipped:equal(g))
      assert.is_false(info.clipped)
    end
  end)

  it("commutes with scaling, transposing and orthogonal matrices", function()
    local function clip(g, tau) return (mb.clip.matrix(g, { threshold = tau, method = "exact" })) end
    local g = mb.randn({ 14, 9 }, f64)
    local tau = 3
    local clipped = clip(g, tau)
    assert.is_true(gap(clipped, g) > 0.1)
    near(clip(g * 7.5, tau * 7.5), clipped * 7.5, 1e-6, "scaled")
    assert.is_true(clip(g * 8, tau * 8):equal(clipped * 8)) -- by a power of two, to the bit
    near(clip(g:transpose(), tau), clipped:transpose(), 1e-6, "transposed")
    local q, p = orthogonal(14), orthogonal(9)
    near(clip(mb.matmul(mb.matmul(q, g), p), tau), mb.matmul(mb.matmul(q, clipped), p), 1e-6, "rotated")
  end)

  it("sees a filter as a matrix of its outputs, and a vector as a column", function()
    local g = mb.randn({ 6, 3, 2, 2 }, f64)
    local clipped = mb.clip.matrix(g, { threshold = 2, method = "exact" })
    near(clipped, mb.clip.matrix(g:reshape(6, 12), { threshold = 2, method = "exact" }):reshape(6, 3, 2, 2), 0)
    local v = mb.randn({ 30 }, f64)
    local shorter, info = mb.clip.matrix(v, { threshold = 0.5 })
    local norm = math.sqrt(v:square():sum():item())
    near(shorter, v * (0.5 / norm), 1e-14)
    assert.is_true(math.abs(info.sigma - norm) < 1e-13)
  end)

  it("leaves its argument alone: views, leaves and all", function()
    local g = mb.randn { 8, 6 }
    local before, view = g:clone(), g:transpose():slice(1, 2, 5)
    local clipped = mb.clip.matrix(view, { threshold = 0.1, method = "exact" })
    assert.are.same({ 4, 8 }, clipped.shape)
    near(clipped, mb.clip.matrix(view:contiguous(), { threshold = 0.1, method = "exact" }), 0)
    g.requires_grad = true
    assert.is_false(mb.clip.matrix(g, { threshold = 0.1 }).requires_grad)
    assert.is_true(g:detach():equal(before))
  end)

  it("finds in a sketch what the whole decomposition finds, where values fall", function()
    local values = spectrum(40, function(i) return 0.5 ^ i end)
    local g = directions(60, 40)(values)
    local exact = mb.clip.matrix(g, { threshold = 0.1, method = "exact" })
    local sketched, info = mb.clip.matrix(g, { threshold = 0.1 }) -- three values exceed it, eight are found
    near(sketched, exact, 1e-5)
    assert.is_true(math.abs(info.sigma - 0.5) < 1e-6)
    assert.is_false(info.saturated)
  end)

  it("says when more values exceed tau than rank could find", function()
    local g = directions(30, 20)(spectrum(20, function(i) return i <= 6 and 2 - i / 10 or 0.01 end))
    for rank, saturated in pairs { [3] = true, [6] = true, [7] = false, [20] = false } do
      local clipped, info = mb.clip.matrix(g, { threshold = 0.5, rank = rank, power_iters = 3 })
      assert.are.equal(saturated, info.saturated)
      assert.is_true(info.clipped)
      local _, by_rule = mb.clip.matrix(g, { threshold = 0.5, rank = rank, power_iters = 3, rule = math.min })
      assert.are.equal(saturated, by_rule.saturated)
      local _, rest = mb.clip.matrix(clipped, { threshold = 0.5, method = "exact" })
      assert.are.equal(rank >= 6, rest.sigma < 0.5 + 1e-6)
    end
    assert.is_false(select(2, mb.clip.matrix(g, { threshold = 0.5, method = "exact" })).saturated)
    assert.is_false(select(2, mb.clip.matrix(mb.ones(3), { threshold = 0.5, rank = 1 })).saturated)
  end)

  it("takes a rule and a policy", function()
    local values = spectrum(7, spectra.geometric)
    local compose = directions(9, 7)
    local soft = function(sigma, tau)
      return sigma / math.sqrt(1 + (sigma / tau) ^ 2)
    end
    local clipped, info = mb.clip.matrix(compose(values), { threshold = 0.3, method = "exact", rule = soft })
    near(clipped, compose(map(values, function(s) return soft(s, 0.3) end)), 1e-7)
    assert.is_true(info.clipped)
    local half = mb.clip.matrix(compose(values), { threshold = function(p) return p.sigma / 2 end, method = "exact" })
    near(half, compose(map(values, function(s) return math.min(s, 0.4) end)), 1e-7)
    local same, nothing = mb.clip.matrix(compose(values), { threshold = mb.threshold.quantile() })
    near(same, compose(values), 0)
    assert.is_nil(nothing.tau)
    assert.is_false(nothing.clipped)
  end)

  it("refuses what is no matrix of finite numbers", function()
    says("mb.clip.matrix: a tensor was expected, not a table", mb.clip.matrix, { 1 }, { threshold = 1 })
    says("option 'threshold' is missing", mb.clip.matrix, mb.ones(2, 2), {})
    says("threshold is -1, a number above 0 was expected", mb.clip.matrix, mb.ones(2, 2), { threshold = -1 })
    says("threshold is the string 'ema'", mb.clip.matrix, mb.ones(2, 2), { threshold = "ema" })
    says("did you mean 'exact'?", mb.clip.matrix, mb.ones(2, 2), { threshold = 1, method = "exct" })
    assert.is_false(pcall(mb.clip.matrix, mb.tensor { { 1, 0 / 0 } }, { threshold = 1 }))
    assert.is_false(pcall(mb.clip.matrix, mb.tensor({ { 1, 2 } }, { dtype = "i32" }), { threshold = 1 }))
  end)
end)
