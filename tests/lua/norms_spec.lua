-- SPDX-License-Identifier: MIT
--
-- Norms and their oracles (optim/norms.lua), and what optimizers of norms promise: descent, and staying in the ball.
local helper = require "tests.helper"
local mb = require "moonbow"
local norms = require "moonbow.optim.norms"

mb.seed(helper.seed)

local function context(norm, shape, kernel)
  return { norm = norm, shape = shape, kernel = kernel or 1, msign = "exact", steps = 5, role = "matrix" }
end

local function inner(a, b) return mb.sum(a * b, { 2, 3 }):totable() end

local f64 = { dtype = "f64" }

describe("every norm", function()
  for name, row in pairs(norms.rows) do
    it(name .. " has an oracle of norm 1 that no point of the ball beats", function()
      for _, shape in ipairs { { 3, 7, 4 }, { 2, 4, 12 }, { 1, 1, 1 }, { 2, 5, 1 } } do
        local c = context(name, shape, name == "spectral_conv" and shape[3] % 4 == 0 and 4 or 1)
        local d = mb.randn(shape, f64)
        local v = row.lmo(d, c)
        local dual = inner(d, v)
        for _, size in ipairs(row.norm(v, c):totable()) do assert(math.abs(size - 1) < 1e-6, ("norm %g"):format(size)) end
        for _ = 1, 20 do
          local y = mb.randn(shape, f64)
          local reached = inner(d, y / row.norm(y, c):reshape { shape[1], 1, 1 })
          for i, x in ipairs(reached) do assert(x <= dual[i] * (1 + 1e-6), ("%g > %g"):format(x, dual[i])) end
        end
      end
    end)

    it(name .. " begins with weights of norm 1, or zeros", function()
      local c, w = context(name, { 3, 7, 4 }), mb.zeros(3, 7, 4, f64)
      row.init(w, c)
      for _, size in ipairs(row.norm(w, c):totable()) do
        assert.is_true(math.abs(size - (name == "bias_rms" and 0 or 1)) < 1e-9)
      end
    end)
  end

  it("can be one of one's own: a row of the table", function()
    norms.rows.entry = {
      lmo = function(d) return mb.sign(d) * 2 end, norm = function(x) return mb.max(mb.abs(x), { 2, 3 }) / 2 end,
      init = function(w) w:fill_(2) end,
    }
    local Model = mb.models.define {
      name = "one", parameters = function(add) add("w", { 2, 3 }, { role = "matrix" }) end, forward = function(p) return p.w end,
    }
    local model = Model {}
    local opt = mb.optim.scion(model, { lr = 0.5, norms = { matrix = "entry" }, radius = 3 })
    opt:initialize()
    assert.are.same({ { 6, 6, 6 }, { 6, 6, 6 } }, model:parameter "w".value:totable())
    model:parameter "w".grad:fill_(-0.1)
    opt:step()
    assert.are.same({ { 9, 9, 9 }, { 9, 9, 9 } }, model:parameter "w".value:totable())
    norms.rows.entry = nil
  end)
end)

-- ----- descent --------------------------------------------------------------------------------------------------

local Two = mb.models.define {
  name = "two",
  parameters = function(add)
    add("a", { 5, 4 }, { role = "matrix", init = "normal", std = 1 })
    add("b", { 3, 6 }, { role = "matrix", init = "normal", std = 1 })
  end,
  forward = function(p) return mb.sum(p.a) end,
}

local L0, L1 = 0.7, 1.3

local function cosh(t) return (mb.exp(t) + mb.exp(-t)) / 2 end
local function sinh(t) return (mb.exp(t) - mb.exp(-t)) / 2 end

-- f(x) = sum L0 / L1^2 cosh(L1 t_i) of some coordinates t of x, n in all. Where the dual norm of the gradient is the sum of
-- |df / dt_i|, its second derivative along a unit step is at most n L0 + L1 |df|_*: it is (n L0, L1)-smooth.
--   coordinates(p) -> t, back    t a tensor, back(dt) the gradient of p
local function value_and_gradients(model, coordinates)
  local f = 0
  for _, p in ipairs(model:parameters()) do
    local t, back = coordinates(p)
    f = f + mb.sum(cosh(t * L1)):item() * L0 / L1 ^ 2
    p.grad:copy_(back(sinh(t * L1) * (L0 / L1)))
  end
  return f
end

-- The entries themselves: dual norm of max |x|; with the largest second derivative alone, of the Euclidean norm.
local function entries(p) return p.value:detach(), function(dt) return dt end end

