-- SPDX-License-Identifier: MIT
--
-- clip_warm_spec.lua: warm_start where the device asks the policy: a call beside a probe and a clamp with the same random
-- numbers, to the bit; calls that are refused, the first and later ones; plans that begin with some bases; the clipper in a
-- graph, through checkpoints and with other thresholds.

local helper = require "tests.helper"
local devices = require "moonbow.clip.device"
local mb = require "moonbow"
local runtime = require "bindings.runtime"
local spectral = require "bindings.spectral"

local device, it, says = helper.device, helper.it_on_device, helper.says

-- Groups of sketches that are taller, wider and square, of both dtypes; of all values, and of vectors.
local SHAPES = { { 60, 33 }, { 33, 60 }, { 9 }, { 60, 33 }, { 40, 40 }, { 5, 4 }, { 1, 90 }, { 33, 60 } }
local WIDE = { [4] = true, [8] = true }

local function zeros()
  local list = {}
  for i, shape in ipairs(SHAPES) do list[i] = mb.zeros(shape, { dtype = WIDE[i] and "f64" or "f32" }) end
  return list
end

-- Turns slowly: values of step k, the same for every list.
local function fill(list, k)
  for i, t in ipairs(list) do
    mb.seed(50 + i)
    local base, drift = mb.randn(SHAPES[i]), mb.randn(SHAPES[i])
    t:copy_((base + drift * (0.02 * k)):to(t.dtype))
  end
end

local function plan_of(list, iters, oversample)
  return spectral.plan(list, { method = "randomized", rank = 3, oversample = oversample, power_iters = iters, warm_start = true })
end

local TAU = 4

-- Step k by a probe and a clamp; by one call.
local function on_host(plan, list, k)
  fill(list, k)
  mb.seed(100 + k)
  local tau = {}
  for i = 1, #list do tau[i] = TAU end
  local sigma, width, largest = plan:probe(), plan:width(), {}
  for i = 1, #list do largest[i] = sigma[(i - 1) * width] end
  plan:clamp(tau)
  return largest
