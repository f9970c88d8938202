-- SPDX-License-Identifier: MIT
--
-- threshold_spec.lua: threshold policies, sample by sample: against PyTorch's numbers (policies.json), against
-- formulas written out here, through files and back, and the user's own functions.

local helper = require "tests.helper"
local json = require "moonbow.io.json"
local mb = require "moonbow"
local pack = require "moonbow.io.state"

local NAN = 0 / 0

local says = helper.says

-- What a policy says to each of `sigma`, with one state.
local function answers(policy, sigma, state)
  local tau = {}
  for i, value in ipairs(sigma) do
    tau[i] = policy { name = "w", shape = { 3, 4 }, step = i - 1, sigma = value, state = state } or false
  end
  return tau
end

-- Values of a state as a file gives them back.
local function through_a_file(state)
  local tree, tensors = pack.pack(state)
  assert.is_nil(next(tensors))
  return pack.unpack(assert(json.decode(assert(json.encode(tree)))), {})
end

local function random_sigmas(n)
  mb.seed(helper.seed)
  return mb.randn({ n }, { dtype = "f64" }):exp():totable()
end

-- The lower quantile of the last `window` values before i, by sorting them all: ALGORITHMS' formula.
local function plain_quantile(sigma, i, q, window)
  local last = {}
  for j = math.max(1, i - window), i - 1 do last[#last + 1] = sigma[j] end
  table.sort(last)
  return #last > 0 and last[math.floor(q * (#last - 1)) + 1] or false
end

describe("thresholds against PyTorch's numbers", function()
  local policies = {
    ema = function() return mb.threshold.ema {} end,
    ["ema_0.99"] = function() return mb.threshold.ema { beta = 0.99 } end,
    ["quantile_0.85_100"] = function() return mb.threshold.quantile() end,
    ["quantile_0.5_7"] = function() return mb.threshold.quantile { q = 0.5, window = 7 } end,
  }
  for name, make in pairs(policies) do
    it("give " .. name, function()
      local folder = helper.fixtures()
      if not folder then pending "the fixtures are not in this checkout" end
      local file = assert(io.open(folder .. "/policies.json", "rb"))
      local fixture = assert(json.decode(file:read "*a"))
      file:close()
      local expected = assert(fixture.tau[name])
      local tau = answers(make(), fixture.sigma, {})
      assert.are.equal(40, #tau)
      for i, got in ipairs(tau) do
        local want = expected[i]
        if type(want) ~= "number" then
          assert.is_false(got, ("%s, step %d: nothing was to be clipped"):format(name, i - 1))
        else
          assert(got and math.abs(got - want) <= 1e-9 * want,
            ("%s, step %d: %s, not %.17g"):format(name, i - 1, tostring(got), want))
        end
      end
    end)
  end
end)

describe("mb.threshold.const", function()
  it("is always the same, and remembers nothing", function()
    local th, state = mb.threshold.const { tau = 0.75 }, {}
    assert.are.same({ 0.75, 0.75, 0.75 }, answers(th, { 1, 100, NAN }, state))
    assert.is_nil(next(state))
    assert.are.equal("const(0.75)", tostring(th))
  end)
end)

describe("mb.threshold.ema", function()
  it("clips nothing in its first step, then follows the unclipped values without bias", function()
    local tau = answers(mb.threshold.ema { beta = 0.5 }, { 4, 2, 8, 1 }, {})
    assert.are.equal(4, tau[1])
    assert.are.equal(4, tau[2]) -- 2 / (1 - 1/2)
    assert.is_true(math.abs(tau[3] - 2 / 0.75) < 1e-15) -- m = 1/2 2 + 1/2 2
    assert.is_true(math.abs(tau[4] - 5 / 0.875) < 1e-15) -- m = 1/2 2 + 1/2 8
  end)

  it("is the weighted mean of all earlier values", function()
    local sigma, beta = random_sigmas(60), 0.9
    local tau = answers(mb.threshold.ema(), sigma, {})
    for k = 2, #sigma do
      local sum, weights = 0, 0
      for j = 1, k - 1 do
        local weight = beta ^ (k - 1 - j)
        sum, weights = sum + weight * sigma[j], weights + weight
      end
      assert.is_true(math.abs(tau[k] - sum / weights) <= 1e-12 * tau[k])
    end
  end)

  it("takes beta = 0: the last value", function()
    assert.are.same({ 3, 3, 5 }, answers(mb.threshold.ema { beta = 0 }, { 3, 5, 2 }, {}))
  end)

  it("never remembers a NaN", function()
    local th, with, without = mb.threshold.ema(), {}, {}
    local a = answers(th, { NAN, 2, NAN, 7, 1, NAN, 3 }, with)
    local b = answers(th, { 2, 7, 1, 3 }, without)
    assert.is_false(a[1])
    assert.are.same(b, { a[2], a[4], a[5], a[7] })
    assert.are.equal(a[4], a[3]) -- a NaN is answered, not counted
    assert.are.same(without, with)
  end)
end)

describe("mb.threshold.quantile", function()
  it("clips nothing while its history is empty, then never more than the window holds", function()
    local state = {}
    local tau = answers(mb.threshold.quantile { q = 1, window = 2 }, { 9, 1, 2, 3, 0.5 }, state)
    assert.are.same({ false, 9, 9, 2, 3 }, tau)
    assert.are.same({ 3, 0.5 }, state.history)
  end)

  it("is the value that sorting the window gives, with ties and wraps", function()
    local sigma = random_sigmas(250)
    for i = 1, #sigma do sigma[i] = i % 3 == 0 and sigma[i] or math.floor(4 * sigma[i]) end
    for _, case in ipairs { { 0.85, 100 }, { 0.5, 7 }, { 0, 5 }, { 1, 5 }, { 0.3, 1 }, { 0.999, 249 } } do
      local q, window = case[1], case[2]
      local tau = answers(mb.threshold.quantile { q = q, window = window }, sigma, {})
      for i in ipairs(sigma) do
        local want = plain_quantile(sigma, i, q, window)
        assert(tau[i] == want, ("q %g, window %d, step %d: %s, not %s; MB_SEED=%d"):format(q, window, i - 1, tostring(tau[i]),
          tostring(want), helper.seed))
      end
    end
  end)

  it("never remembers a NaN", function()
    local th, state = mb.threshold.quantile { q = 0.5, window = 3 }, {}
    assert.are.same({ false, false, 4, 4, 2, 2 }, answers(th, { NAN, 4, NAN, 2, NAN, 8 }, state))
    assert.are.same({ 4, 2, 8 }, state.history)
  end)
end)

describe("a threshold's state", function()
  local makers = {
    ema = function() return mb.threshold.ema { beta = 0.97 } end,
    quantile = function() return mb.threshold.quantile { q = 0.7, window = 9 } end,
  }
  for name, make in pairs(makers) do
    it("goes through a file in the middle of a window: " .. name, function()
      local sigma = random_sigmas(40)
      local whole = answers(make(), sigma, {})
      for _, cut in ipairs { 0, 1, 4, 9, 13, 31 } do
        local state, first, rest = {}, {}, {}
        for i, value in ipairs(sigma) do table.insert(i <= cut and first or rest, value) end
        answers(make(), first, state)
        local tau = answers(make(), rest, through_a_file(state))
        assert.are.same({ unpack(whole, cut + 1) }, tau)
      end
    end)

    it("belongs to one matrix: " .. name, function()
      local th, sigma = make(), random_sigmas(30)
      local a, b = {}, {}
      for i, value in ipairs(sigma) do
        local one = th { name = "a", sigma = value, state = a }
        th { name = "b", sigma = 1000 * i, state = b }
        assert.are.equal(answers(make(), { unpack(sigma, 1, i) }, {})[i], one or false)
      end
    end)

    it("is kept by name when a sample brings none: " .. name, function()
      local th, sigma = make(), random_sigmas(12)
      local whole = answers(make(), sigma, {})
      for i, value in ipairs(sigma) do
        assert.are.equal(whole[i], th { name = "a", sigma = value } or false)
        th { name = "b", sigma = 5 * value }
        th { sigma = 7 * value } -- the matrix without a name is one too
      end
      assert.are.equal(whole[1], make() { name = "a", sigma = sigma[1] } or false) -- and no other policy knows of it
    end)
  end
end)

describe("a user's function", function()
  -- The gradient of w is the matrix itself; a vector that nothing is done to stands beside it.
  local Model = mb.models.define {
    name = "two",
    parameters = function(add)
      add("w", { 3, 2 }, { role = "matrix" })
      add("b", { 4 }, { role = "vector" })
    end,
    forward = function(p) return p.w:sum() + p.b:sum() end,
  }

  local function set(model, scale)
    model:parameter("w").grad:copy_(mb.tensor { { 3 * scale, 0 }, { 0, scale }, { 0, 0 } })
    model:parameter("b").grad:fill_(scale)
  end

  it("sees name, shape, step, sigma and a state of its own, and leaves alone with nil", function()
    local model, seen = Model {}, {}
    local clip = mb.clip.spectral { method = "exact", threshold = function(p)
      p.state.calls = (p.state.calls or 0) + 1
      seen[#seen + 1] = { p.name, p.shape, p.step, p.state.calls }
      assert(math.abs(p.sigma - (p.name == "w" and 3 or 2)) < 1e-6)
      if p.name == "w" then return p.sigma / 2 end
    end }
    for step = 0, 2 do
      set(model, 1)
      local report = clip(model)
      assert.is_true(report[1].clipped)
      assert.is_nil(report[2].tau)
      assert.is_false(report[2].clipped)
      assert.are.same({ 1, 1, 1, 1 }, model:parameter("b").grad:totable())
      assert.is_true(math.abs(model:parameter("w").grad:totable()[1][1] - 1.5) < 1e-6)
      assert.are.same({ "w", { 3, 2 }, step, step + 1 }, seen[2 * step + 1])
      assert.are.same({ "b", { 4 }, step, step + 1 }, seen[2 * step + 2])
    end
    assert.are.same({ calls = 3 }, clip:state_dict().states.w)
  end)

  it("is refused when it returns anything but a number or nil, with the parameter's name", function()
    local model = Model {}
    for text, wrong in pairs { ["-1"] = -1, ["nan"] = NAN, ["tall"] = "tall", ["true"] = true, ["table"] = {} } do
      set(model, 1)
      local before = model:parameter("w").grad:clone()
      local clip = mb.clip.spectral { threshold = function(p) return p.name == "b" and wrong or 1 end }
      local got = helper.error_of(clip, model):lower()
      assert.is_truthy(got:find("mb.clip.spectral: threshold function returned", 1, true), got)
      assert.is_truthy(got:find(text, 1, true), got)
      assert.is_truthy(got:find("for 'b', a number >= 0 or nil was expected", 1, true), got)
      assert.is_true(model:parameter("w").grad:equal(before))
      assert.are.equal(0, clip:state_dict().step)
    end
  end)

  it("may call a policy of the library", function()
    local ema, model = mb.threshold.ema { beta = 0.5 }, Model {}
    local clip = mb.clip.spectral { method = "exact", threshold = function(p)
      local tau = ema(p)
      return tau and 2 * tau
    end }
    set(model, 1)
    assert.is_true(math.abs(clip(model)[1].tau - 6) < 1e-5)
    set(model, 10)
    assert.is_true(math.abs(clip(model)[1].tau - 6) < 1e-5)
    set(model, 10)
    assert.is_true(math.abs(clip(model)[1].tau - 2 * (0.5 * 1.5 + 15) / 0.75) < 1e-4)
  end)
end)

describe("wrong use of thresholds", function()
  it("names the nearest option or policy", function()
    says("mb.threshold.ema: unknown option 'bta', did you mean 'beta'?", mb.threshold.ema, { bta = 0.9 })
    says("unknown option 'windw', did you mean 'window'?", mb.threshold.quantile, { windw = 3 })
    says("mb.threshold has no 'quantil', did you mean 'quantile'?", function() return mb.threshold.quantil end)
  end)

  it("names the option and its bounds", function()
    says("option 'beta' must be less than 1, not the number 1", mb.threshold.ema, { beta = 1 })
    says("option 'q' must be at most 1", mb.threshold.quantile, { q = 1.5 })
    says("option 'window' must be at least 1", mb.threshold.quantile, { window = 0 })
    says("option 'window' must be an integer", mb.threshold.quantile, { window = 2.5 })
    says("option 'tau' must be more than 0", mb.threshold.const, { tau = 0 })
    says("option 'tau' is missing", mb.threshold.const, {})
  end)

  it("wants a sample with sigma", function()
    says("ema(0.9): a table with the number sigma was expected, not the number 3", mb.threshold.ema(), 3)
    says("quantile(0.85, 100): a table with the number sigma was expected, not sigma = nil", mb.threshold.quantile(),
      { name = "w" })
  end)

  it("prints what it is", function()
    assert.are.equal("ema(0.95)", tostring(mb.threshold.ema { beta = 0.95 }))
    assert.are.equal("quantile(0.5, 7)", tostring(mb.threshold.quantile { q = 0.5, window = 7 }))
  end)
end)
