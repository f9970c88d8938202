-- Layers and losses as Lua calls them: defaults, which dimension, optional arguments, nested tables. The
-- formulas are written out here in plain Lua on small tensors; gradients are tested in C.
local helper = require "tests.helper"
local mb = require "moonbow"

mb.seed(helper.seed)
local F64 = { dtype = "f64" }

local function close(expected, actual)
  local same, why = actual:allclose(mb.tensor(expected, F64), { rtol = 1e-12, atol = 1e-14 })
  assert.is_true(same, why)
end

-- Text of the error of fn(), from the file's name on.
local function error_of(fn)
  return (helper.error_of(fn):gsub("^.*layers_spec.lua:%d+: ", "HERE "))
end

local function ids(values) return mb.tensor(values, { dtype = "i32" }) end

describe("products", function()
  local a = mb.tensor({ { 1, 2, 3 }, { 4, 5, 6 } }, F64)
  local b = mb.tensor({ { 1, 0 }, { 0, 2 }, { 1, 1 } }, F64)

  it("multiply matrices, transposed where asked", function()
    close({ { 4, 7 }, { 10, 16 } }, a:matmul(b))
    close({ { 4, 7 }, { 10, 16 } }, mb.matmul(a, b:transpose():contiguous(), { transpose_b = true }))
    close({ { 4, 7 }, { 10, 16 } }, mb.matmul(a:transpose():contiguous(), b, { transpose_a = true }))
    assert.are.same({ 4, 2, 2 }, mb.ones(4, 2, 3):matmul(mb.ones(3, 2)).shape)
    assert.matches("HERE mb.matmul: b must be a tensor, not the number 2", error_of(function() a:matmul(2) end))
    assert.matches("HERE mb_matmul: ", error_of(function() a:matmul(a) end))
  end)

  it("apply a linear layer with and without bias", function()
    local w = b:transpose():contiguous()
    close({ { 4, 7 }, { 10, 16 } }, mb.linear(a, w))
    close({ { 5, 9 }, { 11, 18 } }, a:linear(w, mb.tensor({ 1, 2 }, F64)))
    assert.matches("HERE mb.linear: bias must be a tensor, not the number 1",
      error_of(function() mb.linear(a, w, 1) end))
  end)

  it("look up rows by ids that count from 0", function()
    close({ { { 4, 5, 6 } }, { { 1, 2, 3 } } }, mb.embedding(a, ids { { 1 }, { 0 } }))
    assert.matches("HERE mb_embedding: .*2", error_of(function() mb.embedding(a, ids { 2 }) end))
    assert.matches("HERE mb.embedding: ids must be a tensor, not nil", error_of(function() mb.embedding(a) end))
  end)
end)

describe("softmax", function()
  local a = mb.tensor({ { 0, math.log(3) }, { math.log(7), 0 } }, F64)

  it("works along the last dimension, or another", function()
    close({ { 0.25, 0.75 }, { 0.875, 0.125 } }, a:softmax())
    close({ { 0.25, 0.75 }, { 0.875, 0.125 } }, mb.softmax(a, -1))
    close({ { 1 / 8, 3 / 4 }, { 7 / 8, 1 / 4 } }, mb.softmax(a, 1))
    close({ { math.log(1 / 8), math.log(3 / 4) }, { math.log(7 / 8), math.log(1 / 4) } }, a:log_softmax(1))
    assert.matches("HERE mb.softmax: dimension 3", error_of(function() a:softmax(3) end))
  end)
end)

describe("norms", function()
  local x = mb.tensor({ { 1, 3 }, { -2, 2 } }, F64)

  it("have the usual epsilons", function()
    local function ln(v, variance) return v / math.sqrt(variance + 1e-5) end
    close({ { ln(-1, 1), ln(1, 1) }, { ln(-2, 4), ln(2, 4) } }, mb.layernorm(x))
    local function rms(v, square) return v / math.sqrt(square + 1e-6) end
    close({ { rms(1, 5), rms(3, 5) }, { rms(-2, 4), rms(2, 4) } }, mb.rmsnorm(x))
  end)

  it("take weight, bias and epsilon", function()
    local w, b = mb.tensor({ 2, 3 }, F64), mb.tensor({ 10, 20 }, F64)
    local root = math.sqrt(2)
    close({ { 10 - 2 / root, 20 + 3 / root } }, mb.layernorm(x:slice(1, 1, 1), w, b, 1))
    close({ { 2 * 1 / math.sqrt(6), 3 * 3 / math.sqrt(6) } }, mb.rmsnorm(x:slice(1, 1, 1), w, 1))
    assert.matches("HERE mb.layernorm: weight must be a tensor", error_of(function() mb.layernorm(x, 1) end))
  end)
end)

