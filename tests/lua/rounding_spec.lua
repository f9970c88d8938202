-- SPDX-License-Identifier: MIT
--
-- rounding_spec.lua: rounding that is asked for: float32 to bf16 at random, without bias, as a function of the generator's
-- state; models whose weights are rounded so in training; products in TF32, on a device that has it.

local create = require "bindings.create"
local helper = require "tests.helper"
local mb = require "moonbow"
local scratch = require "tests.scratch"

local on_cuda = helper.device == "cuda"
local STATE = { 20260711, 4, 9 }

local function stochastic(t)
  mb.random_state(unpack(STATE))
  return t:to("bf16", "stochastic")
end

describe("rounding to bf16 at random", function()
  it("keeps what is exact", function()
    local values = { 0, 1, -1, 0.5, -3.140625, 2 ^ 127, -2 ^ -126, 2 ^ -133, 255, 1 / 0, -1 / 0 }
    for _, dtype in ipairs { "f32", "f64" } do
      for step = 1, 20 do
        mb.random_state(1, step, 0)
        local t = mb.tensor(values, { dtype = dtype, device = helper.device })
        assert.are.same(values, t:to("bf16", "stochastic"):to("f64"):totable())
      end
    end
    local nan = stochastic(mb.full({ 3 }, 0 / 0, { device = helper.device })):to("f64"):totable()
    for i = 1, 3 do assert.is_true(nan[i] ~= nan[i]) end
  end)

  it("goes to one of the two neighbours, by the half words of the stream", function()
    mb.seed(helper.seed)
    for _, n in ipairs { 1, 2, 7, 8, 9, 40, 511, 512, 1037 } do
      local t = mb.randn(n) * 3
      local words = create.rng_words(math.ceil(n / 2), unpack(STATE))
      local numbers, is = t:to("f64"):totable(), stochastic(t:to(helper.device)):to("cpu"):to("f64"):totable()
      for i = 1, n do
        local x = math.abs(numbers[i])
        local _, exponent = math.frexp(x)
        local unit = 2 ^ (exponent - 8) -- bf16 has eight bits
        local below = math.floor(x / unit)
        local word = words[math.ceil(i / 2)]
        local half = i % 2 == 1 and word % 65536 or math.floor(word / 65536)
        local up = (x / unit - below) * 65536 + half >= 65536
        assert.are.equal((numbers[i] < 0 and -1 or 1) * (up and below + 1 or below) * unit, is[i])
      end
    end
  end)

  -- Of N draws at a place p of the way from one neighbour to the next the share that goes up has the standard deviation
  -- sqrt(p (1 - p) / N); 5 of them are exceeded once in two million.
  it("has the number itself as its mean", function()
    local N = 100000
    for i, p in ipairs { 1 / 65536, 0.1, 0.25, 0.5, 0.9 } do
      mb.random_state(helper.seed, i, 0)
      local x = mb.full({ N }, 1 + p / 128, { dtype = "f32", device = helper.device })
      local exact = (x:to("f64"):mean():item() - 1) * 128
      local mean = (x:to("bf16", "stochastic"):to("f64"):mean():item() - 1) * 128
      assert(math.abs(mean - exact) < 5 * math.sqrt(exact * (1 - exact) / N), ("%g and not %g"):format(mean, exact))
    end
  end)

  it("gives the gradient of a cast", function()
    local x = mb.tensor({ 1.001, -2.003, 3 }, { device = helper.device, requires_grad = true })
    local w = mb.tensor({ 1, 2, 3 }, { device = helper.device })
    mb.sum(x:to("bf16", "stochastic"):to("f32") * w):backward()
    assert.are.same({ 1, 2, 3 }, x.grad:totable())
  end)

  it("takes one stream, and none for what is bf16", function()
    mb.random_state(7, 1, 3)
    local b = mb.zeros({ 4 }, { device = helper.device }):to("bf16", "stochastic")
    assert.are.same({ 7, 1, 4 }, { mb.random_state() })
    assert.is_true(b:to("bf16", "stochastic"):to("f32"):equal(b:to "f32"))
    assert.are.same({ 7, 1, 4 }, { mb.random_state() })
  end)

  it("says what is wrong with a call", function()
    local error_of = helper.error_of
    local t = mb.zeros(2)
    assert.matches("rounding must be nearest or stochastic, not the string 'up'", error_of(function() t:to("bf16", "up") end))
    assert.matches("goes to bf16, not to the string 'f32'", error_of(function() t:to("f32", "stochastic") end))
    assert.matches("mb_round_stochastic", error_of(function() t:to("i32"):to("bf16", "stochastic") end))
  end)
end)

