-- SPDX-License-Identifier: MIT
--
-- gpt2.lua: mb.clip.spectral over the 48 matrices of GPT-2 124M, 12 x {2304 x 768, 768 x 768, 3072 x 768, 768 x 3072}, by a
-- sketch; every matrix is clipped, all r directions found are changed. Beside it a loop over torch.svd_lowrank.
--
-- Two floors, both measured in the same rounds:
--   streaming   one pass over G a round and one at the end, and the update, which reads and writes G: power_iters + 3
--               times the matrices' bytes, at the rate of a copy of all 48 (which moves 2)
--   arithmetic  4 m n q a pass (X G^T and its product with G) and 2 m n r for the update, at the best rate of a product

local timing = require "scripts.bench.spectral.timing"

local M = {}
M.__index = M

local settings = {
  { rank = 8, oversample = 5, power_iters = 1 },
  { rank = 64, oversample = 10, power_iters = 2 },
}
-- Of --quick, for matrices of 32 columns and more.
local small = { { rank = 4, oversample = 2, power_iters = 1 }, { rank = 8, oversample = 2, power_iters = 2 } }

local function name_of(o) return ("r=%d p=%d it=%d"):format(o.rank, o.oversample, o.power_iters) end

function M.new(context)
  local mb, s = context.mb, context.settings
  local width = s.quick and 32 or 768
  local self = setmetatable({ mb = mb, context = context, width = width, layers = s.quick and 2 or 12,
    tau = 0.5 * width ^ 0.5, matrices = {}, times = {}, copies = {}, bytes = 0, settings = s.quick and small or settings }, M)
  self.model = mb.models.gpt2 { vocab_size = 16, block_size = 16, n_layer = self.layers, n_head = 4, n_embd = width,
    dropout = 0 }
  for _, p in ipairs(self.model:parameters()) do
    if p.role == "matrix" then
      p.grad:randn_()
      self.matrices[#self.matrices + 1] = { grad = p.grad, kept = p.grad:clone(), m = p.shape[1], n = p.shape[2] }
      self.bytes = self.bytes + 4 * p.grad.numel
    end
  end
  for _, o in ipairs(self.settings) do
    o.name = name_of(o)
    o.clip = mb.clip.spectral { threshold = self.tau, where = function(p) return p.role == "matrix" end, method = "randomized",
      rank = o.rank, oversample = o.oversample, power_iters = o.power_iters }
  end
  return self
end

-- Puts the gradients back as they were; returns the seconds of that copy.
local function restore(self)
  local start = self.context.now()
  for _, matrix in ipairs(self.matrices) do matrix.grad:copy_(matrix.kept) end
  return self.context.now() - start
end

function M:ours()
  self.peak = self.context.measure_products()
  for _, o in ipairs(self.settings) do
    for pass = 0, 3 do
      local copied = restore(self)
      local start = self.context.now()
      local report = o.clip(self.model)
      local seconds = self.context.now() - start
      for _, row in ipairs(report) do assert(row.clipped, row.name .. " was not clipped") end
      if pass > 0 then -- the first one makes buffers
        timing.push(self.times, o.name, seconds)
        table.insert(self.copies, copied)
      end
    end
  end
end

function M:request()
  local shapes, list = {}, {}
  for i, matrix in ipairs(self.matrices) do shapes[i] = { matrix.m, matrix.n } end
  for i, o in ipairs(self.settings) do
    list[i] = { name = o.name, rank = o.rank, oversample = o.oversample, power_iters = o.power_iters }
  end
  return { part = "gpt2", shapes = shapes, settings = list, tau = self.tau, passes = 1 }
end

function M:theirs(peer, answer) -- luacheck: ignore 212/self
  peer.gpt2 = peer.gpt2 or {}
  for name, seconds in pairs(answer.seconds) do
    for _, value in ipairs(seconds) do timing.push(peer.gpt2, name, value) end
  end
end

local function flops_of(self, o)
  local sum = 0
  for _, matrix in ipairs(self.matrices) do
    local q = math.min(o.rank + o.oversample, matrix.m, matrix.n)
    sum = sum + matrix.m * matrix.n * (4 * q * (o.power_iters + 1) + 2 * o.rank)
  end
  return sum
end

function M:report(peers)
  local copy = timing.median(self.copies)
  local rows = { { "", "time", "GB moved", "GB/s", "streaming", "ratio", "GFLOP", "arithmetic", "share" } }
  local record = { matrices = #self.matrices, bytes = self.bytes, copy_seconds = copy, product_rate = self.peak, entries = {} }
  local series = { { name = "moonbow", values = {} } }
  for i, peer in ipairs(peers) do
    rows[1][#rows[1] + 1], rows[1][#rows[1] + 2] = peer.name, "faster"
    series[i + 1] = { name = peer.name, values = {} }
  end
  local groups, floors = {}, { name = "streaming floor", values = {} }
  for i, o in ipairs(self.settings) do
    local seconds, moved, flops = timing.median(self.times[o.name]), self.bytes * (o.power_iters + 3), flops_of(self, o)
    local streaming, arithmetic = copy * (o.power_iters + 3) / 2, flops / self.peak
    local row = { o.name, timing.text(seconds), ("%.2f"):format(moved / 1e9), ("%.1f"):format(moved / seconds / 1e9),
      timing.text(streaming), ("%.2f"):format(seconds / streaming), ("%.1f"):format(flops / 1e9), timing.text(arithmetic),
      ("%.0f %%"):format(100 * arithmetic / seconds) }
    local entry = { name = o.name, seconds = seconds, bytes_moved = moved, streaming_seconds = streaming, flops = flops,
      arithmetic_seconds = arithmetic, peers = {} }
    groups[i], series[1].values[i], floors.values[i] = o.name, seconds, streaming
    for k, peer in ipairs(peers) do
      local other = timing.median(peer.gpt2[o.name])
      row[#row + 1], row[#row + 2] = timing.text(other), ("%.1f"):format(other / seconds)
      entry.peers[peer.name], series[k + 1].values[i] = other, other
    end
    rows[#rows + 1], record.entries[i] = row, entry
  end
  series[#series + 1] = floors
  local right = {}
  for c = 2, #rows[1] do right[c] = true end
  return {
    head = ("%d matrices of GPT-2, %d layers of width %d, %.0f MB; a copy takes %s; products at %.0f GFLOP/s"):format(
      #self.matrices, self.layers, self.width, self.bytes / 1e6, timing.text(copy), self.peak / 1e9),
    rows = rows, right = right, record = record,
    charts = { { title = "Clipping the matrices of GPT-2 124M", y = { label = "seconds", log = true }, groups = groups,
      series = series } },
  }
end

return M
