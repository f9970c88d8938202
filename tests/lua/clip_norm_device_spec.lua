-- SPDX-License-Identifier: MIT
--
-- clip_norm_device_spec.lua: mb.clip.norm as the device makes it by itself, beside the same clip that asks the host: the same
-- bits in gradients, reports and states; no waiting; late refusals; thresholds that change, in graphs too.

local helper = require "tests.helper"
local devices = require "moonbow.clip.device"
local by_norm = require "moonbow.clip.by_norm"
local mb = require "moonbow"
local profile = require "bindings.profile"
local runtime = require "bindings.runtime"

local device, it = helper.device, helper.it_on_device
local bits = helper.bits or function(t) return table.concat(t:to("cpu"):reshape { t.numel }:totable(), " ") end

local function model_of(dtype)
  mb.seed(1)
  return mb.models.gpt2 { vocab_size = 17, block_size = 8, n_layer = 2, n_head = 2, n_embd = 24, dtype = dtype }
end

-- Gradients of step k, the same wherever they are made.
local function fill(model, k)
  local here = mb.device()
  mb.device "cpu"
  for i, p in ipairs(model:parameters()) do
    mb.seed(1000 * k + i)
    p.grad:copy_((mb.randn(p.shape) * 0.05 * (1 + (k * i) % 3)):to(here))
  end
  mb.device(here)
  return model
end

local function gradients(model)
  local texts = {}
  for i, p in ipairs(model:parameters()) do texts[i] = bits(p.grad) end
  return table.concat(texts, "\n")
end

-- Makes calls as the device does, on the CPU too, or as the host does, on a device too.
local takes = by_norm.takes
local function on_device(fn, ...)
  devices.even_on_cpu = true
  local results = { pcall(fn, ...) }
  devices.even_on_cpu = nil
  assert(results[1], results[2])
  return unpack(results, 2)
end
local function on_host(fn, ...)
  by_norm.takes = function() return false end
  local results = { pcall(fn, ...) }
  by_norm.takes = takes
  assert(results[1], results[2])
  return unpack(results, 2)
end