end
local function start(plan, list)
  local members = {}
  for i = 1, #list do members[i] = i end
  plan:policy({ kind = "const", tau = TAU }, members, #list)
end
local function on_device(plan, list, k)
  fill(list, k)
  mb.seed(100 + k)
  return plan:step()
end
-- One that is refused; with how: not finite, or too large.
local function refused(plan, list, k, bad)
  fill(list, k)
  list[2]:slice(1, 3, 3):copy_(mb.full({ 1, 60 }, bad))
  mb.seed(300 + k)
  local call = plan:step()
  says(bad == 1e35 and "matrix 1 had a singular value of" or "matrix 1 held NaN or Inf", plan.outcome, plan, call)
end

local function same_lists(a, b, what)
  for i, t in ipairs(a) do assert(t:equal(b[i]), ("%s: matrix %d"):format(what, i)) end
end
local function same_bases(a, b, count, what)
  local some = 0
  for i = 1, count do
    local x, y = a:basis(i), b:basis(i)
    assert((x == nil) == (y == nil) and (x == nil or x:equal(y)), ("%s: basis %d"):format(what, i))
    some = some + (x and 1 or 0)
  end
  return some
end

describe("a call with warm_start by a policy on the device", function()
  for _, case in ipairs { { 0, 2 }, { 1, 2 }, { 2, 2 }, { 1, 0 } } do
    it(("is a probe and a clamp, to the bit: %d rounds, %d rows behind"):format(case[1], case[2]), function()
      local a, b = zeros(), zeros()
      local host, plan = plan_of(a, case[1], case[2]), plan_of(b, case[1], case[2])
      start(plan, b)
      assert.are.equal(0, same_bases(host, plan, #a, "before"))
      for k = 1, 8 do
        local largest, call = on_host(host, a, k), on_device(plan, b, k)
        local o = plan:outcome(call)
        for i = 1, #a do assert.are.equal(largest[i], o.sigma[i - 1], ("step %d, matrix %d"):format(k, i)) end
        same_lists(a, b, "step " .. k)
        if k == 1 or k == 8 then assert.are.equal(5, same_bases(host, plan, #a, "step " .. k)) end
      end
      host:release()
      plan:release()
    end)
  end

  it("starts from what the last one found", function()
    local a, b = zeros(), zeros()
    local cold = spectral.plan(a, { method = "randomized", rank = 3, oversample = 2, power_iters = 0 })
    local warm = plan_of(b, 0, 2)
    start(cold, a)
    start(warm, b)
    local first, last, best = {}, {}, 0
    for k = 1, 10 do
      local x, y = cold:outcome(on_device(cold, a, k)), warm:outcome(on_device(warm, b, k))
      for i = 1, #a do
        if k == 1 then assert.are.equal(x.sigma[i - 1], y.sigma[i - 1]) end
        first[i], last[i] = x.sigma[i - 1], y.sigma[i - 1]
      end
    end
    for i = 1, #a do best = best + (last[i] > 1.05 * first[i] and 1 or 0) end
    assert(best >= 4, best .. " of 5 sketches found more")
    cold:release()
    warm:release()
  end)

  for _, bad in ipairs { 0 / 0, 1 / 0, 1e35 } do
    it(("that is refused leaves everything to the bit, the first one too: %g"):format(bad), function()
      local a, b = zeros(), zeros()
      local host, plan = plan_of(a, 1, 2), plan_of(b, 1, 2)
      start(plan, b)
      refused(plan, b, 0, bad)
      assert.are.equal(0, same_bases(host, plan, #a, "after the first"))
      refused(plan, b, 1, bad)
      for k = 1, 5 do
        on_host(host, a, k)
        plan:outcome(on_device(plan, b, k))
        same_lists(a, b, "step " .. k)
        if k == 1 or k == 3 then refused(plan, b, 20 + k, bad) end
        assert.are.equal(5, same_bases(host, plan, #a, "step " .. k))
      end
      host:release()
      plan:release()
    end)
  end

  it("goes on from the bases that a plan was given, from none of the others", function()
    local a, b, c = zeros(), zeros(), zeros()
    local first, whole, some = plan_of(a, 1, 2), plan_of(b, 1, 2), plan_of(c, 1, 2)
    for k = 1, 3 do on_host(first, a, k) end
    for i = 1, #a do
      local basis = first:basis(i)
      if basis then whole:set_basis(i, basis) end
    end
    some:set_basis(1, first:basis(1))
    start(whole, b)
    start(some, c)
    assert.are.equal(5, same_bases(first, whole, #a, "given"))
    for i = 2, #a do assert.is_nil(some:basis(i)) end
    on_host(first, a, 4)
    on_device(whole, b, 4)
    on_device(some, c, 4)
    same_lists(a, b, "of all")
    assert(a[1]:equal(c[1]))
    local cold = plan_of(b, 1, 2)
    on_host(cold, b, 4)
    for i = 2, #a do assert(c[i]:equal(b[i]), "matrix " .. i) end
    for _, plan in ipairs { first, whole, some, cold } do plan:release() end
  end)
end)

-- ----- the clipper --------------------------------------------------------------------------------------------

local Model = mb.models.define {
  name = "warm",
  parameters = function(add)
    add("tall", { 60, 33 }, { role = "matrix" })
    add("wide", { 33, 60 }, { role = "matrix" })
    add("bias", { 33 }, { role = "vector" })
    add("tall_too", { 60, 33 }, { role = "matrix" })
  end,
  forward = function(p) return p.wide:sum() end,
}

local function turn(model, k, factor)
  for i, p in ipairs(model:parameters()) do
    mb.seed(50 + i)
    local base, drift = mb.randn(p.shape), mb.randn(p.shape)
    p.grad:copy_((base + drift * (0.02 * k)) * (factor or 1))
  end
end

local function new_clip(threshold, dtype)
  local default = mb.threshold.ema { beta = 0.5 }
  return mb.clip.spectral {
    threshold = threshold or default, rank = 4, oversample = 2, warm_start = true, dtype = dtype,
  }
end

-- fn with clippers that ask the device also where it is the CPU.
local function asked(fn)
  devices.even_on_cpu = true
  local ok, problem = pcall(fn)
  devices.even_on_cpu = nil
  if not ok then error(problem, 0) end
end

-- Steps of a clipper, by `call(model)` if given; the gradients that each leaves.
local function run(clip, model, from, to, results, call)
  for k = from, to do
    turn(model, k)
    mb.seed(100 + k)
    local report = (call or clip)(model)
    results[k] = { report[1].sigma }
    for i, p in ipairs(model:parameters()) do results[k][i + 1] = p.grad:clone() end
  end
end
local function same(a, b, from, to)
  for k = from, to do
    assert.are.equal(a[k][1], b[k][1], "step " .. k)
    for i = 2, #a[k] do assert(a[k][i]:equal(b[k][i]), ("step %d, parameter %d"):format(k, i - 1)) end
  end
end

describe("a clipper with warm_start", function()
  it("does what it does where Lua asks the policy, and waits for nothing", function()
    local function as_lua() return mb.threshold.ema { beta = 0.5 } end
    local host, here, model = {}, {}, Model {}
    local takes = devices.takes
    devices.takes = function() return false end
    local ok, problem = pcall(function()
      local clip = new_clip(as_lua())
      run(clip, model, 1, 8, host)
      assert.is_nil(clip.on_device)
    end)
    devices.takes = takes
    assert(ok, problem)
    asked(function()
      local clip = new_clip(as_lua())
      run(clip, model, 1, 8, here)
      assert.is_truthy(clip.on_device)
      local before = runtime.waits(device)
      clip(model)
      if device ~= "cpu" then assert.are.equal(before, runtime.waits(device)) end
    end)
    same(host, here, 1, 8)
  end)

  for _, dtype in ipairs { "f32", "f64" } do
    it("goes on in a graph, through refusals, a state and another threshold: computed in " .. dtype, function()
      local plain, graphed = {}, {}
      local function all_of(wrap, results)
        local model, clip, replays = Model {}, new_clip(nil, dtype), 0
        local function fn(factor)
          for _, p in ipairs(model:parameters()) do p.grad:mul_(factor) end
          return clip(model)
        end
        local call = wrap(fn)
        local function step(factor) return function() return call(mb.full({ 1 }, factor or 1)) end end
        run(clip, model, 1, 5, results, step())
        turn(model, 6)
        local report = step(0 / 0)()
        says("held NaN or Inf", function() return report[1].sigma end)
        run(clip, model, 7, 8, results, step())
        local state = clip:state_dict()
        assert.are.equal(7, state.step)
        run(clip, model, 9, 10, results, step())
        clip:load_state_dict(state) -- the capture ends
        run(clip, model, 11, 14, results, step())
        clip.threshold = 5
        run(clip, model, 15, 19, results, step())
        turn(model, 20)
        step(0 / 0)()
        says("held NaN or Inf", clip.state_dict, clip)
        results.state = clip:state_dict()
        if wrap == mb.graph then replays = call.replays end
        clip = new_clip(5, dtype)
        clip:load_state_dict(results.state)
        call = wrap(fn)
        run(clip, model, 21, 24, results, step())
        if wrap == mb.graph and device ~= "cpu" then assert.are.equal(14, replays + call.replays) end
      end
      asked(function()
        all_of(function(fn) return fn end, plain)
        all_of(mb.graph, graphed)
      end)
      same(plain, graphed, 1, 5)
      same(plain, graphed, 7, 19)
      same(plain, graphed, 21, 24)
      for name, basis in pairs(plain.state.bases) do assert(basis:equal(graphed.state.bases[name]), name) end
    end)
  end

  it("may be captured before it knows anything, and in the middle of what it refuses", function()
    asked(function()
      local results = {}
      for way = 1, 2 do
        local model, clip = Model {}, new_clip()
        local function fn(factor)
          for _, p in ipairs(model:parameters()) do p.grad:mul_(factor) end
          return clip(model)
        end
        local call = way == 1 and fn or mb.graph(fn)
        for k = 1, 4 do -- two plain calls, a capture and a replay, all refused
          turn(model, k)
          local report = call(mb.full({ 1 }, 0 / 0))
          says("held NaN or Inf", function() return report[1].sigma end)
        end
        assert.is_nil(next(clip:state_dict().bases))
        results[way] = {}
        run(clip, model, 1, 4, results[way], function() return call(mb.full({ 1 }, 1)) end)
        results[way].state = clip:state_dict()
        if way == 2 and device ~= "cpu" then assert.are.equal(5, call.replays) end
      end
      same(results[1], results[2], 1, 4)
      for name, basis in pairs(results[1].state.bases) do assert(basis:equal(results[2].state.bases[name]), name) end
    end)
  end)

  it("goes on from a state as if it had not stopped, on either side", function()
    asked(function()
      local whole, parts, model = {}, {}, Model {}
      run(new_clip(), model, 1, 9, whole)
      local first = new_clip()
      run(first, model, 1, 3, parts)
      local second = new_clip()
      second:load_state_dict(first:state_dict())
      devices.even_on_cpu = nil
      run(second, model, 4, 6, parts)
      devices.even_on_cpu = true
      local third = new_clip()
      third:load_state_dict(second:state_dict())
      run(third, model, 7, 9, parts)
      same(whole, parts, 1, 9)
    end)
  end)

  it("has nothing in its state before a call, nor after one that was refused", function()
    asked(function()
      local clip, model = new_clip(), Model {}
      assert.is_nil(next(clip:state_dict().bases))
      turn(model, 1, 0 / 0)
      local report = clip(model)
      says("held NaN or Inf", function() return report[1].sigma end)
      assert.is_nil(next(clip:state_dict().bases))
      turn(model, 1)
      clip(model)
      local names = {}
      for name in pairs(clip:state_dict().bases) do names[#names + 1] = name end
      table.sort(names)
      assert.are.same({ "tall", "tall_too", "wide" }, names)
    end)
  end)
end)
