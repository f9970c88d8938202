-- SPDX-License-Identifier: MIT
--
-- clip_method_spec.lua: options of how singular values are found and changed: polar and soft, rank = "auto", warm_start,
-- dtype, verify. That the results are right for known spectra: tests/c/test_whole.c, tests/golden/clip_spec.lua.

local helper = require "tests.helper"
local json = require "moonbow.io.json"
local mb = require "moonbow"
local pack = require "moonbow.io.state"

local says = helper.says

local function gap(a, b)
  assert.are.same(b.shape, a.shape)
  return (a:to "f64" - b:to "f64"):abs():max():item()
end

local function near(a, b, distance, what)
  local got = gap(a, b)
  assert(got <= distance, ("%s: %g apart, %g allowed; MB_SEED=%d"):format(what or "tensors", got, distance, helper.seed))
end

-- A model of three matrices, one of them many values above tau, and a vector.
local Model = mb.models.define {
  name = "three",
  parameters = function(add)
    add("wide", { 40, 90 }, { role = "matrix" })
    add("tall", { 120, 60 }, { role = "matrix" })
    add("small", { 5, 4 }, { role = "matrix" })
    add("bias", { 9 }, { role = "vector" })
  end,
  forward = function(p) return p.wide:sum() end,
}

local function with_gradients(model, scale)
  for _, p in ipairs(model:parameters()) do p.grad:randn_(0, scale or 1) end
  return model
end

local function gradients(model)
  local result = {}
  for _, p in ipairs(model:parameters()) do result[p.name] = p.grad:clone() end
  return result
end

local function set(model, values)
  for name, value in pairs(values) do model:parameter(name).grad:copy_(value) end
end

before_each(function() mb.seed(helper.seed) end)

describe("polar", function()
  it("does to a model what exact does", function()
    local model = with_gradients(Model {})
    local before = gradients(model)
    local exact = mb.clip.spectral { threshold = 3, method = "exact" }(model)
    local wanted = gradients(model)
    set(model, before)
    local report = mb.clip.spectral { threshold = 3, method = "polar" }(model)
    for i, row in ipairs(report) do
      near(model:parameter(row.name).grad, wanted[row.name], 1e-5 * row.sigma, row.name)
      assert.is_true(math.abs(row.sigma - exact[i].sigma) <= 2e-6 * row.sigma)
      assert.are.same({ 3, exact[i].clipped, false }, { row.tau, row.clipped, row.saturated })
    end
  end)

  it("leaves the bits alone where tau is not exceeded", function()
    local model = with_gradients(Model {})
    local before = gradients(model)
    for _, row in ipairs(mb.clip.spectral { threshold = 1000, method = "polar" }(model)) do assert.is_false(row.clipped) end
    for name, value in pairs(before) do assert.is_true(model:parameter(name).grad:equal(value), name) end
  end)

  it("has the properties of a clip: of scale, of the transpose, and done twice it is done once", function()
    local g = mb.randn { 30, 50 }
    local o = { threshold = 4, method = "polar" }
    local once = mb.clip.matrix(g, o)
    near(mb.clip.matrix(once, o), once, 2e-5)
    near(mb.clip.matrix(g:transpose(1, 2):contiguous(), o):transpose(1, 2), once, 2e-5)
    near(mb.clip.matrix(g * 1024, { threshold = 4096, method = "polar" }), once * 1024, 2e-2)
  end)
end)

describe("soft", function()
  it("is SPECTRA's rule, by method and by `rule`", function()
    local model = with_gradients(Model {})
    local before = gradients(model)
    mb.clip.spectral { threshold = 2, method = "exact", rule = function(sigma, tau)
      return sigma / math.sqrt(1 + (sigma / tau) ^ 2)
    end }(model)
    local wanted = gradients(model)
    set(model, before)
    for _, row in ipairs(mb.clip.spectral { threshold = 2, method = "soft" }(model)) do
      near(model:parameter(row.name).grad, wanted[row.name], 1e-5 * row.sigma, row.name)
      assert.are.same({ true, false }, { row.clipped, row.saturated })
    end
  end)
end)

