-- SPDX-License-Identifier: MIT
--
-- threshold_spikes_spec.lua: the policies that were made for the norm of all gradients, ZClip and AutoClip: sample by
-- sample against formulas written out here, their states, and mb.clip.norm with a threshold.

local helper = require "tests.helper"
local json = require "moonbow.io.json"
local mb = require "moonbow"
local pack = require "moonbow.io.state"

local NAN = 0 / 0

local says = helper.says

local function answers(policy, sigma, state)
  local tau = {}
  for i, value in ipairs(sigma) do tau[i] = policy { name = "*", step = i - 1, sigma = value, state = state } or false end
  return tau
end

-- Log-normal values with a spike now and then.
local function spiky(n)
  mb.seed(helper.seed)
  local values = (mb.randn({ n }, { dtype = "f64" }) * 0.2):exp():totable()
  for i = 30, n, 13 do values[i] = values[i] * (2 + i % 5) end
  return values
end

local function close(got, want, what)
  local same = got == want or got and want and math.abs(got - want) <= 1e-11 * math.abs(want)
  assert(same, ("%s: %s, not %s; MB_SEED=%d"):format(what, tostring(got), tostring(want), helper.seed))
end

-- ZClip by the book: warm-up statistics by two passes, then what each variant makes of a spike.
local function plain_zscore(sigma, z, alpha, warmup, to)
  local tau, mean, variance = {}, 0, 0
  for i = 1, warmup do
    tau[i] = false
    mean = mean + sigma[i] / warmup
  end
  for i = 1, warmup do variance = variance + (sigma[i] - mean) ^ 2 / warmup end
  local spikes = 0
  for i = warmup + 1, #sigma do
    local score, used = (sigma[i] - mean) / (math.sqrt(variance) + 1e-6), sigma[i]
    tau[i] = mean + z * (math.sqrt(variance) + 1e-6)
    if score > z then
      spikes = spikes + 1
      local excess = to == "mean" and 0 or to == "bound" and z or z * z / score
      tau[i] = mean + excess * math.sqrt(variance)
      used = tau[i]
    end
    mean = alpha * mean + (1 - alpha) * used
    variance = alpha * variance + (1 - alpha) * (used - mean) ^ 2
  end
  return tau, spikes
end

describe("mb.threshold.zscore", function()
  it("is ZClip, in all its variants", function()
    local sigma = spiky(200)
    for _, case in ipairs { { 2.5, 0.97, 25, "reciprocal" }, { 2, 0.9, 7, "reciprocal" }, { 2.5, 0.97, 25, "bound" },
        { 1.5, 0.5, 1, "mean" } } do
      local z, alpha, warmup, to = case[1], case[2], case[3], case[4]
      local want, spikes = plain_zscore(sigma, z, alpha, warmup, to)
      assert.is_true(spikes >= 5, "the samples hold too few spikes to tell anything")
      local got = answers(mb.threshold.zscore { z = z, alpha = alpha, warmup = warmup, to = to }, sigma, {})
      for i in ipairs(sigma) do close(got[i], want[i], ("%s, step %d"):format(table.concat(case, " "), i - 1)) end
    end
    assert.are.same(answers(mb.threshold.zscore(), sigma, {}),
      answers(mb.threshold.zscore { z = 2.5, alpha = 0.97, warmup = 25, to = "reciprocal", epsilon = 1e-6 }, sigma, {}))
  end)

  it("clips spikes only, and the harder the further out they lie", function()
    local state, th = {}, mb.threshold.zscore { warmup = 4 }
    answers(th, { 1, 2, 1, 2 }, state)
    assert.are.equal(1.5, state.mean)
    assert.are.equal(0.25, state.variance)
    local last = math.huge
    for _, sigma in ipairs { 2.8, 3, 5, 100, 1e6, math.huge } do
      local tau = th { sigma = sigma, state = { n = 4, mean = 1.5, variance = 0.25 } }
      assert.is_true(tau < last and tau >= 1.5)
      last = tau
    end
    assert.are.equal(1.5, last)
    for _, sigma in ipairs { 0, 1, 2.7 } do
      assert.is_true(th { sigma = sigma, state = { n = 4, mean = 1.5, variance = 0.25 } } > sigma)
    end
  end)

  it("lets only what is left of a spike into its statistics", function()
    local th = mb.threshold.zscore { warmup = 4, alpha = 0.5, to = "mean" }
    local state = { n = 4, mean = 1.5, variance = 0.25 }
    assert.are.equal(1.5, th { sigma = 1e6, state = state })
    assert.are.same({ n = 5, mean = 1.5, variance = 0.125 }, state)
  end)

  it("never remembers a NaN, nor an infinite value while it warms up", function()
    local th, with, without = mb.threshold.zscore { warmup = 3 }, {}, {}
    local a = answers(th, { NAN, 2, math.huge, 7, NAN, 1, NAN, 3 }, with)
    local b = answers(th, { 2, 7, 1, 3 }, without)
    assert.are.same({ false, false, false, a[8] }, b)
    assert.are.equal(a[8], a[7]) -- a NaN is answered, not counted
    assert.are.same(without, with)
  end)
end)

