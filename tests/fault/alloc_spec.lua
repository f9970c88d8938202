-- SPDX-License-Identifier: MIT
--
-- alloc_spec.lua: memory runs out at every place where the engine asks for some. A training step is run with
-- its first allocation failing, then its second, and so on until it gets through. Each time the failing call
-- must say so, everything it had made must be gone, and the next step must give the right loss.
--
-- The engine is called as C programs call it: the bindings would collect and try again.

local ffi = require "ffi"
local helper = require "tests.helper"
local load = require "bindings.load"
local mb = require "moonbow"
local C = load.C

-- ----- calls that are undone ----------------------------------------------------------------------------

local made -- what this step has made: { handle, release }
local out = ffi.new "mb_tensor *[1]"

local function act(name, ...)
  local status = tonumber(C[name](...))
  if status ~= 0 then error({ status = status, name = name, text = ffi.string(C.mb_last_error()) }) end
end

-- The handle that C[name](place, ...) writes, to be given back by `release`.
local function produce_with(place, release, name, ...)
  place[0] = ffi.cast(ffi.typeof(place[0]), 1)
  local status = tonumber(C[name](place, ...))
  if status ~= 0 then
    local left = place[0] == nil and "" or " (and its result was not set to NULL)"
    error({ status = status, name = name, text = ffi.string(C.mb_last_error()) .. left })
  end
  made[#made + 1] = { place[0], release }
  return place[0]
end

local function produce(name, ...) return produce_with(out, C.mb_tensor_release, name, ...) end

local int64s, ints = ffi.typeof "int64_t[?]", ffi.typeof "int[?]"
local F32, I32, CPU = C.MB_F32, C.MB_I32, C.MB_CPU

local function random(...)
  local n = select("#", ...)
  return produce("mb_randn", F32, n, int64s(n, ...), CPU)
end

local function parameter(...)
  local t = random(...)
  act("mb_set_requires_grad", t, 1)
  return t
end

local function ids(values)
  return produce("mb_from_host", I32, 1, int64s(1, #values), CPU, ffi.new("int32_t[?]", #values, values))
end

local function reshape(t, ...)
  local n = select("#", ...)
  return produce("mb_reshape", t, n, int64s(n, ...))
end

-- ----- steps --------------------------------------------------------------------------------------------
-- Each makes all its tensors, runs forward, backward and an update, and returns the loss.

local function update(parameters)
  local gradient_list = {}
  for i, p in ipairs(parameters) do
    gradient_list[i] = produce("mb_grad", p)
    act("mb_lerp_", p, gradient_list[i], -0.1)
    act("mb_zero_grad", p)
  end
end

local function number(t)
  local x = ffi.new "double[1]"
  act("mb_tensor_item", x, t)
  return x[0]
end

local steps = {}

-- A transformer's layer with its loss.
steps["layers"] = function()
  local tokens, targets = ids { 1, 0, 3, 2, 2, 1 }, ids { 0, 3, 2, 2, 1, 1 }
  local wte, qkv, bias = parameter(5, 8), parameter(24, 8), parameter(24)
  local gain, shift = parameter(8), parameter(8)
  local x = reshape(produce("mb_embedding", wte, tokens), 2, 3, 8)
  local h = produce("mb_layernorm", x, gain, shift, 1e-5)
  h = produce("mb_attention_packed", produce("mb_linear", h, qkv, bias), 2, 0)
  h = produce("mb_rmsnorm", produce("mb_add", x, produce("mb_dropout", h, 0.25)), gain, 1e-6)
  h = produce("mb_gelu_tanh", produce("mb_rotary", reshape(h, 2, 3, 2, 4), 100, 0))
  local logits = produce("mb_matmul", reshape(h, 6, 8), wte, 0, 1)
  local loss = produce("mb_cross_entropy", logits, targets, nil)
  act("mb_backward", loss, nil)
  update { wte, qkv, bias, gain, shift }
  return number(loss)
end

-- A tied head in chunks of rows, whose gradients wait for the backward.
steps["a head in chunks"] = function()
  local tokens, targets = ids { 1, 0, 3, 2, 2 }, ids { 0, 3, 2, 2, 1 }
  local wte = parameter(4, 6)
  local x = produce("mb_square", produce("mb_transpose", produce("mb_embedding", wte, tokens), 0, 1))
  local loss = produce("mb_linear_cross_entropy", produce("mb_transpose", x, 0, 1), wte, targets, 3, nil)
  act("mb_backward", produce("mb_affine", loss, 0.5, 0), nil)
  update { wte }
  return number(loss)
end

-- Views of one tensor, whose gradients meet again.
steps["shapes"] = function()
  local a, b, pick = parameter(4, 6), parameter(6), ids { 5, 0, 2, 2 }
  local turned = produce("mb_permute", a, 2, ints(2, 1, 0))
  local copied = reshape(produce("mb_contiguous", turned), 4, 6)
  local left, right = produce("mb_slice", copied, 1, 0, 3, 1), produce("mb_slice", copied, 1, 2, 6, 2)
  local wide = produce("mb_expand", produce("mb_slice", b, 0, 0, 1, 1), 2, int64s(2, 4, 1))
  local list = ffi.new("mb_tensor *[3]", left, right, wide)
  local joined = produce("mb_concat", list, 3, 1)
  local picked = produce("mb_gather", joined, 1, reshape(pick, 4, 1))
  local cast = produce("mb_cast", produce("mb_cast", picked, C.MB_F64), F32)
  local sum = produce("mb_mul", produce("mb_clone", cast), produce("mb_sum", copied, 1, ints(1, 1), 1))
  local loss = produce("mb_mean", produce("mb_add", sum, b), 0, nil, 0)
  act("mb_backward", loss, nil)
  update { a, b }
  return number(loss)
end

-- Element by element, with broadcasting, reductions and changes in place.
steps["elements"] = function()
  local a, b = parameter(3, 4), parameter(4)
  local squares = produce("mb_square", a)
  local ratio = produce("mb_div", produce("mb_sub", a, b), produce("mb_affine", squares, 1, 1))
  local chosen = produce("mb_where", produce("mb_less", a, b), ratio, produce("mb_maximum", a, b))
  local powers = produce("mb_pow", produce("mb_affine", squares, 1, 1), b)
  local soft = produce("mb_softmax", produce("mb_minimum", chosen, powers), -1)
  local log_soft = produce("mb_log_softmax", produce("mb_tanh", chosen), 0)
  local top = produce("mb_max", produce("mb_mul", soft, log_soft), 1, ints(1, 1), 0)
  local low = produce("mb_min", produce("mb_silu", a), 1, ints(1, 0), 1)
  produce("mb_argmax", top, 0, 0)
  local loss = produce("mb_sub", produce("mb_sum", top, 0, nil, 0), produce("mb_sum", low, 0, nil, 0))
  act("mb_backward", loss, nil)
  update { a, b }
  local column = produce("mb_slice", produce("mb_detach", a), 1, 0, 1, 1)
  act("mb_copy_", column, produce("mb_slice", produce("mb_detach", a), 1, 1, 2, 1))
  act("mb_copy_", produce("mb_detach", a), produce("mb_cast", column, C.MB_I32))
  act("mb_add_", produce("mb_slice", produce("mb_detach", b), 0, 1, 4, 1),
      produce("mb_slice", produce("mb_detach", b), 0, 0, 3, 1), 0.5)
  act("mb_randn_", column, 0, 1)
  act("mb_fill_", column, 0.5)
  return number(loss)
end

-- Products in every orientation, and attention on its own.
steps["products"] = function()
  local a, b, c = parameter(2, 3, 4), parameter(3, 4), parameter(2, 5, 1, 4)
  local ab = produce("mb_matmul", a, b, 0, 1)
  local aab = produce("mb_matmul", a, ab, 1, 1)
  local att = produce("mb_attention", c, produce("mb_exp", c), c, 0)
  local parts = produce("mb_mul", produce("mb_sum", aab, 0, nil, 0), produce("mb_mean", att, 0, nil, 0))
  act("mb_backward", parts, nil)
  update { a, b, c }
  return number(parts)
end

-- A whole network on its arena: two passes that add up, its gradients clipped by both methods.
steps["a model"] = function()
  local config = ffi.new("mb_gpt2_config", { 7, 4, 1, 2, 4, 0.1 })
  local model = produce_with(ffi.new "mb_model *[1]", C.mb_model_release, "mb_gpt2_new", config, F32, CPU, 1)
  local inputs, targets = reshape(ids { 1, 2, 3, 4 }, 1, 4), reshape(ids { 2, 3, 4, 5 }, 1, 4)
  local loss
  for _ = 1, 2 do
    loss = produce("mb_gpt2_loss", model, inputs, targets, nil)
    act("mb_backward", loss, nil)
  end
  local n = tonumber(C.mb_model_count(model))
  local gradients = ffi.new("mb_tensor *[?]", n)
  for i = 0, n - 1 do gradients[i] = produce("mb_model_gradient", model, i) end
  for method = 0, 1 do
    local options = ffi.new("mb_spectral_options", { method, 2, 1, 1 })
    local plan = produce_with(ffi.new "mb_spectral *[1]", C.mb_spectral_release, "mb_spectral_new", gradients, n, options)
    local sigma = ffi.new("double[?]", n * tonumber(C.mb_spectral_width(plan)))
    act("mb_spectral_probe", plan, sigma)
    local tau = ffi.new("double[?]", n)
    for i = 0, n - 1 do tau[i] = 0.01 end
    act("mb_spectral_clamp", plan, tau, ffi.new("int32_t[?]", n), ffi.new("unsigned char[?]", n))
  end
  local squares = ffi.new("double[?]", n)
  act("mb_sum_squares", squares, gradients, n)
  act("mb_add_", produce("mb_model_values", model), produce("mb_model_gradients", model), -0.1)
  act("mb_model_zero_grad", model)
  produce("mb_model_state", model)
  return number(loss)
end

-- ----- running them ---------------------------------------------------------------------------------------

local function run(step)
  made = {}
  mb.random_state(helper.seed, 0, 0)
  local ok, result = pcall(step)
  for i = #made, 1, -1 do made[i][2](made[i][1]) end
  return ok, result
end

local function state()
  local m = mb.memory()
  return m.live_tensors, m.bytes_live
end

for name, step in pairs(steps) do
  describe("a step over " .. name, function()
    it("cleans up wherever memory runs out", function()
      mb.collect()
      local tensors, bytes = state()
      local ok, loss = run(step)
      assert(ok, type(loss) == "table" and loss.text or loss)
      local before = mb.memory().allocations
      assert(run(step))
      local requests = mb.memory().allocations - before
      assert(requests > 30, "hardly any allocation was seen")
      local n, failures = 0, 0
      repeat
        n = n + 1
        mb.memory_trim()
        C.mb_debug_fail_allocation(n)
        local through, result = run(step)
        C.mb_debug_fail_allocation(0)
        if not through then
          failures = failures + 1
          assert(type(result) == "table", result)
          local what = ("allocation %d, in %s: '%s'"):format(n, result.name, result.text)
          assert(result.status == tonumber(C.MB_ERR_NOMEM), what .. " has status " .. result.status)
          assert(result.text:find "out of memory" and not result.text:find "NULL", what)
          local now_tensors, now_bytes = state()
          assert(now_tensors == tensors, ("%s leaked %d tensors"):format(what, now_tensors - tensors))
          assert(now_bytes == bytes, ("%s leaked %d bytes"):format(what, now_bytes - bytes))
          local again, value = run(step)
          assert(again and value == loss, what .. ": the next step went wrong")
        end
      until through
      assert(failures >= requests, ("%d of %d allocations failed"):format(failures, requests))
    end)
  end)
end