describe("rank = \"auto\"", function()
  it("finds as many values as exceed tau, matrix by matrix", function()
    local model = with_gradients(Model {})
    local before = gradients(model)
    local exact = mb.clip.spectral { threshold = 8, method = "exact" }(model)
    local wanted = gradients(model)
    set(model, before)
    local report = mb.clip.spectral { threshold = 8, rank = "auto", oversample = 4, power_iters = 3 }(model)
    for i, row in ipairs(report) do
      assert.is_false(row.saturated, row.name)
      near(model:parameter(row.name).grad, wanted[row.name], 1e-3 * row.sigma, row.name)
      assert.are.equal(exact[i].clipped, row.clipped)
    end
    assert.is_true(report[1].rank > 8 and report[2].rank > 8)
    assert.are.same({ 4, 1 }, { report[3].rank, report[4].rank })
  end)

  it("ends with all values, and exactly then", function()
    local g = mb.randn { 70, 50 }
    local clipped, info = mb.clip.matrix(g, { threshold = 1e-6, rank = "auto" })
    assert.are.same({ rank = 50, saturated = false }, { rank = info.rank, saturated = info.saturated })
    near(clipped, mb.clip.matrix(g, { threshold = 1e-6, method = "exact" }), 2e-5)
    local _, few = mb.clip.matrix(g, { threshold = 1000, rank = "auto" })
    assert.are.same({ 8, false }, { few.rank, few.clipped })
    assert.is_nil(select(2, mb.clip.matrix(g, { threshold = 1, rank = 8 })).rank)
  end)

  it("works with a rule, which sees every value once, and changes nothing if that goes wrong", function()
    local model = with_gradients(Model {})
    local before, calls = gradients(model), 0
    local report = mb.clip.spectral { threshold = 8, rank = "auto", rule = function(sigma, tau)
      calls = calls + 1
      return math.min(sigma, tau)
    end }(model)
    local known = 0
    for _, row in ipairs(report) do known = known + row.rank end
    assert.are.equal(known, calls)
    set(model, before)
    local clip = mb.clip.spectral { threshold = 8, rank = "auto", rule = function(_, tau) return known > 0 and tau or -1 end }
    known = -1
    says("returned the number -1 for 'small'", clip, model) -- the first that is settled
    for name, value in pairs(before) do assert.is_true(model:parameter(name).grad:equal(value), name) end
  end)
end)

