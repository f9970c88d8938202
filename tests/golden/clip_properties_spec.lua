-- SPDX-License-Identifier: MIT
--
-- clip_properties_spec.lua: what clipping must satisfy for any matrix, over random shapes, spectra and scales, by every
-- method that clips hard; and a sketch beside the textbook's routine on the same random numbers. Answers are known
-- from the factors that the matrices are made of, in float64. A failure names its case, which MB_SEED replays.

local helper = require "tests.helper"
local mb = require "moonbow"
local spectra = require "tests.spectra"
local spectral = require "bindings.spectral"

local CASES = helper.draws(60)

-- Distances are in units of sigma_1: rounding of the largest value is an error of all that it is added to.
local TOLERANCE = { f32 = 1e-5, f64 = 1e-7 }

-- ----- random cases -------------------------------------------------------------------------------------

local function between(low, high) return math.random(low, high) end

local shapes = {
  function() return between(2, 40), between(2, 40) end,
  function() return 2 * between(10, 40) + 1, between(2, 19) end,
  function() return between(2, 19), 2 * between(10, 40) + 1 end,
  function() local n = between(2, 40) return n, n end,
  function() return between(1, 90), 1 end,
  function() return 1, between(1, 90) end,
  function() return 1, 1 end,
  function() return between(60, 90), between(60, 90) end,
}

