-- SPDX-License-Identifier: MIT
--
-- rows.lua: what is compared beside the op table: ops at the sizes of networks, fused programs, decompositions, clipping,
-- optimizers and models. A row: name; run(device, dtype, put), which calls put(part, tensor) for all that is compared, the
-- same parts on every device; dtypes = { f32 = true or { limit, reason }, bf16 = ... }. `dtype` is what to compute with:
-- for bf16 the CPU is asked for float32, and inputs made by `draw` hold what bf16 can.

local mb = require "moonbow"

local rows = {}

local BOTH, F32 = { f32 = true, bf16 = true }, { f32 = true }

local function add(name, dtypes, run) rows[#rows + 1] = { name = name, dtypes = dtypes, run = run } end

-- Normal numbers that bf16 can hold, drawn on the CPU: the devices' own agree to float32's rounding only.
local function draw(device, dtype, shape)
  return mb.randn(shape, { device = "cpu" }):to("bf16"):to(dtype):to(device)
end

local function ids(device, shape, below)
  local values, n = {}, 1
  for _, size in ipairs(shape) do n = n * size end
  for i = 1, n do values[i] = (i * 7919 + math.floor(i / 7) * 31) % below end
  return mb.tensor(values, { shape = shape, dtype = "i32", device = device })
end

-- ----- ops at the sizes of networks ---------------------------------------------------------------------

-- Inputs of these shapes, the result of fn(inputs), and every input's gradient.
local function op(name, shapes, fn, dtypes)
  add(name, dtypes or BOTH, function(device, dtype, put)
    local t = {}
    for i, shape in ipairs(shapes) do
      t[i] = draw(device, dtype, shape)
      t[i]:requires_grad_()
    end
    local out = fn(t, device)
    put("forward", out)
    mb.sum(out * draw(device, out.dtype, out.shape)):backward()
    for i in ipairs(t) do put("gradient " .. i, t[i].grad) end
  end)
end

for flags = 0, 3 do
  local ta, tb = flags % 2 == 1, flags >= 2
  op(("matmul %s%s"):format(ta and "T" or "N", tb and "T" or "N"),
    { ta and { 3, 191, 257 } or { 3, 257, 191 }, tb and { 3, 130, 191 } or { 3, 191, 130 } },
    function(t) return mb.matmul(t[1], t[2], { transpose_a = ta, transpose_b = tb }) end)
end
op("linear", { { 130, 192 }, { 576, 192 }, { 576 } }, function(t) return mb.linear(t[1], t[2], t[3]) end)
op("linear of aligned rows", { { 2, 65, 192 }, { 577, 192 }, { 577 } }, function(t)
  return mb.linear_aligned(t[1], t[2], t[3])
end)
op("gelu_linear", { { 130, 192 }, { 576, 192 }, { 576 } }, function(t) return mb.gelu_linear(t[1], t[2], t[3]) end)
op("gelu_mlp", { { 2, 65, 192 }, { 576, 192 }, { 576 }, { 192, 576 }, { 192 } }, function(t)
  return mb.gelu_mlp(t[1], t[2], t[3], t[4], t[5])
end)
op("gelu_mlp that keeps", { { 2, 65, 192 }, { 576, 192 }, { 576 }, { 192, 576 }, { 192 } }, function(t)
  return mb.gelu_mlp(t[1], t[2], t[3], t[4], t[5], true)
end)
-- So large that products with GELU in them are asked for (epilogue_choice.cu).
op("gelu_mlp of timed products", { { 512, 384 }, { 1536, 384 }, { 1536 }, { 384, 1536 }, { 384 } }, function(t)
  return mb.gelu_mlp(t[1], t[2], t[3], t[4], t[5])
end)
op("gelu_mlp of odd sizes", { { 67, 33 }, { 131, 33 }, { 131 }, { 17, 131 } }, function(t)
  return mb.gelu_mlp(t[1], t[2], t[3], t[4])
end)
for _, size in ipairs { 15, 32, 64, 128 } do
  op(("attention, heads of %d"):format(size), { { 2, 150, 3 * 2 * size } }, function(t) return mb.attention_packed(t[1], 2) end)
end
-- So large that cuDNN is asked (attention_choice.cu): times that are and are not whole tiles, one sequence, one head. The
-- host that stands for a GPU has none, and would be at it for long.
if not (os.getenv "MOONBOW_CUDA_PLUGIN" or ""):find "_host" then
  for _, size in ipairs { { 1, 12, 1024, 64 }, { 4, 12, 512, 64 }, { 2, 7, 1000, 64 }, { 3, 1, 1430, 64 }, { 2, 4, 900, 128 } } do
    local B, H, T, D = unpack(size)
    op(("attention, %d x %d heads of %d, %d positions"):format(B, H, D, T), { { B, T, 3 * H * D } },
      function(t) return mb.attention_packed(t[1], H) end)
  end
end
-- A chunk from the beginning, one in the middle and a single position.
for _, size in ipairs { 15, 64, 200 } do
  add(("attention over a cache, heads of %d"):format(size), BOTH, function(device, dtype, put)
    local qkv, cache = draw(device, dtype, { 2, 310, 3 * 2 * size }), draw(device, dtype, { 2, 2, 2, 310, size })
    for _, chunk in ipairs { { 0, 7 }, { 7, 309 }, { 309, 310 } } do
      local first, stop = chunk[1], chunk[2]
      put("positions from " .. first, mb.attention_cached(qkv:slice(2, first + 1, stop), cache, first))
    end
  end)
end
op("layernorm", { { 130, 768 }, { 768 }, { 768 } }, function(t) return mb.layernorm(t[1], t[2], t[3], 1e-5) end)
op("rmsnorm", { { 130, 768 }, { 768 } }, function(t) return mb.rmsnorm(t[1], t[2], 1e-5) end)
-- Rows that a warp holds, of one to four packs a lane; rows longer than that, and rows that are no whole packs.
for _, columns in ipairs { 8, 264, 520, 768, 1024, 1032, 65, 771 } do
  local rows_of = { 77, columns }
  op(("layernorm of a sum, rows of %d"):format(columns), { rows_of, { columns }, { columns }, rows_of }, function(t)
    local y, sum = mb.add_layernorm(t[1], t[4], t[2], t[3])
    return y * 0.5 + sum
  end)
  op(("rmsnorm of a sum, rows of %d"):format(columns), { { columns, 35 }, { columns }, { 35, columns } }, function(t)
    local y, sum = mb.add_rmsnorm(t[1]:transpose(1, 2), t[3], t[2])
    return y * 0.5 + sum
  end)
end
op("softmax", { { 9, 50257 } }, function(t) return t[1]:softmax(-1) end)
op("softmax of columns", { { 300, 130 } }, function(t) return t[1]:softmax(1) end)
op("log_softmax", { { 9, 50257 } }, function(t) return t[1]:log_softmax(-1) end)
op("cross_entropy", { { 40, 50257 } }, function(t, device) return mb.cross_entropy(t[1], ids(device, { 40 }, 50257)) end)
op("cross_entropy, smooth", { { 300, 65 } }, function(t, device)
  return mb.cross_entropy(t[1], ids(device, { 300 }, 65), { label_smoothing = 0.1 })
end)
for _, chunks in ipairs { 1, 3 } do
  op(("linear_cross_entropy, %d chunks"):format(chunks), { { 2, 50, 96 }, { 577, 96 } }, function(t, device)
    return mb.linear_cross_entropy(t[1], t[2], ids(device, { 2, 50 }, 577), { chunks = chunks, ignore_index = 5 })
  end, { f32 = true, bf16 = { limit = 3e-4, reason = "logits are up to 30, where bf16's steps are an eighth" } })
end
op("embedding", { { 500, 192 } }, function(t, device) return t[1]:embedding(ids(device, { 7, 300 }, 500)) end, {
  f32 = true, bf16 = { limit = 3e-4, reason = "the gradient of a row is a sum that bf16 holds" },
})
op("rotary", { { 2, 150, 3, 64 } }, function(t) return t[1]:rotary() end)
op("dropout", { { 150, 999 } }, function(t) return t[1]:dropout(0.1) end)
op("sums", { { 70, 33, 90 } }, function(t)
  return t[1]:sum(1):sum() + t[1]:sum(2):square():sum() + (t[1]:mean(3) * t[1]:sum { 1, 3 }:mean()):sum()
end, { f32 = true })
op("permute and broadcast", { { 40, 30, 50 }, { 30, 1 } }, function(t)
  return t[1]:permute { 3, 1, 2 }:contiguous():permute { 2, 3, 1 } * t[2] + t[2]
end, { f32 = true, bf16 = { limit = 3e-4, reason = "the gradient of what is broadcast is a sum that bf16 holds" } })
op("gelu", { { 300, 999 } }, function(t) return mb.gelu(t[1]) end)

-- ----- fused programs -----------------------------------------------------------------------------------

-- Fields of normal numbers, a program run three times, all fields afterwards.
local function program(name, fields, numbers, body)
  add("fuse: " .. name, F32, function(device, dtype, put)
    local t = {}
    for _, field in ipairs(fields) do t[field] = draw(device, dtype, { 61, 1031 }) end
    local fused = mb.fuse(body)
    for _ = 1, 3 do fused(t, numbers) end
    for _, field in ipairs(fields) do put(field, t[field]) end
  end)
end

program("every function", { "x", "y", "z" }, { edge = 0.25, top = 1.75 }, function(p, h)
  local a = mb.abs(p.x) + 0.5
  p.z = mb.tanh(mb.where(mb.less(p.y, h.edge), p.x * p.y, p.x / a)) + mb.exp(-a) * mb.log(a) - a ^ 1.5
  p.y = mb.clamp(p.x:square() + mb.sqrt(a), 0.2, h.top) + mb.silu(p.y) + mb.relu(p.z) - mb.gelu(p.y)
  p.x = mb.maximum(p.z, mb.minimum(p.x, 0.1)) + mb.sigmoid(p.y) - mb.rsqrt(a) * mb.reciprocal(a)
end)
program("Adam", { "w", "g", "m", "v" }, { lr = 0.01, b1 = 0.9, b2 = 0.99, eps = 1e-8 }, function(p, h)
  p.m = h.b1 * p.m + (1 - h.b1) * p.g
  p.v = h.b2 * mb.abs(p.v) + (1 - h.b2) * p.g * p.g
  p.w = p.w - h.lr * p.m / (mb.sqrt(p.v) + h.eps)
end)
program("Lion", { "w", "g", "m" }, { lr = 0.01, b1 = 0.9, b2 = 0.99, wd = 0.1 }, function(p, h)
  p.w = p.w - h.lr * (mb.sign(h.b1 * p.m + (1 - h.b1) * p.g) + h.wd * p.w)
  p.m = h.b2 * p.m + (1 - h.b2) * p.g
end)

-- ----- decompositions -----------------------------------------------------------------------------------

-- Signs of vectors are a library's choice: what is compared does not depend on them.
local la = mb.linalg
local batches = { { 3, 40, 25 }, { 3, 25, 40 }, { 2, 97, 70 }, { 1, 230, 225 }, { 4, 1, 9 } }

local function decomposition(name, fn, is_square)
  add("linalg: " .. name, F32, function(device, dtype, put)
    for i, shape in ipairs(batches) do
      local a = draw(device, dtype, shape)
      if is_square then
        local n = shape[2]
        a = mb.matmul(a, a:transpose(2, 3)) * (1 / shape[3]) + 0.1 * mb.eye(n, { device = device }):reshape(1, n, n)
      end
      fn(a, function(part, t) put(("%s of batch %d"):format(part, i), t) end)
    end
  end)
end

local function spread(values) return values:reshape(values.shape[1], 1, values.shape[2]) end

decomposition("svdvals", function(a, put) put("values", la.svdvals(a)) end)
decomposition("svd", function(a, put)
  local u, s, v = la.svd(a)
  put("values", s)
  put("product", mb.matmul(u * spread(s), v:transpose(2, 3)))
end)
decomposition("svd_lowrank", function(a, put)
  local u, s, v = la.svd_lowrank(a, { rank = 5, oversample = 4, power_iters = 2 })
  put("values", s)
  put("product", mb.matmul(u * spread(s), v:transpose(2, 3)))
end)
decomposition("qr", function(a, put)
  local q, r = la.qr(a)
  put("size of r", r:abs())
  put("product", mb.matmul(q, r))
end)
decomposition("eigh", function(a, put)
  local values, vectors = la.eigh(a)
  put("values", values)
  put("product", mb.matmul(vectors * spread(values), vectors:transpose(2, 3)))
end, true)
decomposition("eigvalsh", function(a, put) put("values", la.eigvalsh(a)) end, true)
decomposition("cholesky", function(a, put) put("factor", la.cholesky(a)) end, true)
decomposition("inverse_sqrt", function(a, put) put("root", la.inverse_sqrt(a)) end, true)
decomposition("sigma_max", function(a, put) put("value", la.sigma_max(a)) end)
for _, method in ipairs { "ns5", "polar_express", "exact" } do
  decomposition("msign " .. method, function(a, put) put("sign", la.msign(a, { method = method })) end)
end

-- ----- clipping -----------------------------------------------------------------------------------------

local methods = {
  ["exact"] = { method = "exact" },
  ["by a sketch"] = { method = "randomized", rank = 8, oversample = 5, power_iters = 1 },
  ["by a wide sketch"] = { method = "randomized", rank = 20, oversample = 10, power_iters = 2 },
  ["rank auto"] = { method = "randomized", rank = "auto", power_iters = 2 },
  ["polar"] = { method = "polar" },
  ["soft"] = { method = "soft" },
  ["by a rule"] = { method = "exact", rule = function(sigma, tau) return sigma / (1 + (sigma / tau) ^ 2) ^ 0.5 end },
  ["in float64"] = { method = "exact", dtype = "f64" },
}

-- Gradients of a GPT-2 on a batch, in the dtype of the row.
local function stepped(device, dtype)
  local model = mb.models.gpt2 { vocab_size = 97, block_size = 24, n_layer = 3, n_head = 2, n_embd = 64, seed = 7,
    device = device, dtype = dtype }
  local batch = { inputs = ids(device, { 3, 24 }, 97), targets = ids(device, { 24, 3 }, 89):transpose(1, 2):contiguous() }
  return model, batch
end

-- Random gradients: nothing but the clipping differs.
local function with_gradients(device)
  local model = stepped(device, "f32")
  for _, p in ipairs(model:parameters()) do p.grad:copy_(draw(device, "f32", p.shape)) end
  return model
end

local function put_gradients(model, put)
  for _, p in ipairs(model:parameters()) do put(p.name, p.grad) end
end

for _, name in ipairs { "exact", "by a sketch", "by a wide sketch", "rank auto", "polar", "soft", "by a rule", "in float64" } do
  local function options(threshold)
    local o = { threshold = threshold }
    for key, value in pairs(methods[name]) do o[key] = value end
    return o
  end
  add("clip.matrix " .. name, F32, function(device, dtype, put)
    for i, shape in ipairs { { 40, 25 }, { 25, 40 }, { 130, 97 }, { 9, 1 }, { 230, 225 } } do
      local clipped = mb.clip.matrix(draw(device, dtype, shape), options(3))
      put("matrix " .. i, clipped)
    end
  end)
  add("clip.spectral " .. name, F32, function(device, _, put)
    local model = with_gradients(device)
    mb.clip.spectral(options(6))(model)
    put_gradients(model, put)
  end)
end

local kinds = {
  ["scope block"] = function()
    return mb.clip.spectral { method = "exact", threshold = mb.threshold.ema { beta = 0.9 }, scope = "block" }
  end,
  ["scope global"] = function() return mb.clip.spectral { method = "exact", threshold = 12, scope = "global" } end,
  ["view heads"] = function() return mb.clip.spectral { method = "exact", threshold = 3, view = "heads" } end,
  ["warm sketches"] = function() return mb.clip.spectral { threshold = 6, power_iters = 0, warm_start = true } end,
  ["quantile"] = function()
    return mb.clip.spectral { method = "exact", threshold = mb.threshold.quantile { q = 0.5, window = 3 } }
  end,
  ["z-score"] = function() return mb.clip.norm { threshold = mb.threshold.zscore { z = 0.5, alpha = 0.9, warmup = 1 } } end,
  ["norm"] = function() return mb.clip.norm { max_norm = 1 } end,
}
for _, name in ipairs { "scope block", "scope global", "view heads", "warm sketches", "quantile", "z-score", "norm" } do
  add("clip: " .. name, F32, function(device, _, put)
    local clip = kinds[name]()
    for _ = 1, 3 do
      local model = with_gradients(device)
      clip(model)
      put_gradients(model, put)
    end
  end)
end

-- ----- optimizers ---------------------------------------------------------------------------------------

local optimizers = {
  { "sgd, nesterov", function(model)
    return mb.optim.sgd(model, { lr = 0.05, momentum = 0.9, nesterov = true, weight_decay = 0.01 })
  end },
  { "adamw, decay", function(model)
    return mb.optim.adamw(model, { lr = 1e-2, betas = { 0.9, 0.95 }, weight_decay = 0.1 })
  end },
  { "adamw, momentum clipped", function(model)
    -- A clipped momentum does not vanish where the gradient does: eps bounds what its rounding is divided by.
    return mb.optim.adamw(model, { lr = 1e-2, eps = 1e-2 }), mb.clip.spectral { method = "exact", threshold = 1, on = "momentum" }
  end },
  { "sgd, update clipped", function(model)
    return mb.optim.sgd(model, { lr = 0.05, momentum = 0.9 }),
      mb.clip.spectral { method = "exact", threshold = 0.1, on = "update" }
  end },
}
-- Every optimizer that the library has, on the matrices; spectra is a clipper of another one's updates.
local signs = { limit = 1e-4, reason = "a momentum that cancels may have either sign" }
local own = {
  clipped_sign = signs, lion = signs, signum = signs,
  muon = { limit = 1e-5, reason = "its iteration is in bf16 on the GPU" },
  soap = { limit = 1e-3, reason = "divides by the root of what a rotation leaves of a gradient, which may be near zero" },
}
for _, name in ipairs(require("moonbow.optim.registry").names()) do
  optimizers[#optimizers + 1] = { name, function(model)
    if name == "spectra" then
      return mb.optim.spectra(model, { optimizer = { name = "adamw", lr = 1e-3 }, threshold = 0.5 })
    end
    return mb.optim.groups(model, {
      { where = "matrix", name = name, lr = 1e-3 }, { where = "rest", name = "adamw", lr = 1e-3 },
    })
  end, own[name] }
end
for _, entry in ipairs(optimizers) do
  add("optim: " .. entry[1], { f32 = entry[3] or true }, function(device, _, put)
    local model = stepped(device, "f32")
    local optimizer, clip = entry[2](model)
    for _ = 1, 3 do
      for _, p in ipairs(model:parameters()) do p.grad:copy_(draw(device, "f32", p.shape)) end
      optimizer:step(clip)
    end
    for _, p in ipairs(model:parameters()) do put(p.name, p.value) end
  end)
end

-- ----- models -------------------------------------------------------------------------------------------

-- Logits, loss and every gradient.
local function model_row(name, dtypes, make)
  add("model: " .. name, dtypes, function(device, dtype, put)
    local model, batch = make(device, dtype)
    put("logits", model:logits(batch))
    local loss = model:loss(batch)
    put("loss", loss)
    loss:backward()
    put_gradients(model, put)
  end)
end

model_row("gpt2", { f32 = true, bf16 = { limit = 1e-3, reason = "roundings of three layers add up" } }, stepped)
for _, activation in ipairs { "relu", "gelu", "tanh", "silu" } do
  model_row("mlp " .. activation, { f32 = true, bf16 = activation == "relu"
      and { limit = 1e-2, reason = "a unit near zero may be on in one and off in the other" }
      or { limit = 1e-3, reason = "roundings of three layers add up" } },
    function(device, dtype)
      local model = mb.models.mlp { n_input = 30, n_hidden = 50, n_layer = 2, n_output = 7, activation = activation, seed = 3,
        device = device, dtype = dtype }
      return model, { inputs = draw(device, "f32", { 11, 30 }), targets = ids(device, { 11 }, 7) }
    end)
end
add("training: gpt2, spectral clipping, adamw", F32, function(device, dtype, put)
  local model, batch = stepped(device, dtype)
  local optimizer = mb.optim.adamw(model, { lr = 1e-3 })
  local clip = mb.clip.spectral { threshold = mb.threshold.ema { beta = 0.9 } }
  for step = 1, 5 do
    optimizer:zero_grad()
    local loss = model:loss(batch)
    put("loss of step " .. step, loss)
    loss:backward()
    clip(model)
    optimizer:step()
  end
end)

return rows
