-- SPDX-License-Identifier: MIT
--
-- llmc.lua: GPT-2 as llm.c (github.com/karpathy/llm.c) keeps it, "model_00000100.bin": 256 int32, little-endian,
--
--   20240326, version, block_size T, vocab_size V, n_layer L, n_head, n_embd C, padded vocabulary Vp, then zeros
--
-- and the weights without gaps, float32 in version 3, bfloat16 in version 5. Matrices are [out, in], as here; each kind
-- of a block's parameters comes for all layers before the next kind. The token embedding has Vp rows, of which those
-- from V on belong to no token. There is no head: it is tied. A file is checked whole before the first weight changes.

local create = require "bindings.create"
local handle = require "bindings.handle"
local options = require "moonbow.options"
local system = require "bindings.system"
local writing = require "moonbow.io.writing"

local M = {}

M.MAGIC = 20240326
local HEADER_BYTES, PAD_TO = 1024, 128
local dtype_of, version_of, size_of = { [3] = "f32", [5] = "bf16" }, { f32 = 3, bf16 = 5 }, { f32 = 4, bf16 = 2 }
local fields = { "block_size", "vocab_size", "n_layer", "n_head", "n_embd", "padded_vocab_size" }
local same = { "block_size", "vocab_size", "n_layer", "n_head", "n_embd" } -- what a model must have in common
local kinds = { "ln_1.weight", "ln_1.bias", "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight",
                "attn.c_proj.bias", "ln_2.weight", "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias",
                "mlp.c_proj.weight", "mlp.c_proj.bias" }
local others = { [20240520] = "a shard of tokens", [20240522] = "an evaluation set", [20240327] = "a debug state",
                 [20240328] = "a tokenizer", [20240527] = "an optimizer's state", [20240801] = "a shard of Llama tokens" }

-- ----- the header ---------------------------------------------------------------------------------------

-- int32 number `index` (from 0) of a text.
local function int32(text, index)
  local a, b, c, d = text:byte(4 * index + 1, 4 * index + 4)
  local value = a + 256 * (b + 256 * (c + 256 * d))
  return value < 2 ^ 31 and value or value - 2 ^ 32
end

-- The same as four bytes.
local function int32_text(value)
  local bytes = {}
  for i = 1, 4 do
    bytes[i] = string.char(value % 256)
    value = math.floor(value / 256)
  end
  return table.concat(bytes)
end

--- The first int32 of a file, or nil if it is shorter.
---@param path string
---@return integer?
function M.magic(path)
  local file = io.open(path, "rb")
  local text = file and file:read(4)
  if file then file:close() end
  return text and #text == 4 and int32(text, 0) or nil
end

-- Weights of a file in bytes, as a double: sizes of 31 bits each do not overflow it.
local function weight_bytes(h)
  local C = h.n_embd
  local block = 12 * C * C + 13 * C
  return size_of[h.dtype] * (h.padded_vocab_size * C + h.block_size * C + h.n_layer * block + 2 * C)
end

local function check_sizes(fail, h)
  for _, name in ipairs(fields) do
    if h[name] < 1 then fail("its header says %s = %d", name, h[name]) end
  end
  if h.vocab_size > h.padded_vocab_size then
    fail("its header says vocab_size = %d and padded_vocab_size = %d, which is less", h.vocab_size, h.padded_vocab_size)
  end
  if h.n_embd % h.n_head ~= 0 then
    fail("its header says n_embd = %d, which n_head = %d does not divide", h.n_embd, h.n_head)
  end
end

---@class moonbow.LlmcHeader
---@field version integer
---@field dtype "f32"|"bf16"
---@field block_size integer
---@field vocab_size integer
---@field n_layer integer
---@field n_head integer
---@field n_embd integer
---@field padded_vocab_size integer