describe("a model with rounding = 'stochastic'", function()
  local function tiny(more)
    local o = { vocab_size = 11, block_size = 6, n_layer = 1, n_head = 2, n_embd = 16, seed = 5, dtype = "bf16",
                rounding = "stochastic", device = helper.device }
    for key, value in pairs(more or {}) do o[key] = value end
    return mb.models.gpt2(o)
  end
  local batch = { inputs = { { 1, 2, 3, 4 }, { 0, 10, 5, 5 } }, targets = { { 2, 3, 4, 5 }, { 10, 5, 5, 1 } } }

  it("is refused where no weight is cast", function()
    local problem = helper.error_of(function() tiny { dtype = "f32", device = "cpu" } end)
    assert.matches("model 'gpt2' computes with f32; only weights that are cast to bf16 are rounded", problem)
    assert.matches("'rounding' must be one of 'nearest', 'stochastic'", helper.error_of(function() tiny { rounding = "up" } end))
  end)

  if not on_cuda then return end

  local function loss_at(model, step)
    mb.random_state(3, step, 0)
    return model:loss(batch):item()
  end

  it("rounds once a forward in training, as the generator says, and to nearest in evaluation", function()
    local model, nearest = tiny(), tiny { rounding = "nearest" }
    assert.are.equal(loss_at(model, 1), loss_at(model, 1))
    assert.are_not.equal(loss_at(model, 1), loss_at(model, 2))
    model:eval() nearest:eval()
    assert.are.equal(loss_at(nearest, 1), loss_at(model, 1))
    assert.are.equal(loss_at(model, 1), loss_at(model, 2))
  end)

  it("draws one stream a forward, whatever the number of weights", function()
    local model = tiny()
    mb.random_state(3, 1, 5)
    model:loss(batch)
    assert.are.same({ 3, 1, 6 }, { mb.random_state() })
    model:eval():loss(batch)
    assert.are.same({ 3, 1, 6 }, { mb.random_state() })
  end)

  it("gives a loss the gradient at the weights that it was computed with, whatever they have become", function()
    local function gradients(after)
      local model = tiny()
      mb.random_state(3, 1, 0)
      local losses = { model:loss(batch), model:loss(batch) }
      after(model)
      losses[2]:backward()
      losses[1]:backward()
      return model
    end
    local expected = gradients(function() end)
    local changed = gradients(function(model)
      mb.no_grad(function()
        for _, p in ipairs(model:parameters()) do p.value:add_(0.5) end
      end)
      mb.random_state(3, 1, 0)
      model:loss(batch)
    end)
    for i, p in ipairs(expected:parameters()) do
      assert.is_true(p.grad:equal(changed:parameters()[i].grad), p.name)
    end
  end)

  it("resumes bit for bit", function()
    local folder = scratch.folder()
    local function make()
      local model = tiny()
      return { model = model, optimizer = mb.optim.adamw(model, { lr = 1e-2 }) }
    end
    local function train(job, first, last)
      local losses = {}
      for _ = first, last do
        job.optimizer:zero_grad()
        losses[#losses + 1] = job.model:backward(batch):item()
        job.optimizer:step()
      end
      return losses
    end
    mb.seed(8)
    local whole = make()
    train(whole, 1, 3)
    mb.checkpoint.save(folder, { model = whole.model, optimizer = whole.optimizer, step = 3 })
    local losses = train(whole, 4, 6)
    mb.seed(99)
    local resumed = make()
    mb.checkpoint.load(folder, resumed)
    assert.are.same(losses, train(resumed, 4, 6))
    for i, p in ipairs(whole.model:parameters()) do
      assert.is_true(p.value:equal(resumed.model:parameters()[i].value))
    end
  end)
end)

-- Sums of numbers that bf16 has exactly, which bf16 does not have: right only if they were float32 all the way.
describe("gradients of parameters that were cast to bf16", function()
  if not on_cuda then return end
  local N, C = 70, 24

  local function leaf(shape, value)
    return mb.full(shape, value, { device = helper.device, requires_grad = true })
  end

  -- What fn(parameter in bf16) gives the gradient of: twice, the second time added.
  local function gradient(shape, value, fn)
    local p = leaf(shape, value)
    for _ = 1, 2 do mb.sum(fn(p:to "bf16"):to "f32"):backward() end
    return p.grad
  end

  -- Whether `fn` gives what it gives in float32.
  local function compare(name, shape, value, fn)
    local wide = leaf(shape, value)
    for _ = 1, 2 do mb.sum(fn(wide, function(t) return t end)):backward() end
    local is = gradient(shape, value, function(p) return fn(p, function(t) return t:to "bf16" end) end)
    local gap, largest = (is - wide.grad):abs():max():item(), wide.grad:abs():max():item()
    assert(gap <= 2e-5 * largest, ("%s: off by %g of %g"):format(name, gap, largest))
    -- The same of a parameter that is bf16 itself, whose gradient is so too.
    local narrow = mb.full(shape, value, { device = helper.device }):to("bf16"):detach()
    narrow.requires_grad = true
    for _ = 1, 2 do mb.sum(fn(narrow, function(t) return t:to "bf16" end):to "f32"):backward() end
    assert.are.equal("bf16", narrow.grad.dtype)
    gap = (narrow.grad:to "f32" - wide.grad):abs():max():item()
    assert(gap <= 1e-2 * largest, ("%s in bf16: off by %g of %g"):format(name, gap, largest))
  end

  it("are float32: biases, norms, embeddings, what is stretched", function()
    mb.seed(helper.seed)
    local function exact(t) return t:to(helper.device):to("bf16"):to "f32" end
    local x, w, weights = exact(mb.randn(N, C)), exact(mb.randn(C, C)), exact(mb.rand(N, C))
    local ids = {}
    for i = 1, N do ids[i] = i % 5 end
    ids = mb.tensor(ids, { dtype = "i32", device = helper.device })
    local function weighed(y, as) return y * as(weights) end
    compare("bias", { C }, 0.5, function(p, as) return weighed(mb.linear(as(x), as(w), p), as) end)
    compare("bias of a gelu", { C }, 0.5, function(p, as) return weighed(mb.gelu_linear(as(x), as(w), p), as) end)
    -- So large that the product of the weights' gradient may make the bias's; not the second time, when that is added.
    local rows, factors, weighing = exact(mb.randn(300, 32)), exact(mb.randn(40, 32)), exact(mb.rand(300, 40))
    compare("bias beside its weights", { 40 }, 0.5, function(p, as)
      local weight = factors:clone():detach()
      weight.requires_grad = true
      return mb.linear(as(rows), as(weight), p) * as(weighing)
    end)
    compare("sum", { C }, 0.5, function(p, as) return weighed(as(x) + p, as) end)
    compare("sum of rows", { 11, C }, 0.5, function(p, as)
      return weighed((as(x):reshape(10, 7, C) + p:slice(1, 3, 9)):reshape(N, C), as)
    end)
    compare("sum of two parts", { 11, C }, 0.5, function(p, as)
      local both = as(x):reshape(10, 7, C) + p:slice(1, 1, 7) + p:slice(1, 5, 11)
      return weighed(both:reshape(N, C), as)
    end)
    compare("part of a bias", { 5 + C }, 0.5, function(p, as)
      return weighed(mb.linear(as(x), as(w), p:slice(1, 4, 3 + C)), as)
    end)
    compare("part of an embedding", { 12, C }, 0.5, function(p, as)
      return weighed(mb.embedding(p:slice(1, 2, 10), ids), as)
    end)
    compare("embedding", { 9, C }, 0.5, function(p, as) return weighed(mb.embedding(p, ids), as) end)
    local row = w:slice(1, 1, 1):reshape(C)
    compare("norm's bias", { C }, 0.5, function(p, as) return weighed(mb.layernorm(as(x), as(row), p), as) end)
    compare("norm's weight", { C }, 0.5, function(p, as) return weighed(mb.layernorm(as(x), p), as) end)
    compare("norm's both", { C }, 0.5, function(p, as) return weighed(mb.layernorm(as(x), p, p), as) end)
    compare("RMS norm", { C }, 0.5, function(p, as) return weighed(mb.rmsnorm(as(x), p), as) end)
  end)

  it("of positions do not depend on how many a model could have", function()
    local o = { vocab_size = 11, block_size = 4, n_layer = 1, n_head = 2, n_embd = 16, seed = 5, dtype = "bf16",
                device = helper.device }
    local short = mb.models.gpt2(o)
    o.block_size = 7
    local long = mb.models.gpt2(o)
    for i, p in ipairs(long:parameters()) do
      local to = p.value:detach()
      if p.name == "wpe.weight" then to = to:slice(1, 1, 4) end
      to:copy_(short:parameters()[i].value:detach())
    end
    local batches = { { inputs = { { 1, 2, 3, 4 }, { 0, 10, 5, 5 } }, targets = { { 2, 3, 4, 5 }, { 10, 5, 5, 1 } } },
                      { inputs = { { 7, 2, 3, 9 } }, targets = { { 2, 3, 9, 5 } } } }
    for _, batch in ipairs(batches) do -- the second is added
      local grads = {}
      for i, model in ipairs { short, long } do
        model:loss(batch):backward()
        grads[i] = model:parameter("wpe.weight").value.grad
      end
      assert.is_true(grads[1]:abs():sum():item() > 0)
      assert.is_true(grads[2]:slice(1, 1, 4):equal(grads[1]))
      assert.are.equal(0, grads[2]:slice(1, 5, 7):abs():sum():item())
    end
  end)

  it("are added up where one parameter was cast twice for one norm", function()
    local x = mb.randn(N, C):to(helper.device)
    local function sum_of(second)
      local p = leaf({ C }, 0.5)
      mb.sum(mb.layernorm(x:to "bf16", p:to "bf16", second(p)):to "f32"):backward()
      return p.grad
    end
    local other = leaf({ C }, 0.5)
    local both = sum_of(function(p) return p:to "bf16" end)
    local one = sum_of(function() return other:to "bf16" end)
    assert.is_true(both:allclose(one + other.grad, { rtol = 1e-6, atol = 1e-6 }))
  end)
end)

describe("mb.tf32", function()
  it("is off until it is asked for", function()
    assert.are.equal(os.getenv "MOONBOW_TF32" == "1", mb.tf32())
    assert.is_true(mb.tf32(true))
    assert.is_true(mb.tf32())
    assert.is_false(mb.tf32(false))
    assert.matches("mb.tf32: a boolean was expected, not the number 1", helper.error_of(function() mb.tf32(1) end))
  end)

  if not on_cuda then return end

  -- 1 + 2^-11 has eleven bits of fraction, 1 + 2^-9 nine: TF32 keeps ten.
  it("rounds the factors of float32 products, and of nothing else", function()
    local x = mb.full({ 16, 16 }, 1 + 2 ^ -12, { device = helper.device })
    local y = mb.full({ 16, 16 }, 1 + 2 ^ -9, { device = helper.device })
    local function corner(a, b) return a:matmul(b):to("f64"):totable()[1][1] end
    local exact, rounded = 16 * (1 + 2 ^ -12) * (1 + 2 ^ -9), 16 * (1 + 2 ^ -9)
    assert.is_true(math.abs(corner(x, y) - exact) < 1e-5)
    mb.seed(helper.seed)
    local matrix = mb.randn(16, 12):to(helper.device)
    local exact_polar = mb.linalg.msign(matrix)
    mb.tf32(true)
    local fast, double = corner(x, y), corner(x:to "f64", y:to "f64")
    local polar = mb.linalg.msign(matrix)
    mb.tf32(false)
    assert.is_true(math.abs(fast - rounded) < 1e-5)
    assert.is_true(math.abs(double - exact) < 1e-12)
    assert.is_true(polar:equal(exact_polar))
    assert.is_true(math.abs(corner(x, y) - exact) < 1e-5)
  end)
end)

describe("mb.deterministic", function()
  it("is on until it is told otherwise", function()
    local before = mb.deterministic()
    assert.are.equal(os.getenv "MOONBOW_DETERMINISTIC" ~= "0", before)
    assert.is_false(mb.deterministic(false))
    assert.is_false(mb.deterministic())
    assert.are.equal(before, mb.deterministic(before))
    assert.matches("mb.deterministic: a boolean was expected, not the number 0",
                   helper.error_of(function() mb.deterministic(0) end))
  end)
end)

describe("mb.device_notes", function()
  it("says what computes attention, on a device that has a choice", function()
    local notes = mb.device_notes()
    if mb.device() == "cpu" then return assert.are.equal("", notes) end
    assert.is_true(notes:find "^cuDNN %d" ~= nil or notes:find "^no cuDNN: " ~= nil, notes)
  end)
end)
