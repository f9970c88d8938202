-- SPDX-License-Identifier: MIT
--
-- cuda_spectral_spec.lua: spectra on cuda beside the CPU's: plans of many matrices, sides below and above what one
-- block takes, and decompositions held to what they must satisfy. Left out where there is no such device.

local helper = require "tests.helper"
local mb = require "moonbow"
local spectra = require "tests.spectra"
local spectral = require "bindings.spectral"

local function gap(a, b)
  assert.are.same(b.shape, a.shape)
  return (a:to("cpu"):to "f64" - b:to("cpu"):to "f64"):abs():max():item()
end

local present = pcall(mb.zeros, { 1 }, { device = "cuda" })
local function it(name, fn)
  require("busted").it(name, function()
    if not present then pending "there is no device cuda" end
    local before = mb.device()
    mb.device "cpu"
    mb.seed(helper.seed)
    math.randomseed(helper.seed)
    local ok, problem = pcall(mb.scope, fn)
    mb.device(before)
    if not ok then error(problem, 0) end
  end)
end

-- (m, n) with singular values fn(1), fn(2), ..., times scale.
local function matrix(m, n, fn, dtype, scale)
  local values = {}
  for i = 1, math.min(m, n) do values[i] = fn(i) end
  return (spectra.compose(spectra.factored(m, n, values)) * (scale or 1)):to(dtype)
end

local function geometric(i) return 0.8 ^ i end
local kinds = {
  geometric = geometric,
  deficient = function(i) return i <= 3 and 4 - i or 0 end,
  repeated = function(i) return i <= 2 and 2 or 0.5 end, -- a sketch of three finds both of the large ones
  zero = function() return 0 end,
}

-- Probes and clamps the matrices on both devices; singular values and results agree to `tolerance` of the largest value.
local function compare(list, options, tolerance, what)
  local sigma, clamped = {}, {}
  for at, device in ipairs { "cpu", "cuda" } do
    local copies, tau = {}, {}
    for i, g in ipairs(list) do copies[i] = g:clone():to(device) end
    mb.seed(helper.seed)
    local plan = spectral.plan(copies, options)
    local found, width = plan:probe(), plan:width()
    sigma[at] = {}
    for i = 1, #list * width do sigma[at][i] = found[i - 1] end
    for i = 1, #list do tau[i] = i % 3 ~= 2 and 0.3 * sigma[1][(i - 1) * width + 1] or nil end -- others are left alone
    plan:clamp(tau)
    for i, t in ipairs(copies) do copies[i] = t:to "cpu" end
    clamped[at] = copies
    plan:release()
  end
  local width = #sigma[1] / #list
  for i, g in ipairs(list) do
    local top = sigma[1][(i - 1) * width + 1]
    for j = (i - 1) * width + 1, i * width do
      local a, b = sigma[1][j], sigma[2][j]
      assert((a ~= a and b ~= b) or math.abs(a - b) <= tolerance * top, ("%s, matrix %d: value %d is %.9g, on the CPU %.9g; "
        .. "MB_SEED=%d"):format(what, i, j - (i - 1) * width, b, a, helper.seed))
    end
    local distance = gap(clamped[1][i], clamped[2][i])
    assert(distance <= tolerance * top, ("%s, matrix %d: %g of %g apart; MB_SEED=%d"):format(what, i, distance, top, helper.seed))
    if i % 3 == 2 then assert(clamped[2][i]:equal(g), what) end
  end
end

-- Of exact values, which come from squares, of sketches, whose random numbers agree to float32's rounding, and of the rest.
local exact, sketched, rounding = { f32 = 2e-6, f64 = 1e-7 }, { f32 = 1e-5, f64 = 1e-6 }, { f32 = 2e-6, f64 = 1e-13 }

