-- SPDX-License-Identifier: MIT
--
-- generate.lua: text from a language model, token by token, in evaluation mode.
--
-- Keys and values of the tokens so far are kept (mb_gpt2_next and its like), so that a token costs one row of every
-- product and one query over the past. A model has block_size positions: the context is a window of tokens, and when it
-- is full it begins again with its last half, which is read anew. So a token sees between block_size / 2 and block_size
-- tokens, and a text of any length costs the same a token. cache = false computes the window whole for each token, the
-- plain way to the same numbers.

local create = require "moonbow.create"
local handle = require "bindings.handle"
local options = require "moonbow.options"
local rng = require "bindings.create"
local sampling = require "moonbow.models.sampling"
local types = require "bindings.types"

local spec = {
  max_tokens = { type = "integer", default = 100, min = 0 },
  temperature = { type = "number", default = 1, min = 0 },
  top_k = { type = "integer", min = 1 },
  top_p = { type = "number", above = 0, max = 1 },
  seed = { type = "integer", min = 0 },
  cache = { type = "boolean", default = true },
  on_token = { type = "function" },
}

-- The prompt as an array of ids.
local function prompt_of(tokens)
  if types.is_tensor(tokens) then tokens = tokens:reshape(-1):totable() end
  options.value("model:generate", "the prompt", tokens, { type = "table" })
  if #tokens == 0 then options.fail("model:generate: the prompt is empty, at least one token is needed") end
  local ids = {}
  for i, id in ipairs(tokens) do
    options.value("model:generate", ("token %d of the prompt"):format(i), id, { type = "integer", min = 0 })
    ids[i] = id
  end
  return ids
end

-- Numbers in [0, 1): of a seed, or of the generator's next stream.
local function uniforms(count, seed)
  if count == 0 then return {} end
  if not seed then return rng.uniform({ count }, 0, 1, "f64", "cpu"):totable() end
  local words = rng.rng_words(count, seed, 0, 0)
  for i = 1, count do words[i] = words[i] / 2 ^ 32 end
  return words
end

-- Tokens before the window when there are n in all: as before, until the window would be longer than the block.
local function window_start(n, start, block)
  if n - start <= block then return start end
  return n - math.max(1, math.floor(block / 2))
end

-- ids[from .. to] as a batch of one.
local function batch_of(self, ids, from, to)
  local part = {}
  for i = from, to do part[#part + 1] = ids[i] end
  return create.ids({ part }, self.device)
end

-- A function that gives the logits of the token after ids; what it has seen before, it does not compute again.
local function with_cache(self)
  local network = self.network
  local cache, start, seen = network.cache(self.handle, 1), 0, 0
  return function(ids)
    local now = window_start(#ids, start, self.config.block_size)
    if now ~= start then start, seen = now, now end
    local logits = network.next(self.handle, cache, seen - start, batch_of(self, ids, seen + 1, #ids))
    seen = #ids
    return logits
  end
end

local function without_cache(self)
  local start = 0
  return function(ids)
    start = window_start(#ids, start, self.config.block_size)
    return self.network.logits(self.handle, batch_of(self, ids, start + 1, #ids)):slice(2, -1)
  end
end

---@class moonbow.GenerateOptions
---@field max_tokens? integer default 100
---@field temperature? number logits are divided by it; default 1, 0 takes the likeliest
---@field top_k? integer
---@field top_p? number
---@field seed? integer
---@field cache? boolean keys and values are kept; default true
---@field on_token? fun(id: integer): boolean?

--- Continues a prompt. temperature 0 always takes the likeliest token; top_k draws from the k likeliest only, top_p from
--- the fewest whose share is p. The same seed gives the same tokens; without one, the random numbers are the
--- generator's next. on_token(id) is called with every new token as it comes, and ends the text by returning true.
---@param self moonbow.Model
---@param tokens integer[]|moonbow.Tensor prompt, ids from 0
---@param given? moonbow.GenerateOptions
---@return integer[] ids the prompt and what follows
return function(self, tokens, given)
  local o = options.check("model:generate", given, spec)
  local ids = prompt_of(tokens)
  local u = uniforms(o.max_tokens, o.seed)
  if o.max_tokens == 0 then return ids end
  self:eval(handle.no_grad, function()
    local next_logits = (o.cache and with_cache or without_cache)(self)
    for i = 1, o.max_tokens do
      local id = handle.scope(function() return sampling.draw(next_logits(ids), o, u[i]) end)
      ids[#ids + 1] = id
      if o.on_token and o.on_token(id) then break end
    end
  end)
  return ids
end
