-- Memory of the CUDA device: addresses that repeat from step to step while the device itself is not asked, the ring that
-- copies go through, out of memory at every place of a step. MOONBOW_MEMORY_LIMIT is read once a process, so what runs
-- short does so in a process of its own, and on the tests' stand-in for the GPU only: a GPU's libraries have work memory of
-- their own.
local helper = require "tests.helper"
local mb = require "moonbow"
local runner = require "tests.smoke.runner"

local on_cuda = helper.device == "cuda"
local address = on_cuda and require("bindings.load").C.mb_tensor_address

-- A model with an optimizer and a clipper, and a function that makes a step with batches of B.
local function trainer(clip, B)
  local model = mb.models.gpt2 { vocab_size = 31, block_size = 16, n_layer = 2, n_head = 2, n_embd = 16, seed = 3 }
  local optimizer = mb.optim.adamw(model, { lr = 1e-3 })
  local seen
  local function step()
    seen = {}
    optimizer:zero_grad()
    mb.scope(function()
      local ids = {}
      for b = 1, B do
        ids[b] = {}
        for t = 1, 16 do ids[b][t] = (7 * b + 3 * t) % 31 end
      end
      local batch = { inputs = mb.ids(ids), targets = mb.ids(ids) }
      local logits = model:logits(batch)
      local loss = mb.cross_entropy(logits, batch.targets)
      seen = { address(batch.inputs), address(logits), address(loss) }
      loss:backward()
    end)
    optimizer:step(clip)
    seen[4] = address(model:parameters()[3].grad)
    return seen
  end
  return step, model
end

describe("training on cuda", function()
  if not on_cuda then
    pending "runs with MB_TEST_DEVICE=cuda only"
    return
  end

  -- The threshold is below every singular value: how much memory a clamp takes depends on how many exceed it.
  for name, clip in pairs {
    ["sketched spectra"] = function() return mb.clip.spectral { threshold = 1e-9, rank = 2, oversample = 1 } end,
    ["exact spectra"] = function() return mb.clip.spectral { threshold = 1e-9, method = "exact" } end,
    ["updates"] = function() return mb.clip.spectral { threshold = 1e-9, method = "polar", on = "update" } end,
    ["by norm"] = function() return mb.clip.norm { max_norm = 1e-9 } end,
  } do
    it("has the same addresses in every step and asks the device for nothing, clipping " .. name, function()
      local step = trainer(clip(), 3)
      step()
      mb.collect() -- what making a model left behind would turn free in the middle of a later step
      step()
      local before = mb.memory "cuda"
      step()
      local first = step()
      for _ = 1, 3 do
        local later = step()
        for i = 1, 4 do assert.is_true(first[i] == later[i], "address " .. i) end
      end
      local after = mb.memory "cuda"
      assert.are.equal(before.requests, after.requests)
      assert.are.equal(before.bytes_live, after.bytes_live)
      assert.is_true(after.bytes_peak >= after.bytes_live + after.bytes_scratch)
    end)
  end

  it("aligns every tensor to 256 bytes", function()
    for _, n in ipairs { 1, 3, 64, 1000, 300000, 5000001 } do
      local t = mb.empty(n)
      assert.are.equal(0, tonumber(address(t) % 256))
    end
  end)
end)

describe("copies", function()
  if not on_cuda then
    pending "runs with MB_TEST_DEVICE=cuda only"
    return
  end
  mb.seed(helper.seed)

  -- Sizes around the ring's pieces (1 MiB, 4 of them).
  for _, n in ipairs { 1, 17, 262143, 262144, 262145, 1048576, 1048577, 1572865 } do
    it(("of %d numbers come back as they were, also when many are on their way"):format(n), function()
      local host, there = {}, {}
      for i = 1, 6 do
        host[i] = mb.randn(n, { device = "cpu" })
        there[i] = host[i]:to "cuda"
      end
      for i = 6, 1, -1 do
        local back = there[i]:to "cpu"
        assert.are.equal(0, (back - host[i]):abs():max():item())
      end
    end)
  end

  it("leave the host's buffer free to be used again at once", function()
    local host = mb.zeros(1000, { device = "cpu" })
    local there = {}
    for i = 1, 40 do
      host:fill_(i)
      there[i] = host:to "cuda"
    end
    host:fill_(-1)
    for i = 1, 40 do assert.are.equal(i * 1000, there[i]:sum():item()) end
  end)
end)

-- Runs Lua code in a process of its own whose device has `limit` bytes.
local function with_limit(limit, code)
  local file = runner.folder() .. "/run.lua"
  local f = assert(io.open(file, "w"))
  f:write('local mb = require "moonbow"\nmb.device "cuda"\n', code)
  f:close()
  return runner.shell(("MOONBOW_MEMORY_LIMIT=%s luajit '%s'"):format(limit, file))
