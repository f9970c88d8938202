-- SPDX-License-Identifier: MIT
--
-- mb.graph: a function captured once and replayed gives what calls of the function give, to the bit: losses, weights, states,
-- reports, counters, random numbers. On the CPU, where the function is run as it is, the same tests compare it with itself.

local helper = require "tests.helper"
local mb = require "moonbow"
local runtime = require "bindings.runtime"

local it_on_device, says = helper.it_on_device, helper.says
local captures = helper.device ~= "cpu"
local VOCABULARY, TIME = 37, 8

local function batch(i, rows)
  local inputs, targets = {}, {}
  for r = 1, rows or 2 do
    inputs[r], targets[r] = {}, {}
    for t = 1, TIME do
      inputs[r][t] = (7 * i + 3 * r + t * t) % VOCABULARY
      targets[r][t] = (7 * i + 3 * r + (t + 1) ^ 2) % VOCABULARY
    end
  end
  return { inputs = mb.ids(inputs), targets = mb.ids(targets) }
end

local function new_model(o)
  o = o or {}
  return mb.models.gpt2 {
    vocab_size = VOCABULARY, block_size = TIME, n_layer = 2, n_head = 2, n_embd = 16, dropout = o.dropout or 0.1, seed = 3,
    dtype = o.dtype, rounding = o.rounding, head_chunks = o.head_chunks,
  }
end

local function cosine() return mb.schedule.cosine { peak = 1e-2, min = 1e-3, warmup = 3, steps = 30 } end

