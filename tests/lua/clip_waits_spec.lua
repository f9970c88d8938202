-- SPDX-License-Identifier: MIT
--
-- clip_waits_spec.lua: how often a spectral clip waits for the device: once, whatever the matrices are like. What a matrix
-- needs for its own sake, a scale, one round more, another try, happens without the host, and does not touch its neighbours.

local helper = require "tests.helper"
local mb = require "moonbow"
local profile = require "bindings.profile"
local runtime = require "bindings.runtime"
local spectral = require "bindings.spectral"

local device, it = helper.device, helper.it_on_device

-- Calls fn and says how often it waited.
local function waits_of(fn, ...)
  local before = runtime.waits(device)
  fn(...)
  return runtime.waits(device) - before
end

local function model_of(width)
  local model = mb.models.gpt2 { vocab_size = 16, block_size = 8, n_layer = 2, n_head = 2, n_embd = width }
  for _, p in ipairs(model:parameters()) do p.grad:randn_() end
  return model
end

-- Matrices and vectors that take every way through a probe.
local function all_kinds()
  local plain, steep = mb.randn { 40, 60 }, mb.matmul(mb.randn { 40, 1 }, mb.randn { 1, 60 })
  return {
    plain, plain * 1e-30, mb.randn { 40, 60 }, plain * 1e30, steep, mb.zeros { 40, 60 }, mb.randn { 7, 5 }, mb.randn { 33 },
    mb.randn { 1, 90 } * 1e25, mb.randn { 12, 9 } * 1e-20,
  }
end

local methods = {
  { method = "exact" },
  { method = "randomized", rank = 3, oversample = 2, power_iters = 0 },
  { method = "randomized", rank = 3, oversample = 2, power_iters = 1 },
  { method = "randomized", rank = 3, oversample = 2, power_iters = 3 },
}

describe("a spectral clip", function()
  it("waits for the device once a call", function()
    for _, o in ipairs(methods) do
      local model = model_of(64)
      local clip = mb.clip.spectral { threshold = function(p) return 0.5 * p.sigma end, method = o.method, rank = o.rank,
        oversample = o.oversample, power_iters = o.power_iters }
      clip(model)
      for _ = 1, 2 do
        local report
        assert.are.equal(1, waits_of(function() report = clip(model) end), o.method)
        for _, row in ipairs(report) do assert(row.clipped, row.name) end
      end
    end
  end)

  it("waits once whatever the matrices hold", function()
    for _, o in ipairs(methods) do
      local list = {}
      for i, t in ipairs(all_kinds()) do list[i] = t:clone() end
      local plan = spectral.plan(list, o)
      for _ = 1, 2 do
        mb.seed(helper.seed)
        assert.are.equal(1, waits_of(plan.probe, plan), o.method)
      end
      plan:release()
    end
  end)

  -- The draws depend on the place alone, so that neighbours can be put aside by a plan in which they are ordinary.
  it("finds of a matrix what it finds beside others", function()
    for _, o in ipairs(methods) do
      local results = {}
      for round = 1, 2 do
        mb.seed(helper.seed)
        local kinds, list = all_kinds(), {}
        for i, t in ipairs(kinds) do
          local is_alone = round == 2 and i ~= 3 and i <= 6
          list[i] = is_alone and mb.ones { 40, 60 } or t:clone()
        end
        mb.seed(helper.seed)
        local plan = spectral.plan(list, o)
        local sigma, tau = plan:probe(), {}
        local width = plan:width()
        for i = 1, #list do tau[i] = 0.5 * sigma[(i - 1) * width] end
        local row = {}
        for j = 1, width do row[j] = sigma[2 * width + j - 1] end
        plan:clamp(tau)
        results[round] = { list[3]:to "cpu", table.concat(row, " ") }
        plan:release()
      end
      assert.are.equal(results[1][2], results[2][2], o.method)
      assert(results[1][1]:equal(results[2][1]), o.method)
    end
  end)

  it("takes matrices of one device", function()
    if device == "cpu" then pending "there is one device" end
    helper.says("a plan has one device", spectral.plan, { mb.zeros { 3, 3 }, mb.zeros({ 3, 3 }, { device = "cpu" }) },
      { method = "exact" })
  end)
end)

-- Four shapes of matrices and vectors, as a transformer has them.
local function shapes()
  local all = {}
  for _, size in ipairs { { 48, 144 }, { 48, 48 }, { 48, 192 }, { 192, 48 } } do
    for _ = 1, 3 do all[#all + 1] = mb.randn(size) end
  end
  for _, size in ipairs { 48, 144, 192 } do all[#all + 1] = mb.randn { size } end
  return all
end

local function launches_of(matrices, rank, rounds, warm_start)
  local plan = spectral.plan(matrices,
    { method = "randomized", rank = rank, oversample = 5, power_iters = rounds, warm_start = warm_start })
  local members, launches = {}, 0
  for i = 1, #matrices do members[i] = i end
  plan:policy({ kind = "const", tau = 1 }, members, #matrices)
  plan:step() -- makes what is kept
  local waited
  local rows = profile.record(function() waited = waits_of(plan.step, plan) end)
  assert.are.equal(0, waited)
  plan:release()
  for _, row in ipairs(rows) do
    launches = launches + row.launches
    if os.getenv "MB_SAY" then print(row.name, row.shape, row.calls, row.launches) end
  end
  return launches
end

describe("a clip by a policy on the device", function()
  it("is as many launches for four shapes as for one", function()
    if device ~= "cuda" then return end
    for _, case in ipairs { { 8, 1, 37 }, { 17, 1, 37 }, { 8, 2, 43 } } do
      local all = shapes()
      local several = launches_of(all, case[1], case[2])
      assert(several <= case[3], ("%d launches, rank %d, %d rounds"):format(several, case[1], case[2]))
      assert.are.equal(several, launches_of({ all[1], all[13] }, case[1], case[2]))
      -- What the next call starts from is one more, and starting from it none.
      assert.are.equal(several + 1, launches_of(all, case[1], case[2], true))
    end
  end)
end)
