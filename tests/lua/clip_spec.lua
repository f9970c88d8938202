-- SPDX-License-Identifier: MIT
--
-- clip_spec.lua: mb.clip over models: what is taken, what is reported, rules, states, and wrong use. The result of
-- clipping one matrix: clip_matrix_spec.lua; against PyTorch: tests/golden/clip_spec.lua.

local helper = require "tests.helper"
local json = require "moonbow.io.json"
local mb = require "moonbow"
local pack = require "moonbow.io.state"

local says = helper.says

-- Largest |a - b|.
local function gap(a, b)
  assert.are.same(b.shape, a.shape)
  return (a:to "f64" - b:to "f64"):abs():max():item()
end

local function near(a, b, distance, what)
  local got = gap(a, b)
  assert(got <= distance, ("%s: %g apart, %g allowed; MB_SEED=%d"):format(what or "tensors", got, distance, helper.seed))
end

local function tiny(more)
  local o = { vocab_size = 11, block_size = 6, n_layer = 2, n_head = 2, n_embd = 8, seed = 5 }
  for key, value in pairs(more or {}) do o[key] = value end
  return mb.models.gpt2(o)
end

-- A gpt2 or mlp with random gradients.
local function with_gradients(model, scale)
  for _, p in ipairs(model:parameters()) do p.grad:randn_(0, scale or 1) end
  return model
end

local function gradients(model)
  local result = {}
  for _, p in ipairs(model:parameters()) do result[p.name] = p.grad:clone() end
  return result
end

