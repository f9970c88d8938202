-- SPDX-License-Identifier: MIT
--
-- Optimizers on whole matrices: update_group of mb.optim.define, where the other parameters go, clippers in the middle of
-- the step, states and wrong use. The members of the zoo: optim_matrix_zoo_spec.lua; PyTorch: golden/optim_runs_spec.lua.
local helper = require "tests.helper"
local arena = require "tests.arena_model"
local mb = require "moonbow"

local says = helper.says

mb.seed(helper.seed)

-- Heavy ball along the gradient divided by its norm, matrix by matrix; `how` is how it is written.
local function unit(how)
  local function norm(x) return mb.sqrt(mb.sum(mb.square(x), { 2, 3 }, true)) end
  local together = how == "together" or how == "together alone"
  return mb.optim.define {
    name = "unit", defaults = { lr = 0.1, beta = 0.9, decay = 0.1 }, state = { "m" }, momentum = "m", decoupled_decay = "decay",
    temporaries = { "v" },
    measure = together and function(P, h) P.m = P.m:mul_(h.beta):add_(P.g) end or nil,
    together = together and function(list)
      for _, P in ipairs(list) do P[how == "together" and "v" or "update"] = P.m / norm(P.m) end
      return how ~= "together"
    end or nil,
    update_group = function(P, h)
      if together then
        P.update = P.v
      elseif how == "pure" then
        P.m = h.beta * P.m + P.g
        P.w = P.w - h.lr * (P.m / norm(P.m) + h.decay * P.w)
      elseif how == "in place" then
        P.m = P.m:mul_(h.beta):add_(P.g)
        P.w = P.w:affine_(1 - h.lr * h.decay, 0):add_(P.m / norm(P.m), -h.lr)
      else
        P.m = P.m:mul_(h.beta):add_(P.g)
        P.update = P.m / norm(P.m)
      end
    end,
  }
end

local rest = { name = "sgd", lr = 0.05 }

-- The weights after some steps, by the formula in plain Lua, for the matrices and filters of the model.
local function expected_weights(model, steps)
  local expected = {}
  for _, p in ipairs(model:parameters()) do
    local w, m = p.value:reshape(-1):totable(), {}
    if p.role == "matrix" or p.role == "conv" then expected[p.name] = { w = w, m = m, p = p } end
    for e in ipairs(w) do m[e] = 0 end
  end
  for step = 1, steps do
    arena.set_gradients(model, step)
    for _, x in pairs(expected) do
      local g, square = x.p.grad:reshape(-1):totable(), 0
      for e in ipairs(g) do
        x.m[e] = 0.9 * x.m[e] + g[e]
        square = square + x.m[e] ^ 2
      end
      for e in ipairs(g) do x.w[e] = x.w[e] - 0.1 * (x.m[e] / math.sqrt(square) + 0.1 * x.w[e]) end
    end
  end
  return expected
end

local function run(opt, model, steps, clip)
  for step = 1, steps do
    arena.set_gradients(model, step)
    opt:step(clip)
  end
end