-- Case number `index`: { what, seed, dtype, scale, factors, top, tau, g }. Scales are powers of two near 1e30 and
-- 1e-30, so that the factors' answer times the scale is exact.
local function draw(index)
  local seed = helper.seed + 7919 * index
  math.randomseed(seed)
  mb.seed(seed)
  local kind = spectra.names[index % #spectra.names + 1]
  local m, n = shapes[between(1, #shapes)]()
  local c = { seed = seed, dtype = math.random() < 0.7 and "f32" or "f64" }
  c.scale = 2 ^ ({ 0, 0, 100, -100 })[between(1, 4)]
  c.factors = spectra.factored(m, n, spectra.kinds[kind](math.min(m, n), math.random))
  c.top = spectra.top(c.factors)
  c.tau = (c.top == 0 and 1 or c.top) * (0.02 + 0.96 * math.random())
  c.g = (spectra.compose(c.factors) * c.scale):to(c.dtype)
  c.what = ("case %d: (%d, %d) %s %s * %g, tau %g; MB_SEED=%d"):format(index, m, n, c.dtype, kind, c.scale, c.tau * c.scale,
    helper.seed)
  return c
end

-- ----- methods ------------------------------------------------------------------------------------------

-- Options that clip all values above any tau. A sketch that takes all directions has nothing to leave out.
local hard = {
  exact = function() return { method = "exact" } end,
  ["randomized, all directions"] = function(k) return { method = "randomized", rank = k } end,
  polar = function() return { method = "polar" } end,
}

local function clip(options, g, tau, more)
  local o = { threshold = tau }
  for _, list in ipairs { options, more or {} } do
    for key, value in pairs(list) do o[key] = value end
  end
  return mb.clip.matrix(g, o)
end

-- Largest |a - b|, in float64.
local function gap(a, b)
  assert.are.same(b.shape, a.shape)
  return (a:to "f64" - b:to "f64"):abs():max():item()
end

local function near(a, b, allowed, what, case)
  local got = gap(a, b)
  assert(got <= allowed, ("%s: %g apart, %g allowed; %s"):format(what, got, allowed, case.what))
end

-- An `it` that runs check(case, function(g, tau) -> clipped, info; tolerance) over all cases for each method.
local function property(text, check)
  for name, options_of in pairs(hard) do
    it(("%s (%s)"):format(text, name), function()
      for index = 1, CASES do
        mb.scope(function()
          local case = draw(index)
          local options = options_of(#case.factors.values)
          local unit = (case.top == 0 and 1 or case.top) * case.scale
          check(case, function(g, tau) return clip(options, g, tau) end, TOLERANCE[case.dtype] * unit)
        end)
      end
    end)
  end
end

describe("hard clipping", function()
  property("gives U diag(min(sigma, tau)) V^T", function(case, run, allowed)
    local tau = case.tau * case.scale
    local out, info = run(case.g, tau)
    local want = spectra.compose(case.factors, function(s) return math.min(s, case.tau) end) * case.scale
    near(out, want, allowed, "the clipped matrix", case)
    near(mb.tensor(info.sigma, { dtype = "f64" }), mb.tensor(case.top * case.scale, { dtype = "f64" }), allowed, "sigma_1", case)
    assert(info.clipped == (case.top > case.tau) and not info.saturated, case.what)
    assert.are.equal(case.dtype, out.dtype)
  end)

  property("leaves no value above tau", function(case, run, allowed)
    local tau = case.tau * case.scale
    local top = spectra.norm2((run(case.g, tau)))
    assert(top <= tau + 0.2 * allowed, ("sigma_1 is %.9g after clipping; %s"):format(top, case.what))
  end)

  property("changes no bit when nothing exceeds tau", function(case, run)
    local largest = (case.top == 0 and 1 or case.top) * case.scale
    for _, tau in ipairs { largest * (1 + 1e-5), largest * 30, math.huge } do
      local out, info = run(case.g, tau)
      assert(out:equal(case.g), case.what)
      assert(not info.clipped and not info.saturated, case.what)
    end
    local _, first = run(case.g, math.huge)
    if first.sigma > 0 and case.g.shape[1] > 1 then
      mb.seed(case.seed) -- a sketch finds the same value again
      assert(run(case.g, first.sigma * (1 + 1e-12)):equal(case.g), case.what)
    end
  end)

  property("is done once", function(case, run, allowed)
    local tau = case.tau * case.scale
    local once = run(case.g, tau)
    near(run(once, tau), once, allowed, "the second clipping", case)
  end)

  property("commutes with scaling", function(case, run, allowed)
    local tau, c = case.tau * case.scale, 0.1 + 9 * math.random()
    local out = run(case.g, tau)
    near(run(case.g * c, tau * c) * (1 / c), out, 2 * allowed, "scaled", case)
    near(run(-case.g, tau), -out, 2 * allowed, "negated", case)
    local power = 2 ^ (between(1, 6) * (case.scale > 1 and -1 or 1)) -- away from where float32 ends
    mb.seed(case.seed)
    out = run(case.g, tau)
    mb.seed(case.seed)
    assert(run(case.g * power, tau * power):equal(out * power), ("times %g, to the bit; %s"):format(power, case.what))
  end)

  property("commutes with transposing", function(case, run, allowed)
    local tau = case.tau * case.scale
    near(run(case.g:transpose(), tau), run(case.g, tau):transpose(), 2 * allowed, "transposed", case)
  end)

  property("commutes with orthogonal matrices", function(case, run, allowed)
    local tau = case.tau * case.scale
    local q, p = spectra.orthogonal(case.factors.m), spectra.orthogonal(case.factors.n)
    local function rotated(t) return mb.matmul(mb.matmul(q, t:to "f64"), p) end
    near(run(rotated(case.g):to(case.dtype), tau), rotated(run(case.g, tau)), 2 * allowed, "rotated", case)
  end)
end)

describe("polar", function()
  -- Its polynomials depend on tau / sigma_1, and each has to be solved for.
  it("converges at every tau", function()
    local g = mb.tensor { { 1, 0, 0 }, { 0, 0.5, 0 }, { 0, 0, 0.25 } }
    local taus = { 0.087008, 0.587, 0.587072 } -- a step of theirs begins on an interval of relative length 1e-5
    local grid = helper.draws(3000)
    for i = 1, grid do taus[#taus + 1] = 0.98 * i / grid end
    for _, dtype in ipairs { "f32", "f64" } do
      local matrix = g:to(dtype)
      for _, tau in ipairs(taus) do
        mb.scope(function()
          local out = mb.clip.matrix(matrix, { threshold = tau, method = "polar" }):totable()
          for k, value in ipairs { 1, 0.5, 0.25 } do
            local off = math.abs(out[k][k] - math.min(value, tau))
            assert(off <= TOLERANCE[dtype], ("%s, tau %.7g: %g becomes %g"):format(dtype, tau, value, out[k][k]))
          end
        end)
      end
    end
  end)
end)

-- ----- rules of users -----------------------------------------------------------------------------------

describe("a rule", function()
  -- rules of sigma and tau, and whether 0 stays 0: a value of 0 has no direction to be raised in.
  local rules = {
    ["soft, sigma / sqrt(1 + (sigma / tau)^2)"] = function(sigma, tau) return sigma / math.sqrt(1 + (sigma / tau) ^ 2) end,
    ["half of what exceeds tau"] = function(sigma, tau) return sigma > tau and 0.5 * (sigma + tau) or sigma end,
    ["nothing above tau"] = function(sigma, tau) return sigma > tau and 0 or sigma end,
    ["nothing below tau"] = function(sigma, tau) return sigma < tau and 0 or sigma end,
    ["shrinkage, max(sigma - tau, 0)"] = function(sigma, tau) return math.max(sigma - tau, 0) end,
    ["a constant factor"] = function(sigma) return 0.3 * sigma end,
  }
  for name, rule in pairs(rules) do
    it("makes of every value what it says: " .. name, function()
      for index = 1, CASES do
        mb.scope(function()
          local case = draw(index)
          -- A rule that jumps at tau decides by the last digit about a value that is equal to tau.
          for _, value in ipairs(case.factors.values) do
            if math.abs(value - case.tau) < 1e-4 * case.top then case.tau = case.tau * 1.01 end
          end
          local out, info = clip({ method = "exact", rule = rule }, case.g, case.tau * case.scale)
          local want = spectra.compose(case.factors, function(s) return rule(s, case.tau) end) * case.scale
          near(out, want, TOLERANCE[case.dtype] * case.top * case.scale, "the result", case)
          assert.are.equal("boolean", type(info.clipped))
        end)
      end
    end)
  end

  it("that says min is clipping to the bit, and one that changes nothing changes no bit", function()
    for index = 1, CASES do
      mb.scope(function()
        local case = draw(index)
        for _, rank in ipairs { 3, #case.factors.values } do
          for _, method in ipairs { "exact", "randomized" } do
            local options, tau = { method = method, rank = method == "randomized" and rank or nil }, case.tau * case.scale
            mb.seed(case.seed)
            local clipped, info = clip(options, case.g, tau)
            mb.seed(case.seed)
            local ruled, by_rule = clip(options, case.g, tau, { rule = math.min })
            assert(ruled:equal(clipped), case.what)
            assert.are.same(info, by_rule)
            local same, nothing = clip(options, case.g, tau, { rule = function(sigma) return sigma end })
            assert(same:equal(case.g) and not nothing.clipped, case.what)
          end
        end
      end)
    end
  end)
end)

describe("the method soft", function()
  it("is the rule sigma / sqrt(1 + (sigma / tau)^2)", function()
    for index = 1, CASES do
      mb.scope(function()
        local case = draw(index)
        local tau, top = case.tau * case.scale, case.top * case.scale
        local out = clip({ method = "soft" }, case.g, tau)
        local function soft(sigma) return sigma / math.sqrt(1 + (sigma / case.tau) ^ 2) end
        near(out, spectra.compose(case.factors, soft) * case.scale, TOLERANCE[case.dtype] * top, "the result", case)
        local ruled = clip({ method = "exact", rule = function(s, t) return s / math.sqrt(1 + (s / t) ^ 2) end }, case.g, tau)
        near(out, ruled, TOLERANCE[case.dtype] * top, "rule and method", case)
      end)
    end
  end)
end)

-- ----- a sketch beside the textbook's -------------------------------------------------------------------

describe("a sketch", function()
  -- The textbook's routine runs in float64 and starts from the same random numbers, so single draws compare. What
  -- float32 adds is held to a fifth of the exact methods' allowance, in the mean over a spectrum's draws to a tenth.
  local SLACK, ROUNDING, DRAWS = 1.01, 2e-6, helper.draws(8)
  local what = { "the clipped matrix", "the values" }
  local settings = {
    { rank = 8, oversample = 5, power_iters = 1 }, { rank = 8, oversample = 5, power_iters = 0 },
    { rank = 3, oversample = 5, power_iters = 2 }, { rank = 20, oversample = 10, power_iters = 2 },
    { rank = 5, oversample = 0, power_iters = 3 },
  }
  local sizes = { { 97, 64 }, { 64, 97 }, { 71, 71 }, { 63, 301 } }
  local kinds = {
    cauchy = spectra.kinds.cauchy, deficient = spectra.kinds.deficient, repeated = spectra.kinds.repeated,
    flat = spectra.kinds.flat, power = spectra.kinds.power, geometric = spectra.kinds.geometric,
    ["one outlier"] = function(k)
      local values = {}
      for i = 1, k do values[i] = i == 1 and 1e5 or 2 - i / k end
      return values
    end,
    gaussian = function(k) -- what a matrix of independent normal numbers has, about
      local values = {}
      for i = 1, k do values[i] = 1 - 0.9 * ((i - 1) / k) ^ 0.8 end
      return values
    end,
  }

  -- Errors of the clipped matrix and of the values, in units of sigma_1, of our sketch and the textbook's.
  local function errors(g, o, tau, seed)
    local wide, q, n = g:to "f64", o.rank + o.oversample, g.shape[2]
    local u, s, v = mb.linalg.svd(wide)
    local all = s:totable()
    local exact = spectra.lowered(wide, u, s, v, #all, tau)
    mb.seed(seed)
    local omega = mb.randn({ q, n }):to "f64":transpose() -- what the sketch draws from this seed
    local tu, ts, tv = spectra.textbook(wide, omega, o.power_iters)
    mb.seed(seed)
    local plan = spectral.plan({ g:clone() }, { method = "randomized", rank = o.rank, oversample = o.oversample,
      power_iters = o.power_iters })
    local sigma, clipped = plan:probe(), plan:tensor(1)
    local values, their_values = 0, ts:totable()
    local mine = 0
    for i = 1, o.rank do
      mine = math.max(mine, math.abs(sigma[i - 1] - all[i]))
      values = math.max(values, math.abs(their_values[i] - all[i]))
    end
    plan:clamp { tau }
    plan:release()
    local ours = spectra.norm2(clipped:to "f64" - exact)
    local theirs = spectra.norm2(spectra.lowered(wide, tu, ts, tv, o.rank, tau) - exact)
    return { ours / all[1], mine / all[1] }, { theirs / all[1], values / all[1] }
  end

  for name, kind in pairs(kinds) do
    it("is as close as the textbook's: " .. name, function()
      for _, o in ipairs(settings) do
        for number, size in ipairs(sizes) do
          local mean, their_mean = { 0, 0 }, { 0, 0 }
          local function compare(ours, theirs, i, allowed, where)
            assert(ours[i] <= SLACK * theirs[i] + allowed, ("%s: off by %g, the textbook by %g; %s (%d, %d) r=%d p=%d it=%d, %s; "
              .. "MB_SEED=%d"):format(what[i], ours[i], theirs[i], name, size[1], size[2], o.rank, o.oversample, o.power_iters,
              where, helper.seed))
          end
          for index = 1, DRAWS do
            mb.scope(function()
              local seed = helper.seed + 104729 * index + number
              math.randomseed(seed)
              mb.seed(seed)
              local f = spectra.factored(size[1], size[2], kind(math.min(size[1], size[2]), math.random))
              local tau = spectra.top(f) * (0.05 + 0.9 * math.random())
              local ours, theirs = errors(spectra.compose(f):to "f32", o, tau, seed)
              for i = 1, 2 do
                compare(ours, theirs, i, ROUNDING, ("draw %d, tau %g"):format(index, tau))
                mean[i], their_mean[i] = mean[i] + ours[i] / DRAWS, their_mean[i] + theirs[i] / DRAWS
              end
            end)
          end
          for i = 1, 2 do compare(mean, their_mean, i, ROUNDING / 2, "in the mean") end
        end
      end
    end)
  end
end)
