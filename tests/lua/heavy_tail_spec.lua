-- SPDX-License-Identifier: MIT
--
-- heavy_tail_spec.lua: the problems of scripts/reproduce beside independent formulas: the noise's distribution and rank, the
-- network's batches, and the bias of trace regression in plain Lua.

local helper = require "tests.helper"
local mb = require "moonbow"
local heavy_tail = require "scripts.reproduce.problems.heavy_tail"
local trace = require "scripts.reproduce.problems.trace"

local function near(expected, got, tolerance, what)
  local off = math.abs(expected - got)
  if off > tolerance or off ~= off then
    error(("%s: %.9g was expected, not %.9g; MB_SEED=%d"):format(what or "value", expected, got, helper.seed), 2)
  end
end

describe("the heavy-tailed noise", function()
  it("is two-sided Pareto: P(|s| > t) = (5 / t)^1.1 for t >= 5, either sign as often", function()
    math.randomseed(helper.seed)
    local n, above, negative = 40000, { [7] = 0, [20] = 0, [100] = 0, [1000] = 0 }, 0
    for _ = 1, n do
      local s = heavy_tail.pareto()
      assert(math.abs(s) >= 5 and math.abs(s) < math.huge)
      if s < 0 then negative = negative + 1 end
      for t in pairs(above) do above[t] = above[t] + (math.abs(s) > t and 1 or 0) end
    end
    for t, count in pairs(above) do
      local p = (5 / t) ^ 1.1
      near(p, count / n, 5 * math.sqrt(p * (1 - p) / n), ("P(|s| > %d)"):format(t))
    end
    near(0.5, negative / n, 5 * math.sqrt(0.25 / n), "P(s < 0)")
  end)

  it("adds a matrix of rank one and that size to every gradient", function()
    mb.seed(helper.seed)
    math.randomseed(helper.seed)
    local model = heavy_tail.model(1)
    model:zero_grad()
    heavy_tail.add_noise(model)
    math.randomseed(helper.seed) -- the same sizes again
    for _, p in ipairs(model:parameters()) do
      local sigma = mb.linalg.svdvals(p.grad):totable()
      near(1, sigma[1] / math.abs(heavy_tail.pareto()), 1e-4, p.name)
      if sigma[2] then assert(sigma[2] < 1e-4 * sigma[1], p.name .. " has a rank above one") end
    end
  end)
end)

