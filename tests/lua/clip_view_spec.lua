-- SPDX-License-Identifier: MIT
--
-- clip_view_spec.lua: what is one matrix (view: fused, qkv, heads, the user's blocks of rows; filters and vectors), and
-- which matrices share a threshold (scope), each against mb.clip.matrix on copies that are cut out here.

local helper = require "tests.helper"
local json = require "moonbow.io.json"
local mb = require "moonbow"
local options = require "moonbow.options"
local pack = require "moonbow.io.state"

local HEADS, WIDTH = 2, 8

local says = helper.says

local function near(a, b, distance, what)
  assert.are.same(b.shape, a.shape)
  local got = (a:to "f64" - b:to "f64"):abs():max():item()
  assert(got <= distance, ("%s: %g apart, %g allowed; MB_SEED=%d"):format(what, got, distance, helper.seed))
end

local function tiny(more)
  local o = { vocab_size = 11, block_size = 6, n_layer = 2, n_head = HEADS, n_embd = WIDTH, seed = 5, dtype = "f64" }
  for key, value in pairs(more or {}) do o[key] = value end
  return mb.models.gpt2(o)
end

local function with_gradients(model, scale)
  for _, p in ipairs(model:parameters()) do p.grad:randn_(0, scale or 1) end
  return model
end

local function gradients(model)
  local result = {}
  for _, p in ipairs(model:parameters()) do result[p.name] = p.grad:clone() end
  return result
end

-- Rows first..last of a tensor as a tensor of its own.
local function rows(t, first, last) return t:slice(1, first, last):clone() end

-- A matrix and a filter whose rows are told to be made of blocks, and a vector.
local Blocks = mb.models.define {
  name = "blocks",
  parameters = function(add)
    add("w", { 6, 5 }, { role = "matrix", parts = { pairs = 3, qkv = 2 } })
    add("filter", { 4, 3, 2, 2 }, { role = "conv", parts = { pairs = 2 } })
    add("bias", { 6 }, { role = "vector" })
  end,
  forward = function(p) return p.w:sum() end,
}

before_each(function() mb.seed(helper.seed) end)

describe("view", function()
  -- Clips with a view and holds every block of c_attn, and all else whole, against mb.clip.matrix.
  local function compare(view, count, names, o)
    local model, tau = with_gradients(tiny(o)), 0.7
    local before = gradients(model)
    local report = mb.clip.spectral { threshold = tau, view = view, method = "exact" }(model)
    local at = 0
    local function check(name, shape, got, original)
      at = at + 1
      local want, info = mb.clip.matrix(original, { threshold = tau, method = "exact" })
      assert.are.equal(name, report[at].name)
      assert.is_true(math.abs(report[at].sigma - info.sigma) <= 1e-6 * info.sigma, name)
      assert.are.equal(info.clipped, report[at].clipped)
      assert.are.same(shape, original.shape)
      near(got, want, 2e-5 * info.sigma, name)
    end
    for _, p in ipairs(model:parameters()) do
      if p.name:find "c_attn" then
        local n = p.shape[1] / count
        for i = 1, count do
          local first, last = (i - 1) * n + 1, i * n
          check(("%s[%s]"):format(p.name, names[i]), p.shape[2] and { n, WIDTH } or { n },
            rows(p.grad, first, last), rows(before[p.name], first, last))
        end
      elseif p.role ~= "embedding" then
        check(p.name, p.shape, p.grad:clone(), before[p.name])
      end
    end
    assert.are.equal(at, #report)
  end

  it("qkv takes queries, keys and values apart", function()
    compare("qkv", 3, { "q", "k", "v" })
    compare("qkv", 3, { "q", "k", "v" }, { dtype = "f32" })
  end)

  it("heads takes every head of c_attn apart, and leaves c_proj whole", function()
    compare("heads", 6, { "q.0", "q.1", "k.0", "k.1", "v.0", "v.1" })
  end)

  it("takes heads of one row, which are vectors", function()
    local names = {}
    for _, letter in ipairs { "q", "k", "v" } do
      for head = 0, 7 do names[#names + 1] = ("%s.%d"):format(letter, head) end
    end
    compare("heads", 24, names, { n_head = 8 })
  end)

  it("is the user's number of blocks, numbered from 0", function()
    compare(function(p) return p.name:find "c_attn" and 12 or nil end, 12,
      { "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11" })
  end)

  it("does with a sketch what it does exactly", function()
    local a, b = with_gradients(tiny()), tiny()
    for i, p in ipairs(a:parameters()) do b:parameters()[i].grad:copy_(p.grad) end
    mb.clip.spectral { threshold = 1, view = "heads", method = "exact" }(a)
    mb.clip.spectral { threshold = 1, view = "heads", rank = 8 }(b)
    for i, p in ipairs(a:parameters()) do near(b:parameters()[i].grad, p.grad, 1e-5, p.name) end
  end)

  it("leaves the bits of other blocks alone", function()
    local model = with_gradients(tiny())
    local p = model:parameter "h.1.attn.c_attn.weight"
    p.grad:slice(1, WIDTH + 1, 2 * WIDTH):affine_(1e3, 0)
    local before = gradients(model)
    for _, row in ipairs(mb.clip.spectral { threshold = 100, view = "qkv" }(model)) do
      assert.are.equal(row.name == p.name .. "[k]", row.clipped, row.name)
    end
    for _, other in ipairs(model:parameters()) do
      if other ~= p then assert.is_true(other.grad:equal(before[other.name]), other.name) end
    end
    assert.is_true(rows(p.grad, 1, WIDTH):equal(rows(before[p.name], 1, WIDTH)))
    assert.is_true(rows(p.grad, 2 * WIDTH + 1, 3 * WIDTH):equal(rows(before[p.name], 2 * WIDTH + 1, 3 * WIDTH)))
    assert.is_false(rows(p.grad, WIDTH + 1, 2 * WIDTH):equal(rows(before[p.name], WIDTH + 1, 2 * WIDTH)))
  end)

  it("tells the policy each block's name and shape, and remembers by it", function()
    local seen = {}
    local clip = mb.clip.spectral { view = "heads", threshold = function(p)
      seen[p.name] = table.concat(p.shape, "x")
      p.state.last = p.sigma
      return nil
    end }
    local report = clip(with_gradients(tiny()))
    assert.are.equal("4x8", seen["h.1.attn.c_attn.weight[v.1]"])
    assert.are.equal("4", seen["h.0.attn.c_attn.bias[q.0]"])
    assert.are.equal("8x8", seen["h.0.attn.c_proj.weight"])
    local states = clip:state_dict().states
    for _, row in ipairs(report) do assert.are.same({ last = row.sigma }, states[row.name]) end
    assert.is_nil(states["h.0.attn.c_attn.weight"])
  end)

  it("is what a model made with add(..., { parts = }) says", function()
    local model = with_gradients(Blocks { dtype = "f64" })
    assert.are.same({ pairs = 3, qkv = 2 }, model:parameter("w").parts)
    assert.is_nil(model:parameter("bias").parts)
    local before = gradients(model)
    local report = mb.clip.spectral { threshold = 0.5, view = "pairs", method = "exact" }(model)
    local names = {}
    for i, row in ipairs(report) do names[i] = row.name end
    assert.are.same({ "w[0]", "w[1]", "w[2]", "filter[0]", "filter[1]", "bias" }, names)
    local want = mb.clip.matrix(rows(before.filter, 3, 4), { threshold = 0.5, method = "exact" })
    near(rows(model:parameter("filter").grad, 3, 4), want, 1e-5, "filter[1]")
    want = mb.clip.matrix(rows(before.w, 3, 4), { threshold = 0.5, method = "exact" })
    near(rows(model:parameter("w").grad, 3, 4), want, 1e-5, "w[1]")
    assert.are.equal("w[1]", mb.clip.spectral({ threshold = 1, view = "qkv" })(model)[2].name) -- no q of two
  end)

  it("is refused where it cannot be, by name", function()
    local model = with_gradients(tiny())
    local before = gradients(model)
    says("mb.clip.spectral: view 'head' is none that model 'gpt2' has for what is clipped, did you mean 'heads'?",
      mb.clip.spectral { threshold = 1, view = "head" }, model)
    says("view 'qkv' is none that model 'gpt2' has for what is clipped", mb.clip.spectral { threshold = 1, view = "qkv",
      where = function(p) return p.role == "embedding" end }, model)
    says("mb.clip.spectral: view returned the number 5 for 'h.0.ln_1.weight' with 8 rows, a number that divides them",
      mb.clip.spectral { threshold = 1, view = function() return 5 end }, model)
    says("view returned the string 'qkv' for", mb.clip.spectral { threshold = 1, view = function() return "qkv" end }, model)
    says("mb.clip.spectral: view failed for 'h.0.ln_1.weight': ", mb.clip.spectral { threshold = 1,
      view = function(p) return p.none.such end }, model)
    says("option 'view' must be a string or a function, not the number 3", mb.clip.spectral, { threshold = 1, view = 3 })
    for name, value in pairs(before) do assert.is_true(model:parameter(name).grad:equal(value), name) end
    local function define(parts)
      return mb.models.define { name = "bad", forward = function() end, parameters = function(add)
        add("w", { 6, 5 }, { role = "matrix", parts = parts })
      end } {}
    end
    says("add 'w': part 'qkv' is 4 blocks, which do not divide 6 rows", define, { qkv = 4 })
    says("add 'w': part 'qkv' must be an integer, not the string 'three'", define, { qkv = "three" })
  end)

  it("shows in the routing table", function()
    local model = tiny()
    local clip = mb.clip.spectral { threshold = 1, view = "heads", scope = "block" }
    assert.are.equal("spectral const(1) per block, r=8 p=5 it=1, 6 blocks of rows",
      clip:describe(model:parameter "h.0.attn.c_attn.weight"))
    assert.are.equal("spectral const(1) per block, norm", clip:describe(model:parameter "h.0.ln_1.bias"))
    assert.are.equal('mb.clip.spectral { threshold = const(1), method = "randomized", rank = 8, oversample = 5, '
      .. 'power_iters = 1, scope = "block", view = "heads" }', tostring(clip))
  end)
end)

describe("tensors that are no matrices", function()
  it("are clipped as their reshape: a filter by its rows, a vector as n x 1", function()
    local Shapes = mb.models.define {
      name = "shapes",
      parameters = function(add)
        add("filter", { 5, 3, 2, 4 }, { role = "conv" })
        add("line", { 1, 7, 1, 1 }, { role = "conv" })
        add("cube", { 4, 2, 3 }, { role = "matrix" })
        add("vector", { 9 }, { role = "vector" })
      end,
      forward = function(p) return p.filter:sum() end,
    }
    for _, method in ipairs { "exact", "randomized" } do
      local model = with_gradients(Shapes { dtype = "f64" })
      local before = gradients(model)
      for _, row in ipairs(mb.clip.spectral { threshold = 0.6, method = method }(model)) do
        local p = model:parameter(row.name)
        local flat = before[row.name]:reshape(p.shape[1], -1)
        local u, s, v = mb.linalg.svd(flat)
        local want = mb.matmul(u * mb.minimum(s, 0.6):reshape(1, -1), v, { transpose_b = true })
        near(p.grad:reshape(p.shape[1], -1), want, 1e-6 * row.sigma, row.name .. " by " .. method)
        assert.is_true(math.abs(row.sigma - s:max():item()) <= 1e-6 * row.sigma)
        assert.is_true(row.clipped)
      end
    end
  end)
end)

describe("scope", function()
  -- Which group a policy was asked about, and the largest sigma of it.
  local function asked(scope, model, more)
    local seen = {}
    local o = { scope = scope, method = "exact", threshold = function(p)
      assert(not seen[p.name], "asked twice about " .. p.name)
      seen[p.name] = { sigma = p.sigma, shape = p.shape }
      return p.sigma / 2
    end }
    for key, value in pairs(more or {}) do o[key] = value end
    return seen, mb.clip.spectral(o)(model)
  end

  it("block has one tau for a transformer block, decided on its largest value", function()
    for _, view in ipairs { "fused", "heads" } do
      local seen, report = asked("block", with_gradients(tiny()), { view = view })
      assert.are.same({ "h.0", "h.1", "ln_f.bias", "ln_f.weight" }, options.keys(seen))
      assert.are.same({}, seen["h.0"].shape)
      assert.are.same({ 8 }, seen["ln_f.bias"].shape)
      local top = {}
      for _, row in ipairs(report) do
        local group = row.name:match "^h%.%d" or row.name
        top[group] = math.max(top[group] or 0, row.sigma)
      end
      for _, row in ipairs(report) do
        local group = row.name:match "^h%.%d" or row.name
        assert.are.equal(top[group], seen[group].sigma)
        assert.are.equal(top[group] / 2, row.tau)
        assert.are.equal(row.sigma > row.tau, row.clipped)
      end
    end
  end)

  it("block ends a name at its first number, wherever it stands", function()
    local Names = mb.models.define {
      name = "names",
      parameters = function(add)
        for _, name in ipairs { "a.0.1.w", "a.0.2.w", "10.w", "10.b", "b.c.3.w", "w.7", "h3.w", "v" } do
          add(name, { 3, 2 }, { role = "matrix" })
        end
      end,
      forward = function(p) return p.v:sum() end,
    }
    local seen = asked("block", with_gradients(Names {}))
    assert.are.same({ "10", "a.0", "b.c.3", "h3.w", "v", "w.7" }, options.keys(seen))
  end)

  it("is the user's name of a group, or each its own", function()
    local seen, report = asked(function(p) return p.role == "vector" and "vectors" or nil end, with_gradients(tiny()))
    assert.are.equal(1 + 2 * 4, #options.keys(seen))
    assert.are.same({}, seen.vectors.shape)
    assert.are.same({ 24, 8 }, seen["h.0.attn.c_attn.weight"].shape)
    for _, row in ipairs(report) do
      local group = seen[row.name] or seen.vectors
      assert.are.equal(group.sigma / 2, row.tau)
    end
  end)

  it("is refused where it cannot be, by name", function()
    local model = with_gradients(tiny())
    says("mb.clip.spectral: option 'scope' must be 'matrix', 'block', 'global' or a function (did you mean 'block'?)",
      mb.clip.spectral, { threshold = 1, scope = "blok" })
    says("mb.clip.spectral: scope returned the number 3 for 'h.0.ln_1.weight', a name or nil was expected",
      mb.clip.spectral { threshold = 1, scope = function() return 3 end }, model)
    says("mb.clip.spectral: scope failed for 'h.0.ln_1.weight': ",
      mb.clip.spectral { threshold = 1, scope = function(p) return p.none.such end }, model)
  end)

  it("and view keep their states through a file, and fit no others", function()
    local policies = {
      mb.threshold.ema(), mb.threshold.quantile { q = 0.5, window = 4 }, mb.threshold.zscore { warmup = 3, z = 1 },
      mb.threshold.autoclip { p = 40 }, mb.threshold.autoclip { p = 40, window = 4 }, mb.threshold.const { tau = 1 },
      function(p)
        p.state.peak = math.max(p.state.peak or 0, p.sigma)
        return p.step > 1 and p.state.peak / 2 or nil
      end,
    }
    for i, threshold in ipairs(policies) do
      local scope = ({ "block", "global", "matrix" })[i % 3 + 1]
      local function new() return mb.clip.spectral { threshold = threshold, scope = scope, view = "qkv", method = "exact" } end
      local model, whole, first = tiny(), new(), new()
      for step = 1, 10 do
        with_gradients(model, step % 3 + 1)
        local before = gradients(model)
        local expected = whole(model)
        for name, value in pairs(before) do model:parameter(name).grad:copy_(value) end
        assert.are.same(expected, first(model))
        if step == 5 then
          local text = assert(json.encode((pack.pack(first:state_dict()))))
          first = new()
          first:load_state_dict(pack.unpack(assert(json.decode(text)), {}))
        end
      end
      assert.are.same(whole:state_dict(), first:state_dict())
    end
    local clip = mb.clip.spectral { threshold = 1, view = "qkv" }
    says("the state has view 'fused', this clipper 'qkv'", clip.load_state_dict, clip,
      mb.clip.spectral({ threshold = 1 }):state_dict())
    says("the state has scope 'block', this clipper 'matrix'", clip.load_state_dict, clip,
      mb.clip.spectral({ threshold = 1, view = "qkv", scope = "block" }):state_dict())
  end)
end)
