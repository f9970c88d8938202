-- SPDX-License-Identifier: MIT
--
-- weights_spec.lua: GPT-2's weights in other programs' files: Hugging Face's, whole and in shards, and llm.c's. The files
-- of tests/golden/gpt2_files are PyTorch's (tests/golden/gpt2_torch.py), with the logits that it computes from them.

local helper = require "tests.helper"
local json = require "moonbow.io.json"
local mb = require "moonbow"
local scratch = require "tests.scratch"

local root = os.getenv "MOONBOW_ROOT" or "."
local files = root .. "/tests/golden/gpt2_files/"
local T, V = 6, 17

local function gpt2(o)
  local full = { seed = 5 }
  for key, value in pairs(o) do full[key] = value end
  return mb.models.gpt2(full)
end

local function tiny(more)
  local o = { vocab_size = 11, block_size = 6, n_layer = 2, n_head = 2, n_embd = 8 }
  for key, value in pairs(more or {}) do o[key] = value end
  return gpt2(o)
end

local function logits_of(model)
  local ids = {}
  for i = 1, T do ids[i] = i - 1 end
  return model:logits { inputs = { ids } }:detach():to("cpu"):to "f64"
end

-- Largest distance to what PyTorch got from the same numbers, in units of the largest logit.
local function distance(model, which)
  local expected = mb.safetensors.load(files .. "logits.safetensors")[which]
  return (logits_of(model) - expected):abs():max():item() / expected:abs():max():item()
end

local function assert_same(a, b)
  for _, p in ipairs(a:parameters()) do
    assert.is_true(p.value:to("cpu"):equal(b:parameter(p.name).value:to "cpu"), p.name)
  end
end

