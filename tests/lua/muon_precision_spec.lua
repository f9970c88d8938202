-- SPDX-License-Identifier: MIT
--
-- muon_precision_spec.lua: msign with products of less than the matrices' dtype, and Muon with it. What bf16 and f16 leave is
-- held against the same polynomials of the singular values in float64.

local helper = require "tests.helper"
local binding = require "bindings.linalg"
local mb = require "moonbow"
local runtime = require "bindings.runtime"

local device, it, says = helper.device, helper.it_on_device, helper.says
local on_gpu = device == "cuda"
local it_on_gpu = on_gpu and it or function(name)
  require("busted").pending(name .. ": MB_TEST_DEVICE is " .. device .. ", which computes in no bf16")
end

-- Singular values of U diag(values) V^T, from large to small, that are hard for an iteration.
local spectra = {
  flat = function() return 1 end,
  steep = function(i, k) return 1e-6 ^ ((i - 1) / math.max(1, k - 1)) end,
  deficient = function(i, k) return i <= (k + 1) / 2 and 1 / i or 0 end,
  spike = function(i) return i == 1 and 1 or 0.01 end,
  harmonic = function(i) return 1 / i end,
  squares = function(i) return 1 / i ^ 2 end,
  rank_one = function(i) return i == 1 and 1 or 0 end,
}
local hard = { "flat", "steep", "deficient", "spike", "harmonic", "squares", "rank_one" }

local function orthonormal(rows, columns) return (mb.linalg.qr(mb.randn({ rows, columns }, { dtype = "f64" }))) end

-- A matrix (m, n) with the values of a spectrum, and its vectors.
local function matrix_of(spectrum, m, n, scale)
  local k, values = math.min(m, n), {}
  for i = 1, k do values[i] = spectra[spectrum](i, k) end
  local u, v = orthonormal(m, k), orthonormal(n, k)
  return mb.matmul(u * mb.tensor(values, { dtype = "f64" }), v:transpose(1, 2)) * scale, values, u, v
end

-- What five steps of Muon's polynomial make of a value of a matrix of unit length.
local function polynomial(x)
  for _ = 1, 5 do x = x * (3.4445 + x * x * (-4.7750 + x * x * 2.0315)) end
  return x
end