describe("spectra on cuda", function()
  for name, kind in pairs(kinds) do
    it("are the CPU's, exactly: " .. name, function()
      for dtype, tolerance in pairs(exact) do
        for _, size in ipairs { { 1, 7 }, { 9, 1 }, { 2, 3 }, { 17, 17 }, { 33, 40 }, { 70, 65 }, { 97, 101 } } do
          local list = {}
          for i = 1, 4 do list[i] = matrix(size[1], size[2], kind, dtype) end
          compare(list, { method = "exact" }, tolerance, ("%s %s (%d, %d)"):format(name, dtype, size[1], size[2]))
        end
      end
    end)

    it("are the CPU's, by a sketch: " .. name, function()
      local settings = { -- rank, oversample, power_iters, m, n
        { 3, 2, 2, 40, 25 }, { 3, 2, 1, 25, 40 }, { 4, 3, 0, 30, 30 }, { 14, 6, 2, 300, 50 }, { 30, 9, 2, 90, 150 },
      }
      for dtype, tolerance in pairs(sketched) do
        for _, o in ipairs(settings) do
          local list = {}
          for i = 1, 4 do list[i] = matrix(o[4], o[5], kind, dtype) end
          compare(list, { method = "randomized", rank = o[1], oversample = o[2], power_iters = o[3] }, tolerance,
            ("%s %s (%d, %d) r=%d"):format(name, dtype, o[4], o[5], o[1]))
        end
      end
    end)
  end

  it("come from the solver where a block cannot hold them", function()
    local list = {}
    for i, kind in ipairs { geometric, kinds.repeated, kinds.deficient } do list[i] = matrix(220, 240, kind, "f32") end
    compare(list, { method = "randomized", rank = 100, oversample = 8, power_iters = 2 }, 1e-5, "108 vectors")
    compare(list, { method = "exact" }, 2e-6, "220 values")
  end)

  it("are the CPU's of more shapes than a launch has room for", function()
    for _, o in ipairs { { 3, 2, 40 }, { 26, 9, 90 } } do -- rank, oversample, sides from
      local list = {}
      for i = 1, 37 do list[i] = matrix(o[3] + i, o[3] + 1 + 3 * i % 29, geometric, "f32") end
      compare(list, { method = "randomized", rank = o[1], oversample = o[2], power_iters = 1 }, 1e-5, "37 shapes")
    end
  end)

  it("reach to the ends of both dtypes", function()
    for _, case in ipairs { { "f32", 1e30 }, { "f32", 1e-30 }, { "f64", 1e200 }, { "f64", 1e-200 } } do
      local list = { matrix(30, 20, geometric, case[1], case[2]), matrix(30, 20, geometric, case[1]) }
      for _, method in ipairs { "exact", "randomized" } do
        compare(list, { method = method, rank = 4, oversample = 3, power_iters = 2 }, sketched[case[1]], method .. case[2])
      end
    end
  end)

  it("name the matrix that is not finite", function()
    for _, o in ipairs { { 30, 20, 4 }, { 230, 225, 100 } } do
      for _, method in ipairs { "exact", "randomized" } do
        for _, bad in ipairs { 0 / 0, 1 / 0 } do
          local list = {}
          for i = 1, 3 do list[i] = mb.randn({ o[1], o[2] }):to "cuda" end
          list[2]:slice(1, 3, 3):slice(2, 5, 5):copy_(mb.full({ 1, 1 }, bad))
          local plan = spectral.plan(list, { method = method, rank = o[3], oversample = 8, power_iters = 1 })
          local text = helper.error_of(plan.probe, plan)
          local wanted = "matrix 1 of shape (%d, %d) holds NaN or Inf, first at element %d"
          assert.is_truthy(text:find(wanted:format(o[1], o[2], 2 * o[2] + 4), 1, true), text)
          plan:release()
        end
      end
    end
  end)
end)

describe("decompositions on cuda", function()
  local la = mb.linalg

  it("put matrices together again", function()
    for dtype, tolerance in pairs(rounding) do
      for _, size in ipairs { { 1, 1 }, { 1, 6 }, { 6, 1 }, { 5, 9 }, { 40, 33 }, { 101, 120 } } do
        local m, n = size[1], size[2]
        local a = mb.randn({ 3, m, n }, { dtype = dtype }):to "cuda"
        local u, s, v = la.svd(a)
        local q, r = la.qr(a)
        local square = mb.matmul(a, a:transpose()) + mb.eye(m, { dtype = dtype }):to "cuda"
        local l = la.cholesky(square)
        local values, vectors = la.eigh(square)
        local top = square:abs():max():item()
        local k = math.min(m, n)
        assert(gap(mb.matmul(u * s:reshape(3, 1, k), v:transpose()), a) <= 100 * tolerance)
        assert(gap(mb.matmul(q, r), a) <= 100 * tolerance)
        assert(gap(mb.matmul(l, l:transpose()), square) <= 20 * tolerance * top)
        assert(gap(mb.matmul(vectors * values:reshape(3, 1, m), vectors:transpose()), square) <= 20 * tolerance * top)
        assert(gap(la.eigvalsh(square), values) <= 20 * tolerance * top)
        assert(gap(la.svdvals(a), s) <= 20 * tolerance * s:max():item())
      end
    end
  end)

  it("say which matrix of a batch has no Cholesky factor", function()
    local a = mb.stack { mb.eye(4), mb.eye(4), mb.eye(4) }
    a:slice(1, 2, 2):slice(2, 3, 3):slice(3, 3, 3):copy_(mb.full({ 1, 1, 1 }, -1))
    local wanted = helper.error_of(la.cholesky, a)
    assert.are.equal(wanted, helper.error_of(la.cholesky, a:to "cuda"))
  end)
end)
