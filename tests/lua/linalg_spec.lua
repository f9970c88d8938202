-- SPDX-License-Identifier: MIT
--
-- linalg_spec.lua: mb.linalg on matrices whose factors are known, and its manners: shapes, views, options, errors,
-- memory. The numerical limits are those of tests/c/test_linalg.c.

local helper = require "tests.helper"
local mb = require "moonbow"

local la, f64 = mb.linalg, { dtype = "f64" }

local function says(text, fn, ...)
  local got = helper.error_of(fn, ...)
  assert(got:find("linalg_spec.lua", 1, true), "not at the user's line: " .. got)
  assert(got:find(text, 1, true), got)
end

local function near(a, b, distance, what)
  assert.are.same(b.shape, a.shape)
  local gap = (a:to "f64" - b:to "f64"):abs():max():item()
  assert(gap <= distance, ("%s: %g apart, %g allowed; MB_SEED=%d"):format(what or "tensors", gap, distance, helper.seed))
end

local function t_(x) return x:transpose(-1, -2) end

-- Orthonormal columns (m, k): reflections in random directions, one after the other.
local function orthonormal(m, k)
  local q = mb.eye(m, f64)
  for _ = 1, 3 do
    local v = mb.randn({ m, 1 }, f64)
    q = q - q:matmul(v):matmul(v:transpose()) * (2 / v:square():sum():item())
  end
  return q:slice(2, 1, k)
end

