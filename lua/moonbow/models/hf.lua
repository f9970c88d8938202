-- SPDX-License-Identifier: MIT
--
-- hf.lua: weights of GPT-2 as Hugging Face's transformers keeps them (GPT2LMHeadModel, safetensors).
--
-- Its names are ours, with or without "transformer." in front. Its Conv1D layers hold their matrices as
-- [in, out], so these are transposed on the way. Causal masks ("attn.bias", "attn.masked_bias") are buffers,
-- not weights. "lm_head.weight" is the token embedding again in a model that ties the two; there it may be missing, or
-- must be the same numbers. A model with a head of its own takes it from there, or, where it is missing, from the
-- embedding. Names, shapes and element types are checked before the first weight changes.

local handle = require "bindings.handle"
local options = require "moonbow.options"
local safetensors = require "moonbow.io.safetensors"
local sources = require "moonbow.io.weights"
local system = require "bindings.system"

local M = {}

local PREFIX, HEAD = "transformer.", "lm_head.weight"
local conv1d = { ["attn.c_attn.weight"] = true, ["attn.c_proj.weight"] = true, ["mlp.c_fc.weight"] = true,
                 ["mlp.c_proj.weight"] = true }
local buffers = { ["attn.bias"] = true, ["attn.masked_bias"] = true }
local floats = { F16 = true, BF16 = true, F32 = true, F64 = true }

-- "h.3.attn.c_attn.weight" -> "attn.c_attn.weight"
local function within_block(name) return name:match "^h%.%d+%.(.+)$" end

local function is_transposed(name) return conv1d[within_block(name)] == true end

local function shape_text(shape) return "(" .. table.concat(shape, ", ") .. ")" end

-- The shape a parameter has in the file.
local function file_shape(p)
  local shape = p.value.shape
  if is_transposed(p.name) then shape[1], shape[2] = shape[2], shape[1] end
  return shape
end

--- Entries of a source by our names; buffers are left out.
---@param source moonbow.WeightSource
---@return table<string, moonbow.SafetensorsEntry>
function M.by_our_names(source)
  local weights = {}
  for file_name, entry in pairs(source.entries) do
    local name = file_name
    if name:sub(1, #PREFIX) == PREFIX then name = name:sub(#PREFIX + 1) end
    if not buffers[within_block(name)] then
      if weights[name] then
        options.fail("load_hf: '%s': it holds '%s' twice, with and without '%s'", source.path, name, PREFIX)
      end
      weights[name] = entry
    end
  end
  return weights
end

local function check_weight(fail, p, entry)
  local expected = shape_text(file_shape(p))
  if not entry then fail("tensor '%s' is missing, shape %s was expected", p.name, expected) end
  local found = shape_text(entry.shape)
  if found ~= expected then
    fail("tensor '%s' has shape %s, the model needs %s", p.name, found, expected)
  end
  if not floats[entry.dtype] then
    fail("tensor '%s' is %s, floating numbers were expected", p.name, entry.dtype)
  end
end

--- Whether a file's head is its token embedding again: the same numbers, or not there.
---@param source moonbow.WeightSource
---@param weights table<string, moonbow.SafetensorsEntry> by our names
---@return boolean
function M.has_tied_head(source, weights)
  local head, wte = weights[HEAD], weights["wte.weight"]
  if not head or not wte then return not head end
  if shape_text(head.shape) ~= shape_text(wte.shape) then return false end
  return handle.scope(function()
    local a, b = source:read(head.name), source:read(wte.name)
    if a.dtype ~= b.dtype then a, b = a:to "f64", b:to "f64" end
    return a:equal(b)
  end)
end

local function check_head(fail, source, weights)
  local head, wte = weights[HEAD], weights["wte.weight"]
  if M.has_tied_head(source, weights) then return end
  fail("'%s' (%s %s) differs from 'wte.weight' (%s %s): this model ties the two, one with tied = false does not",
    HEAD, head.dtype, shape_text(head.shape), wte.dtype, shape_text(wte.shape))
end

local function check_unknown(fail, weights, expected)
  local unknown = {}
  for name in pairs(weights) do
    if not expected[name] then unknown[#unknown + 1] = name end
  end
  table.sort(unknown)
  if #unknown == 0 then return end
  fail("tensor '%s' has no place in this model%s", unknown[1],
    #unknown > 1 and (", nor have %d others"):format(#unknown - 1) or "")
end

--- Sets a model's weights from a file, an index of shards or a folder. Raises an error, and changes nothing, if
--- names, shapes or element types do not fit.
---@param model table a model of mb.models.gpt2
---@param path string
function M.load(model, path)
  local source = sources.open(path)
  local function fail(format, ...) options.fail("load_hf: '%s': " .. format, source.path, ...) end
  local weights, expected = M.by_our_names(source), { [HEAD] = true }
  if not model.config.tied then weights[HEAD] = weights[HEAD] or weights["wte.weight"] end
  for _, p in ipairs(model:parameters()) do
    expected[p.name] = true
    check_weight(fail, p, weights[p.name])
  end
  check_unknown(fail, weights, expected)
  if model.config.tied then check_head(fail, source, weights) end
  for _, p in ipairs(model:parameters()) do
    handle.scope(function()
      local t = source:read(weights[p.name].name)
      p.value:copy_(is_transposed(p.name) and t:transpose(1, 2) or t)
    end)
  end
end

--- Writes a model's weights as transformers' own GPT-2 files have them: no buffers, no second copy of a tied head. To a
--- folder goes model.safetensors, with the config.json that transformers needs beside it; weights of more than max_shard_size
--- are cut into shards there, "model-00001-of-00003.safetensors", with their index.
---@param model table a model of mb.models.gpt2
---@param path string a file, or a folder: one that is there, or a name that ends in "/"
---@param given? { prefix?: boolean, max_shard_size?: integer|string } prefix: names begin with "transformer.", as in files
--- saved from GPT2LMHeadModel; max_shard_size: bytes, or "5GB", "200MB"
function M.save(model, path, given)
  local o = options.check("save_hf", given, { prefix = { type = "boolean", default = false },
                                              max_shard_size = { type = "number|string" } })
  local most = o.max_shard_size and sources.bytes_of("save_hf", o.max_shard_size) or math.huge
  local list, tensors = {}, {}
  for i, p in ipairs(model:parameters()) do
    local t = p.value:detach()
    local name = o.prefix and p.name ~= HEAD and PREFIX .. p.name or p.name
    tensors[name] = is_transposed(p.name) and t:transpose(1, 2) or t
    list[i] = { name = name, tensor = tensors[name] }
  end
  local folder = (path:match "/$" or system.path_kind(path) == "folder") and path:gsub("/+$", "")
  if folder then
    system.make_folder(folder)
    require("moonbow.models.gpt2_config").save_hf(model.config, folder .. "/config.json")
    sources.save(folder, list, most)
    return
  end
  if o.max_shard_size then
    options.fail("save_hf: '%s' is a file; option 'max_shard_size' needs a folder, a name that ends in '/'", path)
  end
  safetensors.save(path, tensors, { format = "pt" })
end

return M