describe("update_group", function()
  it("follows its formula however it is written, and the rest its own", function()
    for dtype, tolerance in pairs { f64 = 1e-12, f32 = 2e-5 } do
      for _, how in ipairs { "pure", "in place", "update", "together", "together alone" } do
        local model, other = arena.Plain { seed = 3, dtype = dtype }, arena.Plain { seed = 3, dtype = dtype }
        local expected = expected_weights(model, 20)
        run(unit(how)(model, { rest = rest }), model, 20)
        run(mb.optim.sgd(other, { lr = 0.05 }), other, 20)
        for _, p in ipairs(model:parameters()) do
          local x, got = expected[p.name], p.value:reshape(-1):totable()
          if not x then assert(p.value:equal(other:parameter(p.name).value), p.name) end
          for e, w in ipairs(x and x.w or {}) do
            assert(math.abs(got[e] - w) <= tolerance * math.max(1, math.abs(w)), ("%s, %s[%d]"):format(how, p.name, e))
          end
        end
      end
    end
  end)

  it("is called once a step for each batch of neighbours that are alike", function()
    local model, seen = arena.Plain { seed = 3 }, {}
    local opt = mb.optim.define {
      name = "seen", takes = { "matrix", "conv", "vector", "embedding" }, defaults = { lr = 0.1 },
      layer = function(p) return { odd = p.name == "h.1.bias" } end,
      update_group = function(P, h)
        seen[#seen + 1] = ("%s %s %s %s %d"):format(table.concat(P.names, "+"), table.concat(P.shape, "x"), P.role,
          tostring(P.odd), h.step)
        P.update = P.g:clone()
      end,
    }(model)
    run(opt, model, 1)
    assert.are.same({ "embed 1x11x3 embedding false 1", "h.0.weight+h.1.weight 2x7x5 matrix false 1",
      "h.0.bias 1x3x1 vector false 1", "h.1.bias 1x3x1 vector true 1", "filter 1x3x8 conv false 1",
      "scale 1x1x1 vector false 1" }, seen)
  end)

  it("has the same bits for a batch as for its matrices alone", function()
    local one, two = arena.Plain { seed = 3 }, arena.Plain { seed = 3 }
    local a = mb.optim.muon(one, { rest = rest })
    local b = mb.optim.groups(two, { { where = "h.0.weight", name = "muon" }, { where = { "h.1.weight", "conv" }, name = "muon" },
      { where = "rest", name = "sgd", lr = 0.05 } })
    run(a, one, 3)
    run(b, two, 3)
    arena.assert_equal_states(arena.weights(one), arena.weights(two), "weights")
    assert.are.equal("muon", b:routing()[4].optimizer)
    assert.are.equal("sgd", b:routing()[1].optimizer)
  end)

  it("takes blocks of rows as matrices of their own where it is told to split", function()
    local sizes = { vocab_size = 11, block_size = 4, n_layer = 2, n_head = 2, n_embd = 8, seed = 2, dtype = "f64" }
    local function stepped(split)
      local model = mb.models.gpt2(sizes)
      mb.seed(helper.seed)
      for _, p in ipairs(model:parameters()) do p.grad:randn_() end
      mb.optim.muon(model, { lr = 1, split = split, msign = "exact", rest = { name = "sgd" } }):step()
      return model
    end
    local model, untouched = stepped "qkv", mb.models.gpt2(sizes)
    local name = "h.1.attn.c_attn.weight"
    local p, before = model:parameter(name), untouched:parameter(name).value
    for block = 0, 2 do
      local function rows(t) return t:slice(1, 8 * block + 1, 8 * block + 8) end
      local moved = (rows(before) - rows(p.value:detach())) / (0.2 * math.sqrt(8))
      assert(moved:allclose(mb.linalg.msign(rows(p.grad), { method = "exact" }), { atol = 1e-10 }), "block " .. block)
    end
    assert.is_false(p.value:equal(stepped("fused"):parameter(name).value))
    says("split = 'qvk' splits none of its parameters, did you mean 'qkv'?", stepped, "qvk")
  end)

  it("gets the sum of what measure returned, and its temporaries", function()
    local model = arena.Plain { seed = 3, dtype = "f64" }
    local opt = mb.optim.define {
      name = "shared", defaults = { lr = 1 }, temporaries = { "v" },
      measure = function(P)
        P.v = P.g * 2
        return mb.sum(mb.square(P.g))
      end,
      update_group = function(P, h) P.update = P.v / mb.sqrt(h.total) end,
    }(model, { rest = rest })
    local before, square = arena.weights(model), 0
    arena.set_gradients(model, 1)
    for _, p in ipairs(model:parameters()) do
      if p.role == "matrix" or p.role == "conv" then square = square + mb.sum(mb.square(p.grad)):item() end
    end
    opt:step()
    local p = model:parameter "h.1.weight"
    assert(p.value:allclose(before[p.name] - p.grad * (2 / math.sqrt(square)), { atol = 1e-12 }))
  end)

  it("leaves nothing behind, step after step", function()
    local model = arena.Plain { seed = 3 }
    local opt = mb.optim.clipped_scion(model)
    run(opt, model, 1)
    mb.collect()
    local before = mb.memory().bytes_live
    arena.set_gradients(model, 2)
    mb.collect()
    opt:step()
    for _ = 1, 20 do
      mb.memory_reset_peak()
      opt:step()
      assert.are.equal(before, mb.memory().bytes_live)
      assert.is_true(mb.memory().bytes_peak < 2 * before, "a step's temporaries are few")
    end
    helper.no_leaks(function()
      local other = arena.Plain { seed = 3 }
      run(mb.optim.muon(other, { rest = rest }), other, 2, mb.clip.spectral { threshold = 0.1, method = "exact", on = "update" })
    end)
  end)
end)

