-- A GPT-2 written in Lua with mb.models.define computes what the one in C does, forwards and backwards.
local helper = require "tests.helper"
local mb = require "moonbow"

local Gpt2 = mb.models.define {
  name = "gpt2 in lua",
  options = { vocab_size = 11, block_size = 8, n_layer = 2, n_head = 2, n_embd = 8 },
  parameters = function(add, o)
    local C = o.n_embd
    local function norm(name)
      add(name .. ".weight", { C }, { role = "vector", init = "ones" })
      add(name .. ".bias", { C }, { role = "vector" })
    end
    local function linear(name, out, into)
      add(name .. ".weight", { out, into }, { role = "matrix", init = "normal", std = 0.02 })
      add(name .. ".bias", { out }, { role = "vector" })
    end
    add("wte.weight", { o.vocab_size, C }, { role = "embedding", init = "normal", std = 0.02 })
    add("wpe.weight", { o.block_size, C }, { role = "embedding", init = "normal", std = 0.02 })
    for i = 0, o.n_layer - 1 do
      local block = ("h.%d."):format(i)
      norm(block .. "ln_1")
      linear(block .. "attn.c_attn", 3 * C, C)
      linear(block .. "attn.c_proj", C, C)
      norm(block .. "ln_2")
      linear(block .. "mlp.c_fc", 4 * C, C)
      linear(block .. "mlp.c_proj", C, 4 * C)
    end
    norm "ln_f"
  end,
  forward = function(p, batch, model)
    local function norm(x, name) return mb.layernorm(x, p[name .. ".weight"], p[name .. ".bias"]) end
    local function linear(x, name) return mb.linear(x, p[name .. ".weight"], p[name .. ".bias"]) end
    local T = batch.inputs.shape[2]
    local x = mb.embedding(p["wte.weight"], batch.inputs) + p["wpe.weight"]:slice(1, 1, T)
    for i = 0, model.config.n_layer - 1 do
      local block = ("h.%d."):format(i)
      local qkv = linear(norm(x, block .. "ln_1"), block .. "attn.c_attn")
      x = x + linear(mb.attention_packed(qkv, model.config.n_head), block .. "attn.c_proj")
      x = x + linear(mb.gelu(linear(norm(x, block .. "ln_2"), block .. "mlp.c_fc")), block .. "mlp.c_proj")
    end
    return mb.linear(norm(x, "ln_f"), p["wte.weight"])
  end,
}

describe("GPT-2 in Lua", function()
  local in_c = mb.models.gpt2 { vocab_size = 11, block_size = 8, n_layer = 2, n_head = 2, n_embd = 8, seed = 5,
                                dtype = "f64" }
  local in_lua = Gpt2 { dtype = "f64", seed = 9 }
  in_lua:load_state(in_c:state())
  local batch = { inputs = { { 1, 2, 3, 10, 0 }, { 4, 4, 5, 6, 7 } }, targets = { { 2, 3, 10, 0, 1 }, { 4, 5, 6, 7, 8 } } }

  it("has the same logits, losses and gradients as in C", function()
    local same, why = in_lua:logits(batch):allclose(in_c:logits(batch), { rtol = 1e-12, atol = 1e-14 })
    assert.is_true(same, why)
    for _, given in ipairs { {}, { label_smoothing = 0.1, reduction = "sum", ignore_index = 4 } } do
      in_c:zero_grad()
      in_lua:zero_grad()
      local a, b = in_c:backward(batch, given):item(), in_lua:backward(batch, given):item()
      assert.is_true(math.abs(a - b) < 1e-12 * a, ("losses %.17g and %.17g"):format(a, b))
      for i, p in ipairs(in_c:parameters()) do
        same, why = in_lua:parameters()[i].grad:allclose(p.grad, { rtol = 1e-9, atol = 1e-13 })
        assert.is_true(same, p.name .. ": " .. tostring(why))
      end
    end
  end)

  it("leaves nothing behind but its model", function()
    helper.no_leaks(function()
      in_lua:zero_grad()
      in_lua:backward(batch)
      mb.no_grad(function() return in_lua:loss(batch):item() end)
    end)
  end)

  it("gives its temporaries back as soon as forward and backward end", function()
    mb.collect()
    collectgarbage "stop"
    local before = mb.memory().bytes_live
    for _ = 1, 20 do in_lua:backward(batch):discard() end
    local grown = mb.memory().bytes_live - before
    collectgarbage "restart"
    assert.is_true(grown < 4096, grown .. " bytes are left")
  end)
end)
