-- SPDX-License-Identifier: MIT
--
-- gpt2_config.lua: where the sizes of a GPT-2 come from: options, the four models that OpenAI published by name, or a
-- file of weights: the header of llm.c's, or Hugging Face's config.json beside theirs; without one, the shapes in the
-- file itself.

local hf = require "moonbow.models.hf"
local json = require "moonbow.io.json"
local llmc = require "moonbow.models.llmc"
local options = require "moonbow.options"
local sources = require "moonbow.io.weights"
local system = require "bindings.system"
local writing = require "moonbow.io.writing"

local M = {}

local SIZES = { "block_size", "n_embd", "n_head", "n_layer", "vocab_size" }
local VOCAB, BLOCK, EPSILON = 50257, 1024, 1e-5

-- Layers, heads and width; heads are 64 wide in all four.
local published = { gpt2 = { 12, 12, 768 }, medium = { 24, 16, 1024 }, large = { 36, 20, 1280 }, xl = { 48, 25, 1600 } }

--- Names that option `size` takes; Hugging Face's begin with "gpt2-".
M.names = { "gpt2", "medium", "large", "xl", "gpt2-medium", "gpt2-large", "gpt2-xl" }

local function of_name(name)
  local s = published[name:gsub("^gpt2%-", "")]
  return { vocab_size = VOCAB, block_size = BLOCK, n_layer = s[1], n_head = s[2], n_embd = s[3] }
end

-- ----- config.json --------------------------------------------------------------------------------------

-- Settings of transformers' GPT2Config that would make another network, and the values that make this one; an
-- absent one has its default, which does.
local required = {
  model_type = { gpt2 = true }, activation_function = { gelu_new = true, gelu_pytorch_tanh = true },
  layer_norm_epsilon = { [EPSILON] = true }, scale_attn_weights = { [true] = true },
  scale_attn_by_inverse_layer_idx = { [false] = true }, add_cross_attention = { [false] = true },
}
local names_there = { block_size = "n_positions", n_embd = "n_embd", n_head = "n_head", n_layer = "n_layer",
                      vocab_size = "vocab_size" }

local function shown(value) return type(value) == "string" and '"' .. value .. '"' or tostring(value) end

local function decode(fail, path)
  if system.path_size(path) > 1000000 then fail("it has more than a million bytes") end
  local file = io.open(path, "rb")
  local text = file and file:read "*a" or ""
  if file then file:close() end
  local given, problem = json.decode(text)
  if not given then fail("it is not valid JSON: %s", problem) end
  if type(given) ~= "table" or getmetatable(given) == json.array then fail("it is no object") end
  for key, value in pairs(given) do
    if value == json.null then given[key] = nil end
  end
  return given
end

-- Sizes as a config.json has them, and tied if it says so.
local function of_json(path)
  local function fail(format, ...) options.fail("mb.models.gpt2: '%s': " .. format, path, ...) end
  local given, config = decode(fail, path), {}
  for _, key in ipairs(options.keys(required)) do
    if given[key] ~= nil and not required[key][given[key]] then
      fail("%s is %s, which is another network than mb.models.gpt2's", key, shown(given[key]))
    end
  end
  for name, key in pairs(names_there) do
    local value = given[key]
    if type(value) ~= "number" or value < 1 or value % 1 ~= 0 then
      fail("%s is %s, a size was expected", key, shown(value))
    end
    config[name] = value
  end
  if given.n_inner and given.n_inner ~= 4 * config.n_embd then
    fail("n_inner is %s, 4 n_embd = %d was expected", shown(given.n_inner), 4 * config.n_embd)
  end
  if type(given.tie_word_embeddings) == "boolean" then config.tied = given.tie_word_embeddings end
  return config
end