describe("a clipper in the middle of update_group:", function()
  local function all(p) return p.role == "matrix" or p.role == "conv" end
  local function some(p) return p.name == "h.1.weight" end

  -- Clips nothing (a threshold out of reach) or all by half.
  local function clipper(on, where, rule)
    return mb.clip.spectral { threshold = rule and 1e-9 or 1e9, method = "exact", on = on, where = where, rule = rule }
  end
  local function halve(sigma) return sigma / 2 end

  it("one that clips nothing changes no bit", function()
    for _, on in ipairs { "momentum", "update" } do
      for _, how in ipairs { "pure", "in place", "update", "together", "together alone" } do
        local one, two = arena.Plain { seed = 3 }, arena.Plain { seed = 3 }
        local a, b = unit(how)(one, { rest = rest }), unit(how)(two, { rest = rest })
        run(a, one, 3)
        run(b, two, 3, clipper(on, all))
        arena.assert_equal_states(arena.weights(one), arena.weights(two), on .. ", " .. how)
        arena.assert_equal_states(a:state_dict(), b:state_dict(), on .. ", " .. how)
      end
    end
  end)

  it("the update is halved where it is clipped, and there alone", function()
    for _, how in ipairs { "pure", "in place", "update", "together", "together alone" } do
      local one, two = arena.Plain { seed = 3, dtype = "f64" }, arena.Plain { seed = 3, dtype = "f64" }
      local a, b = unit(how)(one, { rest = rest, decay = 0.5 }), unit(how)(two, { rest = rest, decay = 0.5 })
      local before = arena.weights(one)
      run(a, one, 1)
      run(b, two, 1, clipper("update", some, halve))
      for name, w in pairs(arena.weights(one)) do
        local half = before[name] * (1 - 0.05) + (w - before[name] * (1 - 0.05)) / 2
        local wanted = name == "h.1.weight" and half or w
        assert(two:parameter(name).value:allclose(wanted, { atol = 1e-12 }), how .. ": " .. name)
      end
      arena.assert_equal_states(a:state_dict(), b:state_dict(), how)
    end
  end)

  it("the momentum is used as clipped and kept as computed", function()
    for _, how in ipairs { "pure", "in place", "update", "together", "together alone" } do
      local one, two = arena.Plain { seed = 3, dtype = "f64" }, arena.Plain { seed = 3, dtype = "f64" }
      -- sigma -> 1: the update is then along msign of the momentum
      local a, b = unit(how)(one, { rest = rest, decay = 0 }), unit(how)(two, { rest = rest, decay = 0 })
      local before = arena.weights(one)
      run(a, one, 1)
      run(b, two, 1, clipper("momentum", some, function() return 1 end))
      for name, w in pairs(arena.weights(one)) do
        local m = two:parameter(name).grad
        local clipped = name == "h.1.weight" and before[name] - 0.1 * mb.linalg.msign(m, { method = "exact" }) / math.sqrt(5)
        assert(two:parameter(name).value:allclose(clipped or w, { atol = 1e-12 }), how .. ": " .. name)
      end
      arena.assert_equal_states(a:state_dict(), b:state_dict(), how)
    end
  end)

  it("what it refuses leaves everything as it was", function()
    for _, on in ipairs { "momentum", "update" } do
      local model = arena.Plain { seed = 3 }
      local opt = unit "update"(model, { rest = rest })
      run(opt, model, 1)
      local before, state = arena.weights(model), {}
      for key, t in pairs(opt:state_dict()) do state[key] = mb.is_tensor(t) and t:clone() or t end
      local clip = mb.clip.spectral { threshold = function() error "no" end, method = "exact", on = on, where = all }
      says("no", run, opt, model, 1, clip)
      arena.assert_equal_states(before, arena.weights(model), on)
      arena.assert_equal_states(state, opt:state_dict(), on)
      run(opt, model, 1)
    end
  end)
end)

describe("states of update_group", function()
  local Square = mb.optim.define {
    name = "squared", defaults = { lr = 0.1 }, state = { "m" }, square = { l = "rows", r = "columns" },
    update_group = function(P, h)
      P.m = P.m:lerp_(P.g, 0.5)
      P.l = P.l + mb.matmul(P.g, P.g:transpose(2, 3))
      P.r = P.r:add_(mb.matmul(P.g:transpose(2, 3), P.g))
      P.update = mb.matmul(mb.matmul(P.l, P.m), P.r) * (1e-3 / h.step)
    end,
  }

  it("are saved by the names of parameters and go on to the bit", function()
    for _, make in ipairs {
      function(m) return Square(m, { rest = rest }) end, mb.optim.clipped_scion, function(m)
        return mb.optim.muon(m, { rest = { name = "adamw", lr = 0.01 } })
      end,
    } do
      local straight, resumed = arena.Plain { seed = 3 }, arena.Plain { seed = 3 }
      local a, b = make(straight), make(resumed)
      run(a, straight, 3)
      for step = 1, 2 do
        arena.set_gradients(resumed, step)
        b:step()
      end
      local saved = {}
      for key, t in pairs(b:state_dict()) do saved[key] = mb.is_tensor(t) and t:clone() or t end
      local copy = arena.Plain { seed = 9 }
      copy:load_state(arena.weights(resumed))
      local c = make(copy)
      c:load_state_dict(saved)
      arena.set_gradients(copy, 3)
      c:step()
      arena.assert_equal_states(arena.weights(straight), arena.weights(copy), "weights")
      arena.assert_equal_states(a:state_dict(), c:state_dict(), "states")
    end
  end)

  it("that are square have the size of their side", function()
    local state = Square(arena.Plain {}, { rest = rest }):state_dict()
    assert.are.same({ 7, 7 }, state["h.1.weight/l"].shape)
    assert.are.same({ 8, 8 }, state["filter/r"].shape)
    assert.is_nil(state["embed/l"])
  end)
end)

