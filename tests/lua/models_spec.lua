-- SPDX-License-Identifier: MIT
--
-- models_spec.lua: the built-in models as scripts see them: options, losses, generation, and files with
-- Hugging Face's names.

local helper = require "tests.helper"
local mb = require "moonbow"
local scratch = require "tests.scratch"

local function tiny(more)
  local o = { vocab_size = 11, block_size = 6, n_layer = 2, n_head = 2, n_embd = 8, seed = 5 }
  for key, value in pairs(more or {}) do o[key] = value end
  return mb.models.gpt2(o)
end

local x, y = { { 1, 2, 3, 4 }, { 0, 10, 5, 5 } }, { { 2, 3, 4, 5 }, { 10, 5, 5, 1 } }

describe("mb.models.gpt2", function()
  it("names and shapes its parameters as GPT-2 does", function()
    local model = tiny()
    local names = {}
    for i, p in ipairs(model:parameters()) do names[i] = p.name end
    assert.are.equal(2 + 12 * 2 + 2, #names)
    assert.are.same({ "wte.weight", "wpe.weight", "h.0.ln_1.weight", "h.0.ln_1.bias", "h.0.attn.c_attn.weight",
      "h.0.attn.c_attn.bias", "h.0.attn.c_proj.weight" }, { unpack(names, 1, 7) })
    assert.are.same({ 24, 8 }, model:parameter("h.1.attn.c_attn.weight").value.shape)
    assert.are.same({ 32, 8 }, model:parameter("h.1.mlp.c_fc.weight").value.shape)
    assert.are.same({ 8, 32 }, model:parameter("h.1.mlp.c_proj.weight").value.shape)
    assert.are.equal("embedding", model:parameter("wpe.weight").role)
    assert.are.equal("vector", model:parameter("ln_f.bias").role)
    assert.are.same({ vocab_size = 11, block_size = 6, n_layer = 2, n_head = 2, n_embd = 8, dropout = 0,
      tied = true }, model.config)
  end)

  it("takes ids as tensors or nested tables", function()
    local model = tiny()
    local from_tables = model:loss { inputs = x, targets = y }:item()
    local from_tensors = model:loss { inputs = mb.tensor(x, { dtype = "u16" }), targets = mb.tensor(y, { dtype = "u8" }) }
    assert.are.equal(from_tables, from_tensors:item())
    assert.is_true(math.abs(from_tables - math.log(11)) < 0.1) -- small weights: all ids equally likely
    assert.are.same({ 2, 4, 11 }, model:logits { inputs = x }.shape)
  end)

  it("gives the loss's options to the cross entropy", function()
    local model = tiny { dtype = "f64" }
    local batch = { inputs = x, targets = y }
    local sum = model:loss(batch, { reduction = "sum" }):item()
    assert.is_true(math.abs(model:loss(batch):item() * 8 - sum) < 1e-12)
    local logits = model:logits(batch)
    local smooth = mb.cross_entropy(logits, y, { label_smoothing = 0.3, ignore_index = 5 }):item()
    local same = model:loss { inputs = x, targets = y, label_smoothing = 0.3, ignore_index = 5 }
    assert.is_true(math.abs(same:item() - smooth) < 1e-14)
  end)

  it("counts a loss as much as scale says, as a product with it does", function()
    local model, batch = tiny(), { inputs = x, targets = y }
    local function gradient(loss)
      model:zero_grad()
      loss:backward()
      local values, out = {}, loss:item()
      for _, p in ipairs(model:parameters()) do values[#values + 1] = p.value.grad:totable() end
      return values, out
    end
    local scaled, loss = gradient(model:loss(batch, { scale = 0.25 }))
    local multiplied, product = gradient(model:loss(batch) * 0.25)
    assert.are.equal(product, loss)
    assert.are.same(multiplied, scaled) -- 1/4 is a power of two: the same bits
    helper.says("model:loss: option 'scale' must be more than 0", function() model:loss(batch, { scale = 0 }) end)
  end)

  it("starts from its seed, and from mb.seed without one", function()
    local a, b, c = tiny(), tiny(), tiny { seed = 6 }
    local function w(model) return model:parameter("h.1.mlp.c_fc.weight").value end
    assert.is_true(w(a):equal(w(b)))
    assert.is_false(w(a):equal(w(c)))
    mb.seed(6)
    local o = { vocab_size = 11, block_size = 6, n_layer = 2, n_head = 2, n_embd = 8 }
    assert.is_true(w(mb.models.gpt2(o)):equal(w(c)))
  end)

  it("refuses options that do not fit", function()
    assert.matches("unknown option 'n_heads', did you mean 'n_head'", helper.error_of(tiny, { n_heads = 2 }))
    assert.matches("option 'block_size' is missing", helper.error_of(mb.models.gpt2, { n_head = 2 }))
    assert.matches("n_embd 8 is not divisible by n_head 3", helper.error_of(tiny, { n_head = 3 }))
    assert.matches("option 'dropout' must be less than 1", helper.error_of(tiny, { dropout = 1 }))
    assert.matches("option 'dtype' must be one of", helper.error_of(tiny, { dtype = "f16" }))
  end)

  it("refuses batches that do not fit", function()
    local model = tiny()
    local function logits(inputs)
      return helper.error_of(function() return model:logits({ inputs = inputs }):sum():item() end)
    end
    assert.matches("7 tokens, the model's block_size is 6", logits { { 1, 2, 3, 4, 5, 6, 7 } })
    assert.matches("11", logits { { 1, 11 } })
    assert.matches("inputs must be a tensor of integers or nested tables, not nil", logits(nil))
    assert.matches("ids %(B, T%) were expected", logits { 1, 2, 3 })
    local text = helper.error_of(model.loss, model, { inputs = x, targets = { { 1, 2, 3 } } })
    assert.matches("%(2, 4, 11%), targets %(1, 3%)", text)
  end)
end)

describe("mb.models.gpt_modern", function()
  local function modern(more)
    local o = { vocab_size = 11, block_size = 6, n_layer = 2, n_head = 2, n_embd = 8, seed = 5 }
    for key, value in pairs(more or {}) do o[key] = value end
    return mb.models.gpt_modern(o)
  end

  it("has no biases, norms or positions among its parameters", function()
    local model, names = modern { tied = false }, {}
    for i, p in ipairs(model:parameters()) do names[i] = p.name .. " " .. p.role end
    assert.are.same({ "wte.weight embedding", "h.0.attn.c_q.weight matrix", "h.0.attn.c_k.weight matrix",
      "h.0.attn.c_v.weight matrix", "h.0.attn.c_proj.weight matrix", "h.0.mlp.c_fc.weight matrix",
      "h.0.mlp.c_proj.weight matrix" }, { unpack(names, 1, 7) })
    assert.are.equal("lm_head.weight head", names[14])
    assert.are.equal(14, #names)
    assert.are.same({ vocab_size = 11, block_size = 6, n_layer = 2, n_head = 2, n_embd = 8, dropout = 0, rotary_base = 10000,
      qk_norm = true, tied = false }, model.config)
  end)

  it("learns, and writes the same with a cache and without", function()
    local model = modern { dtype = "f64", block_size = 4, n_head = 1 }
    local optimizer = mb.optim.adamw(model, { lr = 0.02 })
    local first, last
    for _ = 1, 60 do
      optimizer:zero_grad()
      local loss = model:loss { inputs = x, targets = y }
      loss:backward()
      optimizer:step()
      first, last = first or loss:item(), loss:item()
    end
    assert.is_true(first > 2 and last < 0.3)
    local options = { max_tokens = 30, seed = 3, temperature = 2 }
    local ids = model:generate({ 4, 7, 1 }, options)
    options.cache = false
    assert.are.same(ids, model:generate({ 4, 7, 1 }, options))
  end)

  it("refuses options that do not fit", function()
    assert.matches("heads of n_embd / n_head = 1 are odd", helper.error_of(modern, { n_head = 8 }))
    assert.matches("unknown option 'rope_base'", helper.error_of(modern, { rope_base = 3 }))
    assert.matches("option 'block_size' is missing", helper.error_of(mb.models.gpt_modern, { vocab_size = 3 }))
  end)
end)

describe("model:generate", function()
  it("continues the prompt, the same for the same seed", function()
    local model = tiny()
    local a = model:generate({ 1, 2 }, { max_tokens = 12, seed = 3 })
    assert.are.equal(14, #a)
    assert.are.same({ 1, 2 }, { a[1], a[2] })
    for _, id in ipairs(a) do assert.is_true(id >= 0 and id < 11 and id % 1 == 0) end
    assert.are.same(a, model:generate({ 1, 2 }, { max_tokens = 12, seed = 3 }))
    assert.are_not.same(a, model:generate({ 1, 2 }, { max_tokens = 12, seed = 4 }))
    mb.seed(1)
    local b = model:generate({ 1, 2 }, { max_tokens = 12 })
    assert.are_not.same(b, model:generate({ 1, 2 }, { max_tokens = 12 }))
    mb.seed(1)
    assert.are.same(b, model:generate({ 1, 2 }, { max_tokens = 12 }))
  end)

  it("leaves the generator, the mode and the memory as they were", function()
    helper.no_leaks(function()
      local model = tiny { dropout = 0.5 }
      mb.seed(9)
      local expected = mb.rand(4):totable()
      mb.seed(9)
      model:generate({ 1 }, { max_tokens = 8, seed = 3 })
      assert.are.same(expected, mb.rand(4):totable())
      assert.is_true(model:is_training())
    end)
  end)

  -- The window that a token is computed from: all so far, and the last half of a block when a block is full.
  local function windows(prompt, count, block)
    local start, list = 0, {}
    for n = prompt, prompt + count - 1 do
      if n - start > block then start = n - math.max(1, math.floor(block / 2)) end
      list[n + 1] = { start + 1, n }
    end
    return list
  end

  it("takes the likeliest token at temperature 0, and with top_k 1", function()
    for _, block in ipairs { 6, 1, 3, 20 } do
      local model = tiny { dtype = "f64", block_size = block }
      local ids = model:generate({ 4, 7, 1 }, { max_tokens = 17, temperature = 0 })
      for n, window in pairs(windows(3, 17, block)) do
        local last = model:logits { inputs = { { unpack(ids, window[1], window[2]) } } }:slice(2, -1):reshape(-1):totable()
        for _, value in ipairs(last) do assert.is_true(last[ids[n] + 1] >= value) end
      end
      assert.are.same(ids, model:generate({ 4, 7, 1 }, { max_tokens = 17, top_k = 1, seed = 8 }))
      assert.are.same(ids, model:generate({ 4, 7, 1 }, { max_tokens = 17, top_p = 1e-9, seed = 8 }))
    end
  end)

  it("gives the same with a cache and without", function()
    for _, dtype in ipairs { "f32", "f64" } do
      local model = tiny { dtype = dtype, block_size = 16, vocab_size = 50, n_embd = 24, n_head = 3 }
      for _, p in ipairs(model:parameters()) do p.value:add_(mb.randn_like(p.value), 0.3) end
      local options = { max_tokens = 60, seed = 3, temperature = 1.5, top_k = 30, top_p = 0.95 }
      local ids = model:generate({ 4, 7, 1 }, options)
      options.cache = false
      assert.are.same(ids, model:generate({ 4, 7, 1 }, options))
    end
  end)

  it("has the logits of the whole sequence at every position", function()
    local networks = require "bindings.networks"
    local model = mb.models.gpt2 { vocab_size = 300, block_size = 80, n_layer = 3, n_head = 4, n_embd = 64, seed = 1 }
    for _, p in ipairs(model:parameters()) do p.value:add_(mb.randn_like(p.value), 0.05) end
    local rows = { {}, {} }
    for b = 1, 2 do
      for t = 1, 80 do rows[b][t] = (b * 31 + t * t * 7) % 300 end
    end
    local inputs = mb.tensor(rows, { dtype = "i32" })
    mb.no_grad(function()
      local all = model:logits { inputs = inputs }:to "cpu"
      local largest = all:abs():max():item()
      local cache = networks.gpt2.cache(model.handle, 2)
      local first = 0
      for _, stop in ipairs { 1, 2, 17, 18, 40, 79, 80 } do
        local next_logits = networks.gpt2.next(model.handle, cache, first, inputs:slice(2, first + 1, stop)):to "cpu"
        local gap = (next_logits - all:slice(2, stop, stop):reshape(2, 300)):abs():max():item()
        assert(gap <= 1e-5 * largest, ("after position %d logits differ by %g of %g"):format(stop, gap, largest))
        first = stop
      end
    end)
  end)

  it("calls on_token as tokens come, and ends where it says so", function()
    local model, seen = tiny(), {}
    local function on_token(id)
      seen[#seen + 1] = id
      return #seen == 5
    end
    local ids = model:generate({ 1 }, { max_tokens = 12, seed = 3, on_token = on_token })
    assert.are.same({ unpack(ids, 2) }, seen)
    assert.are.equal(5, #seen)
    assert.are.same(ids, { unpack(model:generate({ 1 }, { max_tokens = 12, seed = 3 }), 1, 6) })
    assert.matches("stop here", helper.error_of(model.generate, model, { 1 }, { on_token = function() error "stop here" end }))
    assert.is_true(model:is_training())
  end)

  it("draws as often as the probabilities say", function()
    local sampling = require "moonbow.models.sampling"
    local logits, counts, n = mb.tensor { math.log(1), math.log(2), math.log(5) }, { 0, 0, 0 }, 800
    for i = 1, n do
      local id = sampling.draw(logits, { temperature = 1 }, (i - 0.5) / n)
      counts[id + 1] = counts[id + 1] + 1
    end
    assert.are.same({ n / 8, n / 4, n * 5 / 8 }, counts)
    for i = 1, 100 do
      assert.is_true(sampling.draw(logits, { temperature = 1, top_k = 2 }, (i - 1) / 100) > 0)
    end
    assert.are.equal(2, sampling.draw(logits, { temperature = 1 }, 1 - 2 ^ -53))
    helper.says("the logits are not finite", sampling.draw, mb.tensor { 1, 0 / 0 }, { temperature = 1 }, 0.5)
    helper.says("the logits are not finite", sampling.draw, mb.tensor { 1, 1 / 0 }, { temperature = 0 }, 0.5)
  end)

  -- Against the definition: sort, cut at k, cut where the share reaches p, add up.
  it("draws from the likeliest that top_k and top_p leave", function()
    local sampling = require "moonbow.models.sampling"
    mb.seed(helper.seed)
    local n = 57
    local logits = mb.randn(n, { dtype = "f64", device = "cpu" }) * 2
    logits:slice(1, 4, 6):fill_(1) -- equals: the lower id first
    local values = logits:totable()
    local cases = { { 1, 57 }, { 0.7, 10 }, { 1.3, nil, 0.8 }, { 1, 20, 0.5 }, { 2, 5, 0.999 }, { 1, 100, 1 }, { 1, 2, 0.01 } }
    for _, case in ipairs(cases) do
      local temperature, k, share = case[1], case[2] or n, case[3] or 1
      local list, sum = {}, 0
      for i = 1, n do list[i] = { id = i - 1, w = math.exp(values[i] / temperature) } end
      table.sort(list, function(a, b) return a.w > b.w or (a.w == b.w and a.id < b.id) end)
      for i = n, k + 1, -1 do list[i] = nil end
      for _, e in ipairs(list) do sum = sum + e.w end
      local part, kept = 0, 0
      while part < share * sum and kept < #list do
        kept = kept + 1
        part = part + list[kept].w
      end
      if k >= n and share == 1 then table.sort(list, function(a, b) return a.id < b.id end) end
      for i = 1, 200 do
        local u = (i - 0.5) / 200
        local left, expected = u * part, nil
        for e = 1, kept do
          left = left - list[e].w
          if left < 0 then expected = expected or list[e].id end
        end
        local id = sampling.draw(logits, { temperature = temperature, top_k = case[2], top_p = case[3] }, u)
        assert(id == expected, ("T=%g k=%d p=%g u=%g: %d, %d was expected; MB_SEED=%d"):format(temperature, k, share, u, id,
          expected, helper.seed))
      end
    end
  end)

  it("refuses what it cannot continue", function()
    local model = tiny()
    assert.matches("the prompt is empty", helper.error_of(model.generate, model, {}))
    assert.matches("token 2 of the prompt must be an integer", helper.error_of(model.generate, model, { 1, "a" }))
    assert.matches("11", helper.error_of(model.generate, model, { 11 }))
    assert.matches("did you mean 'max_tokens'", helper.error_of(model.generate, model, { 1 }, { max_token = 3 }))
    assert.matches("option 'top_p' must be more than 0", helper.error_of(model.generate, model, { 1 }, { top_p = 0 }))
    assert.matches("option 'temperature'", helper.error_of(model.generate, model, { 1 }, { temperature = -1 }))
    assert.is_true(model:is_training())
  end)
end)

describe("files with Hugging Face's names", function()
  local path

  before_each(function() path = scratch.folder() .. "/model.safetensors" end)
  after_each(scratch.clean)

  -- The file of a model, changed by fn(tensors) and written again.
  local function rewritten(model, fn)
    model:save_hf(path)
    local tensors = mb.safetensors.load(path)
    tensors = fn(tensors) or tensors
    mb.safetensors.save(path, tensors, { format = "pt" })
    return path
  end

  local function assert_same(a, b)
    for i, p in ipairs(a:parameters()) do assert.is_true(p.value:equal(b:parameters()[i].value), p.name) end
  end

  it("hold projections transposed, and come back", function()
    local model = tiny()
    model:save_hf(path)
    local tensors, metadata = mb.safetensors.load(path)
    assert.are.same({ format = "pt" }, metadata)
    assert.are.same({ 8, 24 }, tensors["h.0.attn.c_attn.weight"].shape)
    local w = model:parameter("h.0.attn.c_attn.weight").value
    assert.is_true(tensors["h.0.attn.c_attn.weight"]:transpose(1, 2):contiguous():equal(w:detach():contiguous()))
    assert.are.same({ 8, 8 }, tensors["h.0.attn.c_proj.weight"].shape)
    assert.is_nil(tensors["lm_head.weight"])
    local other = tiny { seed = 99 }
    other:load_hf(path)
    assert_same(model, other)
  end)

  it("may have a prefix, masks and a tied head", function()
    local model, other = tiny(), tiny { seed = 99 }
    other:load_hf(rewritten(model, function(tensors)
      local result = {}
      for name, t in pairs(tensors) do result["transformer." .. name] = t end
      result["transformer.h.0.attn.bias"] = mb.ones(1, 1, 6, 6)
      result["transformer.h.1.attn.masked_bias"] = mb.ones(1)
      result["lm_head.weight"] = tensors["wte.weight"]:clone()
      return result
    end))
    assert_same(model, other)
  end)

  it("are loaded into float64 too", function()
    local model, other = tiny(), tiny { seed = 99, dtype = "f64" }
    model:save_hf(path)
    other:load_hf(path)
    for i, p in ipairs(model:parameters()) do
      assert.is_true(p.value:to("f64"):equal(other:parameters()[i].value))
    end
  end)

  it("are refused, by tensor, when they do not fit; nothing is changed then", function()
    local model, other, untouched = tiny(), tiny { seed = 99 }, tiny { seed = 99 }
    local function refused(pattern, fn)
      assert.matches(pattern, helper.error_of(other.load_hf, other, rewritten(model, fn)))
      assert_same(other, untouched)
    end
    refused("'h%.1%.ln_2%.bias' is missing, shape %(8%) was expected", function(t) t["h.1.ln_2.bias"] = nil end)
    refused("'h%.0%.mlp%.c_fc%.weight' has shape %(32, 8%), the model needs %(8, 32%)", function(t)
      t["h.0.mlp.c_fc.weight"] = mb.zeros(32, 8)
    end)
    refused("'wpe%.weight' has shape %(7, 8%), the model needs %(6, 8%)", function(t) t["wpe.weight"] = mb.zeros(7, 8) end)
    refused("'h%.2%.ln_1%.bias' has no place in this model", function(t) t["h.2.ln_1.bias"] = mb.zeros(8) end)
    refused("'ln_f%.bias' is I32", function(t) t["ln_f.bias"] = mb.zeros({ 8 }, { dtype = "i32" }) end)
    refused("'lm_head%.weight' %(F32 %(11, 8%)%) differs from 'wte%.weight'", function(t)
      t["lm_head.weight"] = mb.zeros(11, 8)
    end)
    refused("holds 'wte%.weight' twice", function(t) t["transformer.wte.weight"] = mb.zeros(11, 8) end)
    assert.matches("nowhere", helper.error_of(other.load_hf, other, "/nowhere/model.safetensors"))
  end)
end)

describe("recompute", function()
  it("changes no gradient beyond rounding, and keeps less", function()
    local kept = {}
    local models = {}
    for i, recompute in ipairs { false, true } do
      local model = tiny { recompute = recompute, dtype = "f64", n_embd = 64, block_size = 64 }
      local ids = mb.ids { { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, { 10, 9, 8, 7, 6, 5, 4, 3, 2, 1 } }
      collectgarbage()
      collectgarbage() -- what has a finalizer goes the second time
      local before = mb.memory(helper.device).bytes_live
      local loss = model:loss { inputs = ids, targets = ids }
      collectgarbage()
      collectgarbage()
      kept[i] = mb.memory(helper.device).bytes_live - before
      loss:backward()
      models[i] = model
    end
    for i, p in ipairs(models[1]:parameters()) do
      assert.is_true(p.grad:allclose(models[2]:parameters()[i].grad, { rtol = 1e-11, atol = 1e-14 }), p.name)
    end
    -- Of 16 B T C numbers a block 4 less; here with a head of 11 and the last norm beside them.
    assert.is_true(kept[2] < 0.8 * kept[1], ("%d and %d bytes"):format(kept[1], kept[2]))
  end)
end)

describe("a head in chunks", function()
  for _, name in ipairs { "gpt2", "gpt_modern" } do
    for _, tied in ipairs { true, false } do
      it(("gives %s, %s, the loss and the gradients of all logits at once"):format(name, tied and "tied" or "untied"), function()
        local ids, targets = mb.ids { { 1, 2, 3, 4, 5 }, { 10, 9, 8, 7, 6 } }, mb.ids { { 2, 3, 4, 5, 6 }, { 9, 8, 7, 6, 0 } }
        local function trained(chunks)
          local model = mb.models[name] { vocab_size = 11, block_size = 8, n_layer = 2, n_head = 2, n_embd = 8, tied = tied,
            dtype = "f64", seed = 4, head_chunks = chunks }
          local o = { ignore_index = 9, label_smoothing = 0.1, scale = 0.5 }
          local loss = model:loss({ inputs = ids, targets = targets }, o)
          local quiet = mb.no_grad(function() return model:loss({ inputs = ids, targets = targets }, o):item() end)
          assert.are.equal(loss:item(), quiet)
          loss:backward()
          return model, loss:item()
        end
        local whole, expected = trained(1)
        for _, chunks in ipairs { 2, 3, 10, 99 } do
          local model, loss = trained(chunks)
          assert.is_true(math.abs(loss - expected) < 1e-13)
          for i, p in ipairs(whole:parameters()) do
            assert.is_true(p.grad:allclose(model:parameters()[i].grad, { rtol = 1e-11, atol = 1e-14 }), p.name)
          end
        end
      end)
    end
  end

  it("must be of a chunk at least", function()
    assert.matches("head_chunks", helper.error_of(tiny, { head_chunks = 0 }))
  end)
end)

describe("mb.models.mlp", function()
  it("computes its layers", function()
    local model = mb.models.mlp { n_input = 3, n_hidden = 4, n_layer = 1, n_output = 2, dtype = "f64", seed = 2,
      activation = "tanh" }
    local inputs = mb.tensor({ { 1, -2, 0.5 }, { 0, 1, 1 } }, { dtype = "f64" })
    local function value(name) return model:parameter(name).value end
    local hidden = mb.tanh(inputs:matmul(value("layers.0.weight"):transpose(1, 2)) + value "layers.0.bias")
    local expected = hidden:matmul(value("layers.1.weight"):transpose(1, 2)) + value "layers.1.bias"
    assert.is_true(model:logits({ inputs = inputs }):allclose(expected, { rtol = 1e-12 }))
    assert.is_true(model:logits({ inputs = { { 1, -2, 0.5 }, { 0, 1, 1 } } }):allclose(expected, { rtol = 1e-12 }))
    local loss = model:loss { inputs = inputs, targets = { 1, 0 } }
    assert.is_true(math.abs(loss:item() - mb.cross_entropy(expected, { 1, 0 }):item()) < 1e-12)
  end)

  it("can do without biases and hidden layers", function()
    local model = mb.models.mlp { n_input = 3, n_hidden = 4, n_layer = 0, n_output = 2, bias = false }
    assert.are.equal(1, #model:parameters())
    assert.are.same({ 5, 2 }, model:logits({ inputs = mb.ones(5, 3) }).shape)
    assert.matches("option 'activation'", helper.error_of(mb.models.mlp,
      { n_input = 1, n_hidden = 1, n_output = 1, activation = "rely" }))
  end)
end)