describe("msign in bf16", function()
  it_on_gpu("is the polynomial to its rounding, on hard spectra and at any scale", function()
    for _, name in ipairs { "flat", "steep", "deficient", "spike" } do
      for _, shape in ipairs { { 24, 40 }, { 40, 24 }, { 32, 32 }, { 1, 9 }, { 16, 80 } } do
        for _, scale in ipairs { 1, 1e-2, 1e30 } do -- below, 1e-7 is added to the norm
          local a, values, u, v = matrix_of(name, shape[1], shape[2], scale)
          local square, k, wanted = 0, #values, {}
          for i = 1, k do square = square + values[i] ^ 2 end
          for i = 1, k do wanted[i] = polynomial(values[i] / math.sqrt(square)) end
          local rounded = mb.linalg.msign(a:to "f32", { precision = "bf16" })
          assert.are.equal("f32", rounded.dtype)
          local found = mb.linalg.svdvals(rounded:to "f64"):totable()
          local what = ("%s, %d x %d, scale %g"):format(name, shape[1], shape[2], scale)
          assert(found[1] < 1.3, what .. ": the largest value is " .. found[1])
          -- Along the matrix's own directions: none falls out of Muon's band that is not lost in rounding beside the largest.
          local along = mb.matmul(mb.matmul(u:transpose(1, 2), rounded:to "f64"), v):totable()
          for i = 1, k do
            local relative = values[i] / math.sqrt(square)
            if relative > 0.05 then
              local got = along[i][i]
              assert(math.abs(got - wanted[i]) < 0.12 and got > 0.55,
                ("%s: value %d is %.4f, %.4f was expected"):format(what, i, got, wanted[i]))
            end
          end
        end
      end
    end
  end)

  it_on_gpu("is scaled in its last product, has the same bits for a batch, and waits for nothing if it need not check", function()
    local a = mb.randn { 3, 20, 12 }
    local plain = mb.linalg.msign(a, { precision = "bf16" })
    local before = runtime.waits(device)
    local scaled = binding.msign(a, { method = "ns5", precision = "bf16", scale = 0.5, unchecked = true })
    assert.are.equal(before, runtime.waits(device))
    assert(scaled:equal(plain * 0.5))
    for i = 1, 3 do
      local alone = mb.linalg.msign(a:slice(1, i, i):reshape(20, 12), { precision = "bf16" })
      assert(alone:equal(plain:slice(1, i, i):reshape(20, 12)), "matrix " .. i)
    end
    says("holds NaN or Inf", mb.linalg.msign, a * math.huge, { precision = "bf16" })
  end)

  it_on_gpu("takes Polar Express, which ends nearer to 1", function()
    local a = mb.randn { 24, 60 }
    local rounded = mb.linalg.msign(a, { method = "polar_express", steps = 8, precision = "bf16" })
    local found = mb.linalg.svdvals(rounded:to "f64"):totable()
    for i, x in ipairs(found) do assert(math.abs(x - 1) < 0.03, ("value %d is %g"):format(i, x)) end
  end)

  it("is refused where there is none, and by name", function()
    local a = mb.randn { 4, 3 }
    if not on_gpu then
      says("mb_msign: cpu has no products of bf16, a is f32", mb.linalg.msign, a, { precision = "bf16" })
      says("cpu has no products of f16, a is f32", mb.linalg.msign, a, { precision = "f16" })
      local model = mb.models.mlp { n_input = 3, n_hidden = 4, n_output = 2 }
      says("optimizer 'muon': precision = \"f16\" is for a GPU; the model is on the cpu, for which there are \"f32\"",
        mb.optim.muon, model, { precision = "f16", rest = { name = "sgd" } })
      says("optimizer 'muon': precision = \"bf16\" is for a GPU", mb.optim.groups, model,
        { { where = "matrix", name = "muon", precision = "bf16" }, { where = "rest", name = "sgd" } })
      mb.optim.muon(model, { precision = "f16", msign = "exact", rest = { name = "sgd" } })
    end
    says("option 'precision' must be one of", mb.linalg.msign, a, { precision = "fp8" })
    assert(mb.linalg.msign(a, { method = "exact", precision = "bf16" }):equal(mb.linalg.msign(a, { method = "exact" })))
  end)
end)

-- The polynomial of the values, of a matrix of length 1, in float64.
local function composed(values, u, v)
  local square, made = 0, {}
  for i = 1, #values do square = square + values[i] ^ 2 end
  for i = 1, #values do made[i] = polynomial(values[i] / math.sqrt(square)) end
  return mb.matmul(u * mb.tensor(made, { dtype = "f64" }), v:transpose(1, 2))
end

local function norm(a) return mb.norm(a):item() end
local function off_by(a, b) return norm(a:to "f64" - b) end

-- Every entry is rounded by at most 2^-11 of it, and what that adds to a value that is zero five steps make 485 times as large.
local function bound(wanted) return 0.02 * norm(wanted) + 0.25 end

