-- SPDX-License-Identifier: MIT
--
-- Groups of an optimizer that differ in numbers alone run as one (lua/moonbow/optim/together.lua): every parameter gets the bits
-- that an optimizer with its group's numbers gives it, and one that knows no other numbers.
local helper = require "tests.helper"
local mb = require "moonbow"

local it_on_device, says = helper.it_on_device, helper.says

-- Sizes that fill no vector, and neighbours of other groups within one; two that are more than a block on any device.
local SIZES = { { 1 }, { 3 }, { 5 }, { 7, 5 }, { 11, 3 }, { 1 }, { 2, 1 }, { 1, 9 }, { 130, 41 }, { 6 }, { 41, 300 }, { 5 } }
local Uneven = mb.models.define {
  name = "uneven",
  parameters = function(add)
    for i, size in ipairs(SIZES) do
      add(("p%d"):format(i), size, { role = #size > 1 and "matrix" or "vector", init = "normal", std = 1 })
    end
  end,
  forward = function(p) return mb.sum(p.p1) end,
}

local function model_of(dtype) return Uneven { seed = 3, dtype = dtype } end

local function set_gradients(model, step)
  for _, p in ipairs(model:parameters()) do
    local values = {}
    for e = 1, p.value.numel do values[e] = math.sin(p.index + 1.7 * e + 2.3 * step) * (e % 3 == 0 and 0.01 or 1) end
    p.grad:copy_(mb.tensor(values, { dtype = model.dtype }):reshape(p.shape))
  end
end

-- Parameter i belongs to group i modulo n: neighbours in the arena never share one.
local function in_groups(n, name, numbers)
  local list = {}
  for k = 1, n do
    list[k] = { name = name, where = function(p) return p.index % n == k - 1 end }
    for key, value in pairs(numbers(k)) do list[k][key] = value end
  end
  return list
end

local function text_of(t) return table.concat(t:to("cpu"):reshape(-1):totable(), " ") end

-- Everything that a group has changed: weights and states of its parameters.
local function states_of(opt, k)
  local texts, all = {}, opt:state_dict()
  for _, p in ipairs(opt.groups[k].parameters) do
    texts[p.name] = text_of(p.value)
    for key, state in pairs(all) do
      if mb.is_tensor(state) and key:match "^(.-)/" == p.name then texts[key] = text_of(state) end
    end
  end
  return texts
end

local function step(opt, model, i, clip)
  mb.set_step(i)
  set_gradients(model, i)
  opt:step(clip)
end

-- Steps groups together, and an optimizer of one group by itself for each; `each(i, opt)` comes before step i.
local function compare(n, constructor, numbers, o)
  o = o or {}
  for _, dtype in ipairs { "f32", "f64" } do
    local model = model_of(dtype)
    local opt = mb.optim.groups(model, in_groups(n, constructor, numbers))
    assert.equal(1, #opt.runs)
    for i = 1, 4 do
      if o.each then o.each(i, opt.groups) end
      step(opt, model, i, o.clip and o.clip())
    end
    for k = 1, n do
      local alone = model_of(dtype)
      local one = constructor(alone, numbers(k))
      for i = 1, 4 do
        if o.each then o.each(i, { [k] = one.groups[1] }) end
        step(one, alone, i, o.clip and o.clip())
      end
      local mine, wanted, count = states_of(opt, k), states_of(one, 1), 0
      for name, text in pairs(mine) do
        assert.equal(wanted[name], text, ("%s of group %d in %s"):format(name, k, dtype))
        count = count + 1
      end
      assert.is_true(count >= #opt.groups[k].parameters)
    end
  end
end

local function adamw_numbers(k)
  return { lr = k == 2 and mb.schedule.cosine { peak = 0.02, min = 0, warmup = 2, steps = 9 } or 0.002 * k,
           betas = { 1 - 0.5 ^ k, 0.9 }, eps = 10 ^ -k, weight_decay = k % 2 * 0.1 }
end

local Factored = mb.optim.define {
  name = "factored_together", defaults = { lr = 0.1, b = 0.9 }, state = { "m", r = "rows", c = "columns", s = "parameter" },
  update = function(p, h)
    local square = mb.square(p.g) + 1e-30
    p.r = h.b * p.r + (1 - h.b) * mb.mean(square, { over = "rows" })
    p.c = h.b * p.c + (1 - h.b) * mb.mean(square, { over = "columns" })
    p.s = p.s + h.lr * mb.mean(square)
    local u = p.g / mb.sqrt(p.r * p.c / mb.mean(p.r)) * mb.sqrt(h.b * p.m:rows())
    p.m = h.b * p.m + u / mb.maximum(1, mb.sqrt(mb.mean(mb.square(u))))
    p.w = p.w - h.lr * p.m
  end,
}

local Rounded = mb.optim.define {
  name = "rounded_together", defaults = { lr = 0.1 },
  update = function(p, h) p.w = p.w - h.lr * (p.g + mb.rand_like(p.w) + 0.1 * mb.randn_like(p.w)) end,
}

describe("groups that differ in numbers run as one", function()
  it_on_device("with numbers, arrays, schedules and counters of their own", function()
    compare(3, mb.optim.adamw, adamw_numbers)
    compare(#SIZES, mb.optim.adamw, adamw_numbers)
    compare(2, mb.optim.lion, function(k) return { lr = 0.1 / k, weight_decay = 0.1 * k } end)
  end)

  it_on_device("with numbers that are set between steps", function()
    compare(3, mb.optim.adamw, adamw_numbers, { each = function(i, groups)
      if i == 3 and groups[2] then groups[2].lr = 0.3 end
      if i == 4 and groups[3] then groups[3].betas = { 0.1, 0.2 } end
    end })
  end)

  it_on_device("with norms of each parameter, and states of rows, columns and parameters", function()
    compare(4, mb.optim.lamb, function(k) return { lr = 0.01 * k, weight_decay = 0.1 / k } end)
    compare(5, Factored, function(k) return { lr = 0.01 * k, b = 1 - 0.1 * k } end)
  end)

  it_on_device("with random numbers", function()
    compare(3, Rounded, function(k) return { lr = 0.2 * k } end)
  end)

  it_on_device("or by themselves behind a clipper of updates or momenta", function()
    for _, on in ipairs { "update", "momentum" } do
      compare(2, mb.optim.adamw, function(k) return { lr = 0.01 * k, betas = { 0.8, 0.9 } } end,
              { clip = function() return mb.clip.norm { max_norm = 1e9, on = on } end })
    end
  end)

  it_on_device("go on from a state", function()
    local function new(model) return mb.optim.groups(model, in_groups(3, Factored, function(k) return { lr = 0.1 * k } end)) end
    local model, other = model_of "f32", model_of "f32"
    local opt, resumed = new(model), new(other)
    for i = 1, 3 do step(opt, model, i) end
    for i, p in ipairs(other:parameters()) do p.value:detach():copy_(model:parameters()[i].value) end
    resumed:load_state_dict(opt:state_dict())
    for i = 4, 6 do
      step(opt, model, i)
      step(resumed, other, i)
    end
    for k = 1, 3 do assert.same(states_of(opt, k), states_of(resumed, k)) end
  end)
end)

describe("what is one run and what is not:", function()
  local function runs(list) return #mb.optim.groups(model_of "f32", list).runs end
  local function halves(a, b)
    a.where, b.where = function(p) return p.index % 2 == 0 end, "rest"
    return runs { a, b }
  end

  it("the same program of one optimizer", function()
    assert.equal(1, halves({ name = "adamw", lr = 1 }, { name = "adamw", weight_decay = 0 }))
    assert.equal(1, halves({ name = "sgd", momentum = 0.9 }, { name = "sgd", momentum = 0.8, lr = 0.1 }))
    assert.equal(2, halves({ name = "sgd", momentum = 0.9 }, { name = "sgd", momentum = 0.9, nesterov = true }))
    assert.equal(2, halves({ name = "sgd", momentum = 0.9 }, { name = "sgd" }))
    assert.equal(2, halves({ name = "adamw" }, { name = "adam" }))
    assert.equal(2, runs {
      { name = "adamw", where = "p1" }, { name = "muon", where = "matrix" }, { name = "adamw", lr = 1, where = "rest" },
    })
  end)

  it("not what reduces over its group or over all", function()
    for _, over in ipairs { "group", "all" } do
      local Normalized = mb.optim.define {
        name = "normalized_" .. over, defaults = { lr = 0.1 },
        update = function(p, h) p.w = p.w - h.lr * p.g / mb.norm(p.g, { over = over }) end,
      }
      assert.equal(2, halves({ name = Normalized }, { name = Normalized, lr = 1 }))
    end
  end)

  it_on_device("one pass over memory, whatever the groups", function()
    local function check(n)
      local model = model_of "f32"
      local opt = mb.optim.groups(model, in_groups(n, "adamw", adamw_numbers))
      set_gradients(model, 1)
      opt:step()
      local launches, bytes = 0, 0
      for _, row in ipairs(mb.profile(function() opt:step() end, { ceilings = false })) do
        launches, bytes = launches + row.launches, bytes + row.bytes
      end
      assert.equal(1, launches)
      assert.equal(28 * model:count(), bytes)
    end
    for _, n in ipairs { 1, 2, #SIZES } do check(n) end
  end)
end)

describe("a graph of groups that run as one", function()
  local function train(is_graphed)
    local model = mb.models.gpt2 { vocab_size = 11, block_size = 4, n_layer = 2, n_head = 2, n_embd = 8, dropout = 0, seed = 3 }
    local opt = mb.optim.groups(model, in_groups(5, "adamw", adamw_numbers))
    local ids, texts = mb.ids { { 1, 5, 2, 7 } }, {}
    local function update()
      opt:zero_grad()
      local loss = model:loss { inputs = ids, targets = ids }
      loss:backward()
      opt:step()
      return loss
    end
    local run = is_graphed and mb.graph(update) or update
    for i = 1, 9 do
      mb.set_step(i)
      if i == 5 then opt.groups[3].lr = 0.002 end
      if i == 6 then opt.groups[1].weight_decay = 0.5 end
      if i == 7 then model:parameters()[2].value.requires_grad = false end
      mb.scope(function() texts[i] = ("%.17g"):format(run():item()) end)
    end
    for k = 1, 5 do
      for name, text in pairs(states_of(opt, k)) do texts[#texts + 1] = name .. "=" .. text end
    end
    table.sort(texts)
    return texts, run
  end

  it_on_device("asks schedules, counts, and takes numbers that are set", function()
    local graphed, run = train(true)
    assert.same((train(false)), graphed)
    if helper.device ~= "cpu" then assert.truthy(tostring(run):find "replayed") end
  end)

  it_on_device("refuses a number that is out of its limits before anything moves", function()
    local model = model_of "f32"
    local opt = mb.optim.groups(model, in_groups(3, "adamw", function(k)
      return { lr = k == 3 and function(i) return i == 2 and -1 or 1e-3 end or 1e-3 }
    end))
    step(opt, model, 1)
    local before = text_of(model:parameters()[1].value)
    set_gradients(model, 2)
    says("option 'lr' at step 2", function() opt:step() end)
    assert.equal(before, text_of(model:parameters()[1].value))
    assert.equal(1, opt.updates)
  end)
end)
