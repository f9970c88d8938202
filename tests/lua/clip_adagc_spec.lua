-- SPDX-License-Identifier: MIT
--
-- AdaGC beside its algorithm written out in plain Lua, and the clippers that are norm clipping under a name of their own.
local arena = require "tests.arena_model"
local helper = require "tests.helper"
local mb = require "moonbow"

local says = helper.says

local function norm_of(list)
  local sum = 0
  for _, x in ipairs(list) do sum = sum + x * x end
  return math.sqrt(sum)
end

-- Wang et al. 2025, algorithm 1, on arrays by name; changes g and gamma.
local function adagc(g, gamma, step, o)
  local all, norms = {}, {}
  for name, list in pairs(g) do
    norms[name] = norm_of(list)
    all[#all + 1] = norms[name]
  end
  local total = norm_of(all)
  for name, list in pairs(g) do
    local is_early = step <= o.warmup
    local h = math.min(is_early and o.max_norm / total or o.factor * gamma[name] / norms[name], 1)
    for e in ipairs(list) do list[e] = h * list[e] end
    local left = h * norms[name]
    gamma[name] = is_early and math.min(gamma[name] or math.huge, left) or o.beta * gamma[name] + (1 - o.beta) * left
  end
end

describe("mb.clip.adagc", function()
  it("follows its algorithm, warming up and later", function()
    local o = { factor = 1.5, beta = 0.8, warmup = 5, max_norm = 6 }
    local model, gamma, clipped = arena.Plain { dtype = "f64", seed = 3 }, {}, 0
    local clip = mb.clip.adagc(o)
    for step = 1, 25 do
      arena.set_gradients(model, step)
      if step % 7 == 0 then for _, p in ipairs(model:parameters()) do p.grad:mul_(20) end end
      local g = {}
      for _, p in ipairs(model:parameters()) do g[p.name] = p.grad:reshape(-1):totable() end
      adagc(g, gamma, step, o)
      local report = clip(model)
      for i, p in ipairs(model:parameters()) do
        clipped = clipped + (report[i].clipped and 1 or 0)
        for e, got in ipairs(p.grad:reshape(-1):totable()) do
          -- 1e-5: what clipping by norms adds to a norm before it divides, 1e-6 of norms of 0.1 and more
          assert.is_true(math.abs(got - g[p.name][e]) <= 1e-5 * math.max(1e-3, math.abs(g[p.name][e])),
            ("%s[%d] at step %d: %.17g, expected %.17g"):format(p.name, e, step, got, g[p.name][e]))
        end
      end
    end
    assert.is_true(clipped > 20 and clipped < 25 * 7, clipped .. " were clipped")
  end)

  it("has the paper's defaults, and takes the norm itself where nobody knows all of them", function()
    assert.are.equal("adagc(1.05, 0.98, 100, 1)", tostring(mb.threshold.adagc()))
    local th, state = mb.threshold.adagc { warmup = 2, beta = 0.5, factor = 2 }, {}
    assert.is_nil(th { sigma = 0.5, state = state })
    assert.are.equal(1, th { sigma = 4, state = state })
    assert.are.same({ n = 2, gamma = 0.5 }, state)
    assert.are.equal(1, th { sigma = 100, state = state })
    assert.are.same({ n = 3, gamma = 0.75 }, state)
  end)

  it("never remembers a NaN, an infinity or a zero", function()
    local th, state = mb.threshold.adagc { warmup = 2 }, {}
    for _, sigma in ipairs { 0 / 0, 0 } do assert.is_nil(th { sigma = sigma, state = state }) end
    assert.are.same({}, state)
    th { sigma = 0.5, state = state }
    th { sigma = 0.5, state = state }
    assert.are.equal(0.525, th { sigma = 0, state = state })
    assert.are.same({ n = 2, gamma = 0.5 }, state)
  end)

  it("goes on from its state", function()
    local one, two = mb.clip.adagc { warmup = 3 }, mb.clip.adagc { warmup = 3 }
    local a, b = arena.Plain { seed = 3 }, arena.Plain { seed = 3 }
    for step = 1, 6 do
      arena.set_gradients(a, step)
      one(a)
      if step == 4 then two:load_state_dict(one:state_dict()) end
      if step > 4 then
        arena.set_gradients(b, step)
        two(b)
        for i, p in ipairs(a:parameters()) do assert.is_true(p.grad:equal(b:parameters()[i].grad)) end
      end
    end
  end)
end)

describe("named clippers", function()
  it("are norm clipping with their thresholds", function()
    assert.are.equal('mb.clip.norm { threshold = zscore(3, 0.97, 25), scope = "global" }', tostring(mb.clip.zclip { z = 3 }))
    assert.are.equal('mb.clip.norm { threshold = autoclip(10), scope = "global" }', tostring(mb.clip.autoclip()))
    assert.are.equal("update norm adagc(1.05, 0.98, 100, 1) each", mb.clip.adagc({ on = "update" }):describe {})
  end)

  it("say what is wrong", function()
    says("unknown option 'facto', did you mean 'factor'?", mb.clip.adagc, { facto = 2 })
    says("option 'on' must be one of 'grad', 'momentum', 'update'", mb.clip.zclip, { on = "weights" })
    says("mb.clip has no 'adagcc', did you mean 'adagc'?", function() return mb.clip.adagcc end)
    says("mb.clip has no 'named'", function() return mb.clip.named end)
    says("mb.clip has no 'memory'", function() return mb.clip.memory end)
    says("mb.threshold has no 'policy'", function() return mb.threshold.policy end)
  end)
end)
