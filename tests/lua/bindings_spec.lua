-- The thin layer below the library: models, fused programs, spectra, the generator's words, the library as a whole.
local helper = require "tests.helper"
local mb = require "moonbow"
local create = require "bindings.create"
local model = require "bindings.model"
local program = require "bindings.program"
local runtime = require "bindings.runtime"
local linalg = require "bindings.linalg"
local spectral = require "bindings.spectral"
local status = require "bindings.status"

mb.seed(helper.seed)

local function error_of(fn)
  return (helper.error_of(fn):gsub("^.*bindings_spec.lua:%d+: ", "HERE "))
end

describe("a model's handle", function()
  local h = model.new "thin"
  model.add(h, "a.weight", { 2, 3 }, "matrix", "normal", 1)
  model.add(h, "emb", { 4, 2 }, "embedding", "uniform", 0.5)
  model.add(h, "b.weight", { 2, 3 }, "matrix", "ones", 0)
  model.add(h, "bias", { 3 }, "vector", "zeros", 0)
  model.build(h, "f64", "cpu", 7)

  it("numbers parameters from 1", function()
    assert.are.equal(4, model.count(h))
    assert.are.equal(3, model.find(h, "b.weight"))
    assert.is_nil(model.find(h, "nothing"))
    assert.are.equal("emb", model.name(h, 2))
    assert.are.equal("embedding", model.role(h, 2))
    assert.are.equal("vector", model.role(h, -1))
    assert.are.same({ 2, 3 }, model.parameter(h, 1).shape)
    assert.is_true(model.parameter(h, 1).requires_grad)
    assert.matches("HERE name: parameter 5 does not exist, there are 4", error_of(function() model.name(h, 5) end))
    assert.matches("HERE add 'x': unknown role the string 'rows'", error_of(function()
      model.add(model.new "y", "x", { 1 }, "rows", "zeros", 0)
    end))
  end)

  it("lays equal shapes of one role next to each other", function()
    local group = model.group_of(h, 1)
    assert.are.equal(group, model.group_of(h, 3))
    assert.are_not.equal(group, model.group_of(h, 2))
    assert.are.equal(3, model.group_count(h))
    local values = model.values(h)
    assert.are.same({ 2, 2, 3 }, model.group_view(h, values, group).shape)
    local first, last = model.range(h, 3)
    assert.are.equal(6, last - first)
    assert.is_true(values:slice(1, first + 1, last):equal(mb.ones(6, { dtype = "f64" })))
    local state = model.state(h)
    model.view(h, state, 3):fill_(5)
    assert.are.equal(30, state:sum():item())
    assert.are.same({ { { 0, 0, 0 }, { 0, 0, 0 } }, { { 5, 5, 5 }, { 5, 5, 5 } } },
      model.group_view(h, state, group):totable())
  end)

  it("has gradients that are added to, cleared, and searched", function()
    model.zero_grad(h)
    mb.sum(model.parameter(h, 3) * 2):backward()
    assert.are.same({ { 2, 2, 2 }, { 2, 2, 2 } }, model.gradient(h, 3):totable())
    assert.are.equal(12, model.gradients(h):sum():item())
    assert.is_nil(model.find_nonfinite(h, model.gradients(h)))
    model.gradient(h, 2):fill_(0 / 0)
    assert.are.equal(2, model.find_nonfinite(h, model.gradients(h)))
    model.zero_grad(h)
    assert.are.equal(0, model.gradients(h):sum():item())
    assert.is_true(model.training(h))
    model.set_training(h, false)
    assert.is_false(model.training(h))
  end)
end)

