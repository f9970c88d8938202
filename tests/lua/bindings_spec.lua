-- The thin layer below the library: models, fused programs, the generator's words, the library as a whole.
local helper = require "tests.helper"
local mb = require "moonbow"
local create = require "bindings.create"
local model = require "bindings.model"
local program = require "bindings.program"
local runtime = require "bindings.runtime"
local status = require "bindings.status"

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
