-- SPDX-License-Identifier: MIT
--
-- clip_spec.lua: spectral clipping against PyTorch's singular value decompositions: matrices of known spectra, and
-- every gradient of a GPT-2 step.

local helper = require "tests.helper"
local mb = require "moonbow"

local function fixture(name)
  local folder = helper.fixtures()
  if not folder then pending "the fixtures are not in this checkout" end
  return folder .. "/" .. name
end

-- Largest |a - b|.
local function difference(a, b)
  assert.are.same(b.shape, a.shape)
  return (a:to("cpu"):to "f64" - b:to("cpu"):to "f64"):abs():max():item()
end

local function soft(sigma, tau) return sigma / math.sqrt(1 + (sigma / tau) ^ 2) end

describe("matrices of known spectra", function()
  local path = "matrices.safetensors"
  local all = { n = 8, hard = 1e-6, soft = 1e-6 }

  -- Clips every matrix and holds the distance to the file's result against `tolerance` times sigma_1.
  local function compare(result, tolerance, options)
    local file, metadata = mb.safetensors.load(fixture(path))
    for i = 0, all.n - 1 do
      local g, top, tau = file["g" .. i]:to(helper.device), file["sigma" .. i]:max():item(), tonumber(metadata["tau" .. i])
      local o = { threshold = tau, rank = options.method == "randomized" and 256 or nil }
      for key, value in pairs(options) do o[key] = value end
      local clipped, info = mb.clip.matrix(g, o)
      local gap = difference(clipped, file[result .. i])
      assert(gap <= tolerance * top, ("%s%d differs by %g of %g"):format(result, i, gap, top))
      assert(math.abs(info.sigma - top) <= 1e-6 * top, ("sigma%d is %.9g, not %.9g"):format(i, info.sigma, top))
    end
  end

  it("are clipped as PyTorch does, exactly", function()
    compare("hard", all.hard, { method = "exact" })
  end)

  it("are clipped as PyTorch does by a sketch of all directions", function()
    compare("hard", 4 * all.hard, { method = "randomized" })
  end)

  it("are clipped as PyTorch does by polar factors", function()
    compare("hard", 1e-5, { method = "polar" })
  end)

  it("are softened as SPECTRA does", function()
    compare("soft", 1e-5, { method = "soft" })
  end)

  it("are softened by a rule of three lines", function()
    compare("soft", all.soft, { method = "exact", rule = soft })
  end)

  it("have PyTorch's signs after five steps of Newton-Schulz", function()
    local file = mb.safetensors.load(fixture(path))
    for i = 0, all.n - 1 do
      local g = file["g" .. i]
      local got = mb.linalg.msign(g:reshape(g.shape[1], -1), { method = "ns5", steps = 5 })
      local gap = difference(got, file["ns5_" .. i]:reshape(g.shape[1], -1))
      -- Rounding of the smallest values is raised by up to 3.4445 a step.
      assert(gap <= 1e-4, ("ns5_%d differs by %g"):format(i, gap))
    end
  end)

  it("have the singular values they were made with", function()
    local file = mb.safetensors.load(fixture(path))
    for i = 0, all.n - 1 do
      local g, expected = file["g" .. i], file["sigma" .. i]
      local values = mb.linalg.svdvals(g:reshape(g.shape[1], -1))
      assert.is_true(difference(values, expected) <= 1e-6 * expected:max():item())
    end
  end)
end)

describe("the gradients of a GPT-2 step", function()
  -- A model after backward on the fixture's first batch; what PyTorch got; its threshold.
  local function stepped(dtype)
    local expected, metadata = mb.safetensors.load(fixture "gpt2_step.safetensors")
    local model = mb.models.gpt2 { vocab_size = 97, block_size = 32, n_layer = 3, n_head = 4, n_embd = 64, dtype = dtype }
    model:load_hf(fixture "gpt2_weights.safetensors")
    local batch = expected.batches:slice(1, 1, 1):reshape(4, 33)
    model:loss({ inputs = batch:slice(2, 1, 32), targets = batch:slice(2, 2, 33) }):backward()
    return model, expected, tonumber(metadata.tau)
  end

  -- In the file's orientation: Hugging Face's projections are (in, out).
  local function oriented(p)
    return p.name:find "%.c_%a+%.weight$" and p.grad:transpose(1, 2) or p.grad
  end

  -- `own`: distances relative to sigma_1; the gradients themselves agree to 1e-4 of their largest entry.
  local function compare(dtype, options, tolerance)
    local model, expected, tau = stepped(dtype)
    local wanted, lowered = 0, 0
    for name in pairs(expected) do wanted = wanted + (name:find "^clipped%." and 1 or 0) end
    options.threshold = tau
    local report = mb.clip.spectral(options)(model)
    assert.are.equal(wanted, #report)
    for _, row in ipairs(report) do
      local name = row.name
      local top = expected["sigma." .. name]:max():item()
      assert(math.abs(row.sigma - top) <= tolerance * top, ("sigma_1 of %s is %.9g, not %.9g"):format(name, row.sigma, top))
      assert.are.equal(tau, row.tau)
      assert.are.equal(top > tau, row.clipped)
      assert.is_false(row.saturated)
      local gap = difference(oriented(model:parameter(name)), expected["clipped." .. name])
      assert(gap <= tolerance * top, ("%s clipped differs by %g, sigma_1 is %g"):format(name, gap, top))
      lowered = lowered + (row.clipped and 1 or 0)
    end
    assert.is_true(lowered > 0 and lowered < #report) -- the file's threshold clips some
    for _, name in ipairs { "wte.weight", "wpe.weight" } do
      local gap = difference(model:parameter(name).grad, expected["grad." .. name])
      assert.is_true(gap <= 1e-4 * expected["grad." .. name]:abs():max():item())
    end
  end

  it("are clipped as PyTorch does, in float32", function() compare("f32", { method = "exact" }, 1e-5) end)

  it("are clipped as PyTorch does, in float64", function() compare("f64", { method = "exact" }, 1e-5) end)

  it("are clipped as PyTorch does by a sketch of all directions", function()
    compare("f32", { method = "randomized", rank = 64 }, 1e-5)
  end)

  it("are clipped as PyTorch does by polar factors", function()
    compare("f32", { method = "polar" }, 1e-5)
    compare("f64", { method = "polar" }, 1e-5)
  end)

  it("have PyTorch's singular values, all of them", function()
    local model, expected = stepped "f32"
    local compared = 0
    for _, p in ipairs(model:parameters()) do
      local values = expected["sigma." .. p.name]
      local got = mb.linalg.svdvals(p.grad:reshape(p.shape[1], -1))
      local gap = difference(got, values)
      assert(gap <= 1e-5 * values:max():item(), ("the singular values of %s differ by %g"):format(p.name, gap))
      compared = compared + 1
    end
    assert.are.equal(40, compared)
  end)
end)