describe("msign in f16", function()
  it_on_gpu("is nearer to the polynomial than bf16, on hard spectra and at any scale", function()
    for _, name in ipairs(hard) do
      local all, all_bf16 = 0, 0
      for _, shape in ipairs { { 24, 40 }, { 40, 24 }, { 32, 32 }, { 13, 27 }, { 16, 48 }, { 64, 16 }, { 3, 9 }, { 2, 2 } } do
        for _, scale in ipairs { 1, 1e-2, 1e30 } do
          local a, values, u, v = matrix_of(name, shape[1], shape[2], scale)
          local wanted, narrow = composed(values, u, v), a:to "f32"
          local half = mb.linalg.msign(narrow, { precision = "f16" })
          assert.are.equal("f32", half.dtype)
          local off = off_by(half, wanted)
          assert(off <= bound(wanted), ("%s, %d x %d, scale %g: off by %g of %g"):format(name, shape[1], shape[2], scale, off,
            norm(wanted)))
          all, all_bf16 = all + off ^ 2, all_bf16 + off_by(mb.linalg.msign(narrow, { precision = "bf16" }), wanted) ^ 2
        end
      end
      assert(all < 0.25 * all_bf16, ("%s: off by %g, bf16 by %g"):format(name, math.sqrt(all), math.sqrt(all_bf16)))
    end
  end)

  it_on_gpu("takes matrices of any size, Polar Express and float64", function()
    for _, scale in ipairs { 1e-30, 1e-8, 1, 1e30 } do
      for _, shape in ipairs { { 20, 64 }, { 64, 20 }, { 20, 30 } } do
        local a, _, u, v = matrix_of("harmonic", shape[1], shape[2], scale)
        local wanted = mb.matmul(u, v:transpose(1, 2))
        for _, x in ipairs { a:to "f32", a } do
          local found = mb.linalg.msign(x, { method = "polar_express", steps = 8, precision = "f16" })
          assert.are.equal(x.dtype, found.dtype)
          local off = off_by(found, wanted) / math.sqrt(20)
          assert(off < 5e-3, ("%d x %d, scale %g: off by %g"):format(shape[1], shape[2], scale, off))
        end
      end
    end
    local long, square = mb.randn { 16, 50 }, mb.randn { 16, 18 }
    for steps = 1, 9 do
      for _, x in ipairs { long, square } do
        local full = mb.linalg.msign(x, { steps = steps }):to "f64"
        local off = off_by(mb.linalg.msign(x, { steps = steps, precision = "f16" }), full)
        assert(off < 0.015 * norm(full), ("%d steps: off by %g of %g"):format(steps, off, norm(full)))
      end
    end
    local zeros = mb.linalg.msign(mb.zeros { 2, 6, 20 }, { precision = "f16" })
    assert.are.equal(0, mb.max(mb.abs(zeros)):item())
    says("holds NaN or Inf", mb.linalg.msign, mb.randn { 4, 9 } * math.huge, { precision = "f16" })
  end)

  it_on_gpu("has rows of all sizes", function()
    local sizes = {}
    for i = 1, 32 do sizes[i] = 1e-6 ^ ((i - 1) / 31) end
    local a = mb.randn({ 32, 100 }, { dtype = "f64" }) * mb.tensor(sizes, { dtype = "f64" }):reshape(32, 1)
    local u, values, v = mb.linalg.svd(a)
    local wanted = composed(values:totable(), u, v)
    local off = off_by(mb.linalg.msign(a:to "f32", { precision = "f16" }), wanted)
    assert(off < 0.01 * norm(wanted), "off by " .. off)
  end)

  it_on_gpu("is for all tensors at once what it is for each, in as few products", function()
    local list, scales, alone = {}, {}, {}
    local shapes = { { 3, 16, 48 }, { 16, 16 }, { 2, 40, 16 }, { 1, 7 }, { 9, 1 }, { 16, 32 }, { 2, 16, 20 }, { 1, 1 } }
    for i, shape in ipairs(shapes) do
      list[i], scales[i] = mb.randn(shape), 0.5 * i
      alone[i] = binding.msign(list[i], { method = "ns5", precision = "f16", scale = scales[i] })
    end
    local before = runtime.waits(device)
    local function all() return binding.msign_many(list, scales, { method = "ns5", precision = "f16", unchecked = true }) end
    local made = all()
    assert.are.equal(before, runtime.waits(device))
    local report = mb.profile(all, { ceilings = false }):totable()
    for i = 1, #list do
      assert.are.same(list[i].shape, made[i].shape)
      local off = mb.max(mb.abs(made[i] - alone[i])):item()
      assert(off <= 4e-3 * scales[i], ("tensor %d: off by %g"):format(i, off)) -- a library may sum a larger batch otherwise
    end
    local calls = {}
    for _, row in ipairs(report.rows) do
      if row.name:find "^gemm" then calls[row.shape] = row.calls end
    end
    -- 3 + 2 + 1 long matrices in five steps as two and three, and 1 + 2 that are not.
    assert.are.equal(14, calls["m 16, n 16, k 16, batch 6, f16"])
    assert.are.equal(5, calls["m 16, n 16, k 16, batch 3, f16"])
    assert.are.equal(2, calls["m 16, n 16, k 48, batch 3, f16"])
  end)

  it_on_gpu("leaves nothing behind where memory ends or a matrix is not finite", function()
    helper.no_leaks(function()
      local list, o = { mb.randn { 2, 16, 48 }, mb.randn { 16, 16 } }, { method = "ns5", precision = "f16" }
      local wanted = binding.msign_many(list, { 1, 1 }, o)
      for n = 1, 14 do
        runtime.fail_allocation(n)
        local made = binding.msign_many(list, { 1, 1 }, o) -- at the second attempt
        runtime.fail_allocation(0)
        for i = 1, 2 do assert(made[i]:equal(wanted[i]), n) end
      end
      list[2] = list[2] * math.huge
      says("holds NaN or Inf", binding.msign_many, list, { 1, 1 }, o)
    end)
  end)
end)

