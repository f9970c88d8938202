-- SPDX-License-Identifier: MIT
--
-- clip_checkpoint_spec.lua: clippers of every policy, stopped in mid-window: what a fresh one loads from the checkpoint
-- makes it go on as if there had been no stop, by the names of the parameters.

local helper = require "tests.helper"
local mb = require "moonbow"
local scratch = require "tests.scratch"

local Names = mb.models.define {
  name = "names",
  parameters = function(add)
    add("h.0.w", { 4, 3 }, { role = "matrix", parts = { halves = 2 } })
    add("h.0.b", { 4 }, { role = "vector" })
    add("h.1.w", { 4, 3 }, { role = "matrix", parts = { halves = 2 } })
    add("out.w", { 2, 3 }, { role = "matrix" })
  end,
  forward = function(p) return p["out.w"]:sum() end,
}

-- The same gradients for the same step, with a spike now and then.
local function at_step(model, step)
  mb.seed(helper.seed + step)
  for _, p in ipairs(model:parameters()) do p.grad:randn_(0, step % 7 == 0 and 20 or 1 + step / 40) end
  return model
end

-- Keeps numbers, tables and a tensor.
local function own_policy(p)
  local s = p.state
  s.seen = s.seen or {}
  s.seen[#s.seen + 1] = p.sigma
  s.t = (s.t or mb.zeros { 1 }) + p.sigma
  return #s.seen > 3 and math.min(s.seen[#s.seen - 3], s.t:item() / #s.seen) or nil
end

local policies = {
  const = function() return mb.threshold.const { tau = 1.5 } end,
  ema = function() return mb.threshold.ema { beta = 0.8 } end,
  quantile = function() return mb.threshold.quantile { q = 0.6, window = 8 } end,
  zscore = function() return mb.threshold.zscore { z = 1.5, warmup = 5 } end,
  ["zscore, warming up"] = function() return mb.threshold.zscore { z = 1.2, warmup = 13 } end,
  autoclip = function() return mb.threshold.autoclip { p = 60 } end,
  ["autoclip in a window"] = function() return mb.threshold.autoclip { p = 60, window = 8 } end,
  ["a function"] = function() return own_policy end,
}

local clippers = {
  ["spectral"] = function(threshold) return mb.clip.spectral { threshold = threshold, method = "exact" } end,
  ["spectral by block and in halves"] = function(threshold)
    return mb.clip.spectral { threshold = threshold, scope = "block", view = "halves", rank = 2 }
  end,
  ["norm"] = function(threshold) return mb.clip.norm { threshold = threshold } end,
  ["norm of each"] = function(threshold) return mb.clip.norm { threshold = threshold, scope = "matrix" } end,
}

describe("a clipper's checkpoint", function()
  local STEPS, STOP = 24, 11
  after_each(scratch.clean)

  for policy, threshold in pairs(policies) do
    it("goes on in mid-window: " .. policy, function()
      for name, make in pairs(clippers) do
        local model, whole, expected = Names { seed = 1 }, make(threshold()), {}
        local clipped = 0
        for step = 1, STEPS do
          expected[step] = whole(at_step(model, step))
          for _, row in ipairs(expected[step]) do clipped = clipped + (row.clipped and 1 or 0) end
          clipped = clipped + (expected[step].clipped and 1 or 0)
        end
        assert.is_true(clipped > 0, name .. " clips nothing, so that this tells nothing")

        local first, folder = make(threshold()), scratch.folder(true)
        for step = 1, STOP do first(at_step(model, step)) end
        mb.checkpoint.save(folder, { clip = first, model = model, step = STOP })
        local second, other = make(threshold()), Names { seed = 2 }
        mb.checkpoint.load(folder, { clip = second, model = other })
        for step = STOP + 1, STEPS do
          assert.are.same(expected[step], second(at_step(other, step)), ("%s, step %d"):format(name, step))
        end
      end
    end)
  end
end)