describe("weights of Hugging Face", function()
  after_each(scratch.clean)

  it("give PyTorch's logits, sizes taken from config.json", function()
    local model = gpt2 { weights = files .. "model.safetensors", dtype = "f64" }
    assert.are.same({ vocab_size = V, block_size = T, n_layer = 2, n_head = 2, n_embd = 8, dropout = 0, tied = true },
      model.config)
    assert.is_true(distance(model, "f32") < 1e-14)
    assert.is_true(distance(gpt2 { weights = files }, "f32") < 2e-6)
    local other = gpt2 { size = "gpt2", vocab_size = V, block_size = T, n_layer = 2, n_head = 2, n_embd = 8 }
    assert_same(other:load_hf(files .. "model.safetensors"), gpt2 { weights = files })
  end)

  it("come from shards and half floats, with a head of its own", function()
    local model = gpt2 { weights = files .. "half.safetensors.index.json", dtype = "f64" }
    assert.is_false(model.config.tied)
    assert.are.equal("head", model:parameter("lm_head.weight").role)
    assert.is_true(distance(model, "f16") < 1e-14)
    helper.says("this model ties the two, one with tied = false does not", gpt2,
      { weights = files .. "half.safetensors.index.json", tied = true })
    -- A file without a head gives its embedding to a model that has one.
    local untied = gpt2 { weights = files .. "model.safetensors", tied = false, dtype = "f64" }
    assert.is_true(distance(untied, "f32") < 1e-14)
  end)

  it("show their sizes where there is no config.json", function()
    local folder = scratch.folder()
    tiny():save_hf(folder .. "/a.safetensors", { prefix = true })
    helper.says("to say how many heads 2 layers of width 8 have; give n_head", gpt2,
      { weights = folder .. "/a.safetensors" })
    local model = gpt2 { weights = folder .. "/a.safetensors", n_head = 2, seed = 9 }
    assert_same(tiny(), model)
    helper.says("option 'n_layer' is 3, '" .. folder .. "/a.safetensors' has 2", gpt2,
      { weights = folder .. "/a.safetensors", n_head = 2, n_layer = 3 })
    helper.says("there is no file '/nowhere'", gpt2, { weights = "/nowhere" })
    helper.says("both say the sizes", gpt2, { weights = files, size = "xl" })
  end)

  it("are written to a folder with config.json, tied or not, and come back", function()
    for _, tied in ipairs { true, false } do
      local folder = scratch.folder() .. "/new/"
      local model = tiny { tied = tied, dropout = 0.25 }
      model:save_hf(folder, { prefix = true })
      local tensors = mb.safetensors.load(folder .. "model.safetensors")
      assert.is_truthy(tensors["transformer.h.1.attn.c_proj.weight"])
      assert.are.equal(not tied, tensors["lm_head.weight"] ~= nil)
      local again = gpt2 { weights = folder, seed = 77, dropout = 0.25 }
      assert.are.same(model.config, again.config)
      assert_same(model, again)
      local config = json.decode(scratch.read(folder .. "config.json"))
      assert.are.equal("gelu_new", config.activation_function)
      assert.are.equal(tied, config.tie_word_embeddings)
    end
  end)

  it("go out in shards, which we and Hugging Face's own reader put together", function()
    local folder = scratch.folder()
    local model = tiny { tied = false }
    model:save_hf(folder)
    local bytes = 0
    for _, p in ipairs(model:parameters()) do bytes = bytes + 4 * p.value.numel end
    for _, most in ipairs { 1000, "2kB", "0.003MB", bytes - 1 } do
      if most == "2kB" then
        helper.says("must be a number of bytes or a text like \"5GB\"", model.save_hf, model, folder, { max_shard_size = most })
      else
        model:save_hf(folder, { max_shard_size = most })
        local index = json.decode(scratch.read(folder .. "/model.safetensors.index.json"))
        assert.are.equal(bytes, index.metadata.total_size)
        local count = tonumber(index.weight_map["wte.weight"]:match "^model%-00001%-of%-(%d%d%d%d%d)%.safetensors$")
        assert.is_true(count > 1)
        for i = 1, count do
          local name, used, items = ("model-%05d-of-%05d.safetensors"):format(i, count), 0, 0
          for key, t in pairs((mb.safetensors.load(folder .. "/" .. name))) do
            assert.are.equal(name, index.weight_map[key])
            used, items = used + 4 * t.numel, items + 1
          end
          assert.is_true(used <= (tonumber(most) or 3000) or items == 1, name)
        end
        assert.are.equal("none", mb.system.path_kind(folder .. "/model.safetensors"))
        assert_same(gpt2 { weights = folder }, model)
      end
    end
    local code, said = require("tests.smoke.runner").shell(([[python3 -c '
import json, sys
try:
    from safetensors import safe_open
except ImportError:
    sys.exit(77)
folder = sys.argv[1]
index = json.load(open(folder + "/model.safetensors.index.json"))
total = 0
for name, file in sorted(index["weight_map"].items()):
    with safe_open(folder + "/" + file, framework="np") as f:
        assert f.metadata() == {"format": "pt"}
        total += f.get_tensor(name).nbytes
print(total == index["metadata"]["total_size"])' '%s']]):format(folder))
    -- One file again: what is left of the shards is not taken for the weights.
    model:save_hf(folder, { max_shard_size = "5GB" })
    assert.are.equal("none", mb.system.path_kind(folder .. "/model.safetensors.index.json"))
    assert_same(gpt2 { weights = folder }, model)
    helper.says("'max_shard_size' needs a folder", model.save_hf, model, folder .. "/x.safetensors", { max_shard_size = 5 })
    helper.says("max_shard_size", model.save_hf, model, folder, { max_shard_size = 0 })
    if code == 77 then pending "python3 has no package safetensors (pip install safetensors numpy)" return end
    assert.are.equal("True\n", said)
  end)

  it("are refused where config.json means another network", function()
    local folder = scratch.folder()
    tiny():save_hf(folder)
    local good = scratch.read(folder .. "/config.json")
    local function refused(text, from, to)
      local changed, count = good:gsub(from, to)
      assert.are.equal(1, count)
      scratch.write(folder .. "/config.json", changed)
      helper.says(text, gpt2, { weights = folder })
    end
    refused('activation_function is "relu", which is another network', '"gelu_new"', '"relu"')
    refused("layer_norm_epsilon is 1e-06", '"layer_norm_epsilon":[^,]+', '"layer_norm_epsilon":1e-6')
    refused("n_head is nil, a size was expected", '"n_head"', '"heads"')
    refused("n_head is 2.5, a size was expected", '"n_head":2', '"n_head":2.5')
    refused("n_layer is 2147483648, a number from 1 to", '"n_layer":2', '"n_layer":2147483648')
    refused("n_inner is 8, 4 n_embd = 32 was expected", '"n_head"', '"n_inner":8,"n_head"')
    refused("it is not valid JSON", "{", "{{")
    refused("it is no object", "^.*$", "[1]")
    refused("tensor 'wte.weight' has shape (11, 8), the model needs (12, 8)", "11", "12")
  end)

  it("are refused where the index does not fit its shards", function()
    local folder = scratch.folder()
    local function copy(name) scratch.write(folder .. "/" .. name, scratch.read(files .. name)) end
    copy "half-00001-of-00002.safetensors"
    copy "config.json"
    local text = scratch.read(files .. "half.safetensors.index.json")
    local path = folder .. "/half.safetensors.index.json"
    local function refused(expected, index)
      scratch.write(path, index)
      helper.says(expected, gpt2, { weights = path })
    end
    refused("half-00002-of-00002.safetensors", text) -- not there
    copy "half-00002-of-00002.safetensors"
    refused("the index is not valid JSON", text:sub(1, -10))
    refused("the index has no 'weight_map'", "[]")
    refused("the index has no 'weight_map'", '{"weight_map":{}}')
    refused("places tensor 'ln_f.bias' in '../x', a file of its own folder was expected",
      (text:gsub('"ln_f.bias": "[^"]+"', '"ln_f.bias": "../x"')))
    refused("places tensor 'ln_f.bias' in no file", (text:gsub('"ln_f.bias": "[^"]+"', '"ln_f.bias": 3')))
    refused("holds tensor 'ln_f.bias', which the index does not name", (text:gsub('"ln_f.bias"', '"ln_g.bias"')))
    refused("holds tensor 'ln_f.bias', which the index places in 'half-00001-of-00002.safetensors'",
      (text:gsub('("ln_f.bias": "half%-0000)2', "%11")))
    refused("shard 'half-00001-of-00002.safetensors' does not hold tensor 'zzz'",
      (text:gsub('"weight_map": {', '"weight_map": {"zzz": "half-00001-of-00002.safetensors", ')))
    helper.says("the folder holds neither model.safetensors nor", gpt2, { weights = folder })
  end)
end)

describe("model files of llm.c", function()
  local path
  before_each(function() path = scratch.folder() .. "/model.bin" end)
  after_each(scratch.clean)

  it("give PyTorch's logits", function()
    local model = gpt2 { weights = files .. "model_f32.bin", dtype = "f64" }
    assert.are.same({ vocab_size = V, block_size = T, n_layer = 2, n_head = 2, n_embd = 8, dropout = 0, tied = true },
      model.config)
    assert.is_true(distance(model, "f32") < 1e-14)
    assert.is_true(distance(gpt2 { weights = files .. "model_bf16.bin", dtype = "f64" }, "bf16") < 1e-14)
    assert.is_true(distance(gpt2 { weights = files .. "model_f32.bin", tied = false, dtype = "f64" }, "f32") < 1e-14)
    assert_same(gpt2 { weights = files }, gpt2 { weights = files .. "model_f32.bin" })
  end)

  it("are written as llm.c does, the vocabulary padded with zeros", function()
    local model = gpt2 { weights = files .. "model_f32.bin" }
    model:save_llmc(path)
    -- The fixture's padding holds 9s to show that nobody reads it.
    local ours, theirs = scratch.read(path), scratch.read(files .. "model_f32.bin")
    local first, last = 1024 + 4 * V * 8, 1024 + 4 * 128 * 8
    assert.are.equal(#theirs, #ours)
    assert.is_true(ours:sub(1, first) == theirs:sub(1, first))
    assert.is_true(ours:sub(first + 1, last) == ("\0"):rep(last - first))
    assert.is_true(ours:sub(last + 1) == theirs:sub(last + 1))
    model:save_llmc(path, { dtype = "bf16" })
    assert.is_true(scratch.read(path):sub(1, 1024 + 2 * V * 8)
      == scratch.read(files .. "model_bf16.bin"):sub(1, 1024 + 2 * V * 8))
    assert_same(gpt2 { weights = path }, gpt2 { weights = files .. "model_bf16.bin" })
    local wide = tiny { vocab_size = 128, dtype = "f64" }
    assert.are.equal(1024 + 4 * (128 * 8 + 6 * 8 + 2 * (12 * 64 + 13 * 8) + 16), #scratch.read(
      (function() wide:save_llmc(path) return path end)()))
  end)

  it("are refused when they do not fit; nothing is changed then", function()
    local good = scratch.read(files .. "model_f32.bin")
    local model, untouched = tiny { vocab_size = V }, tiny { vocab_size = V }
    local function number(x) return string.char(x % 256, math.floor(x / 256) % 256, math.floor(x / 65536) % 256,
                                                math.floor(x / 2 ^ 24) % 256) end
    local function refused(text, index, value)
      local changed = index and good:sub(1, 4 * index) .. number(value) .. good:sub(4 * index + 5) or value
      helper.says(text, model.load_llmc, model, scratch.write(path, changed))
      assert_same(model, untouched)
    end
    refused("it begins with 20240520, 20240326 was expected: it is a shard of tokens", 0, 20240520)
    refused("it has version 1; 3 (float32) and 5 (bfloat16) are read", 1, 1)
    refused("n_layer = -1", 4, 2 ^ 32 - 1)
    refused("n_embd = 0", 6, 0)
    refused("n_embd = 8, which n_head = 3 does not divide", 5, 3)
    refused("vocab_size = 129 and padded_vocab_size = 128", 3, 129)
    refused("2147483647 layers of width 8, 6 positions and 128 rows of f32 take", 4, 2 ^ 31 - 1)
    refused("the file has " .. #good .. " bytes", 1, 5) -- half the bytes
    refused("the file has " .. #good - 1 .. " bytes", nil, good:sub(1, -2))
    refused("the file has " .. #good + 1 .. " bytes", nil, good .. "x")
    refused("the file has 100 bytes, its header alone takes 1024", nil, good:sub(1, 100))
    refused("the file has 0 bytes", nil, "")
    refused("vocab_size is 16, the model has 17", 3, 16)
    helper.says("block_size is 6, the model has 7", tiny().load_llmc, tiny { vocab_size = V, block_size = 7 },
      files .. "model_f32.bin")
    helper.says("llm.c ties the head, this model has tied = false", tiny().save_llmc, tiny { tied = false }, path)
    helper.says("did you mean 'dtype'", tiny().save_llmc, tiny(), path, { dtypes = "f32" })
    helper.says("nowhere", tiny().load_llmc, tiny(), "/nowhere/model.bin")
  end)
end)

describe("mb.models.gpt2", function()
  it("knows the four published sizes", function()
    local complete = require("moonbow.models.gpt2_config").complete
    local expected = { gpt2 = { 12, 12, 768 }, ["gpt2-medium"] = { 24, 16, 1024 }, large = { 36, 20, 1280 },
                       ["gpt2-xl"] = { 48, 25, 1600 } }
    for size, s in pairs(expected) do
      assert.are.same({ vocab_size = 50257, block_size = 1024, n_layer = s[1], n_head = s[2], n_embd = s[3], tied = true },
        complete { size = size })
    end
    assert.are.equal(4, complete({ size = "xl", n_layer = 4 }).n_layer)
    helper.says("option 'size' must be one of", gpt2, { size = "huge" })
  end)

  it("trains a head of its own", function()
    local model = tiny { tied = false, dtype = "f64" }
    local batch = { inputs = { { 1, 2, 3 } }, targets = { { 2, 3, 4 } } }
    local head, wte = model:parameter "lm_head.weight", model:parameter "wte.weight"
    assert.are.same({ 11, 8 }, head.shape)
    local before = model:loss(batch):item()
    model:backward(batch)
    assert.is_true(head.grad:abs():max():item() > 0)
    assert.are.equal(0, wte.grad:slice(1, 6, 6):abs():max():item()) -- id 5 is no input
    head.value:add_(head.grad, -0.1)
    assert.is_true(model:loss(batch):item() < before)
    assert.are.equal(model:count(), tiny():count() + 88)
  end)
end)

describe("files that are written", function()
  after_each(scratch.clean)

  -- Logits that PyTorch computes from each file.
  local function torch_logits(paths)
    local python = ("python3 '%s/tests/golden/gpt2_torch.py' logits '%s' 2>&1")
    local pipe = assert(io.popen(python:format(root, table.concat(paths, "' '"))))
    local text, all = pipe:read "*a", {}
    pipe:close()
    if text:find "No module named" or text:find "not found" then pending "python3 has no torch" end
    for line in text:gmatch "[^\n]+" do
      all[#all + 1] = mb.tensor(assert(json.decode(line), text), { dtype = "f64", device = "cpu" })
    end
    return all
  end

  it("mean the same to PyTorch", function()
    local folder, models = scratch.folder(), {}
    local paths = { folder .. "/tied/", folder .. "/untied/", folder .. "/model.bin" }
    for i, path in ipairs(paths) do
      local model = tiny { tied = i ~= 2 }
      for _, p in ipairs(model:parameters()) do p.value:add_(mb.randn_like(p.value), 0.3) end
      if i < 3 then model:save_hf(path, { prefix = i == 1 }) else model:save_llmc(path) end
      models[i] = model
    end
    for i, expected in ipairs(torch_logits(paths)) do
      local gap, largest = (logits_of(models[i]) - expected):abs():max():item(), expected:abs():max():item()
      assert(gap < 3e-6 * largest, ("%s: logits differ by %g of %g"):format(paths[i], gap, largest))
    end
  end)
end)
