-- SPDX-License-Identifier: MIT
--
-- memory.lua: what a run of a GPT needs of its device's memory, before anything is made: a table of parts, whether it fits,
-- and what to change when it does not.
--
-- With N = B T tokens a micro-batch, C the width, H heads, V the vocabulary, e bytes a number (4, bf16: 2), the tape keeps
-- for GPT-2 (models/gpt2.c)
--
--   16 N C e + 4 N H + 16 N    for each block: inputs and outputs of its two norms, qkv, attention's output and its
--                              row statistics, GELU's input and output (with bf16 its input alone: 12 N C e)
--    2 N C e + 8 N             the last norm's input and output
--
-- and for the modern GPT (models/gpt_modern.c)
--
--   18 N C e + 12 N H + 8 N    for each block: inputs and outputs of its two norms, q and k before their norms and after
--                              their rotation, v, attention's output, relu's output and its square; statistics
--    3 N C e + 8 N             the first norm's input, the last one's input and output
--
-- and for both
--
--      N V' e + 16 N           logits, over which their gradient is written, and the loss' statistics; V' e is V e made a
--                              multiple of 128. In chunks those of one chunk, and the head's gradients N C e + 4 V C
--    2 W                       with bf16: all W weights as the network computes with them
--
-- The largest of these lies beside it for a moment, dropout adding N C e to the second:
--
--   N C e                      the head's input gradient
--   3 N C e - N V' e           logits and last norm gone, gradients of the last block's half: C, 4 C
--                              (in chunks the head's gradients are gone as well)
--
-- Memory that clipping takes after the backward lies where activations were: it counts where it is more than those.
--
-- A graph (--graph) keeps every block that it was captured with, and uses one again for its own size alone (up to a quarter
-- more), so that nothing lies where something else was:
--
--   9 N C e                    gradients of the last block that no activation has made room for: 4 C in the MLP, in GPT-2
--                              3 C of qkv, C, and the head's C; 6 N C e in the modern GPT
--
-- and what clipping and updates of whole matrices take for a moment (of SOAP, Shampoo, MuCon it is not counted). Blocks are
-- counted as large as they are: up to 1 MiB in steps of a quarter, above of a thirty-second. Where logits happen to be of a
-- size that is needed again it is less: this is the most it can be.

local format = require "moonbow.report.format"

local M = {}

local MIB = 2 ^ 20
-- What operations keep for themselves: cuBLASLt's workspace on cuda; sums of blocks and packed panels.
local WORK = { cpu = 2 * MIB, cuda = 34 * MIB }
-- Of the (T, T) matrices that cuDNN's reproducible gradient of attention keeps, for as many sequences as are worked on at once.
local SQUARES = 400 * MIB
-- Buffers of an iteration on whole matrices, in copies of the largest group.
local COPIES = { polar = 3.5, soft = 3 }

-- The most that an update of whole matrices works with beside a graph, in copies of all matrices of the blocks.
local UPDATES = {
  muon = 2.75, scion = 1.25, scion_light = 1.25, clipped_scion = 2, ggnc = 2, spectral_descent = 3.25,
}

-- By model: numbers of width C that the tape keeps for a token of a block, with bf16 and outside the blocks; bytes of a
-- block's statistics for a token; the matrices of a block (out, in) in units of C, and its vectors; positions with weights;
-- gradients of a block, in units of N C e, for which a graph has room of its own.
local networks = {
  gpt2 = {
    kept = 16, kept_half = 12, outside = 2, statistics = function(H) return 4 * H + 16 end, of_graphs = { 4, 3, 1 },
    matrices = { { 3, 1 }, { 1, 1 }, { 4, 1 }, { 1, 4 } }, vectors = 13, outer_vectors = 2, positions = true,
  },
  gpt_modern = {
    kept = 18, kept_half = 18, outside = 3, statistics = function(H) return 12 * H + 8 end, of_graphs = { 4, 1 },
    matrices = { { 1, 1 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, { 4, 1 }, { 1, 4 } }, vectors = 0, outer_vectors = 0, positions = false,
  },
}

---@class moonbow.MemoryNeeds
---@field model "gpt2"|"gpt_modern"
---@field vocab_size integer
---@field block_size integer
---@field batch_size integer
---@field n_layer integer
---@field n_head integer
---@field n_embd integer
---@field dropout number
---@field dtype "f32"|"bf16"
---@field head_chunks? integer the loss' chunks of tokens; default 1
---@field recompute? boolean GELUs are computed again; default: with bf16, as of the models
---@field states integer buffers of the optimizer
---@field optimizer? string its name
---@field clip "none"|"norm"|"spectral"
---@field clip_on "grad"|"momentum"|"update"
---@field method "exact"|"randomized"|"polar"|"soft"
---@field rank integer|"auto"
---@field oversample integer
---@field cudnn? "fixed order"|"any order" attention may take it
---@field graphs? boolean steps are captured

-- Are GELUs computed again?
local function recomputes(s)
  if s.recompute == nil then return s.dtype == "bf16" end
  return s.recompute
end

-- Bytes that spectral clipping keeps from step to step, and those it takes for the time of a step.
local function clipping(s)
  if s.clip ~= "spectral" then return 0, 0 end
  local kept, moment = 0, 0
  for _, matrix in ipairs(networks[s.model].matrices) do
    local m, n = matrix[1] * s.n_embd, matrix[2] * s.n_embd
    local k = math.min(m, n)
    local q = s.rank == "auto" and k or s.rank + s.oversample
    if COPIES[s.method] then
      moment = math.max(moment, COPIES[s.method] * 4 * s.n_layer * m * n)
    elseif s.method == "randomized" and q < (k + 1) / 2 then
      kept = kept + 4 * s.n_layer * (q * (2 * n + m) + s.rank * n)
      moment = moment + 4 * s.n_layer * s.rank * n
    else
      kept = kept + 8 * s.n_layer * (k + 4) * k
      moment = math.max(moment, 12 * s.n_layer * k * k + 8 * m * n)
    end
  end
  return kept, moment
end

-- What a block of so many bytes takes (engine/core/blocks.c).
local function block_of(bytes)
  if bytes <= 0 then return 0 end
  local _, exponent = math.frexp(bytes) -- bytes < 2^exponent
  local step = 2 ^ (exponent - (bytes <= MIB and 3 or 6))
  return math.ceil(bytes / step) * step
end

-- The same of `count` equal ones.
local function blocks_of(bytes, count) return count * block_of(bytes / count) end

-- What cuDNN's attention works with, should it be chosen: in whole slices of the batch (attention_choice.cu), sums of rows.
local function attention(s)
  if not s.cudnn or s.dtype ~= "bf16" then return 0 end
  local B, T, H = s.batch_size, s.block_size, s.n_head
  if s.cudnn == "any order" then return 4 * B * T * (H + s.n_embd) end
  local slices = 1
  while slices < B and (B % slices > 0 or B / slices * 2 * H * T * T > SQUARES) do slices = slices + 1 end
  local tiles = math.ceil(T / 64) * 64
  return B / slices * (2 * H * tiles * tiles + 4 * H * T)
end

-- The most that captured graphs keep beyond a plain step, whose parts these are.
local function graphs(s, network, plain)
  local unit = s.batch_size * s.block_size * s.n_embd * (s.dtype == "bf16" and 2 or 4)
  local one, four = block_of(unit), block_of(4 * unit)
  local fours = plain.kept_numbers == network.kept and 2 or 1
  local three = s.model == "gpt2" and 1 or 0
  local single = plain.kept_numbers - 4 * fours - 3 * three
  local layer = single * one + fours * four + three * block_of(3 * unit) + blocks_of(plain.statistics, 4)
  local all = s.n_layer * layer + network.outside * one + blocks_of(plain.layers - s.n_layer * plain.layer
    - network.outside * unit, 2)
  all = all + (2 + s.states) * block_of(4 * plain.weights) + blocks_of(plain.casts, 4 * s.n_layer + 1) + block_of(plain.logits)
    + block_of(plain.early) + plain.head + plain.moment + (UPDATES[s.optimizer] or 0) * 48 * s.n_layer * s.n_embd ^ 2
  for _, times in ipairs(network.of_graphs) do all = all + block_of(times * unit) end
  return all - plain.layers - (2 + s.states) * 4 * plain.weights - plain.casts - plain.logits - plain.early - plain.passing
end

---The parts of a run's memory at its fullest moment, in bytes.
---@param s moonbow.MemoryNeeds
---@param device "cpu"|"cuda"
---@return { parts: { name: string, bytes: number }[], total: number, weights: integer }
function M.needs(s, device)
  local B, T, C, L, V, H = s.batch_size, s.block_size, s.n_embd, s.n_layer, s.vocab_size, s.n_head
  local N, half = B * T, s.dtype == "bf16"
  local e = half and 2 or 4
  local network = networks[s.model]
  local block = 12 * C * C + network.vectors * C
  local weights = V * C + (network.positions and T * C or 0) + L * block + network.outer_vectors * C
  local on_update = s.clip ~= "none" and s.clip_on ~= "grad"
  local kept, moment = clipping(s)
  local kept_numbers = recomputes(s) and network.kept_half or network.kept
  local layer = kept_numbers * N * C * e + network.statistics(H) * N
  local layers = L * layer + network.outside * N * C * e + 8 * N
  local chunks = s.head_chunks or 1
  local at_once = chunks >= N and 1 or math.ceil(N / chunks)
  local logits = at_once * math.ceil(V * e / 128) * 128 + 16 * N
  local early = chunks > 1 and N * C * e + 4 * V * C or 0 -- gradients that the loss finds
  local casts = half and 2 * weights or 0
  local head = chunks > 1 and 0 or N * C * e
  local inner = (s.dropout > 0 and 4 or 3) * N * C * e - (logits - 16 * N) - early
  local passing = math.max(head, inner, 0)
  passing = math.max(passing, moment - layers - logits - early - casts)
  local parts = {
    { name = "weights", bytes = 4 * weights },
    { name = "gradients", bytes = 4 * weights },
    { name = ("states of the optimizer (%d)"):format(s.states), bytes = 4 * weights * s.states },
    { name = "clipping", bytes = kept + (on_update and 4 * weights or 0) },
    { name = ("activations of %d layers"):format(L), bytes = layers },
    { name = "weights in bf16", bytes = casts },
    { name = chunks > 1 and ("logits of a chunk of %d tokens, loss"):format(at_once) or "logits and loss", bytes = logits },
    { name = "gradients that the loss finds", bytes = early },
    { name = "gradients on their way", bytes = passing },
    { name = "kept for graphs, at most", bytes = s.graphs and graphs(s, network, {
      weights = weights, kept_numbers = kept_numbers, layer = layer, statistics = network.statistics(H) * N, layers = layers,
      casts = casts, logits = logits, early = early, head = head, moment = moment, passing = passing,
    }) or 0 },
    { name = "work memory", bytes = WORK[device] + attention(s) },
  }
  local total = 0
  for i = #parts, 1, -1 do
    total = total + parts[i].bytes
    if parts[i].bytes == 0 then table.remove(parts, i) end
  end
  return { parts = parts, total = total, weights = weights }
end

-- A copy of the needs with some changed.
local function with(s, changes)
  local copy = {}
  for name, value in pairs(s) do copy[name] = value end
  for name, value in pairs(changes) do copy[name] = value end
  return copy
end

-- The largest value up to `most` of a size with which the run fits, or nil.
local function largest(s, device, free, name, most)
  local low, high = 0, most
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if M.needs(with(s, { [name] = middle }), device).total <= free then low = middle else high = middle - 1 end
  end
  return low > 0 and low or nil
end

---What makes a run that needs more than `free` bytes fit, one change a line.
---@param s moonbow.MemoryNeeds
---@param device "cpu"|"cuda"
---@param free number
---@param grad_accum integer
---@return string[]
function M.advice(s, device, free, grad_accum)
  local lines = {}
  local function add(format_text, ...) lines[#lines + 1] = format_text:format(...) end
  local B = largest(s, device, free, "batch_size", s.batch_size - 1)
  if B then
    add("--batch_size %d --grad_accum %d: as many sequences a step, in smaller batches", B,
      math.ceil(s.batch_size * grad_accum / B))
  end
  if device == "cuda" and s.dtype == "f32" then
    local half = with(s, { dtype = "bf16" })
    local total = M.needs(half, device).total
    local fewer = total > free and largest(half, device, free, "batch_size", s.batch_size - 1)
    if total <= free then
      add("--dtype bf16: %s", format.bytes(total))
    elseif fewer and fewer > (B or 0) then
      add("--dtype bf16 --batch_size %d --grad_accum %d", fewer, math.ceil(s.batch_size * grad_accum / fewer))
    end
  end
  if s.model == "gpt2" and not recomputes(s) then
    local total = M.needs(with(s, { recompute = true }), device).total
    if total <= free then add("--recompute on: %s, GELUs computed again in the backward", format.bytes(total)) end
  end
  for _, chunks in ipairs { 2, 4, 8, 16, 32 } do
    local total = chunks > (s.head_chunks or 1) and M.needs(with(s, { head_chunks = chunks }), device).total
    if total and total <= free then
      add("--head_chunks %d: %s, the loss a part of the tokens after another", chunks, format.bytes(total))
      break
    end
  end
  local plain = s.graphs and M.needs(with(s, { graphs = false }), device).total
  if plain and plain <= free then add("--graph off: %s", format.bytes(plain)) end
  local T = largest(s, device, free, "block_size", s.block_size - 1)
  if T then add("--block_size %d: a shorter context", T > 64 and T - T % 64 or T) end
  if #lines == 0 then
    local least = M.needs(with(s, { batch_size = 1 }), device).total
    add("a smaller model (--n_layer, --n_embd) or another device: with --batch_size 1 it is %s", format.bytes(least))
  end
  return lines
end

---The table of parts with the total and what is free.
---@param needs { parts: { name: string, bytes: number }[], total: number }
---@param device string
---@param memory { bytes_free: number, bytes_total: number, bytes_limit: number }
---@return string
function M.table(needs, device, memory)
  local rows = {}
  for i, part in ipairs(needs.parts) do rows[i] = { "  " .. part.name, format.bytes(part.bytes) } end
  rows[#rows + 1] = { "  in all", format.bytes(needs.total) }
  rows[#rows + 1] = { ("  free on %s"):format(device), ("%s of %s"):format(format.bytes(memory.bytes_free),
    format.bytes(memory.bytes_limit > 0 and memory.bytes_limit or memory.bytes_total)) }
  return format.columns(rows, { [2] = true })
end

return M
