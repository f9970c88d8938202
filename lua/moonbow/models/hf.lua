-- SPDX-License-Identifier: MIT
--
-- hf.lua: weights of GPT-2 as Hugging Face's transformers keeps them (GPT2LMHeadModel, safetensors).
--
-- Its names are ours, with or without "transformer." in front. Its Conv1D layers hold their matrices as
-- [in, out], so these are transposed on the way. Causal masks ("attn.bias", "attn.masked_bias") are buffers,
-- not weights. "lm_head.weight" is the token embedding again, and must be the same numbers.
-- A file is checked whole before the first weight changes.

local options = require "moonbow.options"
local safetensors = require "moonbow.io.safetensors"

local M = {}

local PREFIX = "transformer."
local conv1d = { ["attn.c_attn.weight"] = true, ["attn.c_proj.weight"] = true, ["mlp.c_fc.weight"] = true,
                 ["mlp.c_proj.weight"] = true }
local buffers = { ["attn.bias"] = true, ["attn.masked_bias"] = true }

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

-- The file's weights by our names, its head apart.
local function by_our_names(fail, tensors)
  local weights, head = {}, nil
  for file_name, t in pairs(tensors) do
    local name = file_name
    if name:sub(1, #PREFIX) == PREFIX then name = name:sub(#PREFIX + 1) end
    if name == "lm_head.weight" then
      head = t
    elseif not buffers[within_block(name)] then
      if weights[name] then fail("it holds '%s' twice, with and without '%s'", name, PREFIX) end
      weights[name] = t
    end
  end
  return weights, head
end

local function check_weight(fail, p, t)
  local expected = shape_text(file_shape(p))
  if not t then fail("tensor '%s' is missing, shape %s was expected", p.name, expected) end
  local found = shape_text(t.shape)
  if found ~= expected then
    fail("tensor '%s' has shape %s, the model needs %s", p.name, found, expected)
  end
  if t.dtype ~= "f32" and t.dtype ~= "f64" then
    fail("tensor '%s' is %s, floating numbers were expected", p.name, t.dtype)
  end
end

local function check_head(fail, head, wte)
  if not head then return end
  local found, expected = shape_text(head.shape), shape_text(wte.shape)
  if found ~= expected or head.dtype ~= wte.dtype or not head:equal(wte) then
    fail("'lm_head.weight' (%s %s) differs from 'wte.weight' (%s %s): this model ties the two", head.dtype, found,
      wte.dtype, expected)
  end
end

--- Sets a model's weights from a file. Raises an error, and changes nothing, if names, shapes or element types
--- do not fit.
---@param model table a model of mb.models.gpt2
---@param path string
function M.load(model, path)
  local function fail(format, ...) options.fail("load_hf: '%s': " .. format, path, ...) end
  local weights, head = by_our_names(fail, (safetensors.load(path)))
  local parameters = model:parameters()
  local expected = {}
  for _, p in ipairs(parameters) do
    expected[p.name] = true
    check_weight(fail, p, weights[p.name])
  end
  local unknown = {}
  for name in pairs(weights) do
    if not expected[name] then unknown[#unknown + 1] = name end
  end
  table.sort(unknown)
  if #unknown > 0 then
    fail("tensor '%s' has no place in this model%s", unknown[1],
      #unknown > 1 and (", nor have %d others"):format(#unknown - 1) or "")
  end
  check_head(fail, head, weights["wte.weight"])
  for _, p in ipairs(parameters) do
    local t = weights[p.name]
    p.value:copy_(is_transposed(p.name) and t:transpose(1, 2) or t)
  end
end

--- Writes a model's weights as transformers' own GPT-2 files have them: no prefix, no buffers, no second copy of
--- the tied head.
---@param model table a model of mb.models.gpt2
---@param path string
function M.save(model, path)
  local tensors = {}
  for _, p in ipairs(model:parameters()) do
    local t = p.value:detach()
    tensors[p.name] = is_transposed(p.name) and t:transpose(1, 2):contiguous() or t
  end
  safetensors.save(path, tensors, { format = "pt" })
end

return M