local function changed_names(model, before)
  local names = {}
  for _, p in ipairs(model:parameters()) do
    if not p.grad:equal(before[p.name]) then names[#names + 1] = p.name end
  end
  return names
end

-- All roles, with a filter of 3 x (2 * 2 * 2).
local Roles = mb.models.define {
  name = "roles",
  parameters = function(add)
    add("embed", { 5, 4 }, { role = "embedding" })
    add("filter", { 3, 2, 2, 2 }, { role = "conv" })
    add("bias", { 6 }, { role = "vector" })
    add("w", { 4, 7 }, { role = "matrix" })
    add("out", { 5, 4 }, { role = "head" })
  end,
  forward = function(p) return p.w:sum() end,
}

before_each(function() mb.seed(helper.seed) end)

describe("mb.clip.spectral", function()
  it("takes everything but embeddings, matrices and vectors, in GPT-2", function()
    local model = with_gradients(tiny())
    local before = gradients(model)
    local report = mb.clip.spectral { threshold = 0.5, method = "exact" }(model)
    assert.are.equal(26, #report)
    for i, row in ipairs(report) do
      local p = model:parameters()[i + 2] -- wte and wpe come first
      assert.are.equal(p.name, row.name)
      local want, info = mb.clip.matrix(before[p.name], { threshold = 0.5, method = "exact" })
      near(p.grad, want, 4e-6 * info.sigma, p.name)
      assert.is_true(math.abs(row.sigma - info.sigma) <= 1e-6 * info.sigma)
      assert.are.same({ tau = 0.5, clipped = true, saturated = false },
        { tau = row.tau, clipped = row.clipped, saturated = row.saturated })
      if p.role == "vector" then
        local norm = math.sqrt(before[p.name]:to("f64"):square():sum():item())
        assert.is_true(math.abs(row.sigma - norm) <= 1e-6 * norm)
        near(p.grad, before[p.name] * (0.5 / norm), 1e-6, p.name)
      end
    end
    assert.are.equal(26, #changed_names(model, before)) -- and no embedding is among them
  end)

  it("takes an MLP, every layer of it, and follows real gradients", function()
    local model = mb.models.mlp { n_input = 10, n_hidden = 16, n_layer = 2, n_output = 4, seed = 3 }
    model:loss({ inputs = mb.randn { 5, 10 }, targets = { 0, 1, 2, 3, 0 } }):backward()
    local count = 0
    for _, p in ipairs(model:parameters()) do count = count + (p.role ~= "head" and 1 or 0) end
    local before = gradients(model)
    local report = mb.clip.spectral { threshold = function(p) return p.sigma / 2 end, method = "exact" }(model)
    assert.are.equal(count, #report)
    assert.are.equal(count, #changed_names(model, before))
    for _, row in ipairs(report) do
      assert.are.equal(row.sigma / 2, row.tau)
      local _, after = mb.clip.matrix(model:parameter(row.name).grad, { threshold = 1, method = "exact" })
      assert.is_true(math.abs(after.sigma - row.tau) <= 1e-5 * row.tau)
    end
  end)

  it("leaves out head and embedding by default, and takes what `where` says", function()
    local model = with_gradients(Roles {})
    local before = gradients(model)
    mb.clip.spectral { threshold = 1e-3 }(model)
    assert.are.same({ "filter", "bias", "w" }, changed_names(model, before))
    before = gradients(model)
    local report = mb.clip.spectral { threshold = 1e-4, where = function(p)
      return p.role == "head" or p.name == "embed" and #p.shape == 2
    end }(model)
    assert.are.same({ "embed", "out" }, changed_names(model, before))
    assert.are.same({ "embed", "out" }, { report[1].name, report[2].name })
    says("`where` takes no parameter of model 'roles'", mb.clip.spectral { threshold = 1, where = function() end }, model)
  end)

  it("leaves the bits alone where tau is not exceeded, and changes nothing twice", function()
    for _, method in ipairs { "exact", "randomized" } do
      local model = with_gradients(tiny())
      local before = gradients(model)
      local clip = mb.clip.spectral { threshold = 100, method = method }
      for _, row in ipairs(clip(model)) do assert.is_false(row.clipped) end
      assert.are.same({}, changed_names(model, before))
      for _, row in ipairs(mb.clip.spectral { threshold = math.huge, method = method }(model)) do
        assert.is_false(row.clipped)
      end
      assert.are.same({}, changed_names(model, before))

      clip = mb.clip.spectral { threshold = 1.5, method = method }
      clip(model)
      local once = gradients(model)
      for _, row in ipairs(clip(model)) do
        assert.is_true(row.sigma <= 1.5 * (1 + 1e-5), row.name)
        near(model:parameter(row.name).grad, once[row.name], 1e-5, row.name)
      end
    end
  end)

  it("gives the same bits for the same seed", function()
    local function run()
      mb.seed(helper.seed)
      local model = with_gradients(tiny())
      mb.clip.spectral { threshold = 0.5, rank = 3, oversample = 2 }(model)
      return gradients(model)
    end
    local a, b = run(), run()
    for name, value in pairs(a) do assert.is_true(value:equal(b[name]), name) end
  end)

  it("does exactly and by sketch the same", function()
    local exact, sketched = tiny(), tiny()
    for i, p in ipairs(exact:parameters()) do
      p.grad:randn_()
      sketched:parameters()[i].grad:copy_(p.grad)
    end
    local a = mb.clip.spectral { threshold = 1, method = "exact" }(exact)
    local b = mb.clip.spectral { threshold = 1, rank = 8 }(sketched)
    for i, row in ipairs(a) do
      near(sketched:parameter(row.name).grad, exact:parameter(row.name).grad, 1e-5 * row.sigma, row.name)
      assert.is_true(math.abs(b[i].sigma - row.sigma) <= 1e-5 * row.sigma)
    end
  end)

  it("reports saturated matrices, one by one, clamped or by a rule", function()
    for _, rule in ipairs { false, math.min } do
      local model = with_gradients(Roles {})
      local report = mb.clip.spectral { threshold = 1e-3, rank = 2, oversample = 5, rule = rule or nil }(model)
      local saturated = {}
      for _, row in ipairs(report) do saturated[row.name] = row.saturated end
      assert.are.same({ filter = true, bias = false, w = true }, saturated)
    end
  end)

  it("refuses a gradient that is not finite: its name, and nothing changed", function()
    for _, wrong in ipairs { 0 / 0, math.huge, -math.huge } do
      for _, name in ipairs { "h.1.mlp.c_fc.weight", "h.0.ln_2.bias" } do
        for _, method in ipairs { "exact", "randomized" } do
          local model = with_gradients(tiny())
          local clip = mb.clip.spectral { threshold = mb.threshold.ema(), method = method }
          clip(model)
          local state, before = clip:state_dict(), gradients(model)
          local flat = model:parameter(name).grad:reshape(-1)
          flat:slice(1, 3, 3):fill_(wrong)
          local text = helper.device == "cpu" and "mb.clip.spectral: the gradient of %s is not finite; nothing was changed"
            or "mb.clip.spectral: '%s' held NaN or Inf in that call; nothing was changed" -- read later, see clip_device_spec
          says(text:format(name), function() return clip(model)[1].sigma end)
          for other, value in pairs(before) do
            if other ~= name then assert.is_true(model:parameter(other).grad:equal(value), other) end
          end
          assert.are.same(state, clip:state_dict())
          with_gradients(model) -- and it goes on
          assert.are.equal(26, #clip(model))
        end
      end
    end
  end)

  it("decides on the largest value of all with scope global", function()
    local model, samples = with_gradients(tiny()), {}
    local clip = mb.clip.spectral { scope = "global", method = "exact", threshold = function(p)
      samples[#samples + 1] = p
      return p.sigma / 3
    end }
    local report, top = clip(model), 0
    for _, row in ipairs(report) do top = math.max(top, row.sigma) end
    assert.are.equal(1, #samples)
    assert.are.equal(top, samples[1].sigma)
    for _, row in ipairs(report) do
      assert.are.equal(top / 3, row.tau)
      assert.are.equal(row.sigma > top / 3, row.clipped)
    end
    local before = gradients(model)
    for _, row in ipairs(mb.clip.spectral { scope = "global", threshold = mb.threshold.ema() }(model)) do
      assert.is_false(row.clipped)
    end
    assert.are.same({}, changed_names(model, before))
  end)

  it("puts a user's rule in the place of min(sigma, tau)", function()
    local model = with_gradients(Roles {})
    local before = gradients(model)
    local report = mb.clip.spectral { threshold = 0.8, method = "exact", rule = function(sigma, tau)
      return sigma > tau and tau + 0.1 * (sigma - tau) or sigma
    end }(model)
    for _, row in ipairs(report) do
      local _, after = mb.clip.matrix(model:parameter(row.name).grad, { threshold = 1, method = "exact" })
      assert.is_true(math.abs(after.sigma - (0.8 + 0.1 * (row.sigma - 0.8))) < 1e-5, row.name)
      assert.is_true(row.clipped)
    end
    assert.are.same({ "filter", "bias", "w" }, changed_names(model, before))
    before = gradients(model)
    for _, row in ipairs(mb.clip.spectral { threshold = 1, rule = function(sigma) return sigma end }(model)) do
      assert.is_false(row.clipped)
    end
    assert.are.same({}, changed_names(model, before))
  end)

  it("refuses what a rule must not return, with the parameter's name", function()
    local model = with_gradients(Roles {})
    local before = gradients(model)
    for text, wrong in pairs { ["the number -1"] = -1, ["the number inf"] = math.huge, ["the number "] = 0 / 0,
      ["the string 'wide'"] = "wide", ["nil"] = false } do
      local clip = mb.clip.spectral { threshold = function(p) return p.name == "w" and 0.5 or nil end,
        rule = function() return wrong or nil end }
      local got = helper.error_of(clip, model):lower()
      assert.is_truthy(got:find("returned " .. text, 1, true), got)
      assert.is_truthy(got:find("for 'w', a finite number >= 0 was expected", 1, true), got)
      assert.are.same({}, changed_names(model, before))
    end
  end)

  it("goes from model to model, and on after a refusal", function()
    local a, b = with_gradients(Roles {}), with_gradients(tiny())
    local clip = mb.clip.spectral { threshold = 0.25, where = function(p) return p.role == "conv" end }
    assert.are.equal(1, #clip(a))
    says("`where` takes no parameter of model 'gpt2'", clip, b)
    with_gradients(a)
    assert.is_true(clip(a)[1].clipped)
    says("mb.clip.spectral: a model was expected, not the number 3", clip, 3)
    says("mb.clip.spectral: a model was expected, not nil", clip)
    says("mb.clip.spectral: a model was expected, not nil", mb.clip.spectral { threshold = 1 })
  end)

  local function text_of(clip) return assert(json.encode((pack.pack(clip:state_dict())))) end

  it("goes on from its state as if it had not stopped", function()
    for _, threshold in ipairs { mb.threshold.ema(), mb.threshold.quantile { q = 0.5, window = 4 },
        function(p)
          p.state.peak = math.max(p.state.peak or 0, p.sigma)
          return p.step > 1 and p.state.peak / 2 or nil
        end } do
      local function new() return mb.clip.spectral { threshold = threshold, method = "exact" } end
      local model, whole, first, state, text = Roles {}, new(), new(), nil, nil
      for step = 1, 12 do
        with_gradients(model, step % 3 + 1)
        local before = gradients(model)
        local expected = whole(model)
        for name, value in pairs(before) do model:parameter(name).grad:copy_(value) end
        assert.are.same(expected, first(model))
        if step == 6 then
          text = text_of(first)
          first = new()
          first:load_state_dict(pack.unpack(assert(json.decode(text)), {}))
          state = first:state_dict()
        end
      end
      assert.are.same(whole:state_dict(), first:state_dict())
      local again = new() -- the state stays what it was, in the clipper that goes on and in one that starts from it
      again:load_state_dict(state)
      with_gradients(model)
      again(model)
      assert.are.same(pack.unpack(assert(json.decode(text)), {}), state)
    end
  end)

  it("refuses the state of another clipper", function()
    local clip = mb.clip.spectral { threshold = mb.threshold.ema() }
    local good = clip:state_dict()
    says("the state has threshold 'ema(0.5)', this clipper 'ema(0.9)'", clip.load_state_dict, clip,
      mb.clip.spectral({ threshold = mb.threshold.ema { beta = 0.5 } }):state_dict())
    says("the state has clip 'norm', this clipper 'spectral'", clip.load_state_dict, clip,
      mb.clip.norm({ max_norm = 1 }):state_dict())
    says("mb.clip.spectral: a state was expected, not nil", clip.load_state_dict, clip)
    good.step = nil
    says("the state's step is nil, an integer of at least 0 was expected", clip.load_state_dict, clip, good)
  end)

  it("names the nearest option, and prints what it is", function()
    says("mb.clip.spectral: unknown option 'treshold', did you mean 'threshold'?", mb.clip.spectral, { treshold = 1 })
    says("unknown option 'oversampel', did you mean 'oversample'?", mb.clip.spectral, { threshold = 1, oversampel = 2 })
    says("did you mean 'randomized'?", mb.clip.spectral, { threshold = 1, method = "randomised" })
    says("did you mean 'global'?", mb.clip.spectral, { threshold = 1, scope = "gobal" })
    says("option 'rank' must be at least 1", mb.clip.spectral, { threshold = 1, rank = 0 })
    says("option 'threshold' is missing", mb.clip.spectral, {})
    says("mb.clip.spectral: threshold is true, a number, a schedule, a policy", mb.clip.spectral, { threshold = true })
    says("option 'threshold' must be a number that is not NaN", mb.clip.spectral, { threshold = 0 / 0 })
    says("mb.clip has no 'spektral', did you mean 'spectral'?", function() return mb.clip.spektral end)
    local clip = mb.clip.spectral { threshold = mb.threshold.ema(), rank = 3 }
    assert.are.equal('mb.clip.spectral { threshold = ema(0.9), method = "randomized", rank = 3, oversample = 5, '
      .. 'power_iters = 1, scope = "matrix" }', tostring(clip))
    local model = Roles {}
    assert.are.equal("spectral ema(0.9), r=3 p=5 it=1", clip:describe(model:parameter "w"))
    assert.are.equal("spectral ema(0.9), norm", clip:describe(model:parameter "bias"))
    assert.is_nil(clip:describe(model:parameter "embed"))
  end)

  it("leaves no tensors behind", function()
    helper.no_leaks(function()
      local model = with_gradients(tiny())
      for _, method in ipairs { "exact", "randomized" } do
        local clip = mb.clip.spectral { threshold = 0.5, method = method }
        for _ = 1, 3 do clip(model) end
      end
      mb.clip.matrix(mb.randn { 5, 4 }, { threshold = 0.1 })
      mb.clip.norm { max_norm = 0.1, scope = "matrix" }(model)
    end)
  end)
end)

describe("mb.clip.norm", function()
  -- PyTorch's clip_grad_norm_: the factor min(1, max_norm / (norm + 1e-6)).
  local function norm_of(list)
    local sum = 0
    for _, t in pairs(list) do sum = sum + t:to("f64"):square():sum():item() end
    return math.sqrt(sum)
  end

  it("scales all gradients by one factor", function()
    for _, max_norm in ipairs { 0.01, 3, 1000 } do
      local model = with_gradients(tiny())
      local before = gradients(model)
      local norm = norm_of(before)
      local report = mb.clip.norm { max_norm = max_norm }(model)
      assert.is_true(math.abs(report.norm - norm) <= 1e-12 * norm)
      assert.are.equal(norm > max_norm, report.clipped)
      local factor = math.min(1, max_norm / (norm + 1e-6))
      for name, value in pairs(before) do near(model:parameter(name).grad, value:to "f64" * factor, 1e-6 * factor, name) end
      if max_norm == 1000 then assert.are.same({}, changed_names(model, before)) end
    end
  end)

  it("counts the 1e-6 in small norms", function()
    local model = Roles { dtype = "f64" }
    model:zero_grad()
    model:parameter("w").grad:slice(1, 1, 1):slice(2, 1, 1):fill_(1e-6)
    local report = mb.clip.norm { max_norm = 1e-6 }(model)
    assert.is_true(report.clipped)
    assert.is_true(math.abs(model:parameter("w").grad:totable()[1][1] - 0.5e-6) < 1e-18)
  end)

  it("scales each parameter by its own with scope matrix", function()
    local model = with_gradients(Roles { dtype = "f64" })
    model:parameter("bias").grad:fill_(0.01)
    local before = gradients(model)
    local report = mb.clip.norm { max_norm = 2, scope = "matrix" }(model)
    assert.are.equal(5, #report)
    assert.is_true(report.clipped)
    assert.is_true(math.abs(report.norm - norm_of(before)) < 1e-12)
    for i, p in ipairs(model:parameters()) do
      local norm = norm_of { before[p.name] }
      assert.are.equal(p.name, report[i].name)
      assert.is_true(math.abs(report[i].norm - norm) <= 1e-13 * norm)
      assert.are.equal(p.name ~= "bias", report[i].clipped)
      near(p.grad, before[p.name] * math.min(1, 2 / (norm + 1e-6)), 1e-14, p.name)
    end
    assert.is_true(model:parameter("bias").grad:equal(before.bias))
  end)

  it("only measures with math.huge, and takes zero gradients", function()
    for _, scope in ipairs { "global", "matrix" } do
      local model = with_gradients(tiny())
      local before = gradients(model)
      local clip = mb.clip.norm { max_norm = math.huge, scope = scope }
      local report = clip(model)
      assert.is_false(report.clipped)
      assert.is_true(math.abs(report.norm - norm_of(before)) <= 1e-12 * report.norm)
      assert.are.same({}, changed_names(model, before))
      assert.is_nil(clip:describe(model:parameters()[1]))
      model:zero_grad()
      assert.are.equal(0, mb.clip.norm({ max_norm = 1, scope = scope })(model).norm)
    end
  end)

  it("refuses a gradient that is not finite: its name, and nothing changed", function()
    for _, scope in ipairs { "global", "matrix" } do
      for _, wrong in ipairs { 0 / 0, math.huge } do
        local model = with_gradients(tiny())
        local before = gradients(model)
        model:parameter("wpe.weight").grad:slice(1, 2, 2):fill_(wrong)
        local clip = mb.clip.norm { max_norm = 0.1, scope = scope }
        local text = helper.device == "cpu" and "mb.clip.norm: the gradient of wpe.weight is not finite; nothing was changed"
          or "the gradient of wpe.weight" -- read later, see clip_norm_device_spec
        says(text, function() return clip(model).norm end)
        assert.are.same({ "wpe.weight" }, changed_names(model, before))
      end
      local model = with_gradients(Roles { dtype = "f64" }, 1e200)
      local clip = mb.clip.norm { max_norm = 1, scope = scope }
      says("beyond float64's range", function() return clip(model).norm end)
    end
  end)

  it("has options, a text and a state", function()
    says("unknown option 'maxnorm', did you mean 'max_norm'?", mb.clip.norm, { maxnorm = 1 })
    says("option 'max_norm' must be more than 0", mb.clip.norm, { max_norm = 0 })
    says("mb.clip.norm: a model was expected", mb.clip.norm { max_norm = 1 }, {})
    local clip = mb.clip.norm { max_norm = 0.5 }
    assert.are.equal('mb.clip.norm { max_norm = 0.5, scope = "global" }', tostring(clip))
    assert.are.equal("norm(0.5)", clip:describe {})
    assert.are.same({ clip = "norm" }, clip:state_dict())
    clip:load_state_dict(clip:state_dict())
    says("the state is of clipper 'spectral'", clip.load_state_dict, clip, { clip = "spectral" })
  end)
end)