-- u_i^T x v_i for orthonormal u and v: dual norm of the largest singular value.
local bases = {}
local function singular(p)
  if not bases[p.name] then
    local m, n = p.shape[1], p.shape[2]
    local k = math.min(m, n)
    bases[p.name] = { (mb.linalg.qr(mb.randn(m, k, f64))), (mb.linalg.qr(mb.randn(n, k, f64))) }
  end
  local u, v = bases[p.name][1], bases[p.name][2]
  return mb.sum(u * mb.matmul(p.value:detach(), v), 1), function(dt) return mb.matmul(u * dt, v, { transpose_b = true }) end
end

-- Does f fall, or stay, with every step? And its first and last values, if so.
local function descends(make, coordinates, scale)
  local model = Two { seed = 4, dtype = "f64" }
  for _, p in ipairs(model:parameters()) do p.value:mul_(3) end
  local opt = make(model, scale)
  local first = value_and_gradients(model, coordinates)
  local f = first
  for _ = 1, 120 do
    opt:step()
    local next_f = value_and_gradients(model, coordinates)
    if next_f > f * (1 + 1e-14) then return false end
    f = next_f
  end
  return true, first, f
end

describe("with gamma = 1 / L0 and rho = L0 / L1 no step goes up:", function()
  -- n: how many times the L0 of one coordinate counts, and how many coordinates there are in the minimum.
  local cases = {
    spectral = { norm = "spectral_plain", coordinates = singular, n = 4 + 3, count = 4 + 3 },
    sign = { norm = "sign_plain", coordinates = entries, n = 38, count = 38 },
    euclidean = { norm = "euclidean", coordinates = entries, n = 1, count = 38 },
  }
  local function check(case, make)
    local falls, first, last = descends(make, case.coordinates, 1)
    local least = case.count * L0 / L1 ^ 2
    assert.is_true(falls)
    assert.is_true(last < least + 0.05 * (first - least), ("from %g to %g, the minimum is %g"):format(first, last, least))
    assert.is_false((descends(make, case.coordinates, 8)), "steps eight times as long")
  end

  for name, case in pairs(cases) do
    local smooth = case.n * L0
    it("ggnc, " .. name, function()
      check(case, function(model, scale)
        return mb.optim.ggnc(model, { lr = scale / smooth, rho = smooth / L1, momentum = 1, msign = "exact",
          norms = name == "euclidean" and case.norm or { matrix = case.norm } })
      end)
    end)
  end

  it("clipped_scion, whose lr is gamma rho", function()
    local case = cases.spectral
    check(case, function(model, scale)
      return mb.optim.clipped_scion(model, { lr = scale / L1, rho = case.n * L0 / L1, momentum = 1, msign = "exact",
        norms = { matrix = case.norm } })
    end)
  end)

  it("clipped_spectral and clipped_sign", function()
    check(cases.spectral, function(model, scale)
      local smooth = cases.spectral.n * L0
      return mb.optim.clipped_spectral(model, { lr = scale / smooth, rho = smooth / L1, momentum = 1, msign = "exact" })
    end)
    check(cases.sign, function(model, scale)
      local smooth = cases.sign.n * L0
      return mb.optim.clipped_sign(model, { lr = scale / smooth, rho = smooth / L1, momentum = 1 })
    end)
  end)
end)

-- ----- the ball -------------------------------------------------------------------------------------------------

describe("constrained steps stay in the ball:", function()
  local function stays(make, radius)
    for name, row in pairs(norms.rows) do
      local model = Two { seed = 4, dtype = "f64" }
      local opt = make(model, { matrix = name })
      opt:initialize()
      for _ = 1, 12 do
        for _, p in ipairs(model:parameters()) do p.grad:randn_(0.3, 30) end
        opt:step()
        for _, p in ipairs(model:parameters()) do
          local c = context(name, { 1, p.shape[1], p.shape[2] })
          local size = row.norm(p.value:detach():reshape(c.shape), c):item()
          assert(size <= radius * (1 + 1e-9), ("%s: |%s| is %.12g"):format(name, p.name, size))
        end
      end
    end
  end

  it("scion", function()
    stays(function(model, by_role)
      return mb.optim.scion(model, { lr = function(step) return step % 3 == 0 and 1 or 0.3 end, momentum = 0.5, radius = 2.5,
        constrained = true, norms = by_role, msign = "exact" })
    end, 2.5)
  end)

  it("clipped_scion", function()
    stays(function(model, by_role)
      return mb.optim.clipped_scion(model, { lr = 1, momentum = 0.5, radius = 2.5, rho = 100, constrained = true, norms = by_role,
        msign = "exact" })
    end, 2.5)
  end)

  it("short_step, both variants", function()
    for variant = 1, 2 do
      stays(function(model, by_role)
        return mb.optim.short_step(model, { lr = 2, rho = 0.5, momentum = 0.5, beta = 2.5, variant = variant, norms = by_role,
          msign = "exact" })
      end, 1 + 1.5) -- begins with norm 1
    end
  end)
end)
