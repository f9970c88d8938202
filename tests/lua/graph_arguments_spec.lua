-- SPDX-License-Identifier: MIT
--
-- Arguments and results of mb.graph's functions: what makes another graph, and that calls return what the function does; what a
-- training run says of its graphs. On the CPU, where the function is run as it is, the same tests hold.

local helper = require "tests.helper"
local mb = require "moonbow"
local runner = require "tests.smoke.runner"

local it_on_device, says = helper.it_on_device, helper.says
local captures = helper.device ~= "cpu"

local function first(t) return t:totable()[1] end

-- Calls often enough that the next one is a replay.
local function settled(fn, ...)
  local graphed = mb.graph(fn)
  for _ = 1, 4 do graphed(...) end
  return graphed
end

describe("arguments of a graph", function()
  it_on_device("of other shapes or numbers in an array are others", function()
    local sum = settled(function(list)
      local total = list[1] * 1
      for i = 2, #list do total = total + list[i] end
      return total
    end, { mb.ones(2), mb.ones(2) })
    for n = 1, 4 do
      local list = {}
      for i = 1, n do list[i] = mb.ones(2) end
      assert.equal(n, first(sum(list)))
    end
    assert.same({ 3 }, { sum { mb.full({ 1 }, 3) }:totable()[1] })
    local scaled = settled(function(x, o) return x * o[1] end, mb.ones(2), { 2 })
    assert.equal(3, first(scaled(mb.ones(2), { 3 })))
  end)

  it_on_device("are others where numbers differ in their last digit, texts by where they end, keys by their type", function()
    local x = mb.ones({ 2 }, { dtype = "f64" })
    local scaled = settled(function(t, a) return t * a end, x, 0.1)
    assert.equal(0.1 + 2 ^ -54, first(scaled(x, 0.1 + 2 ^ -54)))
    local length = settled(function(t, a) return t * #a end, x, "a;string:b", "c")
    assert.equal(1, first(length(x, "a", "b;string:c")))
    local by_key = settled(function(t) return t[1] and t[1] * 1 or t["1"] * 2 end, { x })
    assert.equal(2, first(by_key { ["1"] = x }))
  end)

  it_on_device("may be objects", function()
    local Box = {}
    Box.__index = Box
    function Box:twice() return self.x * 2 end
    local twice = settled(function(box) return box:twice() end, setmetatable({ x = mb.ones(2) }, Box))
    assert.equal(6, first(twice(setmetatable({ x = mb.full({ 2 }, 3) }, Box))))
  end)

  it_on_device("that are others in each call are computed with as they are, and are not remembered", function()
    local scaled = mb.graph(function(x, a) return x * a end)
    for i = 1, 200 do assert.equal(i, first(scaled(mb.ones(2), i))) end
    if not captures then return end
    local n = 0
    for _ in pairs(scaled.kinds) do n = n + 1 end
    assert.is_true(n <= 65, n)
    assert.matches("nearly every call has other arguments", tostring(scaled))
    for _ = 1, 4 do scaled(mb.ones(2), 5) end
    assert.matches("^graphed function: 1 graph, replayed", tostring(scaled))
  end)

  it_on_device("that hold themselves are refused", function()
    if not captures then return end
    local list = { mb.ones(2) }
    list[2] = list
    says("mb.graph: a table among the arguments holds itself", mb.graph(function(t) return t[1] * 1 end), list)
  end)
end)

it_on_device("a graphed function says what it is and lends its memory, on every device", function()
  local twice = settled(function(x) return x * 2 end, mb.ones(2))
  assert.equal(captures and 1 or 0, twice:graphs())
  assert.equal(captures and "graphed function: 1 graph, replayed 1 times"
    or "graphed function, run plainly: the cpu has no graphs", tostring(twice))
  local a, b = twice:lend(function(n) return mb.ones(2):sum():item() + n, "b" end, 3)
  assert.equal(5, a)
  assert.equal("b", b)
  says("within", twice.lend, twice, function() error("within", 0) end)
end)

it_on_device("reports of a replay are there in tables, too", function()
  local function losses(wrap)
    mb.seed(helper.seed)
    local model = mb.models.mlp { n_input = 3, n_hidden = 4, n_output = 2, seed = 1 }
    local optimizer = mb.optim.sgd(model, { lr = 0.1 })
    local clip = mb.clip.spectral { threshold = mb.threshold.ema { beta = 0.5 } }
    local step = wrap(function(x)
      optimizer:zero_grad()
      local loss = model:logits({ inputs = x }):square():mean()
      loss:backward()
      return { loss = loss, of = { report = optimizer:step(clip) } }, "same"
    end)
    local texts = {}
    for i = 1, 7 do
      mb.set_step(i)
      local result, text = step(mb.randn(5, 3))
      texts[i] = ("%.17g %.17g %s"):format(result.loss:item(), result.of.report[1].sigma, text)
    end
    return texts
  end
  assert.same(losses(function(fn) return fn end), losses(mb.graph))
end)

it_on_device("a parameter that is frozen, or no more, between calls gets what a plain call gives it", function()
  local function weights(wrap)
    local model = mb.models.mlp { n_input = 3, n_hidden = 4, n_output = 2, seed = 1 }
    local optimizer = mb.optim.sgd(model, { lr = 0.1, momentum = 0.9 })
    local step = wrap(function(x)
      optimizer:zero_grad()
      model:logits({ inputs = x }):square():mean():backward()
      optimizer:step()
    end)
    local texts = {}
    mb.seed(helper.seed)
    for i = 1, 16 do
      if i == 6 or i == 11 then model:parameters()[1].value.requires_grad = i == 11 end
      step(mb.randn(5, 3))
      for _, p in ipairs(model:parameters()) do texts[#texts + 1] = ("%.17g"):format(p.value:sum():item()) end
    end
    return texts
  end
  assert.same(weights(function(fn) return fn end), weights(mb.graph))
end)

-- Sums over networks that `each` switches between calls: what is frozen, or evaluates, differs from call to call.
local function switched(wrap, each)
  mb.seed(helper.seed)
  local ids, models = mb.ids { { 1, 2, 3, 4 } }, {}
  for i = 1, 2 do
    models[i] = mb.models.gpt2 { vocab_size = 7, block_size = 4, n_layer = 1, n_head = 1, n_embd = 8, dropout = 0.5, seed = i }
  end
  local step = wrap(function()
    local total = 0
    for i = 1, 2 do
      models[i]:zero_grad()
      total = models[i]:loss { inputs = ids, targets = ids } + total
    end
    total:backward()
    return total
  end)
  local texts = {}
  for k = 1, 12 do
    mb.set_step(k)
    each(k, models)
    texts[k] = ("%.17g"):format(step():item())
    for _, p in ipairs(models[1]:parameters()) do texts[k] = texts[k] .. (" %.9g"):format(p.grad:sum():item()) end
  end
  return texts
end

it_on_device("which model evaluates makes another graph, not how many do", function()
  local function each(k, models)
    models[1 + k % 2]:eval()
    models[2 - k % 2]:train()
  end
  assert.same(switched(function(fn) return fn end, each), switched(mb.graph, each))
end)

it_on_device("which parameters are frozen makes another graph, not the sum of their addresses", function()
  local graphs, seen, leaves = require "bindings.graph", {}, {}
  for i = 1, 12 do leaves[i] = mb.ones({ 2 }, { requires_grad = true }) end
  for i = 1, 12 do
    for j = i + 1, 12 do
      for _, k in ipairs { i, j } do leaves[k]:requires_grad_(false) end
      local text = graphs.marks()
      assert.is_nil(seen[text])
      seen[text] = true
      for _, k in ipairs { i, j } do leaves[k]:requires_grad_(true) end
    end
  end
  local function each(k, models)
    local list = models[1]:parameters()
    for i, p in ipairs(list) do p.value.requires_grad = (i + k) % 4 > 0 end
  end
  assert.same(switched(function(fn) return fn end, each), switched(mb.graph, each))
end)

it_on_device("a parameter that is frozen is another one than what was frozen in its place before", function()
  local graphs, seen = require "bindings.graph", {}
  for _ = 1, 20 do
    local leaf = mb.ones({ 2 }, { requires_grad = true })
    leaf.requires_grad = false
    local text = graphs.marks()
    assert.is_nil(seen[text])
    seen[text] = true
    leaf = nil -- luacheck: ignore
    mb.collect()
  end
end)

describe("a training run", function()
  if not helper.is_stand_in then return end
  teardown(runner.clean)

  local function train(script, arguments)
    local text = runner.corpus(runner.folder() .. "/text", 3000)
    local rc, said, complaint = runner.shell(("luajit '%s' --device cuda --plain --n_layer 1 --n_head 2 --n_embd 8 "
      .. "--block_size 8 --batch_size 2 --sample_tokens 0 --eval_iters 1 --data '%s' --out '%s' %s"):format(script, text,
      runner.folder() .. "/run", arguments))
    assert.are.equal(0, rc, said .. complaint)
    return said
  end
  local original = runner.root .. "/scripts/train_gpt2.lua"

  it("says how many graphs there are whenever there are more, and the memory of both sides", function()
    local said = train(original, "--steps 4 --grad_accum 3")
    assert.matches("graphs  forward and backward: 1, from step 1 on\n", said, 1, true)
    assert.matches("graphs  forward and backward: 2, from step 2 on\n", said, 1, true)
    assert.matches("graphs  clipping and update: 1, from step 3 on\n", said, 1, true)
    assert.matches("memory      [%d.]+ .?i?B at most on cuda, [%d.]+ MiB of the host\n", said)
  end)

  it("says so where a part is captured no more", function()
    local changed = runner.folder() .. "/train.lua"
    local text, n = runner.read(original):gsub("optimizer:zero_grad%(%)", "optimizer.groups[1].momentum = 1 - 0.1 / step;%0")
    assert.are.equal(1, n)
    local f = assert(io.open(changed, "w"))
    f:write(text)
    f:close()
    local said = train(changed, "--steps 9 --optimizer muon --clip none")
    assert.matches("graphs  clipping and update: 2, from step 3 on\n", said, 1, true)
    assert.matches("graphs  clipping and update runs without one from step 8 on: [^\n]*momentum[^\n]*\n", said)
  end)
end)
