-- SPDX-License-Identifier: MIT
--
-- layers_spec.lua: the layers against PyTorch's numbers (tests/golden/make_layers.py): results and every
-- gradient, in float64 closely and in float32 as far as its digits go; each also from strided copies of the
-- inputs, and when the gradient is wanted a second time.

local helper = require "tests.helper"
local mb = require "moonbow"

local root = os.getenv "MOONBOW_ROOT" or "."
local golden = mb.safetensors.load(root .. "/tests/golden/layers.safetensors")

local calls = {
  layernorm = function(i) return i.x:layernorm(i.weight, i.bias, 1e-5) end,
  layernorm_plain = function(i) return i.x:layernorm(nil, nil, 1e-5) end,
  rmsnorm = function(i) return i.x:rmsnorm(i.weight, 1e-6) end,
  embedding = function(i) return i.table:embedding(i.ids) end,
  rotary = function(i) return i.x:rotary(10000, 0) end,
  rotary_later = function(i) return i.x:rotary(500, 11) end,
}
for dim = 0, 2 do
  calls["softmax_" .. dim] = function(i) return i.x:softmax(dim + 1) end
  calls["log_softmax_" .. dim] = function(i) return i.x:log_softmax(dim + 1) end
end
for name, options in pairs { mean = {}, sum = { reduction = "sum" }, smooth = { label_smoothing = 0.2 },
  ignore = { ignore_index = 3 }, all = { reduction = "sum", label_smoothing = 0.1, ignore_index = 0 } } do
  calls["cross_entropy_" .. name] = function(i) return mb.cross_entropy(i.logits, i.targets, options) end
end

-- The inputs of a case in `dtype`, as leaves; ids stay integers.
local function inputs_of(name, dtype)
  local inputs = {}
  for key, value in pairs(golden) do
    local input = key:match("^" .. name .. "/([^.]+)$")
    if input and input ~= "out" and input ~= "seed" then
      inputs[input] = value:clone()
      if value.dtype == "f64" then
        inputs[input] = inputs[input]:to(dtype)
        inputs[input]:requires_grad_()
      end
    end
  end
  return inputs
end

-- The same values behind strides: the first of two neighbours in a last dimension of two.
local function strided(inputs)
  local result = {}
  for key, t in pairs(inputs) do
    local shape = t.shape
    local doubled = {}
    for i, size in ipairs(shape) do doubled[i] = size end
    doubled[#doubled + 1], shape[#shape + 1] = 2, 1
    result[key] = t:reshape(shape):expand(doubled):clone():slice(-1, 1, 1):reshape(t.shape)
  end
  return result
end

local function flat(t)
  return t:to("f64"):reshape({ -1 }):totable()
end

-- Largest difference relative to the largest number expected.
local function distance(t, expected)
  assert.are.same(expected.shape, t.shape)
  local a, b, most, scale = flat(t), flat(expected), 0, 1
  for i = 1, #b do scale = math.max(scale, math.abs(b[i])) end
  for i = 1, #b do
    assert(a[i] == a[i], "NaN")
    most = math.max(most, math.abs(a[i] - b[i]))
  end
  return most / scale
end

local function check(name, dtype, view, tolerance)
  local leaves = inputs_of(name, dtype)
  for pass = 1, 2 do
    local out = calls[name](view(leaves))
    assert(distance(out, golden[name .. "/out"]) <= tolerance, name .. ": the result differs")
    out:backward(golden[name .. "/seed"]:to(dtype))
    for input, leaf in pairs(leaves) do
      local expected = golden[name .. "/d." .. input]
      if expected then
        assert(distance(leaf.grad, expected * pass) <= tolerance * pass, ("%s: the gradient of %s differs"):format(name, input))
      else
        assert.are.equal("i32", leaf.dtype)
      end
    end
  end
end

describe("layers against PyTorch", function()
  local names = {}
  for name in pairs(calls) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    it(name .. " in float64", function() check(name, "f64", function(t) return t end, 1e-13) end)
    it(name .. " in float32", function() check(name, "f32", function(t) return t end, 2e-6) end)
    it(name .. " of strided inputs", function() check(name, "f64", strided, 1e-13) end)
  end

  it("leave no tensors behind", function()
    helper.no_leaks(function()
      for _, name in ipairs(names) do check(name, "f32", strided, 2e-6) end
    end)
  end)

  it("uses every case of the file", function()
    for key in pairs(golden) do
      local name = key:match("^([^/]+)/")
      assert(calls[name], "no call for " .. name)
    end
  end)
end)