--- What a file's header says, once it fits the file's size.
---@param path string
---@return moonbow.LlmcHeader
function M.inspect(path)
  local function fail(format, ...) options.fail("load_llmc: '%s': " .. format, path, ...) end
  local size = system.path_size(path)
  if size < HEADER_BYTES then fail("the file has %d bytes, its header alone takes %d", size, HEADER_BYTES) end
  local file, problem = io.open(path, "rb")
  local text = file and file:read(HEADER_BYTES)
  if file then file:close() end
  if not text or #text < HEADER_BYTES then fail("cannot read: %s", tostring(problem or "the file is shorter now")) end
  local magic, version = int32(text, 0), int32(text, 1)
  if magic ~= M.MAGIC then
    fail("it begins with %d, %d was expected%s", magic, M.MAGIC, others[magic] and ": it is " .. others[magic] or "")
  end
  local h = { version = version, dtype = dtype_of[version] }
  if not h.dtype then fail("it has version %d; 3 (float32) and 5 (bfloat16) are read", version) end
  for i, name in ipairs(fields) do h[name] = int32(text, i + 1) end
  check_sizes(fail, h)
  local expected = HEADER_BYTES + weight_bytes(h)
  if size ~= expected then
    fail("the file has %.0f bytes; %d layers of width %d, %d positions and %d rows of %s take %.0f", size, h.n_layer,
      h.n_embd, h.block_size, h.padded_vocab_size, h.dtype, expected)
  end
  return h
end

-- ----- load and save ------------------------------------------------------------------------------------

-- Names of a model's parameters in the order of the file.
local function in_file_order(n_layer)
  local names = { "wte.weight", "wpe.weight" }
  for _, kind in ipairs(kinds) do
    for layer = 0, n_layer - 1 do names[#names + 1] = ("h.%d.%s"):format(layer, kind) end
  end
  names[#names + 1] = "ln_f.weight"
  names[#names + 1] = "ln_f.bias"
  return names
end

--- Sets a model's weights from a file. Raises an error, and changes nothing, if the file is not as long as its
--- header says or is of another shape. A model with a head of its own takes the token embedding for it.
---@param model table a model of mb.models.gpt2
---@param path string
function M.load(model, path)
  local h = M.inspect(path)
  for _, name in ipairs(same) do
    if h[name] ~= model.config[name] then
      options.fail("load_llmc: '%s': %s is %d, the model has %d", path, name, h[name], model.config[name])
    end
  end
  local offset = HEADER_BYTES
  for _, name in ipairs(in_file_order(h.n_layer)) do
    local value = model:parameter(name).value
    handle.scope(function()
      value:copy_(system.read_tensor(create.empty(value.shape, h.dtype, "cpu"), path, offset))
    end)
    local rows = name == "wte.weight" and h.padded_vocab_size * h.n_embd or value.numel
    offset = offset + rows * size_of[h.dtype]
  end
  if not model.config.tied then
    model:parameter("lm_head.weight").value:copy_(model:parameter("wte.weight").value:detach())
  end
end

--- Writes a model as llm.c does, the vocabulary padded with rows of zeros to a multiple of 128. The file appears whole
--- or not at all.
---@param model table a model of mb.models.gpt2
---@param path string
---@param given? { dtype?: "f32"|"bf16" } default "f32": version 3; "bf16": version 5
function M.save(model, path, given)
  local o = options.check("save_llmc", given, { dtype = { choices = { "f32", "bf16" }, default = "f32" } })
  local c = model.config
  if not c.tied then options.fail("save_llmc: '%s': llm.c ties the head, this model has tied = false", path) end
  local padded = math.ceil(c.vocab_size / PAD_TO) * PAD_TO
  local header = { M.MAGIC, version_of[o.dtype], c.block_size, c.vocab_size, c.n_layer, c.n_head, c.n_embd, padded }
  for i = 1, HEADER_BYTES / 4 do header[i] = int32_text(header[i] or 0) end
  writing.whole_file(path, function(aside)
    writing.text(aside, table.concat(header))
    for _, name in ipairs(in_file_order(c.n_layer)) do
      handle.scope(function()
        system.append_tensor(model:parameter(name).value:detach():to(o.dtype), aside)
        if name == "wte.weight" and padded > c.vocab_size then
          system.append_tensor(create.full({ padded - c.vocab_size, c.n_embd }, 0, o.dtype, "cpu"), aside)
        end
      end)
    end
  end)
end

return M
