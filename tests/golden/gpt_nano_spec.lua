-- SPDX-License-Identifier: MIT
--
-- gpt_nano_spec.lua: a trained minGPT (Karpathy's gpt-nano, which sorts six digits of 0 to 2) from the data of llm-viz
-- (github.com/bbycroft/llm-viz): its weights in mb.models.gpt2, and what PyTorch recorded at every stage of the first
-- block, after every block and at the end.

local helper = require "tests.helper"
local json = require "moonbow.io.json"
local mb = require "moonbow"
local scratch = require "tests.scratch"

local folder = (os.getenv "MOONBOW_ROOT" or ".") .. "/../shared/data/gpt_nano_sort/"

local function of_base64(text)
  local code, bits, count, out = {}, 0, 0, {}
  for i, c in ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"):gmatch "()(.)" do code[c] = i - 1 end
  for c in text:gmatch "[^=]" do
    bits, count = bits * 64 + code[c], count + 6
    if count >= 8 then
      count = count - 8
      out[#out + 1] = string.char(math.floor(bits / 2 ^ count))
      bits = bits % 2 ^ count
    end
  end
  return table.concat(out)
end

-- Tensors by name, and the config.
local function read(name)
  local all, tensors = assert(json.decode(scratch.read(folder .. name))), {}
  local bytes = scratch.folder() .. "/numbers"
  for key, value in pairs(all) do
    if key ~= "config" then
      scratch.write(bytes, of_base64(value.data))
      tensors[key] = mb.system.read_tensor(mb.empty(value.shape, { dtype = "f32", device = "cpu" }), bytes)
    end
  end
  return tensors, all.config
end

describe("gpt-nano", function()
  if mb.system.path_kind(folder .. "gpt-nano-sort-model.json") ~= "file" then
    pending "../shared/data/gpt_nano_sort is not in this checkout"
    return
  end
  local model, stages
  after_each(scratch.clean)

  before_each(function()
    local weights, c = read "gpt-nano-sort-model.json"
    stages = read "gpt-nano-sort-t0-partials.json"
    model = mb.models.gpt2 { vocab_size = c.vocab_size, block_size = c.block_size, n_layer = c.n_layer, n_head = c.n_head,
      n_embd = c.n_embd, tied = false }
    local state = {}
    for name, t in pairs(weights) do
      if not name:find "%.attn%.bias$" then state[name:gsub("^transformer%.", "")] = t end
    end
    model:load_state(state)
  end)

  local function close(name, t)
    t = t:detach():to "cpu"
    local gap, largest = (t - stages[name]):abs():max():item(), stages[name]:abs():max():item()
    assert(gap <= 2e-6 * largest, ("%s differs by %g, its largest entry is %g"):format(name, gap, largest))
  end

  it("has the activations of every stage", function()
    local B, T, C, H = 3, 11, 48, 3
    local function w(name) return model:parameter(name).value end
    local function norm(x, name) return mb.layernorm(x, w(name .. ".weight"), w(name .. ".bias"), 1e-5) end
    local function linear(x, name) return mb.linear(x, w(name .. ".weight"), w(name .. ".bias")) end
    local function heads(x, part)
      return x:slice(3, (part - 1) * C + 1, part * C):reshape(B, T, H, C / H):transpose(2, 3)
    end
    local future = mb.zeros(T, T)
    for t = 1, T - 1 do future:slice(1, t, t):slice(2, t + 1, T):fill_(1) end

    mb.no_grad(function()
      local ids = stages.idx:to "i32":to(helper.device)
      local tokens, positions = mb.embedding(w "wte.weight", ids), w "wpe.weight":slice(1, 1, T)
      local x = tokens + positions
      close("tok_emb", tokens)
      close("pos_emb", positions:reshape(1, T, C))
      close("x", x)
      for layer = 0, 2 do
        local p = ("h.%d."):format(layer)
        local stage = layer == 0 and close or function() end -- the others' were not kept
        local normed = norm(x, p .. "ln_1")
        local qkv = linear(normed, p .. "attn.c_attn")
        local q, k, v = heads(qkv, 1), heads(qkv, 2), heads(qkv, 3)
        local scores = mb.where(future, mb.full({}, -math.huge), mb.matmul(q, k, { transpose_b = true }) / 4)
        local y = mb.attention_packed(qkv, H)
        local projected = linear(y, p .. "attn.c_proj")
        local residual = x + projected
        local second = norm(residual, p .. "ln_2")
        local hidden = linear(second, p .. "mlp.c_fc")
        local active = mb.gelu_tanh(hidden)
        local mlp = linear(active, p .. "mlp.c_proj")
        x = residual + mlp
        stage("ln1", normed)
        stage("qkv", qkv)
        stage("q", q)
        stage("k", k)
        stage("v", v)
        stage("attSm", scores:softmax(-1))
        stage("y", y)
        stage("y", mb.matmul(scores:softmax(-1), v):transpose(2, 3):reshape(B, T, C))
        stage("yProj", projected)
        stage("attnResid", residual)
        stage("ln2", second)
        stage("fc", hidden)
        stage("gelu", active)
        stage("mlp", mlp)
        stage("mlpResid", x)
        close("block" .. layer, x)
      end
      close("ln_f", norm(x, "ln_f"))
      local logits = model:logits { inputs = ids }
      close("lm_head", logits)
      close("probs", logits:softmax(-1))
    end)
  end)

  it("sorts", function()
    for _, digits in ipairs { { 0, 0, 2, 1, 0, 1 }, { 2, 1, 0, 2, 1, 0 }, { 1, 1, 1, 2, 0, 0 }, { 2, 2, 2, 2, 2, 1 } } do
      local sorted = { unpack(digits) }
      table.sort(sorted)
      for _, cache in ipairs { true, false } do
        local ids = model:generate(digits, { max_tokens = 6, temperature = 0, cache = cache })
        assert.are.same(sorted, { unpack(ids, 7) })
      end
    end
  end)
end)