describe("a fused program", function()
  it("computes over arrays and run-time scalars, on ranges", function()
    local p = program.new()
    local w, g, lr = p:array(1), p:array(2), p:scalar(1)
    p:store(1, p:apply("sub", w, p:apply("mul", lr, p:apply("sign", g))))
    p:store(2, p:apply("where", p:apply("less", g, p:constant(0)), p:constant(-7), w))
    assert.is_true(p:size() > 0)
    local a, b = mb.tensor { 1, 2, 3, 4 }, mb.tensor { -5, 0, 5, 9 }
    p:run({ a, b }, { 0.5 })
    assert.are.same({ 1.5, 2, 2.5, 3.5 }, a:totable())
    assert.are.same({ -7, 2, 3, 4 }, b:totable())
    p:run({ a, b }, { 1 }, { { 0, 1 }, { 3, 4 } })
    assert.are.same({ 2.5, 2, 2.5, 2.5 }, a:totable())
  end)

  it("knows every operation of the engine by name", function()
    for name, code in pairs(program.codes) do
      local p = program.new()
      local x = p:array(1)
      assert.has_no.errors(function() p:store(1, p:apply(name, x, x, x)) end, name .. tonumber(code))
    end
  end)

  it("refuses what it does not know", function()
    local p = program.new()
    local x = p:array(1)
    assert.matches("HERE mb.fuse: 'matmul' cannot be fused", error_of(function() p:apply("matmul", x, x) end))
    p:store(1, x)
    assert.matches("HERE mb.fuse: scalar 1 must be a number, not a table",
      error_of(function() p:run({ mb.ones(2) }, { {} }) end))
    assert.matches("HERE mb.fuse: an array of tensors", error_of(function() p:run({}, {}) end))
  end)
end)

describe("random words", function()
  it("are a pure function of seed, step and stream", function()
    local a = create.rng_words(5, 1, 2, 3)
    assert.are.same(a, create.rng_words(5, 1, 2, 3))
    assert.are_not.same(a, create.rng_words(5, 1, 2, 4))
    local longer = create.rng_words(9, 1, 2, 3)
    for i = 1, 5 do assert.are.equal(a[i], longer[i]) end
    assert.matches("HERE rng_words: count", error_of(function() create.rng_words(0, 1, 2, 3) end))
  end)
end)

describe("the library", function()
  it("describes itself", function()
    assert.matches("^%d+%.%d+%.%d+$", mb.version)
    assert.matches("simd", mb.build_info())
    local before = mb.threads()
    assert.is_true(before >= 1)
    assert.are.equal(1, mb.threads(1))
    mb.threads(before)
    assert.matches("HERE mb.threads: an integer", error_of(function() mb.threads "two" end))
    assert.matches("HERE mb_threads_set: ", error_of(function() mb.threads(0) end))
    assert.matches("HERE moonbow has no 'tensr', did you mean 'tensor'", error_of(function() return mb.tensr + 1 end))
    assert.matches("HERE mb.models has no 'gpt9', did you mean 'gpt2'", error_of(function() return mb.models.gpt9 end))
    local checkpoint = mb.checkpoint -- a part that is loaded is listed once, as are the others
    assert.is_table(checkpoint)
    local listed = error_of(function() return mb.zzzzzzzzzz end)
    assert.are.equal(1, select(2, listed:gsub("%f[%w]checkpoint%f[%W]", "")), listed)
    assert.is_true(mb.time() <= mb.time())
  end)

  it("counts memory", function()
    mb.collect()
    local before = mb.memory()
    local t = mb.ones(1000, 1000)
    local after = mb.memory()
    assert.is_true(after.bytes_live - before.bytes_live >= 4e6)
    assert.are.equal(1, after.live_tensors - before.live_tensors)
    assert.is_true(after.bytes_peak >= after.bytes_live)
    assert.matches("f32 (1000, 1000)", mb.memory_report(), 1, true)
    assert.is_true(t.is_live)
    assert.matches("HERE mb.memory_budget: a number", error_of(function() mb.memory_budget(-1) end))
    mb.memory_trim()
    assert.are.equal(0, mb.memory().bytes_cached)
  end)

  it("knows its devices", function()
    assert.matches("HERE unknown device 'gpu': expected cpu or cuda", error_of(function() mb.device "gpu" end))
    if not runtime.has_device "cuda" then
      assert.are.equal("cpu", mb.device())
      assert.matches("HERE .*cuda", error_of(function() mb.device "cuda" end))
    end
    assert.are.equal("cpu", mb.device "cpu")
  end)

  it("raises errors of functions called by its own functions at the user's line", function()
    local line = debug.getinfo(1, "l").currentline + 2
    local ok, text = pcall(function()
      mb.scope(function() mb.no_grad(function() status.fail("text %d", 5) end) end)
    end)
    assert.is_false(ok)
    assert.matches(("bindings_spec.lua:%d: text 5$"):format(line), text)
  end)
end)

