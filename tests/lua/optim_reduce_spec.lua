-- SPDX-License-Identifier: MIT
--
-- Optimizers whose updates reduce, draw random numbers, and keep states of rows and columns: mb.optim.define.
local arena = require "tests.arena_model"
local helper = require "tests.helper"
local mb = require "moonbow"

local says = helper.says

local function near(want, got, what)
  local scale = math.max(1, mb.max(mb.abs(want)):item())
  local d = mb.max(mb.abs(want - got)):item()
  assert.is_true(d <= 1e-12 * scale, ("%s differs by %g"):format(what, d))
end

local function model_of(seed) return arena.Plain { seed = seed or 3, dtype = "f64" } end

-- Steps `opt` beside formula(w, g, s, step, all) -> w for each parameter, where s is a table of its own and `all` the
-- list of { w, g } of every parameter.
local function check(opt, model, formula, steps)
  local states = {}
  for step = 1, steps or 5 do
    arena.set_gradients(model, step)
    local before, all = {}, {}
    for i, p in ipairs(model:parameters()) do
      before[i] = p.value:clone()
      all[i] = { w = before[i], g = p.grad:clone(), name = p.name }
    end
    opt:step()
    for i, p in ipairs(model:parameters()) do
      states[i] = states[i] or {}
      near(formula(before[i], all[i].g, states[i], step, all, p), p.value, p.name)
    end
  end
end

local Lars = mb.optim.define {
  name = "lars_here", defaults = { lr = 0.1, trust = 0.02, wd = 0.01 },
  update = function(p, h)
    local w, g = mb.norm(p.w), mb.norm(p.g)
    local rate = mb.where(mb.greater(w * g, 0), h.trust * w / (g + h.wd * w), 1)
    p.w = p.w - h.lr * rate * (p.g + h.wd * p.w)
  end,
}

local Factored = mb.optim.define {
  name = "factored_here", defaults = { lr = 0.1, b = 0.9 }, state = { "m", r = "rows", c = "columns", s = "parameter" },
  update = function(p, h)
    local square = mb.square(p.g) + 1e-30
    p.r = h.b * p.r + (1 - h.b) * mb.mean(square, { over = "rows" })
    p.c = h.b * p.c + (1 - h.b) * mb.mean(square, { over = "columns" })
    p.s = p.s + mb.mean(square)
    local u = p.g / mb.sqrt(p.r * p.c / mb.mean(p.r))
    p.m = h.b * p.m + u / mb.maximum(1, mb.sqrt(mb.mean(mb.square(u))))
    p.w = p.w - h.lr * p.m
  end,
}

