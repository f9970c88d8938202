-- SPDX-License-Identifier: MIT
--
-- methods.lua: every method of mb.clip.matrix over shapes and two spectra, with its time and its error, beside loops over
-- torch.linalg.svd and torch.svd_lowrank on the same matrices.
--
-- The error is the largest singular value of the difference to a clip by a float64 decomposition, over sigma_1.
--   flat    independent normal numbers, tau = sigma_1 / 2: most values exceed it, and a sketch cannot hold them all
--   heavy   sum of random rank-one matrices of sizes i^(-1/1.1), tau = sigma_1 / 5: a few values exceed it

local timing = require "scripts.bench.spectral.timing"

local M = {}
M.__index = M

-- Ours, and the peer's that does the same: "svd", "lowrank", or what "svd" is nearest to.
local methods = {
  { name = "exact", peer = "svd", options = { method = "exact" } },
  { name = "r=8 p=5 it=1", options = { method = "randomized", rank = 8, oversample = 5, power_iters = 1 } },
  { name = "r=64 p=10 it=2", options = { method = "randomized", rank = 64, oversample = 10, power_iters = 2 } },
  { name = "rank auto", peer = "svd", options = { method = "randomized", rank = "auto", power_iters = 2 } },
  { name = "polar", peer = "svd", options = { method = "polar" } },
  { name = "soft", peer = "svd", soft = true, options = { method = "soft" } },
}

local function spectra(mb)
  return {
    { name = "flat", share = 0.5, make = function(m, n) return mb.randn { m, n } end },
    { name = "heavy", share = 0.2, make = function(m, n)
      local k, sizes = math.min(m, n), {}
      for i = 1, k do sizes[i] = i ^ (-1 / 1.1) / (m * n) ^ 0.5 end
      return mb.matmul(mb.randn { m, k } * mb.tensor(sizes):reshape(1, k), mb.randn { k, n })
    end },
  }
end