-- numpy.percentile of the first i values, or of the last `window` of them.
local function plain_percentile(sigma, i, p, window)
  local list = {}
  for j = math.max(1, i - window + 1), i do list[#list + 1] = sigma[j] end
  table.sort(list)
  local x = p / 100 * (#list - 1)
  local low = math.floor(x)
  local high = list[low + 2] or list[low + 1]
  return list[low + 1] + (x - low) * (high - list[low + 1])
end

describe("mb.threshold.autoclip", function()
  it("is the percentile of all samples so far, or of the last ones", function()
    local sigma = spiky(300)
    for i = 1, #sigma, 3 do sigma[i] = math.floor(8 * sigma[i]) / 8 end -- ties
    for _, case in ipairs { { 10 }, { 0 }, { 100 }, { 50 }, { 37.5 }, { 90, 7 }, { 10, 1 }, { 25, 299 } } do
      local p, window = case[1], case[2] or math.huge
      local got = answers(mb.threshold.autoclip { p = p, window = window }, sigma, {})
      for i in ipairs(sigma) do
        close(got[i], plain_percentile(sigma, i, p, window), ("p %g, window %g, step %d"):format(p, window, i - 1))
      end
    end
    assert.are.same(answers(mb.threshold.autoclip { p = 10 }, sigma, {}), answers(mb.threshold.autoclip(), sigma, {}))
  end)

  it("clips nothing in its first step", function()
    assert.are.same({ 3 }, answers(mb.threshold.autoclip(), { 3 }, {}))
    assert.are.same({ 3 }, answers(mb.threshold.autoclip { window = 5 }, { 3 }, {}))
  end)

  it("never remembers a NaN", function()
    for _, window in ipairs { 3, math.huge } do
      local th, with, without = mb.threshold.autoclip { p = 50, window = window }, {}, {}
      local a = answers(th, { NAN, 4, NAN, 2, NAN, 8 }, with)
      assert.is_false(a[1])
      assert.are.same({ a[2], a[4], a[6] }, answers(th, { 4, 2, 8 }, without))
      assert.are.equal(a[4], a[5])
      assert.are.same(without, with)
    end
  end)
end)

describe("the state of these policies", function()
  local makers = {
    zscore = function() return mb.threshold.zscore { warmup = 9 } end,
    autoclip = function() return mb.threshold.autoclip() end,
    ["autoclip in a window"] = function() return mb.threshold.autoclip { p = 60, window = 9 } end,
  }
  for name, make in pairs(makers) do
    it("goes through a file in the middle: " .. name, function()
      local sigma = spiky(60)
      local whole = answers(make(), sigma, {})
      for _, cut in ipairs { 0, 1, 5, 9, 13, 45 } do
        local state = {}
        answers(make(), { unpack(sigma, 1, cut) }, state)
        local tree = assert(json.decode(assert(json.encode((pack.pack(state))))))
        assert.are.same({ unpack(whole, cut + 1) }, answers(make(), { unpack(sigma, cut + 1) }, pack.unpack(tree, {})))
      end
    end)
  end
end)

describe("mb.clip.norm with a threshold", function()
  local Two = mb.models.define {
    name = "two",
    parameters = function(add)
      add("w", { 3, 2 }, { role = "matrix" })
      add("b", { 4 }, { role = "vector" })
    end,
    forward = function(p) return p.w:sum() + p.b:sum() end,
  }

  -- Gradients of norm 3 scale and 4 scale: 5 scale in all.
  local function set(model, scale)
    model:zero_grad()
    model:parameter("w").grad:slice(1, 2, 2):slice(2, 1, 1):fill_(3 * scale)
    model:parameter("b").grad:fill_(2 * scale)
    return model
  end

  local function entries(model)
    return { model:parameter("w").grad:totable()[2][1], model:parameter("b").grad:totable()[1] }
  end

  it("asks about the norm of all gradients, and scales them to tau", function()
    local seen = {}
    local clip = mb.clip.norm { threshold = function(p)
      seen[#seen + 1] = { p.name, p.step, p.sigma }
      p.state.n = (p.state.n or 0) + 1
      return p.step < 2 and 2.5 or nil
    end }
    local model = Two { dtype = "f64" }
    for step, want in ipairs { 1.5, 0.3, 3 } do
      local scale = step == 2 and 0.1 or 1
      local report = clip(set(model, scale))
      assert.are.equal(5 * scale, report.norm)
      assert.are.equal(step < 3 and 2.5 or nil, report.tau)
      assert.are.equal(step == 1, report.clipped)
      local factor = step == 1 and 2.5 / (5 + 1e-6) or 1
      assert.are.same({ 3 * scale * factor, 2 * scale * factor }, entries(model))
      assert.is_true(math.abs(entries(model)[1] - want) < 1e-6)
    end
    assert.are.same({ { "*", 0, 5 }, { "*", 1, 0.5 }, { "*", 2, 5 } }, seen)
    assert.are.same({ clip = "norm", scope = "global", on = "grad", threshold = "function", step = 3,
                      states = { ["*"] = { n = 3 } } },
      clip:state_dict())
  end)

  it("leaves the bits alone where the norm is tau itself", function()
    local model = set(Two { dtype = "f64" }, 1)
    local report = mb.clip.norm { threshold = mb.threshold.autoclip() }(model)
    assert.are.same({ 5, 5, false }, { report.norm, report.tau, report.clipped })
    assert.are.same({ 3, 2 }, entries(model))
  end)

  it("asks about every parameter with scope matrix", function()
    local model = set(Two { dtype = "f64" }, 1)
    local clip = mb.clip.norm { scope = "matrix", threshold = function(p)
      assert(p.name == "w" and #p.shape == 2 or p.shape[1] == 4)
      return p.name == "w" and 1 or nil
    end }
    local report = clip(model)
    assert.are.same({ { name = "w", norm = 3, tau = 1, clipped = true }, { name = "b", norm = 4, clipped = false } },
      { report[1], report[2] })
    assert.is_true(report.clipped)
    assert.are.equal(5, report.norm)
    assert.are.same({ 3 / (3 + 1e-6), 2 }, entries(model))
    assert.are.same({ "b", "w" }, require("moonbow.options").keys(clip:state_dict().states))
  end)

  it("refuses what a threshold must not do, and changes nothing", function()
    for _, scope in ipairs { "global", "matrix" } do
      local model = set(Two {}, 1)
      local name = scope == "global" and "*" or "b"
      local function clip(answer)
        return mb.clip.norm { scope = scope, threshold = function(p) return p.name == name and answer() or 1 end }
      end
      says(("mb.clip.norm: threshold function returned the number -1 for '%s', a number >= 0 or nil was expected"):format(name),
        clip(function() return -1 end), model)
      says(("mb.clip.norm: threshold function failed for '%s': "):format(name), clip(function() error "no idea" end), model)
      says("no idea", clip(function() error "no idea" end), model)
      assert.are.same({ 3, 2 }, entries(model))
      model:parameter("w").grad:fill_(NAN)
      local good = mb.clip.norm { scope = scope, threshold = mb.threshold.ema() }
      says("mb.clip.norm: the gradient of w is not finite; nothing was changed", good, model)
      assert.are.same({}, good:state_dict().states)
    end
  end)

  it("goes on from its state as if it had not stopped", function()
    local norms = spiky(40)
    for _, scope in ipairs { "global", "matrix" } do
      for _, threshold in ipairs { mb.threshold.zscore { warmup = 9 }, mb.threshold.autoclip(), mb.threshold.ema(),
          mb.threshold.autoclip { p = 70, window = 6 }, mb.threshold.quantile { window = 5 }, mb.threshold.const { tau = 2 } } do
        local function new() return mb.clip.norm { threshold = threshold, scope = scope } end
        local model, whole, first = Two {}, new(), new()
        for step, norm in ipairs(norms) do
          local expected = whole(set(model, norm))
          assert.are.same(expected, first(set(model, norm)))
          if step == 7 or step == 22 then
            local text = assert(json.encode((pack.pack(first:state_dict()))))
            first = new()
            first:load_state_dict(pack.unpack(assert(json.decode(text)), {}))
          end
        end
        assert.are.same(whole:state_dict(), first:state_dict())
      end
    end
  end)

  it("has options, texts, and states that fit one kind of clipper", function()
    says("mb.clip.norm: one of the options 'max_norm' and 'threshold' is needed, both are missing", mb.clip.norm, {})
    says("is needed, not both", mb.clip.norm, { max_norm = 1, threshold = 1 })
    says("mb.clip.norm: threshold is true, a number, a schedule, a policy", mb.clip.norm, { threshold = true })
    local clip, plain = mb.clip.norm { threshold = mb.threshold.zscore() }, mb.clip.norm { max_norm = 2 }
    assert.are.equal('mb.clip.norm { threshold = zscore(2.5, 0.97, 25), scope = "global" }', tostring(clip))
    assert.are.equal("norm zscore(2.5, 0.97, 25)", clip:describe {})
    assert.are.equal("norm const(3) each", mb.clip.norm({ threshold = 3, scope = "matrix" }):describe {})
    says("the state has threshold 'zscore(2.5, 0.97, 25)', this clipper max_norm = 2", plain.load_state_dict, plain,
      clip:state_dict())
    says("the state is of a clipper with max_norm, this one has threshold 'zscore(2.5, 0.97, 25)'", clip.load_state_dict, clip,
      plain:state_dict())
  end)
end)

describe("wrong use of these policies", function()
  it("names the option and its bounds", function()
    says("mb.threshold.zscore: unknown option 'warmpu', did you mean 'warmup'?", mb.threshold.zscore, { warmpu = 3 })
    says("option 'alpha' must be less than 1", mb.threshold.zscore, { alpha = 1 })
    says("option 'z' must be more than 0", mb.threshold.zscore, { z = 0 })
    says("did you mean 'reciprocal'?", mb.threshold.zscore, { to = "reciprocl" })
    says("option 'p' must be at most 100", mb.threshold.autoclip, { p = 101 })
    says("option 'window' must be an integer or math.huge, not the number 2.5", mb.threshold.autoclip, { window = 2.5 })
    says("option 'window' must be at least 1", mb.threshold.autoclip, { window = 0 })
  end)

  it("prints what it is", function()
    assert.are.equal("zscore(2, 0.9, 5, mean)", tostring(mb.threshold.zscore { z = 2, alpha = 0.9, warmup = 5, to = "mean" }))
    assert.are.equal("autoclip(10)", tostring(mb.threshold.autoclip()))
    assert.are.equal("autoclip(25, 7)", tostring(mb.threshold.autoclip { p = 25, window = 7 }))
  end)
end)