end

local PARTS = [[
local function ids(B)
  local t = {}
  for b = 1, B do
    t[b] = {}
    for i = 1, 32 do t[b][i] = (b * i) % 61 end
  end
  return { inputs = mb.ids(t), targets = mb.ids(t) }
end
local function network(width)
  return mb.models.gpt2 { vocab_size = 61, block_size = 32, n_layer = 2, n_head = 2, n_embd = width or 32, seed = 1 }
end
local function fails(fn, ...)
  local ok, text = pcall(fn, ...)
  assert(not ok, "memory was enough")
  text = tostring(text)
  assert(text:find("out of memory on cuda", 1, true), text)
  assert(text:find("MOONBOW_MEMORY_LIMIT", 1, true), text)
  assert(text:find("largest tensors: ", 1, true), text)
  assert(not text:find "\n", text)
  return text
end
-- Nothing leaks: what is alive after fn() failed and a collection is what was before.
local function leaves_nothing(fn)
  mb.collect()
  local before, handles = mb.memory("cuda").bytes_live, mb.memory().live_tensors
  local result = fn()
  mb.collect()
  assert(mb.memory("cuda").bytes_live == before, "bytes leaked")
  assert(mb.memory().live_tensors == handles, "handles leaked")
  return result
end
]]

describe("out of memory on cuda", function()
  if not helper.is_stand_in then
    pending "its limits are those of the tests' stand-in for a GPU"
    return
  end
  teardown(runner.clean)

  local function runs(name, limit, code)
    it(name, function()
      local rc, said, complaint = with_limit(limit, PARTS .. code)
      assert.are.equal(0, rc, said .. complaint)
    end)
  end

  runs("in forward: the largest tensors are named, a smaller batch works", "4M", [[
    local model = network()
    local text = leaves_nothing(function() return fails(function() return model:loss(ids(64)) end) end)
    assert(text:find("kept for the backward of", 1, true), text)
    local loss = model:loss(ids(2))
    loss:backward()
    assert(loss:item() < 10)
  ]])

  runs("in backward: likewise, and gradients begin anew", "3500K", [[
    local w = mb.randn(512, 512, { requires_grad = true })
    local loss = mb.sum(mb.exp(w) * w)
    local text = fails(loss.backward, loss)
    loss = nil
    assert(text:find("f32 (512, 512) kept for the backward of", 1, true), text)
    local model = network()
    leaves_nothing(function()
      model:loss(ids(2)):backward()
      local norm = model:gradient_norm()
      assert(norm == norm and norm > 0)
    end)
  ]])

  runs("in an optimizer's states: weights and gradients are named", "10M", [[
    local model = network(192)
    local text = leaves_nothing(function() return fails(mb.optim.adamw, model, { lr = 1e-3 }) end)
    assert(text:find("weights", 1, true) and text:find("gradients", 1, true), text)
    local sgd = mb.optim.sgd(model, { lr = 1e-3, momentum = 0 })
    model:loss(ids(1)):backward()
    sgd:step()
  ]])

  runs("in the work memory of a decomposition", "1500K", [[
    local a = mb.randn(256, 256)
    local text = leaves_nothing(function() return fails(mb.linalg.svd, a) end)
    assert(text:find("asked for work memory", 1, true), text)
    assert(math.abs(mb.linalg.svdvals(mb.ones(8, 8)):max():item() - 8) < 1e-4)
  ]])

  runs("in spectral clipping: cached blocks give way first", "8500K", [[
    local model = network(192)
    model:loss(ids(1)):backward()
    leaves_nothing(function() return fails(mb.clip.spectral { threshold = 1e-3, method = "exact" }, model) end)
    mb.clip.norm { max_norm = 1e-3 }(model)
    assert(math.abs(model:gradient_norm() - 1e-3) < 1e-6)
  ]])

  runs("what is cached is given back for blocks of another size", "3M", [[
    for size = 1, 20 do
      mb.scope(function() assert(mb.ones(100000 + 20000 * size):sum():item() == 100000 + 20000 * size) end)
    end
    local m = mb.memory "cuda"
    assert(m.bytes_live + m.bytes_cached + m.bytes_scratch <= 3 * 2 ^ 20)
    assert(m.bytes_limit == 3 * 2 ^ 20)
  ]])

  it("a limit that is none is refused", function()
    local rc, _, complaint = with_limit("12X", "mb.ones(3)")
    assert.are_not.equal(0, rc)
    assert.matches("MOONBOW_MEMORY_LIMIT is '12X', a number of bytes was expected", complaint, 1, true)
  end)
end)
