-- SPDX-License-Identifier: MIT
--
-- theory_spec.lua: what scripts/reproduce/theory.lua rests on, beside independent formulas: that the functions are as smooth as
-- is claimed, that the noise is stable, that the clipped step is the one written down.

local helper = require "tests.helper"
local mb = require "moonbow"
local cosh = require "scripts.reproduce.problems.cosh"
local noise = require "scripts.reproduce.problems.stable_noise"

local F64 = { dtype = "f64" }

local function norm_of(name, X)
  if name == "spectral" then return mb.linalg.svdvals(X):max():item() end
  return name == "sign" and mb.abs(X):max():item() or X:square():sum():item() ^ 0.5
end

local function dual_of(name, X)
  if name == "spectral" then return mb.linalg.svdvals(X):sum():item() end
  return name == "sign" and mb.abs(X):sum():item() or X:square():sum():item() ^ 0.5
end

describe("the functions of the descent", function()
  for name, f in pairs(cosh.functions) do
    it("have their gradients: " .. name, function()
      mb.seed(helper.seed)
      local X = mb.randn({ 3, 5 }, F64)
      local value, gradient, dual = f.look(X)
      local E = mb.randn({ 3, 5 }, F64)
      local h = 1e-5
      local slope = (f.look(X + E * h) - f.look(X - E * h)) / (2 * h)
      local expected = (gradient * E):sum():item()
      assert(math.abs(slope - expected) < 1e-7 * math.abs(value), ("%g, %g"):format(slope, expected))
      assert(math.abs(dual_of(name, gradient) / dual - 1) < 1e-12)
      assert(math.abs(norm_of(name, X) / f.size(X) - 1) < 1e-5)
    end)

    it("are as smooth as is claimed: " .. name, function()
      mb.seed(helper.seed)
      math.randomseed(helper.seed)
      for _ = 1, helper.draws(200) do
        local m, n = math.random(1, 5), math.random(1, 5)
        local X = mb.randn({ m, n }, F64) * (5 * math.random())
        local E = mb.randn({ m, n }, F64)
        local size = math.random() / cosh.L1
        E = E * (size / norm_of(name, E))
        local _, at_x, dual = f.look(X)
        local _, at_y = f.look(X + E)
        local most = (f.L0(m, n) + cosh.L1 * dual) * size
        local difference = dual_of(name, at_y - at_x)
        assert(difference <= most * (1 + 1e-9), ("%d x %d: %g > %g; MB_SEED=%d"):format(m, n, difference, most, helper.seed))
      end
    end)

    it("descend by what is promised, and rise without clipping: " .. name, function()
      local run = { name = name, seed = 2, n = 4, size = 8, steps = 60, clipped = true }
      local r = cosh.run(run)
      assert.equal(61, #r.values)
      for k, promised in ipairs(r.promised) do
        assert(promised >= 0)
        assert(r.values[k] - r.values[k + 1] >= promised - 1e-12 * r.values[k])
      end
      run.clipped = false
      local plain = cosh.run(run)
      assert(plain.values[2] > plain.values[1])
    end)
  end
end)

describe("stable noise", function()
  it("has the characteristic function exp(-|t|^alpha)", function()
    math.randomseed(helper.seed)
    for _, alpha in ipairs { 0.7, 1.2, 1.5, 2 } do
      local n, ts, sums, sines = 20000, { 0.2, 0.5, 1, 2 }, { 0, 0, 0, 0 }, 0
      for _ = 1, n do
        local s = noise.stable(alpha)
        for k, t in ipairs(ts) do sums[k] = sums[k] + math.cos(t * s) / n end
        sines = sines + math.sin(s) / n
      end
      for k, t in ipairs(ts) do
        local off = sums[k] - math.exp(-t ^ alpha)
        assert(math.abs(off) < 5 / math.sqrt(n), ("alpha %g, t %g: off by %g; MB_SEED=%d"):format(alpha, t, off, helper.seed))
      end
      assert(math.abs(sines) < 5 / math.sqrt(n)) -- symmetric
    end
  end)

  it("has the theorem's exponents", function()
    for alpha, rate in pairs { [1.2] = -0.25, [1.5] = -0.4, [1.8] = -8 / 17, [2] = -0.5 } do
      assert(math.abs(noise.rate(alpha) - rate) < 1e-12)
    end
  end)

  it("is clipped by the schedule of the theorem, the same again with the same seed", function()
    local function run(clipped)
      mb.seed(helper.seed)
      math.randomseed(helper.seed)
      return noise.run({ alpha = 1.2, index = 1.2, K = 50, repeats = 3, n = 4, clipped = clipped }, function() end)
    end
    local means, schedule = run(true)
    assert.equal(3, #means)
    assert.same(means, (run(true)))
    assert(math.abs(schedule.gamma - 0.5 * (50 / 30) ^ -0.75) < 1e-12)
    assert(schedule.tau > 0)
    assert.is_false(means[1] == run(false)[1])
  end)
end)