describe("an optimizer whose update reduces", function()
  it("has the norms of each parameter", function()
    local model = model_of()
    check(Lars(model), model, function(w, g)
      local nw, ng = mb.norm(w):item(), mb.norm(g):item()
      local rate = nw * ng > 0 and 0.02 * nw / (ng + 0.01 * nw) or 1
      return w - 0.1 * rate * (g + 0.01 * w)
    end)
  end)

  it("keeps factored states by rows and columns, checkpointed by name", function()
    local function formula(w, g, s)
      local rows = #g.shape > 1 and g.shape[1] or 1
      local g2 = g:reshape(rows, -1)
      local square = mb.square(g2) + 1e-30
      s.r = (s.r or 0) * 0.9 + mb.mean(square, 2, true) * 0.1
      s.c = (s.c or 0) * 0.9 + mb.mean(square, 1, true) * 0.1
      local u = g2 / mb.sqrt(s.r * s.c / mb.mean(s.r))
      s.m = (s.m or 0) * 0.9 + u / math.max(1, math.sqrt(mb.mean(mb.square(u)):item()))
      return w - 0.1 * s.m:reshape(w.shape)
    end
    local model, other = model_of(), model_of()
    local opt = Factored(model)
    check(opt, model, formula)
    local state = opt:state_dict()
    assert.are.same({ 7 }, state["h.0.weight/r"].shape)
    assert.are.same({ 5 }, state["h.0.weight/c"].shape)
    assert.are.same({ 1 }, state["h.0.weight/s"].shape)
    assert.are.same({ 1 }, state["h.0.bias/r"].shape)
    assert.are.same({ 3 }, state["h.0.bias/c"].shape)
    -- One that continues from the state makes the same step.
    for _, p in ipairs(other:parameters()) do p.value:copy_(model:parameter(p.name).value) end
    local resumed = Factored(other)
    resumed:load_state_dict(state)
    for _, m in ipairs { model, other } do arena.set_gradients(m, 6) end
    opt:step()
    resumed:step()
    for _, p in ipairs(other:parameters()) do assert.is_true(p.value:equal(model:parameter(p.name).value)) end
  end)

  it("goes over its group and over all parameters, which no group has moved yet", function()
    local function member(name, over)
      return mb.optim.define {
        name = name, defaults = { lr = 0.3 },
        update = function(p, h) p.w = p.w - h.lr * p.g / mb.norm(p.g + p.w, { over = over }) end,
      }
    end
    local model = model_of()
    local opt = mb.optim.groups(model, {
      { where = "matrix", name = member("of_group", "group") }, { where = "rest", name = member("of_all", "all") },
    })
    check(opt, model, function(w, g, _, _, all, p)
      local sum = 0
      for _, one in ipairs(all) do
        if p.role ~= "matrix" or model:parameter(one.name).role == "matrix" then
          sum = sum + mb.sum(mb.square(one.g + one.w)):item()
        end
      end
      return w - 0.3 / math.sqrt(sum) * g
    end)
  end)

  it("clips momenta and updates with what the whole group reduces to", function()
    local Normed = mb.optim.define {
      name = "normed_here", defaults = { lr = 0.1 }, state = { "m" }, momentum = "m",
      update = function(p, h)
        p.m = 0.5 * p.m + p.g / mb.norm(p.w, { over = "group" })
        p.w = p.w - h.lr * p.m
      end,
    }
    for _, on in ipairs { "momentum", "update" } do
      local plain, clipped = model_of(), model_of()
      local a, b = Normed(plain), Normed(clipped)
      local function where(p) return p.name == "h.1.weight" end
      local clip = mb.clip.spectral { threshold = 1e9, method = "exact", on = on, where = where }
      local half = mb.clip.spectral { threshold = 1e-9, method = "exact", on = on, where = where,
                                      rule = function(s) return s / 2 end }
      for step = 1, 3 do
        arena.set_gradients(plain, step)
        arena.set_gradients(clipped, step)
        a:step()
        b:step(clip)
      end
      for _, p in ipairs(plain:parameters()) do assert.is_true(p.value:equal(clipped:parameter(p.name).value), p.name) end
      local before = clipped:parameter("h.1.weight").value:clone()
      arena.set_gradients(plain, 4)
      arena.set_gradients(clipped, 4)
      a:step()
      b:step(half)
      local full, got = plain:parameter("h.1.weight").value - before, clipped:parameter("h.1.weight").value - before
      near(full * 0.5, got, on)
      assert.is_true(plain:parameter("embed").value:equal(clipped:parameter("embed").value))
    end
  end)

  it("compiles and allocates nothing for another lr", function()
    local model = model_of()
    local opt = Factored(model, { lr = function(step) return 1 / step end })
    arena.set_gradients(model, 1)
    opt:step()
    local program = opt.groups[1].rule.program
    local count, passes = mb.memory().allocations, program:passes()
    for _ = 1, 20 do opt:step() end
    assert.are.equal(count, mb.memory().allocations)
    assert.are.equal(program, opt.groups[1].rule.program)
    assert.are.equal(passes, program:passes())
  end)

  it("says what it cannot do, at the line of the update", function()
    local function made(fn, extra)
      local definition = { name = "wrong", defaults = { lr = 1 }, state = { "m", r = "rows" }, update = fn }
      for key, value in pairs(extra or {}) do definition[key] = value end
      return helper.error_of(function() mb.optim.define(definition)(model_of()) end)
    end
    local line = debug.getinfo(1, "l").currentline
    local function at(text, message, offset)
      assert.is_truthy(message:find(text, 1, true), message)
      local where = ("optim_reduce_spec.lua:%d:"):format(line + offset)
      assert.is_truthy(message:find(where, 1, true), where .. " in: " .. message)
    end
    at('over = "all" takes w and g alone, but p.m is a state', made(function(p)
      p.w = p.w - mb.norm(p.m + p.g, { over = "all" })
    end), 7)
    at("field 'r' has one number for each row", made(function(p)
      p.r = p.g
    end), 10)
    at("there is no field 'mm', did you mean 'm'?", made(function(p)
      p.w = p.w - p.mm
    end), 13)
    at("there is no number 'lrr', did you mean 'lr'?", made(function(p, h)
      p.w = p.w - h.lrr * p.g
    end), 16)
    at("field 'g' is read-only", made(function(p)
      p.g = p.g * 2
    end), 19)
    at("field 'w' must be set to a traced value or a number, not the string", made(function(p)
      p.w = "w"
    end), 22)
    at("use mb.where", made(function(p)
      if p.g < p.w then p.w = p.g end
    end), 25)
    at("mb.where", made(function(p)
      if p.g < 0 then p.w = p.g end
    end), 28)
    says("state 'v' must be the number that it begins with, or \"rows\"", mb.optim.define,
      { name = "wrong", state = { v = "row" }, update = function() end })
    says("which update_group does not know",
      mb.optim.define { name = "wrong", state = { v = "rows" }, update_group = function() end }, model_of())
  end)
end)

