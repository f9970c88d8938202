-- SPDX-License-Identifier: MIT
--
-- spectrum_spec.lua: mb.spectrum against matrices of known singular values and against the formulas written out:
-- exact rows are right, rows from a sketch bound what is right, and looking changes nothing.

local helper = require "tests.helper"
local mb = require "moonbow"

local f64 = { dtype = "f64" }

local function says(text, fn, ...)
  local got = helper.error_of(fn, ...)
  assert(got:find("spectrum_spec.lua", 1, true), "not at the user's line: " .. got)
  assert(got:find(text, 1, true), got)
end

local function is(expected, got, tolerance, what)
  local gap = math.abs(got - expected)
  assert(gap <= (tolerance or 1e-7) * math.abs(expected), ("%s is %.10g, not %.10g"):format(what or "it", got, expected))
end

-- The (m, n) matrix with singular values `values` and random directions.
local function with_values(m, n, values)
  local u, v = mb.linalg.qr(mb.randn({ m, #values }, f64)), mb.linalg.qr(mb.randn({ n, #values }, f64))
  return (u * mb.tensor(values, f64)):matmul(v:transpose())
end

local function falling(count, fn)
  local values = {}
  for i = 1, count do values[i] = fn(i) end
  return values
end

-- norm, sum, exp of the entropy of all values.
local function measures(values)
  local squares, sum, entropy = 0, 0, 0
  for _, s in ipairs(values) do squares, sum = squares + s * s, sum + s end
  for _, s in ipairs(values) do
    if s > 0 then entropy = entropy - s / sum * math.log(s / sum) end
  end
  return math.sqrt(squares), sum, math.exp(entropy)
end

local function new_model()
  return mb.models.gpt2 { vocab_size = 11, block_size = 6, n_layer = 2, n_head = 2, n_embd = 8, dropout = 0 }
end

local function backward(model)
  model:loss({ inputs = { { 1, 2, 3, 4, 5, 6 } }, targets = { { 2, 3, 4, 5, 6, 7 } } }):backward()
  return model
end

before_each(function() mb.seed(helper.seed) end)

describe("mb.spectrum", function()
  it("tells the exact values of small matrices", function()
    local values = falling(12, function(i) return 3 * 0.7 ^ i end)
    for _, scale in ipairs { 1, 1e30, 1e-30 } do
      for _, dtype in ipairs { "f32", "f64" } do
        local rows = mb.spectrum((with_values(20, 12, values) * scale):to(dtype))
        local row, norm, sum, rank = rows[1], measures(values)
        assert.are.equal(1, #rows)
        assert.are.same({ 20, 12 }, row.shape)
        assert.are.same({ 20, 12 }, { row.rows, row.columns })
        assert.is_true(row.exact)
        assert.are.equal(8, #row.sigma)
        for i = 1, 8 do is(values[i] * scale, row.sigma[i], 1e-5, "sigma " .. i) end
        is(norm * scale, row.norm, 1e-6, "norm")
        is((norm / values[1]) ^ 2, row.stable_rank, 1e-5, "stable rank")
        is(rank, row.effective_rank, 1e-5, "effective rank")
        is(sum * scale, row.nuclear, 1e-5, "nuclear")
        assert.are.equal(row.nuclear, row.nuclear_most)
      end
    end
  end)

  it("bounds what a sketch does not see", function()
    local spectra = {
      geometric = function(i) return 0.8 ^ i end, slow = function(i) return 1 / i end,
      equal = function() return 2 end, deficient = function(i) return i <= 5 and 6 - i or 0 end,
      cliff = function(i) return i <= 8 and 1 or 0.01 end,
    }
    for name, fn in pairs(spectra) do
      for _, shape in ipairs { { 90, 60 }, { 60, 90 } } do
        local values = falling(60, fn)
        local a, norm, sum, rank = with_values(shape[1], shape[2], values), measures(values)
        for _, dtype in ipairs { "f32", "f64" } do
          local row = mb.spectrum(a:to(dtype), { method = "randomized", power_iters = 4 })[1]
          assert.is_false(row.exact)
          is(norm, row.norm, 1e-6, name .. " norm")
          for i = 1, 8 do
            local gap = math.abs(row.sigma[i] - values[i])
            assert(gap <= 0.03 * values[i] + 1e-4, ("%s sigma %d: %g"):format(name, i, row.sigma[i]))
          end
          is((norm / values[1]) ^ 2, row.stable_rank, 1e-3, name .. " stable rank")
          local slack = 1 + 0.03
          local text = ("%s %s: %g to %g around %g, rank %g of %g"):format(name, dtype, row.nuclear, row.nuclear_most, sum,
            row.effective_rank, rank)
          assert(row.nuclear <= slack * sum and row.nuclear_most >= sum / slack, text)
          assert(row.effective_rank <= slack ^ 2 * rank and row.effective_rank >= 1, text)
        end
      end
    end
  end)

  it("is tight where the values found are all there are", function()
    local values = { 5, 3, 1 }
    local norm, sum, rank = measures(values)
    local row = mb.spectrum(with_values(80, 70, values), { method = "randomized" })[1]
    is(sum, row.nuclear, 1e-3)
    is(sum, row.nuclear_most, 1e-3)
    is((sum / norm) ^ 2, row.effective_rank, 1e-3)
    assert(row.effective_rank <= rank)
  end)

  it("takes everything small whole, and asks for a sketch otherwise", function()
    local a = with_values(300, 280, { 4, 2, 1 })
    assert.is_false(mb.spectrum(a)[1].exact)
    assert.is_true(mb.spectrum(a, { method = "exact" })[1].exact)
    assert.is_true(mb.spectrum(a, { k = 200 })[1].exact) -- a sketch of that many would cost more
    assert.are.equal(200, #mb.spectrum(a, { k = 200 })[1].sigma)
    assert.is_true(mb.spectrum(a:slice(2, 1, 256))[1].exact)
    is(4, mb.spectrum(a)[1].sigma[1], 1e-6)
    is(1, mb.spectrum(a)[1].sigma[3], 1e-6)
  end)

  it("says zero of zeros", function()
    for _, shape in ipairs { { 5, 4 }, { 3 }, { 1, 1 }, { 300, 270 } } do
      local row = mb.spectrum(mb.zeros(shape))[1]
      for _, field in ipairs { "norm", "stable_rank", "effective_rank", "nuclear", "nuclear_most" } do
        assert.are.equal(0, row[field], field)
      end
      for _, s in ipairs(row.sigma) do assert.are.equal(0, s) end
      assert.is_truthy(tostring(mb.spectrum(mb.zeros(shape))):find("tensor", 1, true))
    end
  end)

  it("sees vectors, numbers, filters and views as matrices", function()
    local row = mb.spectrum(mb.tensor { 3, 4 })[1]
    assert.are.same({ 2, 1, { 5 } }, { row.rows, row.columns, row.sigma })
    assert.are.same({ 1, 1, 5 }, { row.stable_rank, row.effective_rank, row.nuclear })
    row = mb.spectrum(mb.tensor { { -2 } })[1]
    assert.are.same({ 2 }, row.sigma)
    row = mb.spectrum(mb.tensor { { 3, 4 } })[1]
    assert.are.same({ 1, 2, { 5 } }, { row.rows, row.columns, row.sigma })
    local filter = mb.randn({ 6, 3, 2, 2 }, f64)
    row = mb.spectrum(filter)[1]
    assert.are.same({ { 6, 3, 2, 2 }, 6, 12 }, { row.shape, row.rows, row.columns })
    local wanted = mb.linalg.svdvals(filter:reshape(6, 12)):totable()
    for i = 1, 6 do is(wanted[i], row.sigma[i]) end
    local turned = mb.randn({ 9, 7 }, f64)
    for i, s in ipairs(mb.spectrum(turned)[1].sigma) do is(s, mb.spectrum(turned:transpose())[1].sigma[i]) end
    assert.are.same({ 2 }, mb.spectrum(mb.tensor(2))[1].sigma) -- no dimensions at all
  end)

  it("reaches to the ends of float64", function()
    for _, scale in ipairs { 1e200, 1e-200 } do
      local row = mb.spectrum(with_values(6, 5, { 3, 2, 1 }) * scale)[1]
      is(math.sqrt(14) * scale, row.norm)
      is(14 / 9, row.stable_rank)
      is(6 * scale, row.nuclear)
    end
  end)

  it("shows the gradients of a model, or its values, in its order", function()
    local model = backward(new_model())
    local rows = mb.spectrum(model)
    local names = {}
    for _, p in ipairs(model:parameters()) do
      if #p.shape > 1 then names[#names + 1] = p.name end
    end
    assert.are.equal(#names, #rows)
    for i, row in ipairs(rows) do
      local p = model:parameter(row.name)
      assert.are.equal(names[i], row.name)
      is(p.grad:square():sum():sqrt():item(), row.norm, 1e-5)
      is(mb.linalg.norm(p.grad), row.sigma[1], 1e-4)
    end
    local some = mb.spectrum(model, { of = "value", where = function(p) return p.name:find("ln_1", 1, true) end })
    assert.are.equal(4, #some)
    is(math.sqrt(8), some[1].sigma[1]) -- a layernorm's weight of eight ones
    model:zero_grad()
    assert.are.equal(0, mb.spectrum(model)[1].norm)
  end)

  it("shows tensors by name", function()
    local rows = mb.spectrum { b = mb.eye(3), a = mb.eye(2) * 2, bias = mb.ones(4) }
    assert.are.same({ "a", "b" }, { rows[1].name, rows[2].name })
    assert.are.same({ 2, 2 }, rows[1].sigma)
    rows = mb.spectrum({ b = mb.eye(3), bias = mb.ones(4) }, { where = function(p) return p.name == "bias" end })
    assert.are.same({ 2 }, rows[1].sigma)
  end)

  it("prints a table whose columns line up", function()
    local text = tostring(mb.spectrum({ short = mb.eye(3), ["a.longer.name"] = mb.randn(300, 400) }))
    local lines = {}
    for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
    assert.are.equal(5, #lines)
    assert.are.equal("spectra of tensors", lines[1])
    local column = lines[2]:find("shape", 1, true)
    assert.are.equal(column, lines[3]:find("(300, 400)", 1, true))
    assert.are.equal(column, lines[4]:find("(3, 3)", 1, true))
    assert.is_truthy(lines[3]:find("  ≥ [%d.]+  ≥ [%d.]+ +≤ [%d.]+ +≥ [%d.]+ +≥ [%d.]+  "), lines[3])
    assert.is_falsy(lines[4]:find("≥ ", 1, true))
    assert.is_truthy(lines[4]:find("███$"))
    assert.is_truthy(lines[5]:find("judging by the 8 values", 1, true))
    local falls = mb.spectrum(with_values(5, 4, { 1, 0.3, 0.1, 1e-5 }))[1]
    assert.are.equal("█▇▅▁", falls.sparkline)
    assert.are.equal("█ ", mb.spectrum(mb.tensor { { 1, 0 }, { 0, 0 } })[1].sparkline)
  end)

  it("leaves the random numbers and the tensors as they were", function()
    local a = mb.randn(300, 290)
    local before, state = a:clone(), { mb.random_state() }
    local first = mb.spectrum(a)[1].sigma
    assert.are.same(state, { mb.random_state() })
    assert.are.same(first, mb.spectrum(a)[1].sigma)
    assert.is_true(a:equal(before))
    local leaf = mb.ones(3, 3)
    leaf.requires_grad = true
    is(3, mb.spectrum(leaf)[1].sigma[1])
  end)

  it("names what is not finite", function()
    local model = backward(new_model())
    model:parameter("h.1.mlp.c_fc.weight").grad:fill_(0 / 0)
    says("mb.spectrum: the gradient of h.1.mlp.c_fc.weight holds NaN or Inf", function() mb.spectrum(model) end)
    assert.are.equal(10, #mb.spectrum(model, { of = "value" }))
    model:parameter("h.0.mlp.c_fc.weight").grad:fill_(math.huge)
    says("the gradient of h.0.mlp.c_fc.weight holds NaN or Inf, and 1 more does", function() mb.spectrum(model) end)
    says("mb.spectrum: the tensor is i32; singular values are of", function() mb.spectrum(mb.arange(4):to "i32") end)
    assert.are.equal(5, mb.spectrum(mb.tensor({ 3, 4 }):to "bf16")[1].sigma[1])
    says("mb.spectrum: the tensor holds NaN or Inf", function() mb.spectrum(mb.tensor { { 1, -math.huge } }) end)
    says("mb.spectrum: w holds NaN or Inf", function() mb.spectrum { w = mb.full({ 2, 2 }, 0 / 0) } end)
  end)

  it("refuses what it cannot look at", function()
    local expected = "mb.spectrum: a model, a tensor or a table of tensors by name was expected"
    says(expected .. ", not nil", function() mb.spectrum() end)
    says(expected .. "; 'x' is the number 1", function() mb.spectrum { x = 1 } end)
    says("the table holds no tensor that `where` takes", function() mb.spectrum {} end)
    says("`where` takes no parameter", function() mb.spectrum(new_model(), { where = function() return false end }) end)
    says("unknown option 'rank'", function() mb.spectrum(mb.ones(2, 2), { rank = 3 }) end)
    says("did you mean 'value'?", function() mb.spectrum(new_model(), { of = "values" }) end)
    says("option 'of' is for a model", function() mb.spectrum(mb.ones(2, 2), { of = "grad" }) end)
    says("option 'k' must be at least 1", function() mb.spectrum(mb.ones(2, 2), { k = 0 }) end)
    says("i32", function() mb.spectrum(mb.tensor({ { 1, 2 } }, { dtype = "i32" })) end)
  end)

  it("leaves no tensors behind", function()
    helper.no_leaks(function()
      local model = backward(new_model())
      tostring(mb.spectrum(model))
      mb.spectrum(mb.randn(300, 270))
      pcall(mb.spectrum, mb.full({ 2, 2 }, 0 / 0))
    end)
  end)
end)