-- Text of all that a step may change: weights, states, counters, generator.
local function state_of(model, optimizer, clip)
  local lines = {}
  local function add(name, value)
    if mb.is_tensor(value) then
      lines[#lines + 1] = name .. "=" .. table.concat(value:to("cpu"):reshape { value.numel }:totable(), " ")
    elseif type(value) == "table" then
      local keys = {}
      for key in pairs(value) do keys[#keys + 1] = tostring(key) end
      table.sort(keys)
      for _, key in ipairs(keys) do add(name .. "." .. key, value[key] == nil and value[tonumber(key)] or value[key]) end
    else
      lines[#lines + 1] = name .. "=" .. (type(value) == "number" and ("%.17g"):format(value) or tostring(value))
    end
  end
  for _, p in ipairs(model:parameters()) do add(p.name, p.value) end
  add("optimizer", optimizer:state_dict())
  if clip and clip.state_dict then add("clip", clip:state_dict()) end
  add("rng", { mb.random_state() })
  add("lr", optimizer:learning_rate())
  return table.concat(lines, "\n")
end

local function text_of(report)
  if not report then return "" end
  if report.norm then return ("%.17g %s"):format(report.norm, tostring(report.clipped)) end
  local texts = {}
  for i, row in ipairs(report) do
    texts[i] = ("%s %.17g %s %s"):format(row.name, row.sigma, tostring(row.tau), tostring(row.clipped))
  end
  return table.concat(texts, ";")
end

-- `steps` training steps; o.optimizer(model), o.clip(), o.each(i, optimizer, clip) before step i, o.model, o.rows(i).
-- Returns the losses and reports as texts, the state at the end, the graphed function, and the waits and requests of each step.
local function train(is_graphed, steps, o)
  mb.seed(helper.seed)
  local model = new_model(o.model)
  local optimizer, clip = o.optimizer(model), o.clip and o.clip()
  local step = function(given)
    optimizer:zero_grad()
    local loss = model:loss(given)
    loss:backward()
    return loss, optimizer:step(clip)
  end
  if is_graphed then step = mb.graph(step) end
  local texts, costs = {}, {}
  for i = 1, steps do
    mb.set_step(i)
    if o.each then o.each(i, optimizer, clip, model) end
    mb.scope(function()
      local given = batch(i, o.rows and o.rows(i))
      local waits, requests = runtime.waits(helper.device), mb.memory(helper.device).requests
      local loss, report = step(given)
      costs[i] = { waits = runtime.waits(helper.device) - waits, requests = mb.memory(helper.device).requests - requests }
      texts[i] = ("%.17g %s"):format(loss:item(), text_of(report))
    end)
  end
  return texts, state_of(model, optimizer, clip), step, costs
end

-- Graphed steps equal plain ones; returns the graphed function and the costs of its calls.
local function compare(steps, o)
  local plain, plain_state = train(false, steps, o)
  local graphed, graphed_state, step, costs = train(true, steps, o)
  for i = 1, steps do assert.equal(plain[i], graphed[i], "step " .. i) end
  assert.equal(plain_state, graphed_state)
  return step, costs
end

local function adamw(model) return mb.optim.adamw(model, { lr = cosine(), weight_decay = 0.1 }) end
local function muon(model) return mb.optim.muon(model, { lr = cosine(), weight_decay = 0.1 }) end
local function ema() return mb.clip.spectral { threshold = mb.threshold.ema { beta = 0.9 }, rank = 4 } end

describe("a graphed training step", function()
  it_on_device("with AdamW, a schedule, dropout and clipping by a policy of the device waits for nothing", function()
    local step, costs = compare(20, { optimizer = adamw, clip = ema })
    if not captures then return end
    assert.equal(1, step:graphs())
    for i = 4, 20 do assert.same({ waits = 0, requests = 0 }, costs[i]) end
  end)

  it_on_device("draws what plain steps draw for stochastic rounding", function()
    if not captures then return pending "bf16 is computed with on a GPU" end
    local step, costs = compare(8, { optimizer = adamw, model = { dtype = "bf16", rounding = "stochastic" } })
    assert.equal(1, step:graphs())
    assert.equal(0, costs[8].waits)
  end)

  it_on_device("goes through a head in chunks", function()
    local step, costs = compare(8, { optimizer = adamw, clip = ema, model = { head_chunks = 3 } })
    if not captures then return end
    assert.equal(1, step:graphs())
    for i = 4, 8 do assert.same({ waits = 0, requests = 0 }, costs[i]) end
    compare(4, { optimizer = adamw, model = { head_chunks = 3, dtype = "bf16" } })
  end)

  it_on_device("with Muon waits once, for the check of the gradients", function()
    local step, costs = compare(10, { optimizer = muon, clip = ema })
    if not captures then return end
    assert.equal(2, step:graphs())
    for i = 4, 10 do assert.same({ waits = 1, requests = 0 }, costs[i]) end
  end)

  it_on_device("with a threshold in Lua is two graphs and one wait", function()
    local asked = 0
    local step, costs = compare(10, { optimizer = adamw, clip = function()
      return mb.clip.spectral { rank = 4, threshold = function(p)
        asked = asked + 1
        p.state.n = (p.state.n or 0) + 1
        return p.sigma * (0.3 + 0.01 * p.state.n)
      end }
    end })
    assert.equal(2 * 10 * 26, asked) -- two runs, ten steps, two layers of twelve parameters and two behind them
    if not captures then return end
    assert.equal(2, step:graphs())
    for i = 4, 10 do assert.same({ waits = 1, requests = 0 }, costs[i]) end
  end)

  it_on_device("clips by the norm of all gradients", function()
    compare(8, { optimizer = adamw, clip = function() return mb.clip.norm { max_norm = 0.5 } end })
  end)

  it_on_device("clips updates and momenta", function()
    for _, on in ipairs { "update", "momentum" } do
      compare(6, { optimizer = on == "update" and adamw or muon, clip = function()
        return mb.clip.spectral { threshold = 0.01, on = on, rank = 4 }
      end })
    end
  end)

  it_on_device("takes a learning rate and a threshold that are set between steps", function()
    local step = compare(12, { optimizer = adamw, clip = ema, each = function(i, optimizer, clip)
      if i == 6 then optimizer.lr = 3e-3 end
      if i == 8 then clip.threshold = 0.05 end
    end })
    if captures then assert.matches("replayed %d+ times", tostring(step)) end
  end)

  it_on_device("takes a learning rate that a threshold in Lua sets before the update", function()
    local function run(wrap)
      mb.seed(helper.seed)
      local model = new_model()
      local optimizer = mb.optim.adamw(model, { lr = 1e-3 })
      local clip = mb.clip.norm { threshold = function(p)
        optimizer.lr = 1e-3 * p.sigma
        return 1
      end }
      local step = wrap(function(given)
        optimizer:zero_grad()
        model:loss(given):backward()
        clip(model)
        optimizer:step()
      end)
      for i = 1, 6 do
        mb.set_step(i)
        step(batch(i))
      end
      return state_of(model, optimizer, clip)
    end
    assert.equal(run(function(fn) return fn end), run(mb.graph))
  end)

  it_on_device("of Muon is captured anew when a number changes that Lua computes with", function()
    local step = compare(12, { optimizer = muon, each = function(i, optimizer)
      if i == 7 then optimizer.groups[1].momentum = 0.8 end
    end })
    if captures then assert.matches("'momentum' of optimizer 'muon' has changed", step.note) end
  end)

  it_on_device("of Muon runs plainly where such a number has a schedule", function()
    local step = compare(16, { optimizer = function(model)
      return mb.optim.muon(model, { lr = cosine(), momentum = function(i) return 0.9 - 0.01 * i end })
    end })
    if captures then assert.matches("run plainly: 'momentum' of optimizer 'muon' has changed", tostring(step)) end
  end)

  it_on_device("has a graph for each shape of its arguments", function()
    local step, costs = compare(16, { optimizer = adamw, clip = ema, rows = function(i) return i % 3 == 0 and 3 or 2 end })
    if not captures then return end
    assert.equal(2, step:graphs())
    for i = 12, 16 do assert.same({ waits = 0, requests = 0 }, costs[i]) end
  end)

  it_on_device("leaves room for evaluation and other work between replays", function()
    local held = {}
    local function look(i, _, _, model)
      -- Tensors that live during a replay keep their values.
      for n, t in ipairs(held) do
        assert.equal((i - 1) * t.numel, t:sum():item(), ("tensor %d before step %d"):format(n, i))
      end
      for n = 1, 60 do held[n] = mb.keep(mb.full({ 16 * n }, i)) end
      if i == 8 then held = {} end
      mb.no_grad(function()
        local inputs = mb.ids { { 1, 2, 3, 4, 5, 6, 7, 8 } }
        for _ = 1, 3 do model:loss { inputs = inputs, targets = inputs }:item() end
      end)
    end
    compare(8, { optimizer = adamw, clip = ema, each = look })
  end)
end)

describe("graphs of parts of a step", function()
  -- Two micro-steps and the update, each graphed by itself.
  local function accumulate(is_graphed, steps)
    mb.seed(helper.seed)
    local model = new_model()
    local optimizer, clip = adamw(model), ema()
    local function micro(given)
      local loss = model:loss(given) / 2
      loss:backward()
      return loss
    end
    local function update() return optimizer:step(clip) end
    if is_graphed then micro, update = mb.graph(micro), mb.graph(update) end
    local texts = {}
    for i = 1, steps do
      mb.set_step(i)
      optimizer:zero_grad()
      local sum = 0
      for k = 1, 2 do
        mb.scope(function() sum = sum + micro(batch(2 * i + k)):item() end)
      end
      texts[i] = ("%.17g %s"):format(sum, text_of(update()))
    end
    return texts, state_of(model, optimizer, clip), micro
  end

  it_on_device("accumulate gradients: one that writes them and one that adds", function()
    local plain, plain_state = accumulate(false, 8)
    local graphed, graphed_state, micro = accumulate(true, 8)
    assert.same(plain, graphed)
    assert.equal(plain_state, graphed_state)
    if captures then assert.equal(2, micro:graphs()) end
  end)

  it_on_device("return what they computed, and overwrite it", function()
    local double = mb.graph(function(x) return x * 2 end)
    local results = {}
    for i = 1, 5 do results[i] = double(mb.full({ 3 }, i)) end
    for i = 1, captures and 2 or 5 do assert.same({ 2 * i, 2 * i, 2 * i }, results[i]:totable()) end
    assert.same({ 10, 10, 10 }, results[5]:totable())
    if captures then assert.same({ 10, 10, 10 }, results[3]:totable()) end
  end)

  it_on_device("of fused functions count on in the generator", function()
    local noisy = mb.fuse(function(p, h) p.x = p.x + h.scale * mb.randn_like(p.x) end)
    local function run(wrap)
      mb.seed(5)
      local x = mb.zeros(40)
      local fn = wrap(function()
        noisy({ x = x }, { scale = 0.5 })
        x:add_(mb.dropout(x, 0.5))
        noisy({ x = x }, { scale = 0.25 })
      end)
      for i = 1, 6 do
        if i == 5 then mb.seed(11) end
        fn()
      end
      return x:totable(), { mb.random_state() }
    end
    local plain, at = run(function(fn) return fn end)
    local graphed, then_at = run(mb.graph)
    assert.same(plain, graphed)
    assert.same(at, then_at)
  end)
end)

it_on_device("a graphed loss has no dropout while its model evaluates", function()
  local function run(wrap)
    mb.seed(helper.seed)
    local model, losses = new_model { dropout = 0.5 }, {}
    local loss_of = wrap(function(given) return model:loss(given) end)
    for i = 1, 10 do
      mb.scope(function()
        losses[#losses + 1] = mb.no_grad(function() return loss_of(batch(i)):item() end)
        model:eval(function()
          losses[#losses + 1] = mb.no_grad(function() return loss_of(batch(i)):item() end)
        end)
      end)
    end
    return losses
  end
  assert.same(run(function(fn) return fn end), run(mb.graph))
end)

describe("what a graph cannot have", function()
  if not captures then return end

  -- The error of the third call of fn, which captures; and a sum that works before and after.
  local function refused(fn, text)
    local graphed, x = mb.graph(fn), mb.full({ 4 }, 2)
    graphed(x)
    graphed(x)
    says(text, graphed, x)
    assert.equal(8, x:sum():item())
    assert.is_true(graphed.nothing_done)
    says(text, graphed, x)
  end

  it_on_device("reading a value", function()
    refused(function(x) return x:sum():item() end, "reading a value, for which the host waits, cannot be part of a graph")
  end)

  it_on_device("copies from the host", function()
    refused(function(x) return x + mb.tensor { 1, 2, 3, 4 } end, "a copy from the host")
  end)

  it_on_device("the generator set within", function()
    refused(function(x)
      mb.seed(3)
      return mb.dropout(x, 0.5)
    end, "generator")
  end)

  it_on_device("another graph", function()
    local inner = mb.graph(function(x) return x + 1 end, { warm_up = 1 })
    refused(function(x) return inner(x) end, "graphs hold no graphs")
  end)

  it_on_device("an error of the function, which leaves gradients and counters as they were", function()
    local model = new_model()
    local optimizer, n = adamw(model), 0
    local step = mb.graph(function(given)
      optimizer:zero_grad()
      model:loss(given):backward()
      optimizer:step()
      n = n + 1
      if n == 3 then error("of the third call", 0) end
    end)
    for i = 1, 2 do step(batch(i)) end
    local before = state_of(model, optimizer)
    says("of the third call", step, batch(3))
    assert.equal(before, state_of(model, optimizer))
    for i = 3, 6 do step(batch(i)) end
    assert.equal(6, optimizer.updates)
  end)

  it_on_device("a gradient that is not finite is refused, and heard of two calls later", function()
    local model, clip = new_model(), ema()
    local fn = mb.graph(function(given, factor)
      model:zero_grad()
      local loss = model:loss(given) * factor
      loss:backward()
      return clip(model)
    end)
    for i = 1, 5 do fn(batch(i), mb.full({ 1 }, 1)) end
    local before = clip:state_dict()
    fn(batch(6), mb.full({ 1 }, 0 / 0))
    fn(batch(7), mb.full({ 1 }, 1))
    says("held NaN or Inf in an earlier call; nothing was changed", fn, batch(8), mb.full({ 1 }, 1))
    assert.is_true(fn(batch(8), mb.full({ 1 }, 1))[1].sigma > 0)
    assert.equal(before.step + 2, clip:state_dict().step)
    local report = fn(batch(9), mb.full({ 1 }, 0 / 0))
    says("held NaN or Inf in that call", function() return report[1].sigma end)
  end)

  it_on_device("an id out of range is replaced, and heard of at the next value", function()
    local model = new_model()
    local loss_of = mb.graph(function(given)
      local loss = model:loss(given)
      loss:backward()
      return loss
    end)
    model:zero_grad()
    for i = 1, 4 do loss_of(batch(i)) end
    local bad = batch(5)
    bad.inputs = mb.ids { { 1, 2, 3, 4, 5, 6, 7, 8 }, { 1, 2, VOCABULARY, 4, 5, 6, 7, -1 } }
    local loss = loss_of(bad)
    says("ids at (1, 2) is 37, but there are 37 rows in the table: 0 to 36 was expected", loss.item, loss)
    loss = loss_of(batch(6))
    assert.is_true(loss:item() > 0)
  end)

  it_on_device("other arguments than were seen are checked", function()
    local x = mb.full({ 2 }, 1)
    x.requires_grad = true
    local graphed = mb.graph(function(y) return y * 2 end, { warm_up = 1 })
    graphed(x)
    says("an argument requires a gradient", graphed, x)
    says("the argument", mb.graph, 3)
  end)
end)

describe("ids in training, without a graph", function()
  local TEXT = "ids at (0, 1) is 37, but there are 37 rows in the table: 0 to 36 was expected (places count from 0)"

  local function bad_loss(model)
    return model:loss { inputs = mb.ids { { 1, VOCABULARY, 3 } }, targets = mb.ids { { 1, 2, 3 } } }
  end

  it_on_device("are not waited for", function()
    local _, _, _, costs = train(false, 5, { optimizer = adamw, clip = ema })
    if captures then assert.equal(0, costs[5].waits) end
  end)

  it_on_device("are heard of when a value is read", function()
    local model = new_model()
    says(TEXT, function() return bad_loss(model):item() end)
    assert.is_true(model:loss(batch(1)):item() > 0)
  end)

  it_on_device("are heard of before anything is learned", function()
    local model = new_model()
    local optimizer, clip = adamw(model), ema()
    local function step(loss)
      loss:backward()
      optimizer:step(clip)
    end
    step(model:loss(batch(1)))
    local before = state_of(model, optimizer, clip)
    mb.random_state(1, 2, 3)
    says(TEXT, function() step(bad_loss(model)) end)
    mb.random_state(1, 2, 3)
    local function without_rng(text) return (text:gsub("rng[^\n]*\n", "")) end
    assert.equal(without_rng(before), without_rng(state_of(model, optimizer, clip)))
    optimizer:zero_grad()
    step(model:loss(batch(2)))
    assert.equal(2, optimizer.updates)
  end)

  it_on_device("are checked at once where nothing is recorded", function()
    local model = new_model()
    mb.no_grad(function() says(TEXT, bad_loss, model) end)
  end)
end)

describe("checkpoints", function()
  it_on_device("go on with a graph in the middle of a run", function()
    local folder = os.tmpname()
    os.remove(folder)
    local function run(wrap, first, last, resume, save)
      mb.seed(helper.seed)
      local model = new_model()
      local optimizer, clip = adamw(model), ema()
      if resume then mb.checkpoint.load(folder, { model = model, optimizer = optimizer, clip = clip }) end
      local step = wrap(function(given)
        optimizer:zero_grad()
        local loss = model:loss(given)
        loss:backward()
        optimizer:step(clip)
        return loss
      end)
      for i = first, last do
        mb.set_step(i)
        mb.scope(function() step(batch(i)) end)
        if i == save then
          mb.checkpoint.save(folder, { model = model, optimizer = optimizer, clip = clip, step = i, config = {}, keep = 1 })
        end
      end
      return state_of(model, optimizer, clip)
    end
    local whole = run(function(fn) return fn end, 1, 12)
    run(mb.graph, 1, 6, false, 6)
    assert.equal(whole, run(mb.graph, 7, 12, true))
    mb.system.remove(folder)
  end)
end)

it_on_device("a graph gives its memory back", function()
  if not captures then return end
  mb.collect()
  local before = mb.memory(helper.device)
  mb.scope(function()
    local fn = mb.graph(function(x) return (x * 2 + 1):sum() end)
    for _ = 1, 4 do fn(mb.full({ 1000 }, 1)) end
    assert.is_true(mb.memory(helper.device).bytes_graphs > 0)
  end)
  mb.collect()
  mb.collect()
  assert.equal(before.bytes_graphs, mb.memory(helper.device).bytes_graphs)
end)
