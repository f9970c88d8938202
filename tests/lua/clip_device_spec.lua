-- SPDX-License-Identifier: MIT
--
-- clip_device_spec.lua: policies that the device asks itself, beside the same policies in Lua: thresholds, states, what is
-- changed and what is not; no waiting; late refusals. The engine's call is tested on every device, the clipper's on those
-- that make it.

local helper = require "tests.helper"
local cjson = require "cjson"
local mb = require "moonbow"
local runtime = require "bindings.runtime"
local spectral = require "bindings.spectral"

local device, it = helper.device, helper.it_on_device

local function near(a, b, what)
  local same = a == b or (a ~= nil and b ~= nil and math.abs(a - b) <= 1e-12 * math.max(math.abs(a), math.abs(b)))
  assert(same, ("%s: %s and %s"):format(what, tostring(a), tostring(b)))
end

-- States are numbers and arrays of numbers.
local function near_state(a, b, what)
  for key, value in pairs(a) do
    if type(value) == "table" then
      assert.are.equal(#value, #b[key], what)
      for i, x in ipairs(value) do near(x, b[key][i], what .. "." .. key) end
    else
      near(value, b[key], what .. "." .. key)
    end
  end
  for key in pairs(b) do assert(a[key] ~= nil, what .. "." .. key) end
end

local policies = {
  function() return mb.threshold.const { tau = 0.7 } end,
  function() return mb.threshold.ema { beta = 0.9 } end,
  function() return mb.threshold.ema { beta = 0 } end,
  function() return mb.threshold.quantile { q = 0.85, window = 10 } end,
  function() return mb.threshold.quantile { q = 0, window = 1 } end,
  function() return mb.threshold.quantile { q = 1, window = 100 } end,
  function() return mb.threshold.zscore { warmup = 5 } end,
  function() return mb.threshold.zscore { warmup = 1, z = 0.5, alpha = 0.5, to = "bound", epsilon = 0 } end,
  function() return mb.threshold.zscore { warmup = 3, z = 1, to = "mean" } end,
}

-- Samples with spikes, ties and a zero; PyTorch's where there are fixtures.
local function samples()
  local folder, list = helper.fixtures(), {}
  if folder then
    local file = assert(io.open(folder .. "/policies.json", "rb"))
    list = cjson.decode(file:read "*a").sigma
    file:close()
  else
    math.randomseed(helper.seed)
    for i = 1, 40 do list[i] = math.exp(2 * math.random()) end
  end
  list[#list + 1], list[#list + 2] = list[3], list[3]
  return list
end

describe("a policy on the device", function()
  it("says and remembers what it does in Lua", function()
    local list = samples()
    for _, make in ipairs(policies) do
      local policy, state = make(), {}
      local vector = mb.zeros({ 4 }, { dtype = "f64" })
      local plan = spectral.plan({ vector }, { method = "exact" })
      plan:policy(policy.device.rule, { 1 }, 1)
      for step, sigma in ipairs(list) do
        if step % 15 == 0 then -- through a checkpoint of either form
          local rows = plan:policy_state()
          near_state(policy.device.unpack(rows[1]), state, tostring(policy))
          plan:set_policy_state { policy.device.pack(state) }
        end
        vector:copy_(mb.full({ 4 }, 0.5 * sigma, { dtype = "f64" }))
        local norm = math.sqrt(4 * (0.5 * sigma) ^ 2)
        local tau = policy { name = "x", step = step - 1, sigma = norm, state = state }
        local o = plan:outcome(plan:step())
        near(norm, o.sigma[0], "sigma")
        local found = o.tau[0]
        near(tau, found == found and found or nil, ("%s at sample %d"):format(tostring(policy), step))
        local clipped = tau ~= nil and norm > tau
        assert.are.equal(clipped and 1 or 0, o.clipped[0])
        near(clipped and tau or norm, math.sqrt((vector * vector):sum():item()), "the norm left")
      end
      plan:release()
    end
  end)

  it("is asked once for matrices that share a threshold", function()
    local list = { mb.randn { 30, 20 }, mb.randn { 8 }, mb.randn { 30, 20 } * 3, mb.randn { 5, 60 } }
    local plan = spectral.plan(list, { method = "randomized", rank = 3, oversample = 2, power_iters = 1 })
    plan:policy({ kind = "ema", beta = 0.5 }, { 1, 2, 1, 2 }, 2)
    local o = plan:outcome(plan:step())
    near(math.max(o.sigma[0], o.sigma[2]), o.tau[0], "the first")
    near(o.tau[0], o.tau[2], "members")
    near(math.max(o.sigma[1], o.sigma[3]), o.tau[1], "the second")
    near(o.tau[1], o.tau[3], "members")
    plan:release()
  end)

  for _, o in ipairs {
    { method = "exact" }, { method = "randomized", rank = 3, oversample = 2, power_iters = 1 },
    { method = "exact", dtype = "f64" }, { method = "randomized", rank = 3, oversample = 2, power_iters = 1, dtype = "f64" },
  } do
    local called = o.method .. (o.dtype and ", computed in " .. o.dtype or "")
    it("changes what a clamp changes: " .. called, function()
      for _, sizes in ipairs { { { 30, 20 }, { 20, 30 } }, { { 6, 6 }, { 1, 9 } }, { { 40, 33 }, { 7 } } } do
        for _, dtype in ipairs { "f32", "f64" } do
          local kept, a, b = {}, {}, {}
          for i = 1, 4 do
            kept[i] = (mb.randn(sizes[i % 2 + 1]) * (i == 3 and 1e-3 or i)):to(dtype)
            a[i], b[i] = kept[i]:clone(), kept[i]:clone()
          end
          mb.seed(5)
          local plan, other = spectral.plan(a, o), spectral.plan(b, o)
          local sigma, tau = plan:probe(), {}
          for i = 1, 4 do tau[i] = 0.4 end
          local clipped, saturated = plan:clamp(tau)
          local first = sigma[0]
          mb.seed(5)
          other:policy({ kind = "const", tau = 0.4 }, { 1, 1, 1, 1 }, 1)
          local out = other:outcome(other:step())
          near(first, out.sigma[0], "sigma")
          for i = 1, 4 do
            assert.are.equal(clipped[i], out.clipped[i - 1])
            assert.are.equal(saturated[i], out.saturated[i - 1] ~= 0)
            assert((a[i] - b[i]):abs():max():item() <= 1e-6, ("matrix %d"):format(i))
            if o.dtype then assert(a[i]:equal(b[i]), ("matrix %d"):format(i)) end
            if clipped[i] == 0 then assert(b[i]:equal(kept[i])) end
          end
          plan:release()
          other:release()
        end
      end
    end)

    it("refuses all where one is not finite, and is heard of it once: " .. called, function()
      for _, bad in ipairs { 0 / 0, 1 / 0, 1e35 } do
        local list, before = {}, {}
        for i = 1, 3 do list[i] = mb.randn { 30, 20 } end
        local plan = spectral.plan(list, o)
        plan:policy({ kind = "ema", beta = 0.5 }, { 1, 2, 3 }, 3)
        plan:outcome(plan:step())
        local states = plan:policy_state()
        for i, t in ipairs(list) do list[i] = t:mul_(2) end
        list[2]:slice(1, 3, 3):copy_(mb.full({ 1, 20 }, bad))
        for i, t in ipairs(list) do before[i] = t:to("cpu"):totable() end
        local call = plan:step()
        assert.are.same(cjson.encode(states), cjson.encode((plan:policy_state())))
        for i, t in ipairs(list) do
          if i ~= 2 then assert.are.same(before[i], t:to("cpu"):totable()) end
        end
        local text = bad == 1e35 and "matrix 1 had a singular value of" or "matrix 1 held NaN or Inf"
        helper.says(text, plan.step, plan)
        list[2]:copy_(mb.randn { 30, 20 })
        plan:step() -- not a second time
        helper.says(text, plan.outcome, plan, call)
        plan:release()
      end
    end)
  end

  it("computed in float64 goes on in a graph when the same plan was probed and clamped in between", function()
    local kept, a = mb.randn { 60, 40 }, mb.zeros { 60, 40 }
    local plan = spectral.plan({ a }, { method = "randomized", rank = 3, oversample = 2, power_iters = 1, dtype = "f64" })
    plan:policy({ kind = "const", tau = 5 }, { 1 }, 1)
    local step, results = mb.graph(function(x)
      a:copy_(x)
      plan:step()
      return a * 1
    end), {}
    local held = {}
    for k = 1, 6 do
      mb.seed(7)
      results[k] = step(kept):clone()
      assert(results[k]:equal(results[1]), "call " .. k)
      plan:probe()
      plan:clamp { 1 }
      held[k] = mb.full({ 1, 60, 40 }, k, { dtype = "f64" }) -- takes memory that was given back
    end
    for k, t in ipairs(held) do assert.are.equal(k, t:mean():item()) end
    assert(not results[1]:equal(kept))
    plan:release()
  end)

  it("keeps the last results", function()
    local plan = spectral.plan({ mb.randn { 5 } }, { method = "exact" })
    plan:policy({ kind = "const", tau = 1 }, { 1 }, 1)
    for _ = 1, 9 do plan:step() end
    plan:outcome(1)
    helper.says("the result of call 0 is asked for after 9 calls; the last 8 are kept", plan.outcome, plan, 0)
    helper.says("the result of call 9 is asked for", plan.outcome, plan, 9)
    plan:release()
  end)
end)

-- ----- the clipper --------------------------------------------------------------------------------------------

local function model_of(seed)
  mb.seed(seed)
  return mb.models.gpt2 { vocab_size = 16, block_size = 8, n_layer = 2, n_head = 2, n_embd = 64 }
end

-- Gradients of step k, the same on every device.
local function fill(model, k)
  local here = mb.device()
  mb.device "cpu"
  for i, p in ipairs(model:parameters()) do
    mb.seed(1000 * k + i)
    p.grad:copy_((mb.randn(p.shape) * (1 + (k * i) % 3)):to(here))
  end
  mb.device(here)
end

local function clipper(make, scope, method, dtype)
  return mb.clip.spectral { threshold = make(), scope = scope, method = method or "exact", dtype = dtype }
end

describe("a clipper on a device", function()
  if device == "cpu" then return end

  it("does not wait where the device asks the policy", function()
    for _, make in ipairs { policies[1], policies[2], policies[4], policies[7] } do
      for _, case in ipairs { { "exact" }, { "randomized" }, { "randomized", "f64" } } do
        local model, method = model_of(1), case[1]
        local clip = clipper(make, "matrix", method, case[2])
        fill(model, 0)
        clip(model)
        for k = 1, 3 do
          fill(model, k)
          local before = runtime.waits(device)
          clip(model)
          assert.are.equal(before, runtime.waits(device), method)
        end
      end
    end
  end)

  it("says what the CPU says, and its states are the CPU's", function()
    for _, make in ipairs { policies[2], policies[4], policies[7] } do
      for _, scope in ipairs { "matrix", "block", "global" } do
        local clips, models, reports = {}, {}, {}
        for at, where in ipairs { "cpu", device } do
          mb.device(where)
          models[at], clips[at] = model_of(1), clipper(make, scope)
        end
        for k = 0, 7 do
          if k == 4 then -- each goes on from the other's state
            local states = { clips[1]:state_dict(), clips[2]:state_dict() }
            assert.are.equal(4, states[2].step)
            for name, state in pairs(states[1].states) do
              for key, value in pairs(state) do
                local other = states[2].states[name][key]
                if type(value) == "number" then assert(math.abs(value - other) <= 1e-6 * (1 + math.abs(value)), name .. key)
                else assert.are.equal(#value, #other) end
              end
            end
            clips[1]:load_state_dict(states[2])
            clips[2]:load_state_dict(states[1])
          end
          for at, where in ipairs { "cpu", device } do
            mb.device(where)
            fill(models[at], k)
            reports[at] = clips[at](models[at])
          end
          mb.device(device)
          for i, row in ipairs(reports[1]) do
            local other = reports[2][i]
            assert.are.equal(row.name, other.name)
            assert(math.abs(row.sigma - other.sigma) <= 1e-5 * row.sigma)
            assert((row.tau == nil) == (other.tau == nil), row.name)
            assert(not row.tau or math.abs(row.tau - other.tau) <= 1e-5 * row.tau, row.name)
            if row.tau and math.abs(row.tau - row.sigma) > 1e-4 * row.sigma then
              assert.are.equal(row.clipped, other.clipped, row.name)
            end
          end
        end
      end
    end
  end)

  it("raises what was refused by name when it is read, and by the next call", function()
    local model, clip = model_of(1), clipper(policies[2], "matrix")
    local name = model:parameters()[5].name
    fill(model, 1)
    clip(model)
    local state = clip:state_dict()
    for way = 1, 3 do
      fill(model, 2)
      model:parameters()[5].grad:mul_(0 / 0)
      local report = clip(model)
      assert.are.equal(#report > 4 and "string", type(report[1].name))
      fill(model, 3)
      local said = way == 1 and helper.error_of(function() return report[1].sigma end)
        or way == 2 and helper.error_of(clip, model) or helper.error_of(clip.state_dict, clip)
      assert.is_truthy(said:find(("mb.clip.spectral: '%s' held NaN or Inf"):format(name), 1, true), said)
      assert.are.same(state, clip:state_dict())
    end
    assert(clip(model)[1].sigma > 0)
    assert.are.equal(2, clip:state_dict().step)
  end)

  local function calls_of(wrap, make, each)
    local model, clip, lines, kept = model_of(1), make(), {}, {}
    local step = wrap(function() return clip(model) end)
    for k = 1, 12 do
      each(k, clip)
      fill(model, k)
      kept[k] = step()
      lines[k] = ""
      for i, p in ipairs(model:parameters()) do lines[k] = ("%s %d %.17g"):format(lines[k], i, p.grad:square():sum():item()) end
    end
    for k = 5, 12 do
      for _, row in ipairs(kept[k][1] and kept[k] or { kept[k] }) do
        lines[k] = ("%s; %s %.17g %s %s"):format(lines[k], row.name, row.sigma or row.norm, tostring(row.tau),
          tostring(row.clipped))
      end
    end
    local state = clip:state_dict()
    for name, one in pairs(state.states or {}) do
      for key, value in pairs(one) do lines[#lines + 1] = name .. key .. tostring(type(value) == "number" and value) end
    end
    table.sort(lines)
    return lines, state.step, tostring(step)
  end

  it("takes another threshold at any call of a graph, and its reports can be read afterwards", function()
    local function set(list)
      return function(k, clip)
        for at, threshold in pairs(list) do
          if at == 0 or at == k then clip.threshold = at == 0 and 0.1 + 0.01 * k or threshold end -- 0: at each
        end
      end
    end
    local ema, quantile = mb.threshold.ema { beta = 0.5 }, mb.threshold.quantile { q = 0.5, window = 3 }
    local function lua() return 0.2 end
    for _, list in ipairs { { [3] = 0.1 }, { [3] = ema, [5] = quantile }, { [3] = lua, [4] = 0.1 }, { [6] = lua, [9] = ema },
        { [0] = true }, { [2] = lua, [6] = ema } } do
      for _, make in ipairs {
        function() return mb.clip.spectral { threshold = 0.3 } end,
        function() return mb.clip.spectral { threshold = lua, warm_start = true, dtype = "f64" } end,
        function() return mb.clip.spectral { threshold = ema, method = "exact" } end,
        function() return mb.clip.norm { threshold = quantile } end,
        function() return mb.clip.norm { threshold = 0.3, scope = "matrix" } end,
        function() return mb.clip.norm { max_norm = 0.3 } end,
      } do
        local wanted, step = calls_of(function(fn) return fn end, make, set(list))
        local found, graphed = calls_of(mb.graph, make, set(list))
        assert.are.same(wanted, found)
        assert.are.equal(step, graphed)
      end
    end
  end)

  it("asks the policy itself where a graph was captured with one that Lua is asked for", function()
    for _, make in ipairs { mb.clip.spectral, mb.clip.norm } do
      local model, clip = model_of(1), make { threshold = function() return 0.2 end }
      local step = mb.graph(function() return clip(model) end)
      for k = 1, 10 do
        if k == 5 then clip.threshold = mb.threshold.ema { beta = 0.5 } end
        fill(model, k)
        step()
      end
      fill(model, 11)
      local before = runtime.waits(device)
      step()
      assert.are.equal(before, runtime.waits(device))
      assert.are.equal(11, clip:state_dict().step)
      assert.are.equal(1, step:graphs())
    end
  end)

  it("tells of a refused call when its report is read, also after another state was loaded", function()
    local model, clip = model_of(1), clipper(policies[2], "matrix")
    fill(model, 1)
    local first, state = clip(model), clip:state_dict()
    fill(model, 2)
    model:parameters()[5].grad:mul_(0 / 0)
    local report = clip(model)
    clip:load_state_dict(state)
    assert(first[1].sigma > 0)
    for _ = 1, 2 do
      helper.says("held NaN or Inf", function() return report[1].sigma end)
    end
  end)

  it("asks in Lua where an option needs the host", function()
    local model = model_of(1)
    for _, o in ipairs { { verify = true }, { rank = "auto" }, { method = "polar" }, { method = "soft" },
        { rule = function(_, tau) return tau end } } do
      o.threshold = 0.5
      fill(model, 1)
      local clip = mb.clip.spectral(o)
      assert(rawget(clip(model)[1], "sigma") > 0)
      assert.is_nil(clip.on_device)
    end
  end)
end)