local function number(x) return x and ("%.17g"):format(x) or "nil" end
local function text_of(report)
  local lines = { number(report.norm), number(report.tau), tostring(report.clipped) }
  for _, row in ipairs(report) do
    lines[#lines + 1] = table.concat({ row.name, number(row.norm), number(row.tau), tostring(row.clipped) }, " ")
  end
  return table.concat(lines, "; ")
end

-- Reports, gradients and the state after `steps` calls of a clip.
local function calls(make, steps)
  local model, clip, lines = model_of(), make(), {}
  for k = 1, steps do
    fill(model, k)
    lines[k] = text_of(clip(model)) .. "\n" .. gradients(model)
  end
  return lines, clip:state_dict(), clip
end

local function near(a, b, what)
  if type(a) == "table" then
    for key, value in pairs(a) do near(value, b[key], what .. "." .. tostring(key)) end
  elseif type(a) == "number" then
    assert(math.abs(a - b) <= 1e-12 * math.max(1, math.abs(a)), ("%s: %.17g and %.17g"):format(what, a, b))
  else
    assert.are.equal(a, b, what)
  end
end

describe("a norm clip on the device", function()
  local exact = {
    ["max_norm 1"] = function(scope) return mb.clip.norm { max_norm = 1, scope = scope } end,
    ["max_norm that is too large"] = function(scope) return mb.clip.norm { max_norm = 1e3, scope = scope } end,
    ["max_norm without end"] = function(scope) return mb.clip.norm { max_norm = math.huge, scope = scope } end,
    ["a number"] = function(scope) return mb.clip.norm { threshold = 0.6, scope = scope } end,
    ["a quantile"] = function(scope)
      return mb.clip.norm { threshold = mb.threshold.quantile { q = 0.5, window = 4 }, scope = scope }
    end,
  }
  for _, scope in ipairs { "global", "matrix" } do
    for name, make in pairs(exact) do
      it(("gives the host's bits: %s, %s"):format(name, scope), function()
        local function new() return make(scope) end
        local host, host_state = on_host(calls, new, 7)
        local late, late_state, clip = on_device(calls, new, 7)
        assert.is_truthy(rawget(clip, "on_device"))
        for k = 1, 7 do assert.are.equal(host[k], late[k], "call " .. k) end
        near(host_state, late_state, "state")
      end)
    end

    it("remembers and says what the host does: averages, " .. scope, function()
      for _, policy in ipairs { mb.threshold.ema { beta = 0.8 }, mb.threshold.zscore { warmup = 3, z = 0.5 } } do
        local function new() return mb.clip.norm { threshold = policy, scope = scope } end
        local model, other, clips = model_of(), model_of(), { new(), new() }
        for k = 1, 8 do
          if k == 5 then -- each goes on from the other's state
            local a, b = clips[1]:state_dict(), clips[2]:state_dict()
            near(a, b, "state")
            assert.are.equal(4, b.step)
            clips[1]:load_state_dict(b)
            clips[2]:load_state_dict(a)
          end
          local host = on_host(clips[1], fill(model, k))
          local late = on_device(clips[2], fill(other, k))
          assert.are.equal(number(host.norm), number(late.norm))
          near(host.tau, late.tau, "tau")
          assert.are.equal(host.clipped, late.clipped)
          for i, row in ipairs(host) do
            near({ row.norm, row.tau }, { late[i].norm, late[i].tau }, row.name)
            assert.are.equal(row.clipped, late[i].clipped, row.name)
          end
        end
      end
    end)

    it("refuses what is not finite when it is read, by the next call, and by state_dict: " .. scope, function()
      for _, make in ipairs { exact["max_norm 1"], exact["a quantile"] } do
        local model, clip = model_of(), make(scope)
        on_device(clip, fill(model, 1))
        local state = clip:state_dict()
        for way = 1, 3 do
          for _, wrong in ipairs { 0 / 0, math.huge } do
            fill(model, 2)
            model:parameter("wpe.weight").grad:slice(1, 2, 2):fill_(wrong)
            local before = gradients(model)
            local report = on_device(clip, model)
            assert.are.equal(before, gradients(model))
            if way > 1 then fill(model, 3) end
            local said = way == 1 and helper.error_of(function() return report.norm end)
              or way == 2 and helper.error_of(function() return clip(model) end) or helper.error_of(clip.state_dict, clip)
            assert.is_truthy(said:find("mb.clip.norm: the ", 1, true), said)
            assert.is_truthy(said:find("held NaN or Inf, or had squares beyond float64's range, in ", 1, true), said)
            assert.are.equal(way == 1 or scope == "matrix", said:find("wpe.weight", 1, true) ~= nil, said)
            assert.are.same(state, clip:state_dict())
          end
        end
        assert.is_true(on_device(clip, fill(model, 4)).norm > 0)
      end
      -- Finite numbers whose squares are not.
      mb.seed(1)
      local big = mb.models.gpt2 { vocab_size = 5, block_size = 4, n_layer = 1, n_head = 1, n_embd = 8 }
      for _, p in ipairs(big:parameters()) do p.grad:fill_(0) end
      assert.are.equal(0, on_device(mb.clip.norm { max_norm = 1, scope = scope }, big).norm)
    end)
  end

  it("does not go on from the state of one with max_norm", function()
    local clip = mb.clip.norm { threshold = 3 }
    helper.says("mb.clip.norm: the state is of a clipper with max_norm, this one has threshold 'const(3)'",
      clip.load_state_dict, clip, mb.clip.norm { max_norm = 1 }:state_dict())
  end)

  it("keeps the last 8 reports", function()
    local model, clip, reports = model_of(), mb.clip.norm { max_norm = 1 }, {}
    for k = 1, 9 do reports[k] = on_device(clip, fill(model, k)) end
    local kept = on_host(mb.clip.norm { max_norm = 1 }, fill(model, 2)).norm
    assert.are.equal(kept, reports[2].norm)
    helper.says("mb.clip.norm: the result of call 0 is asked for after 9 calls", function() return reports[1].norm end)
    assert.is_nil(reports[3].other)
  end)

  it("is shown at the prompt as the host's is", function()
    local show = require "moonbow.repl.show"
    for _, scope in ipairs { "global", "matrix" } do
      local function new() return mb.clip.norm { max_norm = 1, scope = scope } end
      local model, clip = model_of(), new()
      local wanted = show.text(on_host(new(), fill(model, 1)), 100)
      assert.are.equal(wanted, show.text(on_device(clip, fill(model, 1)), 100))
    end
    local clip = mb.clip.spectral { threshold = 1, method = "exact" }
    assert.matches("sigma", show.text(on_device(clip, fill(model_of(), 1)), 100), 1, true)
  end)

  it("takes another threshold between calls", function()
    local model, clip = model_of(), mb.clip.norm { max_norm = 1 }
    local plan
    for k, max_norm in ipairs { 1, 0.5, 0.25, math.huge } do
      clip.threshold = max_norm
      local report = on_device(clip, fill(model, k))
      plan = plan or clip.on_device.plan
      assert.are.equal(plan, clip.on_device.plan)
      assert.are.equal(max_norm, report.tau)
      assert.are.equal(max_norm < math.huge, report.clipped)
    end
    clip.threshold = mb.threshold.ema { beta = 0.5 }
    on_device(clip, fill(model, 1))
    clip.threshold = mb.threshold.ema { beta = 0.25 }
    assert.are.equal(1, clip:state_dict().states["*"].k)
    clip.threshold = function() return 2 end
    assert.are.equal(2, on_device(clip, fill(model, 1)).tau)
    assert.are.equal(2, clip:state_dict().step)
  end)

  it("clips two models in turn, each with a plan of its own", function()
    local one, other, clip = model_of(), model_of(), mb.clip.norm { max_norm = 0.5 }
    local wanted = { on_host(clip, fill(one, 1)).norm, on_host(clip, fill(other, 2)).norm }
    local plans = {}
    for _ = 1, 2 do
      local a, first = on_device(clip, fill(one, 1)), clip.on_device
      local b, second = on_device(clip, fill(other, 2)), clip.on_device
      assert.are.same(wanted, { a.norm, b.norm })
      assert.is_true(first ~= second)
      assert.is_true(not plans[1] or plans[1] == first and plans[2] == second)
      plans = { first, second }
    end
  end)

  it("is as few launches as there are things to do, and no wait", function()
    if device == "cpu" then return end
    for scope, most in pairs { global = 3, matrix = 3 } do
      local model, clip = model_of(), mb.clip.norm { max_norm = 1, scope = scope }
      clip(fill(model, 1))
      fill(model, 2)
      local before, launches = runtime.waits(device), 0
      clip(model)
      assert.are.equal(before, runtime.waits(device))
      for _, row in ipairs(profile.record(function() clip(model) end)) do launches = launches + row.launches end
      assert(launches <= most, ("%d launches, %s"):format(launches, scope))
    end
  end)

  it("asks the host for what only it can answer", function()
    local model = model_of()
    for _, o in ipairs { { threshold = function() return 1 end }, { threshold = mb.threshold.adagc {}, scope = "matrix" },
        { threshold = mb.schedule.cosine { peak = 2, min = 1, steps = 9 } } } do
      local clip = mb.clip.norm(o)
      assert.is_true(rawget(on_device(clip, fill(model, 1)), "norm") > 0)
      assert.is_nil(clip.on_device)
    end
  end)
end)

-- ----- graphs -------------------------------------------------------------------------------------------------

-- Steps of AdamW with a clip, graphed or not: texts of reports and weights, the graphed function, and what the last calls cost.
local function train(wrap, make, each)
  local model = model_of()
  local optimizer, clip = mb.optim.adamw(model, { lr = 1e-2 }), make()
  local ids = mb.ids { { 1, 2, 3, 4 }, { 5, 6, 7, 8 } }
  local step = wrap(function()
    optimizer:zero_grad()
    local loss = model:loss { inputs = ids, targets = ids }
    loss:backward()
    return loss, optimizer:step(clip)
  end)
  local lines, waits = {}, 0
  for k = 1, 12 do
    if each then each(k, clip) end
    mb.set_step(k)
    local before = runtime.waits(device)
    local loss, report = step()
    waits = runtime.waits(device) - before
    lines[k] = number(loss:item()) .. " " .. text_of(report)
  end
  lines[13] = bits(model:parameters()[1].value)
  return lines, step, waits
end

describe("a graphed step with a norm clip", function()
  if device == "cpu" then return end
  local function plain(fn) return fn end

  for _, scope in ipairs { "global", "matrix" } do
    it("is one graph that waits for nothing: " .. scope, function()
      local function make() return mb.clip.norm { max_norm = 0.3, scope = scope } end
      local wanted = on_host(train, plain, make)
      local found, step, waits = train(mb.graph, make)
      assert.are.same(wanted, found)
      assert.are.equal(1, step:graphs())
      assert.are.equal(0, waits)
    end)
  end

  it("takes another max_norm at each step without another capture", function()
    local function make() return mb.clip.norm { max_norm = 1 } end
    local function each(k, clip) clip.threshold = k % 4 == 0 and math.huge or 1 / k end
    local wanted = on_host(train, plain, make, each)
    local found, step = train(mb.graph, make, each)
    assert.are.same(wanted, found)
    assert.are.equal("graphed function: 1 graph, replayed 9 times", tostring(step))
  end)

  it("is captured anew for another policy", function()
    local function make() return mb.clip.norm { max_norm = 1 } end
    local function each(k, clip)
      if k == 6 then clip.threshold = mb.threshold.quantile { q = 0.5, window = 3 } end
    end
    local found, step = train(mb.graph, make, each)
    assert.are.same(on_host(train, plain, make, each), found)
    assert.are.equal(1, step:graphs())
    assert.is_truthy(step.note:find("has another threshold", 1, true))
  end)

  it("raises what was refused at the call after the next, at the latest", function()
    local model, clip = model_of(), mb.clip.norm { max_norm = 1 }
    local step = mb.graph(function() return clip(model) end)
    for k = 1, 4 do
      fill(model, k)
      step()
    end
    model:parameters()[3].grad:mul_(0 / 0)
    local report = step()
    helper.says("held NaN or Inf", function() return report.norm end)
    step()
    fill(model, 5)
    helper.says("held NaN or Inf, or had squares beyond float64's range, in ", function()
      for _ = 1, 3 do step() end
    end)
  end)
end)