describe("warm_start", function()
  -- Gradients that turn slowly, the same in every run.
  local function run(clip, from, to, reports)
    local model = Model {}
    mb.seed(11)
    local base, drift = gradients(with_gradients(model)), gradients(with_gradients(model))
    for step = from, to do
      for name, value in pairs(base) do model:parameter(name).grad:copy_(value + drift[name] * (0.01 * step)) end
      mb.seed(100 + step)
      reports[step] = { clip(model), gradients(model) }
    end
  end

  it("goes on from its state as if it had not stopped", function()
    local function new() return mb.clip.spectral { threshold = 9, rank = 6, oversample = 3, warm_start = true } end
    local whole, first, halves = {}, new(), {}
    run(new(), 1, 6, whole)
    run(first, 1, 3, halves)
    local tree, tensors = pack.pack(first:state_dict())
    local second = new()
    second:load_state_dict(pack.unpack(assert(json.decode(assert(json.encode(tree)))), tensors))
    assert.are.same({ "tall", "wide" }, (function(names)
      for name in pairs(second:state_dict().bases) do names[#names + 1] = name end
      table.sort(names)
      return names
    end) {})
    run(second, 4, 6, halves)
    for step = 1, 6 do
      assert.are.same(whole[step][1], halves[step][1])
      for name, value in pairs(whole[step][2]) do assert.is_true(value:equal(halves[step][2][name]), name) end
    end
  end)

  it("forgets what it knew when a state is loaded", function()
    local clip, cold, got = mb.clip.spectral { threshold = 9, rank = 4, warm_start = true }, {}, {}
    local fresh = clip:state_dict()
    run(clip, 1, 1, cold)
    run(clip, 1, 3, {})
    clip:load_state_dict(fresh)
    run(clip, 1, 1, got)
    assert.are.same(cold[1][1], got[1][1])
  end)

  it("is for sketches", function()
    for _, method in ipairs { "exact", "polar", "soft" } do
      says(("mb.clip.spectral: warm_start is where a sketch starts from; method '%s' makes none"):format(method),
        mb.clip.spectral, { threshold = 1, method = method, warm_start = true })
    end
  end)
end)

describe("dtype", function()
  it("f64 computes float32 matrices in float64, and gives them back in float32", function()
    local g = mb.randn { 60, 40 }
    for _, method in ipairs { "exact", "randomized", "polar", "soft" } do
      local rank = method == "randomized" and 6 or nil
      mb.seed(3)
      local clipped, info = mb.clip.matrix(g, { threshold = 5, method = method, rank = rank, dtype = "f64" })
      assert.are.equal("f32", clipped.dtype)
      mb.seed(3)
      local wide, wide_info = mb.clip.matrix(g:to "f64", { threshold = 5, method = method, rank = rank })
      near(clipped, wide, 2e-7 * info.sigma, method)
      assert.is_true(math.abs(info.sigma - wide_info.sigma) <= 1e-12 * info.sigma)
    end
  end)

  it("f32 is not for matrices of f64", function()
    local g = mb.randn({ 6, 4 }, { dtype = "f64" })
    says("mb.clip.matrix: dtype = 'f32' would round a matrix of f64", mb.clip.matrix, g, { threshold = 1, dtype = "f32" })
    says("'dtype' must be one of 'f32', 'f64', not the string 'bf16'", mb.clip.matrix, g, { threshold = 1, dtype = "bf16" })
    near(mb.clip.matrix(g:to "f32", { threshold = 1, dtype = "f32", method = "exact" }),
      mb.clip.matrix(g, { threshold = 1, method = "exact" }), 1e-5)
  end)
end)

describe("verify", function()
  it("measures what is left, and finds sketches that were too small", function()
    local model = with_gradients(Model {})
    local before = gradients(model)
    for _, o in ipairs { { method = "exact" }, { method = "polar" }, { rank = "auto", power_iters = 2 }, { rank = 2 } } do
      o.threshold, o.verify = 8, true
      set(model, before)
      for _, row in ipairs(mb.clip.spectral(o)(model)) do
        local _, after = mb.clip.matrix(model:parameter(row.name).grad, { threshold = 1, method = "exact" })
        assert.is_true(math.abs(row.after - after.sigma) <= 1e-5 * row.sigma, row.name)
        assert.are.equal(after.sigma > 8.001, row.exceeds)
        if o.rank ~= 2 and o.rank ~= "auto" then assert.is_false(row.exceeds) end
        if o.rank == 2 and (row.name == "wide" or row.name == "tall") then assert.is_true(row.exceeds) end
        assert.are.equal(row.name == "wide" or row.name == "tall", row.clipped)
      end
    end
    local row = mb.clip.spectral { threshold = 8 }(model)[1]
    assert.is_nil(row.after)
    assert.is_nil(row.exceeds)
  end)

  it("is for one matrix too, and for rules", function()
    local g = mb.randn { 20, 30 }
    local function double(sigma) return 2 * sigma end
    local _, info = mb.clip.matrix(g, { threshold = 1, method = "exact", verify = true, rule = double })
    assert.is_true(info.exceeds and math.abs(info.after - 2 * info.sigma) <= 1e-4)
    local _, same = mb.clip.matrix(g, { threshold = 100, method = "soft", verify = true })
    assert.is_false(same.exceeds)
  end)
end)

describe("the options of a method", function()
  it("go together, or are refused", function()
    for _, method in ipairs { "polar", "soft" } do
      local text = ("method '%s' has a rule of its own and knows the largest singular value only; "
        .. "`rule` needs 'exact' or 'randomized'"):format(method)
      says("mb.clip.spectral: " .. text, mb.clip.spectral, { threshold = 1, method = method, rule = math.min })
      says("mb.clip.matrix: " .. text, mb.clip.matrix, mb.ones { 2, 2 }, { threshold = 1, method = method, rule = math.min })
    end
    says("option 'rank' must be an integer or 'auto', not the string 'all'", mb.clip.spectral, { threshold = 1, rank = "all" })
    says("option 'rank' must be at least 1", mb.clip.spectral, { threshold = 1, rank = 0 })
    says("option 'rank' must be an integer or 'auto', not the number 1.5", mb.clip.spectral, { threshold = 1, rank = 1.5 })
    says("option 'rank' must be at most 2147483647, not the number 1.1529215046068e+18", mb.clip.spectral,
      { threshold = 1, rank = 2 ^ 60 })
    says("did you mean 'polar'?", mb.clip.spectral, { threshold = 1, method = "polr" })
    says("did you mean 'warm_start'?", mb.clip.spectral, { threshold = 1, warmstart = true })
  end)

  it("are shown", function()
    local p = { name = "w", role = "matrix", shape = { 3, 4 } }
    local function shown(o)
      o.threshold = 1
      local clip = mb.clip.spectral(o)
      return clip:describe(p) .. " | " .. tostring(clip)
    end
    assert.are.equal('spectral const(1), polar f64 | mb.clip.spectral { threshold = const(1), method = "polar", '
      .. 'dtype = "f64", verify = true, scope = "matrix" }',
      shown { method = "polar", dtype = "f64", verify = true })
    assert.are.equal('spectral const(1), r=auto p=5 it=1 warm | mb.clip.spectral { threshold = const(1), method = "randomized", '
      .. 'rank = "auto", oversample = 5, power_iters = 1, warm_start = true, scope = "matrix" }',
      shown { rank = "auto", warm_start = true })
  end)
end)