describe("spectra", function()
  -- A matrix of m x n with the singular values `values`, from random orthogonal factors.
  local function with_values(m, n, values)
    local u = linalg.svd(mb.randn(m, #values, { dtype = "f64" }))
    local _, _, v = linalg.svd(mb.randn(n, #values, { dtype = "f64" }):transpose():contiguous())
    local s = mb.tensor(values, { dtype = "f64" })
    return (u * s):matmul(v:transpose())
  end

  local function close(expected, actual)
    for i, x in ipairs(expected) do
      assert.is_true(math.abs(actual[i] - x) < 1e-10, ("value %d is %.17g, not %.17g"):format(i, actual[i], x))
    end
  end

  it("of one matrix are known", function()
    local a = with_values(7, 5, { 9, 4, 2, 1, 0.5 })
    close({ 9, 4, 2, 1, 0.5 }, linalg.svdvals(a):totable())
    local u, s, v = linalg.svd(a)
    assert.are.same({ { 7, 5 }, { 5 }, { 5, 5 } }, { u.shape, s.shape, v.shape })
    assert.is_true((u * s):matmul(v:transpose()):allclose(a, { atol = 1e-12 }))
    close({ 81 + 16 + 4 + 1 + 0.25, 4 }, spectral.sum_squares { a, mb.full({ 4 }, -1) })
  end)

  it("of many are probed, then clamped where there is a threshold", function()
    local a, b, c = with_values(6, 4, { 5, 3, 1, 0.5 }), with_values(6, 4, { 8, 1, 1, 1 }),
      with_values(3, 2, { 2, 1 })
    local kept = b:clone()
    local plan = spectral.plan({ a, b, c }, { method = "exact" })
    assert.are.equal(3, plan.count)
    assert.are.equal(4, plan:width())
    local sigma = plan:probe()
    close({ 5, 3, 1, 0.5 }, { sigma[0], sigma[1], sigma[2], sigma[3] })
    close({ 8, 1 }, { sigma[4], sigma[5] })
    close({ 2, 1 }, { sigma[8], sigma[9] })
    assert.is_true(sigma[10] ~= sigma[10])
    local clipped, saturated = plan:clamp { 2, nil, 3 }
    assert.are.same({ 2, 0, 0 }, clipped)
    assert.are.same({ false, false, false }, saturated)
    close({ 2, 2, 1, 0.5 }, linalg.svdvals(a):totable())
    assert.is_true(b:equal(kept))
    close({ 2, 1 }, linalg.svdvals(c):totable())
  end)

  it("are replaced by a rule's", function()
    local a = with_values(5, 5, { 4, 3, 2, 1, 0.25 })
    local plan = spectral.plan({ a }, { method = "exact" })
    local sigma, target = plan:probe(), spectral.doubles(plan:width())
    for i = 0, plan:width() - 1 do target[i] = i == 1 and 0 / 0 or sigma[i] / 2 end
    plan:apply(target)
    close({ 3, 2, 1, 0.5, 0.125 }, linalg.svdvals(a):totable())
    plan:release()
    assert.matches("HERE spectral plan: it was released", error_of(function() plan:probe() end))
  end)

  it("are found by the randomized method where they fall off", function()
    mb.seed(helper.seed)
    local a = with_values(40, 30, { 10, 5, 1e-3, 1e-4 })
    local plan = spectral.plan({ a }, { method = "randomized", rank = 2, oversample = 4, power_iters = 1 })
    assert.are.equal(2, plan:width())
    local sigma = plan:probe()
    assert.is_true(math.abs(sigma[0] - 10) < 1e-6 and math.abs(sigma[1] - 5) < 1e-6)
    local _, saturated = plan:clamp { 1 }
    assert.are.same({ true }, saturated)
  end)

  it("refuse what is no plan", function()
    assert.matches("HERE spectral plan: unknown method the string 'exakt'",
      error_of(function() spectral.plan({ mb.ones(2) }, { method = "exakt" }) end))
    assert.matches("HERE mb.linalg.svd: a tensor was expected, not nil", error_of(function() linalg.svd() end))
    local bad = mb.full({ 3, 3 }, 0 / 0)
    assert.matches("HERE mb_spectral_probe: ", error_of(function()
      spectral.plan({ mb.ones(3, 3), bad }, { method = "exact" }):probe()
    end))
  end)
end)