--- Writes the config.json that transformers reads.
---@param config table a model's
---@param path string
function M.save_hf(config, path)
  local text = assert(json.encode {
    architectures = setmetatable({ "GPT2LMHeadModel" }, json.array), model_type = "gpt2",
    activation_function = "gelu_new", layer_norm_epsilon = EPSILON, n_ctx = config.block_size,
    n_positions = config.block_size, n_embd = config.n_embd, n_head = config.n_head, n_layer = config.n_layer,
    vocab_size = config.vocab_size, tie_word_embeddings = config.tied, attn_pdrop = 0, embd_pdrop = config.dropout,
    resid_pdrop = config.dropout,
  })
  writing.whole_file(path, function(aside) writing.text(aside, text .. "\n") end)
end

-- ----- files of weights ---------------------------------------------------------------------------------

local function matrix_shape(fail, weights, name)
  local entry = weights[name]
  if not entry then fail("tensor '%s' is missing", name) end
  if #entry.shape ~= 2 then
    fail("tensor '%s' has shape (%s), a matrix was expected", name, table.concat(entry.shape, ", "))
  end
  return entry.shape
end

-- Sizes as shapes show them. Only the number of heads does not show, but in the published sizes.
local function of_shapes(source, weights, n_head)
  local function fail(format, ...) options.fail("mb.models.gpt2: '%s': " .. format, source.path, ...) end
  local wte, wpe = matrix_shape(fail, weights, "wte.weight"), matrix_shape(fail, weights, "wpe.weight")
  local config = { vocab_size = wte[1], n_embd = wte[2], block_size = wpe[1], n_layer = 0, n_head = n_head }
  for name in pairs(weights) do
    local layer = tonumber(name:match "^h%.(%d+)%.")
    if layer and layer < 2 ^ 31 then config.n_layer = math.max(config.n_layer, layer + 1) end
  end
  if config.n_layer == 0 then fail("no tensor is named h.0.ln_1.weight or the like: it has no layers") end
  for _, s in pairs(published) do
    if s[1] == config.n_layer and s[3] == config.n_embd then config.n_head = config.n_head or s[2] end
  end
  if not config.n_head then
    fail("there is no config.json beside it to say how many heads %d layers of width %d have; give n_head",
      config.n_layer, config.n_embd)
  end
  return config
end

local function of_hf(path, given)
  local source = sources.open(path)
  local weights = hf.by_our_names(source)
  local beside = (source.path:match "^(.*/)[^/]*$" or "") .. "config.json"
  local there = system.path_kind(beside) == "file"
  local config = there and of_json(beside) or of_shapes(source, weights, given.n_head)
  if config.tied == nil then config.tied = hf.has_tied_head(source, weights) end
  return config
end

--- Whether a file is one of llm.c's.
---@param path string
---@return boolean
function M.is_llmc(path)
  return system.path_kind(path) == "file" and (llmc.magic(path) == llmc.MAGIC or path:match "%.bin$" ~= nil)
end

local function of_weights(path, given)
  if system.path_kind(path) == "none" then options.fail("mb.models.gpt2: there is no file '%s'", path) end
  if not M.is_llmc(path) then return of_hf(path, given) end
  local h, config = llmc.inspect(path), { tied = true }
  for _, name in ipairs(SIZES) do config[name] = h[name] end
  return config
end

--- A model's config from its options: those given, completed by `size` or `weights`.
---@param o table checked options of mb.models.gpt2
---@return table config
function M.complete(o)
  if o.size and o.weights then options.fail("mb.models.gpt2: options 'size' and 'weights' both say the sizes") end
  local base = o.size and of_name(o.size) or o.weights and of_weights(o.weights, o) or {}
  local config = { dropout = o.dropout }
  for _, name in ipairs(SIZES) do
    if o.weights and o[name] and o[name] ~= base[name] then
      options.fail("mb.models.gpt2: option '%s' is %d, '%s' has %d", name, o[name], o.weights, base[name])
    end
    config[name] = o[name] or base[name]
    if not config[name] then options.fail("mb.models.gpt2: option '%s' is missing, an integer is needed", name) end
  end
  config.tied = o.tied
  if config.tied == nil then config.tied = base.tied ~= false end
  return config
end

return M
