-- Profiles: rows of a computation whose calls are known, of a training step, and how a report reads.
local helper = require "tests.helper"
local mb = require "moonbow"

local it_on_device = helper.it_on_device
local is_bf16 = helper.device == "cuda"

local function find(report, name, shape)
  for _, row in ipairs(report) do
    if row.name == name and (not shape or row.shape == shape) then return row end
  end
end

local function trainer(dtype)
  local B, T, C, V = 3, 16, 32, 31
  local model = mb.models.gpt2 { vocab_size = V, block_size = T, n_layer = 2, n_head = 2, n_embd = C, dtype = dtype, seed = 3 }
  local optimizer = mb.optim.adamw(model, { lr = 1e-3 })
  local ids = {}
  for b = 1, B do
    ids[b] = {}
    for t = 1, T do ids[b][t] = (7 * b + 3 * t) % V end
  end
  local batch = { inputs = mb.ids(ids), targets = mb.ids(ids) }
  local function step()
    optimizer:zero_grad()
    mb.scope(function()
      model:loss(batch):backward()
    end)
    optimizer:step()
  end
  return step, model, { B = B, T = T, C = C, V = V, layers = 2 }
end

describe("mb.profile", function()
  it_on_device("counts calls, bytes and operations of each kernel and shape", function()
    local a, b = mb.randn { 6, 10 }, mb.randn { 10, 4 }
    local report = mb.profile(function()
      for _ = 1, 3 do a:matmul(b) end
      a:exp()
    end, { ceilings = false })
    local gemm, unary = find(report, "gemm"), find(report, "unary")
    assert.equals("m 6, n 4, k 10", gemm.shape)
    assert.equals(helper.device, gemm.device)
    assert.equals("f32", gemm.dtype)
    assert.equals(3, gemm.calls)
    assert.equals(3, gemm.launches)
    assert.equals(3 * 4 * (60 + 40 + 24), gemm.bytes)
    assert.equals(3 * 2 * 6 * 4 * 10, gemm.flops)
    assert.is_true(gemm.is_product)
    assert.equals("(6, 10)", unary.shape)
    assert.equals(4 * 120, unary.bytes)
    assert.is_false(unary.is_product)
    assert.equals(2, #report)
    assert.equals(nil, report.ceilings)
    assert.equals(nil, gemm.share)
  end)

  it_on_device("adds up: parts to one, times to no more than the clock says", function()
    local report = mb.profile(trainer(), { ceilings = false })
    local busy, part, launches = 0, 0, 0
    for i, row in ipairs(report) do
      assert.is_true(row.seconds >= 0 and row.calls >= 1)
      assert.is_true(i == 1 or report[i - 1].seconds >= row.seconds)
      busy, part, launches = busy + row.seconds, part + row.part, launches + row.launches
    end
    assert.is_near(report.busy, busy, 1e-12)
    assert.is_near(1, part, 1e-9)
    assert.equals(report.launches, launches)
    assert.is_true(report.busy > 0 and report.busy <= report.seconds)
  end)

  it_on_device("finds a training step's products: 6 for each weight's multiply and add, and attention", function()
    local step, model, s = trainer()
    step()
    local report = mb.profile(step, { ceilings = false })
    local flops, rows = 0, s.B * s.T
    for _, row in ipairs(report) do
      if row.name == "gemm" then flops = flops + row.flops end
    end
    local weights = 0
    for _, p in ipairs(model:parameters()) do
      if #p.shape == 2 and not p.name:find "wpe" then weights = weights + p.shape[1] * p.shape[2] end
    end
    assert.equals(6 * rows * weights, flops)
    local pairs_of = s.B * s.T * (s.T + 1) / 2 -- times heads times their width: C
    assert.equals(s.layers * 4 * s.C * pairs_of, find(report, "attention").flops)
    assert.equals(s.layers * 10 * s.C * pairs_of, find(report, "attention_backward").flops)
    local update = find(report, "fuse")
    assert.equals(28 * model:count(), update.bytes) -- weights and two moments read and written, gradients read
  end)

  -- Launches count as much as work where a network is small. The limits are what a step takes, so that a pass that slips in is
  -- seen: one cast of all weights, gradients of parameters straight to where they are kept.
  it("sees how few launches a step in bf16 takes", function()
    if not is_bf16 then return end
    local step = trainer "bf16"
    step()
    local report = mb.profile(step, { ceilings = false })
    local casts, adds = 0, 0
    for _, row in ipairs(report) do
      if os.getenv "MB_SAY" then print(row.name, row.dtype, row.shape, row.calls, row.launches) end
      if row.name == "convert" then casts = casts + row.calls end
      if row.name == "axpby" then adds = adds + row.calls end
    end
    assert(report.launches <= 92, ("%d launches"):format(report.launches))
    assert(casts == 1, ("%d casts"):format(casts))
    assert(adds == 0, ("%d additions to gradients"):format(adds))
  end)

  it_on_device("sees an update as one launch for all groups, with 28 bytes a parameter by AdamW", function()
    local _, model = trainer()
    local optimizer = mb.optim.groups(model, {
      { where = "vector", name = "adamw", lr = 1e-3, weight_decay = 0 },
      { where = "rest", name = "adamw", lr = 1e-3, weight_decay = 0.1 },
    })
    optimizer:step()
    local report = mb.profile(function() optimizer:step() end, { ceilings = false })
    local bytes = 0
    for _, row in ipairs(report) do
      assert.equals("fuse", row.name)
      assert.truthy(row.shape:find ", sets 2$")
      bytes = bytes + row.bytes
    end
    assert.equals(1, report.launches)
    assert.equals(28 * model:count(), bytes)
  end)

  it_on_device("sees a replay of a graph as one row", function()
    local step = mb.graph((trainer()))
    for _ = 1, 4 do step() end
    local report = mb.profile(function() step() end, { ceilings = false })
    if helper.device == "cpu" then return assert.is_truthy(find(report, "gemm")) end
    assert.equals(1, find(report, "replay").calls)
    assert.is_nil(find(report, "gemm"))
  end)

  it_on_device("leaves a step's bits as they are", function()
    local function weights(wrap)
      mb.seed(5)
      local step, model = trainer(is_bf16 and "bf16" or "f32")
      for _ = 1, 2 do wrap(step) end
      return model:parameters()[1].value:totable()
    end
    assert.same(weights(function(step) step() end), weights(function(step) mb.profile(step, { ceilings = false }) end))
  end)

  it_on_device("divides by ceilings that are given", function()
    local a = mb.randn { 64, 64 }
    local given = { bytes = 1e9, f32 = 1e8 }
    local report = mb.profile(function() a:matmul(a) a:exp() end, { ceilings = given })
    local gemm, unary = find(report, "gemm"), find(report, "unary")
    assert.is_near(2 * 64 ^ 3 / 1e8, gemm.floor, 1e-12) -- products: the slower of both
    assert.is_near(gemm.floor / gemm.seconds, gemm.share, 1e-9)
    assert.is_near(8 * 64 ^ 2 / 1e9, unary.floor, 1e-12)
    report = mb.profile(function() a:matmul(a) end, { ceilings = { bytes = 1e9 } })
    assert.equals(nil, report[1].floor) -- nothing is known of products
  end)

  it("measures ceilings once, and leaves the generator alone", function()
    mb.seed(11)
    local a = mb.randn { 32, 32 }
    local before = { mb.random_state() }
    local first = mb.profile(function() a:matmul(a) end)
    assert.same(before, { mb.random_state() })
    assert.is_true(first.ceilings.bytes > 0 and first.ceilings.f32 > 0)
    assert.same(first.ceilings, mb.profile(function() a:matmul(a) end).ceilings)
  end)

  it_on_device("prints itself as a table, and gives a plain one", function()
    local a = mb.randn { 8, 8 }
    local report = mb.profile(function() a:matmul(a) a:exp() a:sum() end, { ceilings = { bytes = 1e9, f32 = 1e9 } })
    local text = tostring(report)
    assert.matches("kernel +dtype +shape +calls +launches +ms +GB +GFLOP +GB/s +TFLOP/s +of ceiling +of all", text)
    assert.matches("gemm +f32 +m 8, n 8, k 8 +1 +1 ", text)
    assert.matches("ceilings of " .. helper.device .. ": 1 GB/s, f32 products 0.001 TFLOP/s", text)
    assert.matches("2 more +2 ", report:table(1))
    local plain = report:totable()
    assert.equals(nil, getmetatable(plain))
    assert.equals(3, #plain.rows)
    assert.equals(report[1].name, plain.rows[1].name)
    assert.equals(1e9, plain.ceilings.bytes)
  end)

  it("passes errors on and is over then", function()
    assert.has_error(function() mb.profile(function() error("stopped", 0) end) end, "stopped")
    assert.equals(0, #mb.profile(function() end, { ceilings = false }))
    helper.says("mb.profile: the first argument", function() mb.profile(3) end)
    helper.says("unknown option 'ceiling'", function() mb.profile(function() end, { ceiling = false }) end)
    local rates = {
      { { bytes = "fast" }, "mb.profile: ceilings: option 'bytes' must be a number, not the string 'fast'" },
      { { byte = 1e9 }, "mb.profile: ceilings: unknown option 'byte', did you mean 'bytes'?" },
      { { f32 = 0 }, "option 'f32' must be more than 0" },
    }
    for _, case in ipairs(rates) do
      helper.says(case[2], function() mb.profile(function() end, { ceilings = case[1] }) end)
    end
    helper.says("a profile is on already", function()
      mb.profile(function() mb.profile(function() end) end)
    end)
  end)
end)

describe("mb.timer", function()
  it_on_device("has the seconds between its marks, in their order", function()
    local timer, a = mb.timer(), mb.randn { 16, 16 }
    assert.same({}, timer:seconds())
    for _ = 1, 3 do
      timer:mark()
      a:exp()
    end
    timer:mark()
    local seconds = timer:seconds()
    assert.equals(3, #seconds)
    for _, value in ipairs(seconds) do assert.is_true(value >= 0) end
    assert.same({}, timer:seconds()) -- it begins anew
    helper.says("unknown device", function() mb.timer "tpu" end)
  end)
end)

describe("mb.device_info", function()
  it("says what is known", function()
    local cpu = mb.device_info "cpu"
    assert.equals("cpu", cpu.name)
    assert.same({}, cpu.peak)
    helper.says("unknown device", function() mb.device_info "tpu" end)
  end)
end)