describe("attention", function()
  local B, T, H, D = 2, 3, 2, 4

  -- softmax(scale q k^T) v over keys up to the query's position, in plain Lua.
  local function reference(q, k, v, scale)
    local out = {}
    for b = 1, B do
      out[b] = {}
      for t = 1, T do
        out[b][t] = {}
        for h = 1, H do
          local weights, total = {}, 0
          for s = 1, t do
            local dot = 0
            for d = 1, D do dot = dot + q[b][t][h][d] * k[b][s][h][d] end
            weights[s] = math.exp(scale * dot)
            total = total + weights[s]
          end
          local row = {}
          for d = 1, D do
            row[d] = 0
            for s = 1, t do row[d] = row[d] + weights[s] / total * v[b][s][h][d] end
          end
          out[b][t][h] = row
        end
      end
    end
    return out
  end

  it("is causal, scaled by 1 / sqrt(D) or as asked", function()
    local q, k, v = mb.randn(B, T, H, D, F64), mb.randn(B, T, H, D, F64), mb.randn(B, T, H, D, F64)
    close(reference(q:totable(), k:totable(), v:totable(), 0.5), mb.attention(q, k, v))
    close(reference(q:totable(), k:totable(), v:totable(), 0.3), mb.attention(q, k, v, 0.3))
    local function side_by_side(t) return t:reshape(B, T, H * D) end
    local qkv = mb.concat({ side_by_side(q), side_by_side(k), side_by_side(v) }, -1)
    local packed = mb.attention_packed(qkv, H)
    local same, why = packed:reshape(B, T, H, D):allclose(mb.attention(q, k, v), { rtol = 1e-12, atol = 1e-13 })
    assert.is_true(same, why)
  end)

  it("rotates positions", function()
    local x = mb.tensor({ { { { 1, 0 } }, { { 1, 0 } } } }, F64)
    close({ { { { 1, 0 } }, { { math.cos(1), math.sin(1) } } } }, mb.rotary(x))
    close({ { { { math.cos(3), math.sin(3) } }, { { math.cos(4), math.sin(4) } } } }, mb.rotary(x, 10000, 3))
  end)
end)

describe("dropout", function()
  it("zeroes and scales; p = 0 is the tensor itself", function()
    local x = mb.ones(10000)
    mb.seed(3)
    local y = mb.dropout(x, 0.25)
    local zeros = mb.eq(y, 0):sum():item()
    assert.is_true(math.abs(zeros - 2500) < 200, zeros .. " zeros")
    assert.are.equal(4 / 3, math.floor(y:max():item() * 3 + 0.5) / 3)
    assert.are.equal(x.id, mb.dropout(x, 0).id)
    assert.matches("HERE mb.dropout: p must be a number", error_of(function() mb.dropout(x) end))
    assert.matches("HERE mb_dropout: ", error_of(function() mb.dropout(x, 1.5) end))
  end)
end)

describe("cross entropy", function()
  local logits = mb.tensor({ { 0, math.log(3) }, { math.log(7), 0 } }, F64)
  local a, b = -math.log(0.75), -math.log(0.875)

  it("takes ids from 0, as tensors or nested tables, and options", function()
    close((a + b) / 2, mb.cross_entropy(logits, ids { 1, 0 }))
    close((a + b) / 2, mb.cross_entropy(logits, { 1, 0 }))
    close(a + b, mb.cross_entropy(logits, { 1, 0 }, { reduction = "sum" }))
    close(a, mb.cross_entropy(logits, { 1, 0 }, { ignore_index = 0 }))
    local smooth = 0.9 * a + 0.1 / 2 * (a - math.log(0.25))
    close(smooth, mb.cross_entropy { logits = logits, targets = { 1, 0 }, label_smoothing = 0.1, ignore_index = 0 })
  end)

  it("refuses wrong options", function()
    local cases = {
      { "unknown option 'smoothing', did you mean 'label_smoothing'?", { smoothing = 0.1 } },
      { "option 'label_smoothing' must be less than 1", { label_smoothing = 1 } },
      { "option 'reduction' must be one of 'mean', 'sum'", { reduction = "none" } },
      { "option 'ignore_index' must be an integer", { ignore_index = 0.5 } },
    }
    for _, case in ipairs(cases) do
      local text = error_of(function() mb.cross_entropy(logits, { 1, 0 }, case[2]) end)
      assert.matches("HERE mb.cross_entropy: " .. case[1], text, 1, true)
    end
    assert.matches("HERE mb.cross_entropy: targets must be a tensor, not nil",
      error_of(function() mb.cross_entropy(logits) end))
    assert.matches("HERE mb_cross_entropy: ", error_of(function() mb.cross_entropy(logits, { 1, 2 }) end))
  end)
end)