describe("the network under noise", function()
  it("has the paper's shape, and targets that are products", function()
    mb.seed(helper.seed)
    local shapes = {}
    for i, p in ipairs(heavy_tail.model(1):parameters()) do shapes[i] = p.shape end
    assert.same({ { 100, 100 }, { 100, 100 }, { 100, 100 }, { 1, 100 } }, shapes)
    local x, y = heavy_tail.samples(5)
    local inputs, targets = x:totable(), y:totable()
    for i = 1, 5 do near(inputs[i][1] * inputs[i][2] * inputs[i][3], targets[i][1], 1e-6) end
  end)

  it("sees each sample once a pass in fixed order, and any of them at random", function()
    mb.seed(helper.seed)
    math.randomseed(helper.seed)
    local count = 3 * heavy_tail.BATCH
    local x = mb.arange(0, count):reshape(count, 1)
    local batch = heavy_tail.batches(x, x * 2, "fixed")
    for step = 1, 7 do
      local a, b = batch(step)
      near((step - 1) % 3 * heavy_tail.BATCH, a:totable()[1][1], 0)
      near(2 * ((step - 1) % 3 * heavy_tail.BATCH) + 62, b:totable()[32][1], 0)
    end
    batch = heavy_tail.batches(x, x * 2, "random")
    local seen, different = {}, 0
    for _ = 1, 60 do
      local a, b = batch()
      local ids, doubles = a:totable(), b:totable()
      for i = 1, heavy_tail.BATCH do
        near(2 * ids[i][1], doubles[i][1], 0)
        if not seen[ids[i][1]] then seen[ids[i][1]], different = true, different + 1 end
      end
    end
    assert.equal(count, different) -- 1920 draws of 96: all but surely
  end)

  it("learns the same numbers again with the same seed, and ends where it diverges", function()
    local function run(rule, lr)
      return heavy_tail.run({ seed = 3, steps = 40, optimizer = "sgd", rule = rule, lr = lr, threshold = 1, order = "random",
        window = 10, last = 20 }, function() end)
    end
    local a, b = run("ema", 0.01), run("ema", 0.01)
    assert.same(a.curve, b.curve)
    assert.equal(4, #a.curve)
    near((a.curve[3] + a.curve[4]) / 2, a.final, 1e-9)
    assert.is_nil(a.diverged_at)
    local lost = run("none", 100)
    assert(lost.diverged_at and lost.diverged_at <= 40 and lost.final ~= lost.final)
  end)
end)

-- ----- trace regression in plain Lua ------------------------------------------------------------------------

-- min(|r| lambda, tau) along the eigenvectors: what clipping r A is, for A = Q diag(lambda) Q^T with lambda > 0. By Jacobi's
-- rotations, so that nothing of the engine is used.
local function eigen(A, n)
  local a, q = {}, {}
  for i = 1, n do
    a[i], q[i] = {}, {}
    for j = 1, n do a[i][j], q[i][j] = A[(i - 1) * n + j], i == j and 1 or 0 end
  end
  for _ = 1, 50 do
    for p = 1, n - 1 do
      for r = p + 1, n do
        local angle = 0.5 * math.atan2(2 * a[p][r], a[p][p] - a[r][r])
        local c, s = math.cos(angle), math.sin(angle)
        for k = 1, n do a[k][p], a[k][r] = c * a[k][p] + s * a[k][r], c * a[k][r] - s * a[k][p] end
        for k = 1, n do a[p][k], a[r][k] = c * a[p][k] + s * a[r][k], c * a[r][k] - s * a[p][k] end
        for k = 1, n do q[k][p], q[k][r] = c * q[k][p] + s * q[k][r], c * q[k][r] - s * q[k][p] end
      end
    end
  end
  local lambda = {}
  for i = 1, n do lambda[i] = a[i][i] end
  return lambda, q
end

local function clipped(lambda, q, scale, tau, n)
  local out = {}
  for i = 1, n do
    for j = 1, n do
      local sum = 0
      for k = 1, n do sum = sum + q[i][k] * q[j][k] * math.min(math.abs(scale) * lambda[k], tau) end
      out[(i - 1) * n + j] = scale < 0 and -sum or sum
    end
  end
  return out
end

-- The run of one constant threshold; `draws` are the terms that each step takes, the last one for the step itself.
local function plain_run(A, b, tau, draws, n)
  local N, size, L = #b, n * n, 0
  local lambda, q, X = {}, {}, {}
  for i = 1, N do
    lambda[i], q[i] = eigen(A[i], n)
    for k = 1, size do L = L + 2 / N * A[i][k] ^ 2 end
  end
  for k = 1, size do X[k] = 0 end
  local function residual(i)
    local sum = -b[i]
    for k = 1, size do sum = sum + A[i][k] * X[k] end
    return sum
  end
  local bias = 0
  for _, ids in ipairs(draws) do
    local difference = {}
    for k = 1, size do difference[k] = 0 end
    for i = 1, N do
      local r = residual(i)
      for k = 1, size do difference[k] = difference[k] + 2 / N * r * A[i][k] end
    end
    local step
    for s, id in ipairs(ids) do
      local i = id + 1
      step = clipped(lambda[i], q[i], 2 * residual(i), tau, n)
      if s < #ids then
        for k = 1, size do difference[k] = difference[k] - step[k] / (#ids - 1) end
      end
    end
    for k = 1, size do
      bias = bias + difference[k] ^ 2
      X[k] = X[k] - 0.5 / L * step[k]
    end
  end
  return bias / #draws, L
end

describe("trace regression", function()
  it("has the bias that plain Lua finds, on the paper's problem", function()
    local seed, steps, samples, taus = helper.seed, 30, 4, { 0.05, 1, 5 }
    local problem = trace.paper_problem(11)
    mb.seed(seed)
    local policies = {}
    for p, tau in ipairs(taus) do policies[p] = mb.threshold.const { tau = tau } end
    local curves, losses = trace.run(problem, policies, { steps = steps, samples = samples, at = { 10, steps } }, function() end)

    mb.seed(seed) -- the same draws; they are taken from the end
    local width = samples + 1
    local drawn = mb.uniform({ steps, #taus * width }, 0, 10, { dtype = "f64" }):to("i32"):totable()
    local A, b = problem.A:totable(), problem.b:totable()
    for p, tau in ipairs(taus) do
      local draws = {}
      for step = 1, steps do
        draws[step] = {}
        for s = 1, width do draws[step][s] = drawn[steps - step + 1][(p - 1) * width + s] end
      end
      local bias, L = plain_run(A, b, tau, draws, 3)
      near(1, curves[p][2] / bias, 1e-9, "bias with tau = " .. tau)
      near(1, problem.L / L, 1e-12, "L")
    end
    assert.equal(#taus, #losses)
  end)

  it("draws positive matrices with eigenvalues in [.5, 1.5], and knows the paper's three problems", function()
    mb.seed(helper.seed)
    local own = trace.problem { n = 3, N = 10, noise = 0.01 }
    for _, problem in ipairs { own, trace.paper_problem(11), trace.paper_problem(12), trace.paper_problem(13) } do
      for _, row in ipairs(mb.linalg.eigvalsh(problem.A:reshape(10, 3, 3)):totable()) do
        assert(row[1] >= 0.5 - 1e-9 and row[3] <= 1.5 + 1e-9)
      end
      assert.same({ 10 }, problem.b.shape)
    end
    assert.is_nil(trace.paper_problem(14))
  end)
end)