-- A matrix of known singular values, with its factors.
local function known(m, n, values)
  local u, v = orthonormal(m, #values), orthonormal(n, #values)
  return (u * mb.tensor(values, f64)):matmul(t_(v)), u, v
end

local function is_orthonormal(q, distance)
  near(t_(q):matmul(q), mb.eye(q.shape[#q.shape], { dtype = q.dtype }), distance, "q^T q")
end

before_each(function() mb.seed(helper.seed) end)

describe("mb.linalg", function()
  it("decomposes into singular values and vectors", function()
    local a = known(7, 5, { 9, 4, 2, 1, 0.5 })
    local u, s, v = la.svd(a)
    near(s, mb.tensor({ 9, 4, 2, 1, 0.5 }, f64), 1e-13)
    near(la.svdvals(a), s, 1e-13)
    is_orthonormal(u, 1e-13)
    is_orthonormal(v, 1e-13)
    near((u * s):matmul(t_(v)), a, 1e-12)
    near(la.svdvals(a:to "f32"), s, 1e-5)
    assert.are.equal("f32", la.svdvals(a:to "f32").dtype)
  end)

  it("finds the largest singular values of a large matrix", function()
    local values = {}
    for i = 1, 40 do values[i] = 0.4 ^ i end
    local a, u0, v0 = known(60, 40, values)
    local u, s, v = la.svd_lowrank(a, { rank = 3, oversample = 6, power_iters = 2 })
    assert.are.same({ { 60, 3 }, { 3 }, { 40, 3 } }, { u.shape, s.shape, v.shape })
    near(s, mb.tensor({ 0.4, 0.16, 0.064 }, f64), 1e-10)
    near((u * s):matmul(t_(v)), (u0 * mb.tensor(values, f64)):slice(2, 1, 3):matmul(t_(v0:slice(2, 1, 3))), 1e-6)
    local _, eight = la.svd_lowrank(a)
    assert.are.same({ 8 }, eight.shape)
    assert.are.same({ 2 }, select(2, la.svd_lowrank(mb.ones { 5, 2 })).shape) -- of rank 1, all there is
  end)

  it("orthonormalises", function()
    for _, shape in ipairs { { 9, 4 }, { 4, 9 }, { 5, 5 }, { 1, 1 }, { 6, 1 }, { 1, 6 } } do
      local a = mb.randn(shape, f64)
      local q, r = la.qr(a)
      is_orthonormal(q, 1e-14)
      near(q:matmul(r), a, 1e-13)
      for i, row in ipairs(r:totable()) do
        assert.is_true(row[i] >= 0)
        for j = 1, i - 1 do assert.are.equal(0, row[j]) end
      end
    end
  end)

  it("finds eigenvalues from the lower triangle", function()
    local v = orthonormal(6, 6)
    local values = mb.tensor({ -3, -1, 0, 0.5, 0.5, 8 }, f64)
    local a = (v * values):matmul(t_(v))
    local mask = mb.tensor({ { 1, 0, 0, 0, 0, 0 }, { 1, 1, 0, 0, 0, 0 }, { 1, 1, 1, 0, 0, 0 }, { 1, 1, 1, 1, 0, 0 },
                             { 1, 1, 1, 1, 1, 0 }, { 1, 1, 1, 1, 1, 1 } }, f64)
    local found, vectors = la.eigh(a * mask)
    near(found, values, 1e-13)
    near(la.eigvalsh(a * mask), values, 1e-13)
    is_orthonormal(vectors, 1e-13)
    near((vectors * found):matmul(t_(vectors)), a, 1e-13)
  end)

  it("factors what is positive definite", function()
    local l = mb.tensor({ { 2, 0, 0 }, { -1, 1, 0 }, { 0.5, 3, 0.25 } }, f64)
    near(la.cholesky(l:matmul(t_(l))), l, 1e-13)
    says("mb_cholesky: matrix 0 of 1, of shape (2, 2), is not positive definite: its leading minor of order 2 is not positive",
      function() la.cholesky(mb.tensor { { 1, 2 }, { 2, 1 } }) end)
  end)

  it("finds the polar factor", function()
    local a, u, v = known(8, 5, { 3, 1, 0.5, 0.2, 0.1 })
    local o = u:matmul(t_(v))
    near(la.msign(a, { method = "exact" }), o, 1e-12)
    near(la.msign(a, { method = "polar_express", steps = 10 }), o, 1e-6)
    local five = la.msign(a) -- Muon's iteration leaves singular values between 0.7 and 1.2
    near(five, la.msign(a, { method = "ns5", steps = 5 }), 0)
    local s = la.svdvals(five):totable()
    assert(s[1] < 1.25 and s[5] > 0.65, ("%g to %g"):format(s[1], s[5]))
  end)

  it("takes the inverse square root of what is positive definite", function()
    local v = orthonormal(7, 7)
    local values = mb.tensor({ 0.01, 0.1, 0.5, 1, 2, 2, 9 }, f64)
    local a, wanted = (v * values):matmul(t_(v)), (v / values:sqrt()):matmul(t_(v))
    near(la.inverse_sqrt(a), wanted, 1e-9)
    near(la.inverse_sqrt(a:to "f32"), wanted, 1e-3)
    near(la.inverse_sqrt(mb.stack { a, a * 4 }), mb.stack { wanted, wanted / 2 }, 1e-9)
    near(la.inverse_sqrt(a, { steps = 12 }), la.inverse_sqrt(a), 0)
    assert.is_true((la.inverse_sqrt(a, { steps = 2 }) - wanted):abs():max():item() > 0.1) -- too few
  end)

  it("finds the largest singular value alone", function()
    local values = {}
    for i = 1, 30 do values[i] = 5 / i end
    local a = known(50, 30, values)
    local state = { mb.random_state() }
    assert(math.abs(la.sigma_max(a) / 5 - 1) < 1e-6)
    assert(math.abs(la.sigma_max(t_(a):to "f32") / 5 - 1) < 1e-6)
    assert.are.same(state, { mb.random_state() })
    local both = la.sigma_max(mb.stack { a, a * -3 })
    near(both, mb.tensor({ 5, 15 }, f64), 1e-5)
    assert.are.equal(0, la.sigma_max(mb.zeros(3, 4)))
    assert.are.equal(2, la.sigma_max(mb.tensor { { -2 } }))
  end)

  it("measures", function()
    local a = known(6, 4, { 4, 2, 1, 0.5 })
    local function is(expected, got) assert(math.abs(got / expected - 1) < 1e-12, got) end
    is(4, la.norm(a))
    is(4, la.norm(a, "spectral"))
    is(7.5, la.norm(a, "nuclear"))
    is(8, la.cond(a))
    assert.are.equal(math.huge, la.cond(mb.zeros { 3, 2 }))
    local deficient = known(9, 6, { 2, 1, 1e-3 })
    for _, dtype in ipairs { "f32", "f64" } do
      assert.are.equal(3, la.matrix_rank(deficient:to(dtype)))
      assert.are.equal(0, la.matrix_rank(mb.zeros({ 3, 4 }, { dtype = dtype })))
    end
    local both = mb.stack { a, a * 3 }
    assert.are.same({ 2 }, la.norm(both).shape)
    is(12, la.norm(both):totable()[2])
    assert.are.same({ 4, 4 }, la.matrix_rank(both):totable())
    is(8, la.cond(both):totable()[2])
  end)

  it("treats each matrix of a batch by itself, whatever its strides", function()
    local a = mb.randn({ 3, 5, 8 }, f64)
    local square = a:matmul(t_(a))
    local calls = {
      function(x) return la.svdvals(x) end, function(x) return la.qr(x) end,
      function(x) return select(2, la.qr(x)) end, function(x) return la.msign(x, { method = "exact" }) end,
      function(x) return la.msign(x) end,
    }
    for i, call in ipairs(calls) do
      local whole, turned = call(a), call(t_(a))
      for b = 1, 3 do
        local one = a:slice(1, b, b):reshape(5, 8)
        near(whole:slice(1, b, b):reshape(call(one).shape), call(one), 1e-13, "call " .. i)
        near(turned:slice(1, b, b):reshape(call(t_(one)).shape), call(t_(one):contiguous()), 1e-13, "turned, call " .. i)
      end
    end
    local l = la.cholesky(square)
    near(l:matmul(t_(l)), square, 1e-12)
    local values, vectors = la.eigh(square)
    near((vectors * values:reshape(3, 1, 5)):matmul(t_(vectors)), square, 1e-12)
  end)

  it("has no history, and leaves its argument alone", function()
    local a = mb.randn { 4, 4 }
    local before = a:clone()
    a.requires_grad = true
    for _, fn in ipairs { la.svdvals, la.svd, la.qr, la.eigh, la.eigvalsh, la.msign, la.svd_lowrank } do
      assert.is_false(fn(a).requires_grad)
    end
    assert.is_true(a:detach():equal(before))
  end)

  it("complains at the user's line", function()
    for _, name in ipairs { "svdvals", "svd", "svd_lowrank", "qr", "eigh", "eigvalsh", "cholesky", "msign",
                            "inverse_sqrt", "sigma_max" } do
      says(("mb.linalg.%s: a tensor was expected, not a table"):format(name), function() la[name] {} end)
    end
    for _, name in ipairs { "norm", "matrix_rank", "cond" } do
      says(("mb.linalg.%s: its argument must be a tensor, not nil"):format(name), function() la[name]() end)
    end
    says("mb_qr: a (m, n) or (L, m, n) was expected, the tensor has shape (3)", function() la.qr(mb.ones(3)) end)
    says("mb_eigh: a square matrix (n, n) or (L, n, n) was expected, a has shape (2, 3)", function() la.eigh(mb.ones(2, 3)) end)
    says("mb_svd: a holds NaN or Inf, first at element 2 (they count from 0)",
      function() la.svd(mb.tensor { { 1, 2 }, { 0 / 0, 1 } }) end)
    says("option 'rank' must be at least 1, not the number 0", function() la.svd_lowrank(mb.ones(2, 2), { rank = 0 }) end)
    says("unknown option 'ranks', did you mean 'rank'?", function() la.svd_lowrank(mb.ones(2, 2), { ranks = 1 }) end)
    says("did you mean 'exact'?", function() la.msign(mb.ones(2, 2), { method = "exakt" }) end)
    says("option 'steps' must be an integer", function() la.msign(mb.ones(2, 2), { steps = 1.5 }) end)
    says("option 'steps' must be at least 1", function() la.inverse_sqrt(mb.eye(2), { steps = 0 }) end)
    says("mb_inverse_sqrt: ", function() la.inverse_sqrt(mb.ones(2, 3)) end)
    says("mb_sigma_max: a holds NaN or Inf", function() la.sigma_max(mb.tensor { { 0 / 0 } }) end)
    says("the kind of norm must be one of 'spectral', 'nuclear'", function() la.norm(mb.ones(2, 2), "fro") end)
    says("mb.linalg has no 'svdval', did you mean 'svdvals'?", function() return la.svdval end)
  end)

  it("leaves no tensors behind", function()
    helper.no_leaks(function()
      local a, square = mb.randn { 2, 30, 30 }, mb.eye(4) * 2
      la.svd(a) la.svdvals(a) la.svd_lowrank(a, { rank = 2 }) la.qr(a) la.eigh(square) la.eigvalsh(square)
      la.cholesky(square) la.msign(a) la.norm(square) la.cond(square) la.matrix_rank(square)
      la.inverse_sqrt(square) la.sigma_max(a)
      pcall(la.inverse_sqrt, square * -1)
      pcall(la.cholesky, square * -1)
      pcall(la.svd, mb.tensor { { 0 / 0 } })
    end)
  end)
end)