describe("msign in tf32", function()
  it("is near the same in float32", function()
    local a = mb.randn { 3, 20, 50 }
    local distance = mb.max(mb.abs(mb.linalg.msign(a, { precision = "tf32" }) - mb.linalg.msign(a))):item()
    assert(distance < 5e-3, "off by " .. distance)
  end)
end)

-- Losses of a small language model over `steps` steps of Muon.
local function losses(precision, steps)
  mb.seed(helper.seed)
  local model = mb.models.gpt2 { vocab_size = 24, block_size = 16, n_layer = 2, n_head = 2, n_embd = 32, seed = 5 }
  local opt = mb.optim.muon(model, { lr = 0.02, momentum = 0.9, nesterov = true, precision = precision,
    rest = { name = "adamw", lr = 3e-3 } })
  local ids, found = {}, {}
  for row = 1, 4 do
    ids[row] = {}
    for t = 1, 17 do ids[row][t] = (row * t * t + 3 * t) % 24 end
  end
  local batch = mb.ids(ids)
  for step = 1, steps do
    opt:zero_grad()
    local loss = model:loss { inputs = batch:slice(2, 1, 16), targets = batch:slice(2, 2, 17) }
    found[step] = loss:item()
    loss:backward()
    opt:step()
  end
  return found
end

describe("muon", function()
  it("is in f16 on the GPU unless it is told otherwise, and in float32 elsewhere", function()
    local auto, exact = losses("auto", 3), losses("f32", 3)
    assert.are.same(auto, losses(on_gpu and "f16" or "f32", 3))
    if on_gpu then assert.are_not.same(auto, exact) else assert.are.same(auto, exact) end
    says("option 'precision' must be one of", losses, "half", 1)
  end)

  it_on_gpu("learns in bf16 and f16 as it does in float32", function()
    local steps = helper.draws(120)
    local exact = losses("f32", steps)
    assert(exact[steps] < 0.8 * exact[1], ("loss %g after %g"):format(exact[steps], exact[1]))
    for _, precision in ipairs { "bf16", "f16" } do
      local rounded = losses(precision, steps)
      for step = 1, steps do
        assert(math.abs(rounded[step] - exact[step]) < 0.03 * exact[1],
          ("%s: loss of step %d is %g, in float32 %g"):format(precision, step, rounded[step], exact[step]))
      end
    end
  end)
end)
