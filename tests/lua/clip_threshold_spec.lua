-- SPDX-License-Identifier: MIT
--
-- clip_threshold_spec.lua: clip.threshold = ..., on a clipper that is in use.

local helper = require "tests.helper"
local mb = require "moonbow"

-- A model of one matrix whose gradient has singular values 4 and 2, each time it is asked for.
local function new_model()
  local model = mb.models.define {
    name = "one", parameters = function(add) add("w", { 2, 2 }, { role = "matrix", init = "zeros" }) end,
    forward = function(p) return (p.w * mb.tensor { { 4, 0 }, { 0, 2 } }):sum() end,
  } {}
  return model
end

local function fill(model)
  model:parameter("w").grad:copy_(mb.tensor { { 4, 0 }, { 0, 2 } })
  return model
end

local function diagonal(model)
  local g = model:parameter("w").grad:totable()
  return g[1][1], g[2][2]
end

describe("clip.threshold", function()
  it("is another one from the next call on", function()
    local model, clip = new_model(), mb.clip.spectral { threshold = 3, method = "exact" }
    assert.are.equal(3, clip(fill(model))[1].tau)
    clip.threshold = 1
    assert.are.equal("const(1)", tostring(clip.threshold))
    local row = clip(fill(model))[1]
    assert.are.equal(1, row.tau)
    local a, b = diagonal(model)
    assert(math.abs(a - 1) < 1e-5 and math.abs(b - 1) < 1e-5)
    clip.threshold = function(p) return p.sigma / 2 end
    assert.are.equal(2, clip(fill(model))[1].tau)
    clip.threshold = mb.threshold.quantile { q = 0.5, window = 3 }
    assert.is_nil(clip(fill(model))[1].tau)
    assert(tostring(clip):find("quantile(0.5, 3)", 1, true))
  end)

  it("goes on from what a policy of the same kind remembers", function()
    local model, clip = new_model(), mb.clip.spectral { threshold = mb.threshold.ema { beta = 0.9 }, method = "exact" }
    clip(fill(model))
    clip(fill(model))
    clip.threshold = mb.threshold.ema { beta = 0.5 }
    local state = clip:state_dict()
    assert.are.equal(2, state.step)
    assert.are.equal(2, state.states.w.k)
    assert.are.equal("ema(0.5)", state.threshold)
    clip.threshold = mb.threshold.zscore()
    assert.are.same({}, clip:state_dict().states)
    assert.are.equal(2, clip:state_dict().step)
  end)

  it("is checked, and what fails changes nothing", function()
    local model = new_model()
    local clip = mb.clip.spectral { threshold = 3, method = "exact" }
    helper.says("mb.clip.spectral: threshold is -1, a number above 0 was expected", function() clip.threshold = -1 end)
    helper.says("threshold is the string 'x'", function() clip.threshold = "x" end)
    helper.says("'treshold' of a clipper cannot be set, did you mean 'threshold'?", function() clip.treshold = 1 end)
    helper.says("'rank' of a clipper cannot be set; only 'threshold' can", function() clip.rank = 2 end)
    assert.are.equal(3, clip(fill(model))[1].tau)
    local norm = mb.clip.norm { max_norm = 1 }
    helper.says("mb.clip.norm: the threshold must be more than 0", function() norm.threshold = 0 end)
    assert.are.equal(1, norm.threshold)
  end)

  it("is all that can be set: other options stay as they were, whatever they are called", function()
    local clips = { mb.clip.spectral { threshold = 3 }, mb.clip.norm { threshold = 2 }, mb.clip.norm { max_norm = 1 } }
    for _, clip in ipairs(clips) do
      for key, value in pairs { on = "update", scope = "global", memory = 3, who = "x", method = "exact", rule = print,
          max_norm = -1 } do
        local was = clip[key]
        helper.says(clip == clips[3] and key == "max_norm" and "the threshold must be more than 0"
          or ("'%s' of a clipper cannot be set"):format(key), function() clip[key] = value end)
        assert.are.equal(was, clip[key])
      end
    end
    clips[3].max_norm = 0.5
    assert.are.equal(0.5, clips[3].threshold)
    assert.are.equal(0.5, clips[3].max_norm)
    clips[3].threshold = mb.threshold.ema()
    assert.is_nil(clips[3].max_norm)
  end)

  it("goes to a device that asks the policy itself", function()
    local devices = require "moonbow.clip.device"
    local model, clip = new_model(), mb.clip.spectral { threshold = mb.threshold.ema { beta = 0.9 }, method = "exact" }
    devices.even_on_cpu = true
    local ok, problem = pcall(function()
      clip(fill(model))
      clip.threshold = mb.threshold.ema { beta = 0.5 }
      assert.are.equal(1, clip:state_dict().states.w.k)
      clip.threshold = 1
      assert.are.equal(1, clip(fill(model))[1].tau)
      clip.threshold = function() return 2 end
      assert.are.equal(2, clip(fill(model))[1].tau)
      assert.are.equal(3, clip:state_dict().step)
    end)
    devices.even_on_cpu = nil
    assert(ok, problem)
  end)

  it("takes the place of max_norm", function()
    local model, clip = new_model(), mb.clip.norm { max_norm = 1 }
    clip.threshold = 2
    assert.are.equal(2, clip.max_norm)
    clip(fill(model))
    local a, b = diagonal(model)
    assert(math.abs(math.sqrt(a * a + b * b) - 2) < 1e-5)
    clip.threshold = mb.threshold.ema { beta = 0.9 }
    assert.is_nil(clip.max_norm)
    assert.is_false(clip(fill(model)).clipped)
    assert(tostring(clip):find("ema(0.9)", 1, true))
  end)
end)
