-- SPDX-License-Identifier: MIT
--
-- speed.lua: what a run on a GPU says of its speed: where the time to its first step went, and the share of the GPU's peak
-- (model FLOP utilisation) that training reaches, by a formula that is named.

local M = {}

---@class moonbow.Start parts of the time until the first step is done
local Start = {}
Start.__index = Start

---Begins to take the time.
---@param clock fun(): number
---@return moonbow.Start
function M.start(clock)
  local now = clock()
  return setmetatable({ clock = clock, begun = now, last = now, parts = {} }, Start)
end

---What has been done since the last part, or the beginning.
---@param name string
function Start:part(name)
  local now = self.clock()
  self.parts[#self.parts + 1] = { name = name, seconds = now - self.last }
  self.last = now
end

---@return string text "3.1 s to the end of the first step: device 0.9, data 0.1, model 0.2, step 1.9"
function Start:text()
  local texts = {}
  for i, part in ipairs(self.parts) do texts[i] = ("%s %.1f"):format(part.name, part.seconds) end
  return ("%.1f s to the end of the first step: %s"):format(self.last - self.begun, table.concat(texts, ", "))
end

---Operations that training on a token takes, by llm.c's formula 6 N + 6 L C T: N parameters without position embeddings, a
---causal attention's products at half.
---@param model moonbow.Model
---@param settings { n_layer: integer, n_embd: integer, block_size: integer }
---@return number
function M.flops_of_token(model, settings)
  local n = 0
  for _, p in ipairs(model:parameters()) do
    if not p.name:find("wpe", 1, true) then
      local count = 1
      for _, size in ipairs(p.shape) do count = count * size end
      n = n + count
    end
  end
  return 6 * n + 6 * settings.n_layer * settings.n_embd * settings.block_size
end

---The share of a device's peak, or nil where the device does not say what that is.
---@param tokens_per_second number
---@param flops_of_token number
---@param info moonbow.DeviceInfo
---@param dtype "f32"|"bf16" what the model computes with
---@return string?
function M.share(tokens_per_second, flops_of_token, info, dtype)
  local peak = info.peak[dtype]
  if not peak then return nil end
  return ("%.1f %% of %s's %.0f TFLOP/s in %s (%d SMs at %.2f GHz), by 6 N + 6 L C T = %.1f MFLOP a token"):format(
    100 * tokens_per_second * flops_of_token / peak, info.name, peak / 1e12, dtype, info.multiprocessors, info.clock / 1e9,
    flops_of_token / 1e6)
end

return M