local function lowered(mb, u, s, v, rule)
  local values = s:totable()
  for i, sigma in ipairs(values) do values[i] = rule(sigma) end
  return mb.matmul(u * mb.tensor(values, { dtype = "f64" }):reshape(1, #values), v:transpose())
end

local function make_case(mb, spectrum, m, n)
  local g = spectrum.make(m, n)
  local u, s, v = mb.linalg.svd(g:to "f64")
  local top = s:max():item()
  local tau = spectrum.share * top
  local function soft(sigma) return sigma / (1 + (sigma / tau) ^ 2) ^ 0.5 end
  return { name = ("%dx%d %s"):format(m, n, spectrum.name), m = m, n = n, spectrum = spectrum.name, g = g, top = top, tau = tau,
    hard = lowered(mb, u, s, v, function(sigma) return math.min(sigma, tau) end), soft = lowered(mb, u, s, v, soft),
    times = {}, errors = {}, notes = {} }
end

function M.new(context)
  local mb, s = context.mb, context.settings
  local self = setmetatable({ mb = mb, s = s, now = context.now, cases = {}, methods = {},
    file = context.folder .. "/matrices.safetensors" }, M)
  local shapes = { { 100, 100 }, { 768, 768 }, { 2304, 768 }, { 3072, 768 }, { 768, 3072 } }
  if s.quick then shapes = { { 12, 8 }, { 20, 30 } } end
  for _, method in ipairs(methods) do -- those that the engine has
    local o = { threshold = 1 }
    for key, value in pairs(method.options) do o[key] = value end
    if pcall(mb.clip.matrix, mb.ones(3, 2), o) then self.methods[#self.methods + 1] = method end
  end
  for _, spectrum in ipairs(spectra(mb)) do
    for _, shape in ipairs(shapes) do
      mb.scope(function()
        local case = make_case(mb, spectrum, shape[1], shape[2])
        mb.keep { case.g, case.hard, case.soft }
        self.cases[#self.cases + 1] = case
      end)
    end
  end
  return self
end

function M:ours()
  local mb = self.mb
  for _, case in ipairs(self.cases) do
    for _, method in ipairs(self.methods) do
      local o = { threshold = case.tau }
      for key, value in pairs(method.options) do o[key] = value end
      timing.push(case.times, method.name, timing.best(self.now, function()
        mb.scope(function() mb.clip.matrix(case.g, o) end)
      end, self.s.seconds))
      if not case.errors[method.name] then
        mb.scope(function()
          local clipped, info = mb.clip.matrix(case.g, o)
          local difference = clipped:to "f64" - (method.soft and case.soft or case.hard)
          case.errors[method.name] = mb.linalg.svdvals(difference):max():item() / case.top
          case.notes[method.name] = info.saturated and "saturated" or ""
        end)
      end
    end
  end
end

-- The matrices go to the peer in a file, with the answers, so that its errors are of the same problems.
function M:request(round)
  local list, lowrank, tensors = {}, {}, {}
  for i, case in ipairs(self.cases) do
    list[i] = { name = case.name, tau = case.tau, top = case.top }
    tensors["g " .. case.name], tensors["clipped " .. case.name] = case.g, case.hard
  end
  for _, method in ipairs(self.methods) do
    if not method.peer then
      local o = method.options
      lowrank[#lowrank + 1] = { name = method.name, rank = o.rank, oversample = o.oversample, power_iters = o.power_iters }
    end
  end
  self.mb.safetensors.save(self.file, tensors)
  return { part = "methods", file = self.file, cases = list, lowrank = lowrank, seconds = self.s.seconds, errors = round == 1 }
end

function M:theirs(peer, answer)
  os.remove(self.file)
  peer.methods = peer.methods or {}
  for _, case in ipairs(self.cases) do
    local all = peer.methods[case.name] or { times = {}, errors = {} }
    peer.methods[case.name] = all
    for name, seconds in pairs(answer.seconds[case.name]) do timing.push(all.times, name, seconds) end
    for name, value in pairs((answer.errors or {})[case.name] or {}) do all.errors[name] = value end
  end
end

-- A chart for each spectrum: error against time of the largest matrix, one marker a method and side.
local function charts_of(self, peers)
  local charts, largest = {}, {}
  for _, case in ipairs(self.cases) do
    local best = largest[case.spectrum]
    if not best or case.m * case.n > best.m * best.n then largest[case.spectrum] = case end
  end
  for _, name in ipairs { "flat", "heavy" } do
    local case, series = largest[name], {}
    local function add(side, label, seconds, off)
      series[#series + 1] = { name = side .. " " .. label, line = false, points = { { seconds, off,
        ("%s %s: %s, error %.2g"):format(side, label, timing.text(seconds), off) } } }
    end
    for _, method in ipairs(self.methods) do
      add("moonbow", method.name, timing.median(case.times[method.name]), case.errors[method.name])
    end
    for _, peer in ipairs(peers) do
      local all = peer.methods[case.name]
      for _, method in ipairs(self.methods) do
        if not method.peer or method.name == "exact" then
          local label = method.peer or method.name
          add(peer.name, label, timing.median(all.times[label]), all.errors[label])
        end
      end
    end
    charts[#charts + 1] = { title = ("One %d x %d matrix, %s spectrum"):format(case.m, case.n, name), width = 860, height = 440,
      x = { label = "seconds", log = true }, y = { label = "error / sigma_1", log = true }, series = series }
  end
  return charts
end

function M:report(peers)
  local rows = { { "matrix", "method", "time", "error", "" } }
  for _, peer in ipairs(peers) do
    local n = #rows[1]
    rows[1][n + 1], rows[1][n + 2], rows[1][n + 3] = peer.name, "error", "faster"
  end
  local record = { entries = {} }
  for _, case in ipairs(self.cases) do
    for _, method in ipairs(self.methods) do
      local seconds, off = timing.median(case.times[method.name]), case.errors[method.name]
      local row = { case.name, method.name, timing.text(seconds), ("%.1e"):format(off), case.notes[method.name] }
      local entry = { m = case.m, n = case.n, spectrum = case.spectrum, method = method.name, seconds = seconds, error = off,
        saturated = case.notes[method.name] ~= "", peers = {} }
      for _, peer in ipairs(peers) do
        local all, label = peer.methods[case.name], method.peer or method.name
        local other = timing.median(all.times[label])
        local n = #row
        row[n + 1], row[n + 2] = timing.text(other), ("%.1e"):format(all.errors[label])
        row[n + 3] = ("%.1f"):format(other / seconds)
        entry.peers[peer.name] = { method = label, seconds = other, error = all.errors[label] }
      end
      rows[#rows + 1] = row
      record.entries[#record.entries + 1] = entry
    end
  end
  local right = { [3] = true, [4] = true }
  for c = 6, #rows[1] do right[c] = true end
  return { head = "one matrix at a time; errors in units of sigma_1, against a float64 decomposition", rows = rows, right = right,
    record = record, charts = charts_of(self, peers) }
end

return M