describe("wrong use of update_group", function()
  local function step_of(update_group, more)
    local definition = { name = "wrong", defaults = { lr = 0.1 }, state = { "momentum" }, update_group = update_group }
    for key, value in pairs(more or {}) do definition[key] = value end
    local model = arena.Plain {}
    local before = arena.weights(model)
    local opt = mb.optim.define(definition)(model, { rest = rest })
    arena.set_gradients(model, 1)
    local text = helper.error_of(opt.step, opt)
    local p = model:parameter "h.0.weight"
    assert(p.value:equal(before[p.name]))
    return text
  end

  it("is reported at the user's line", function()
    local line = debug.getinfo(1, "l").currentline + 1
    local function wrong(P) P.momentum = P.momentun + P.g end
    assert.matches(("matrix_optim_spec.lua:%d: optimizer 'wrong': there is no field 'momentun', did you mean 'momentum'?")
      :format(line), step_of(wrong), 1, true)
    line = debug.getinfo(1, "l").currentline + 2
    assert.matches(("matrix_optim_spec.lua:%d: "):format(line), step_of(function(P)
      P.update = mb.matmul(P.g, P.g)
    end), 1, true)
  end)

  it("says what is wrong", function()
    local cases = {
      { "field 'g' is read-only", function(P) P.g = P.g * 2 end },
      { "field 'w' is (2, 7, 5), it cannot be set to a tensor of shape (2, 5, 7)", function(P) P.w = P.w:transpose(2, 3) end },
      { "field 'update' must be set to a tensor, not the number 3", function(P) P.update = 3 end },
      { "there is no number 'rate'", function(P, h) P.update = P.g * h.rate end },
      { "h.total is there for a definition with 'measure'", function(P, h) P.update = P.g * h.total end },
    }
    for _, case in ipairs(cases) do assert.matches(case[1], step_of(case[2]), 1, true) end
    local text = step_of(function(P) P.update = P.v end, { temporaries = { "v" } })
    assert.matches("field 'v' is read before it is set", text, 1, true)
  end)

  it("of its definition and options is refused", function()
    local function define(more)
      local definition = { name = "wrong", defaults = { lr = 0.1 }, update_group = function() end }
      for key, value in pairs(more) do definition[key] = value end
      return mb.optim.define(definition)
    end
    says("one of update and update_group is needed, not both", define, { update = function() end })
    says("each of 'takes' must be one of 'matrix'", define, { takes = { "matrx" } })
    says("unknown option 'update_groups', did you mean 'update_group'?", define, { update_groups = function() end })
    local model = arena.Plain {}
    says("unknown option 'nestrov', did you mean 'nesterov'?", mb.optim.muon, model, { nestrov = true })
    says("option 'scale' must be one of", mb.optim.muon, model, { scale = "spectra" })
    says("there is no optimizer 'adamv'", mb.optim.muon, model, { rest = { name = "adamv" } })
    says("rest (adamw): unknown option 'beta'", mb.optim.muon, model, { rest = { name = "adamw", beta = 1 } })
    says("'embed' is of role embedding: it needs another group", mb.optim.groups, model, { { where = "rest", name = "muon" } })
    says("'rest' is for an optimizer of a whole model", mb.optim.groups, model,
      { { where = "matrix", name = "muon", rest = rest }, { where = "rest", name = "sgd" } })
    says("option 'norms' names 'embd', which is no parameter of it and no role, did you mean 'embed'?", mb.optim.clipped_scion,
      model, { norms = { embd = "sign" } })
    says("'matrix' of option 'norms' must be one of", mb.optim.clipped_scion, model, { norms = { matrix = "spectrum" } })
  end)

  it("a gradient that is not finite is refused before anything changes", function()
    local model = arena.Plain {}
    local opt = mb.optim.muon(model, { rest = rest })
    arena.set_gradients(model, 1)
    model:parameter "h.1.weight".grad:fill_(0 / 0)
    local before = arena.weights(model)
    says("the gradient of 'h.1.weight' is not finite", opt.step, opt)
    arena.assert_equal_states(before, arena.weights(model), "weights")
  end)
end)