describe("an optimizer that draws random numbers", function()
  local Noisy = mb.optim.define {
    name = "noisy_here", defaults = { lr = 0.1 },
    update = function(p, h) p.w = p.w - h.lr * p.g + mb.randn_like(p.w) * 0.01 + mb.rand_like(p.w) end,
  }

  local function run(model, opt, first, last)
    for step = first, last do
      arena.set_gradients(model, step)
      mb.rand(3) -- what others draw does not matter
      opt:step()
    end
  end

  it("draws the same in a resumed run, whatever the groups", function()
    mb.seed(11)
    local whole, first, second = model_of(), model_of(), model_of()
    local opt = Noisy(whole)
    run(whole, opt, 1, 4)
    mb.seed(11)
    local begun = mb.optim.groups(first, { { where = "vector", name = Noisy }, { where = "rest", name = Noisy } })
    run(first, begun, 1, 2)
    mb.seed(11)
    for _, p in ipairs(second:parameters()) do p.value:copy_(first:parameter(p.name).value) end
    local resumed = Noisy(second)
    resumed:load_state_dict { step = 2, optimizer = "noisy_here" }
    run(second, resumed, 3, 4)
    for _, p in ipairs(second:parameters()) do assert.is_true(p.value:equal(whole:parameter(p.name).value), p.name) end
  end)

  it("draws other numbers for another seed, step and element", function()
    local seen = {}
    for seed = 1, 2 do
      mb.seed(seed)
      local model = model_of()
      local opt = Noisy(model, { lr = 0 })
      for _ = 1, 2 do
        local before = model:parameter("h.0.weight").value:clone()
        opt:step()
        for _, x in ipairs((model:parameter("h.0.weight").value - before):reshape(-1):totable()) do
          local key = ("%.9g"):format(x)
          assert.is_nil(seen[key], key)
          seen[key] = true
        end
      end
    end
  end)

  it("rounds at random, exact in the mean", function()
    mb.seed(3)
    local t = { x = mb.full({ 20000 }, 0.3) }
    mb.fuse(function(p, h)
      local c = 1.5 * 2 ^ 23
      p.x = ((p.x / h.d + mb.rand_like(p.x) - 0.5 + c) - c) * h.d
    end)(t, { d = 0.25 })
    local up = mb.mean(mb.equal(t.x, 0.5)):item()
    assert.are.equal(1, up + mb.mean(mb.equal(t.x, 0.25)):item())
    assert.is_true(math.abs(up - 0.2) < 5 * math.sqrt(0.16 / 20000), tostring(up))
  end)
end)
