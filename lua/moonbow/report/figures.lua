-- SPDX-License-Identifier: MIT
--
-- figures.lua: the charts of a report, from groups of runs (compare.lua) to what svg.lua draws. Each function gives nil
-- where the logs hold nothing to draw. Lines of a group are the mean over its runs; bands say how far the runs lie apart.

local compare = require "moonbow.report.compare"
local series = require "moonbow.report.series"
local stats = require "moonbow.report.stats"

local M = {}

local WIDTH = 960
local POINTS = 300 -- of a line
local COLUMNS = 300 -- of a strip
local PANELS = 12
local RIDGES = 12
local NAN = 0 / 0

local step_axis = { label = "step", tight = true, unit = "count" }

-- A copy: charts complete their axes.
local function axis(given, more)
  local copy = {}
  for key, value in pairs(given) do copy[key] = value end
  for key, value in pairs(more or {}) do copy[key] = value end
  return copy
end

local function any_finite(ys)
  for _, y in ipairs(ys) do
    if y == y and math.abs(y) < math.huge then return true end
  end
  return false
end

-- ----- lines over seeds -----------------------------------------------------------------------------------

-- Mean and band of several series at the steps of the longest: sd or the extremes. lows and highs, if given, are what the
-- extremes are of.
local function over_runs(list, band)
  local longest = list[1]
  for _, one in ipairs(list) do
    if #one.x > #longest.x then longest = one end
  end
  local at = {}
  for k, one in ipairs(list) do
    at[k] = {}
    for i, x in ipairs(one.x) do at[k][x] = i end
  end
  local points, area = {}, {}
  for _, x in ipairs(longest.x) do
    local found, low, high = {}, math.huge, -math.huge
    for k, one in ipairs(list) do
      local i = at[k][x]
      local y = i and one.y[i]
      if y and y == y and math.abs(y) < math.huge then
        found[#found + 1] = y
        low, high = math.min(low, one.low and one.low[i] or y), math.max(high, one.high and one.high[i] or y)
      end
    end
    if #found > 0 then
      local s = stats.summary(found)
      points[#points + 1] = { x, s.mean }
      if band == "sd" then
        if #found > 1 then area[#area + 1] = { x, s.mean - s.sd, s.mean + s.sd } end
      elseif #found > 1 or list[1].low then
        area[#area + 1] = { x, low, high }
      end
    else
      points[#points + 1] = { x, NAN }
    end
  end
  return points, #area > 1 and area or nil
end

-- Every n-th value, and the last: of smooth series only.
local function thinned(xs, ys)
  local every, x, y = math.max(1, math.ceil(#xs / POINTS)), {}, {}
  for i = 1, #xs do
    if (i - 1) % every == 0 or i == #xs then x[#x + 1], y[#y + 1] = xs[i], ys[i] end
  end
  return { x = x, y = y }
end

-- Means of buckets with their extremes.
local function bucketed(xs, ys)
  local one = { x = {}, y = {}, low = {}, high = {} }
  for i, b in ipairs(series.buckets(xs, ys, POINTS)) do
    one.x[i], one.y[i], one.low[i], one.high[i] = b.x, b.mean, b.min, b.max
  end
  return one
end

-- A line for each group, of what pick(run) -> { x, y } gives.
local function lines_of(groups, pick, band, more)
  local list = {}
  for _, group in ipairs(groups) do
    local parts = {}
    for _, run in ipairs(group.runs) do
      local one = pick(run)
      if one and any_finite(one.y) then parts[#parts + 1] = one end
    end
    if #parts > 0 then
      local points, area = over_runs(parts, band)
      local line = { name = ("%s (n = %d)"):format(group.title, #parts), points = points, band = area, colour = group.colour,
        marker = false }
      for key, value in pairs(more or {}) do line[key] = value end
      list[#list + 1] = line
    end
  end
  return list
end

local function lines_chart(title, y, list, more)
  if #list == 0 then return nil end
  local c = { title = title, width = WIDTH, height = 360, legend = "top", x = axis(step_axis), y = y, series = list }
  for key, value in pairs(more or {}) do c[key] = value end
  return c
end

---Training loss, smoothed, over what was logged.
---@param groups moonbow.RunGroup[]
---@param band "minmax"|"sd"
function M.loss(groups, band)
  local list = lines_of(groups, function(run)
    return thinned(run.steps, series.smooth(run.loss, series.reach(#run.steps)))
  end, band)
  for _, group in ipairs(groups) do
    for _, run in ipairs(group.runs) do
      if any_finite(run.loss) then
        list[#list + 1] = { name = run.name, points = series.points(run.steps, run.loss, 2 * POINTS), colour = group.colour,
          marker = false, faint = true, legend = false }
      end
    end
  end
  return lines_chart("Training loss", { label = "loss (nats a token)" }, list)
end

---@param groups moonbow.RunGroup[]
---@param band "minmax"|"sd"
function M.val(groups, band)
  local list = lines_of(groups, function(run) return { x = run.val.steps, y = run.val.loss } end, band)
  for _, line in ipairs(list) do line.marker = #line.points <= 60 end
  return lines_chart("Validation loss", { label = "loss (nats a token)" }, list)
end

---@param groups moonbow.RunGroup[]
---@param band "minmax"|"sd"
function M.clip(groups, band)
  local list = lines_of(groups, function(run)
    local one = bucketed(run.steps, run.clip_rate)
    one.low, one.high = nil, nil -- of a share of steps the extremes are 0 and 1
    one.y = series.smooth(one.y, series.reach(#one.y))
    return one
  end, band)
  return lines_chart("Clip rate", { label = "share clipped", unit = "percent", min = 0 }, list, { height = 300 })
end

---@param groups moonbow.RunGroup[]
function M.norm(groups)
  local list = lines_of(groups, function(run) return bucketed(run.steps, run.grad_norm) end, "minmax")
  return lines_chart("Gradient norm before clipping", { label = "Frobenius norm", log = true }, list, { height = 320 })
end

---@param groups moonbow.RunGroup[]
function M.throughput(groups)
  local list = lines_of(groups, function(run) return bucketed(run.steps, compare.tokens_per_second(run)) end, "minmax")
  return lines_chart("Throughput", { label = "tokens a second", unit = "count", min = 0 }, list, { height = 300 })
end

---@param groups moonbow.RunGroup[]
function M.lr(groups)
  local list = lines_of(groups, function(run) return thinned(run.steps, run.lr) end, "minmax")
  for i, line in ipairs(list) do line.dash, line.band = i, nil end
  return lines_chart("Learning rate", { label = "learning rate" }, list, { height = 260 })
end

---A chart for each further number that the logs hold.
---@param groups moonbow.RunGroup[]
---@param band "minmax"|"sd"
function M.others(groups, band)
  local names, charts = {}, {}
  for _, group in ipairs(groups) do
    for _, run in ipairs(group.runs) do
      for _, other in ipairs(run.others) do names[other.name] = true end
    end
  end
  for _, name in ipairs(require("moonbow.options").keys(names)) do
    local list = lines_of(groups, function(run)
      local other = run.others[name]
      return other and bucketed(other.steps, other.values)
    end, band)
    if #list > 0 and #charts < PANELS then charts[#charts + 1] = lines_chart(name, { label = "" }, list, { height = 260 }) end
  end
  return charts
end

-- ----- layers ---------------------------------------------------------------------------------------------

-- Vectors by the names of the library's models: their singular value is their norm.
local function is_vector(name)
  return name:find "bias$" ~= nil or name:find "ln_%w+%.weight$" ~= nil or name:find "norm%w*%.weight$" ~= nil
end

-- "h.3.attn.c_attn.weight" -> "h.#.attn.c_attn.weight", 3
local function kind_of(name)
  local layer = tonumber(name:match "%.(%d+)%." or name:match "^(%d+)%.")
  return (name:gsub("%d+", "#", 1)), layer or -1
end

---Matrices of a run by kind, each kind's from the first layer to the last; vectors only if there is nothing else.
---@param list { name: string }[]
---@return table[] ordered
---@return boolean vectors_left_out
function M.by_kind(list)
  local kinds, ordered, left_out = {}, {}, false
  local all_vectors = true
  for _, m in ipairs(list) do all_vectors = all_vectors and is_vector(m.name) end
  for _, m in ipairs(list) do
    if all_vectors or not is_vector(m.name) then
      local kind = kind_of(m.name)
      if not kinds[kind] then
        kinds[kind] = {}
        kinds[#kinds + 1] = kinds[kind]
      end
      table.insert(kinds[kind], m)
    else
      left_out = true
    end
  end
  local function before(a, b)
    local _, first = kind_of(a.name)
    local _, second = kind_of(b.name)
    if first ~= second then return first < second end
    return a.name < b.name
  end
  for _, kind in ipairs(kinds) do
    table.sort(kind, before)
    for _, m in ipairs(kind) do ordered[#ordered + 1] = m end
  end
  return ordered, left_out, kinds
end

-- At most `most` matrices: of every kind the layers at even distances, first and last among them; the first kinds if there
-- are more kinds than that.
local function chosen(list, most)
  local _, _, kinds = M.by_kind(list)
  local each, result = math.max(1, math.floor(most / #kinds)), {}
  for _, kind in ipairs(kinds) do
    local count = math.min(each, #kind)
    for k = 1, count do
      if #result < most then
        local i = count == 1 and math.ceil(#kind / 2) or 1 + math.floor((k - 1) * (#kind - 1) / (count - 1) + 0.5)
        result[#result + 1] = kind[i]
      end
    end
  end
  return result
end

local function short(name) return (name:gsub("%.weight", "")) end

-- A line of bucket means with the extremes as its band; the colour of the first series of groups is its own.
local function with_extremes(name, xs, ys, colour, more)
  local points, area = {}, {}
  for i, b in ipairs(series.buckets(xs, ys, 120)) do
    points[i], area[i] = { b.x, b.mean }, { b.x, b.min, b.max }
  end
  local line = { name = name, points = points, band = area, colour = colour, marker = false }
  for key, value in pairs(more or {}) do line[key] = value end
  return line
end

---sigma_1 and tau of chosen layers of a run, one small chart each.
---@param run table
---@return table? chart
---@return string? which layers
function M.sigma(run)
  if #run.matrices == 0 or #run.steps == 0 then return nil end
  local list, panels, names = chosen(run.matrices, PANELS), {}, {}
  for i, m in ipairs(list) do
    local lines = { with_extremes("σ₁", run.steps, m.sigma, 1) }
    if any_finite(m.tau) then lines[2] = with_extremes("τ", run.steps, m.tau, 2, { band = {}, dash = 2 }) end
    panels[i] = { title = short(m.name), x = axis(step_axis, { label = "" }), y = { log = true }, series = lines }
    names[i] = short(m.name)
  end
  return { title = ("σ₁ and τ, %s"):format(run.name), width = WIDTH, columns = math.min(4, #panels), panels = panels,
    panel_height = 160 }, ("%d of %d: %s"):format(#list, #run.matrices, table.concat(names, ", "))
end

-- Rows of a strip: pick(matrix) per step, and how a bucket becomes one value.
local function strip(run, title, pick, reduce, more)
  if #run.matrices == 0 or #run.steps == 0 then return nil end
  local ordered = M.by_kind(run.matrices)
  local rows, values, edges = {}, {}, {}
  local each = math.max(1, math.ceil(#run.steps / COLUMNS))
  for from = 1, #run.steps, each do edges[#edges + 1] = run.steps[from] end
  edges[#edges + 1] = run.steps[#run.steps] + 1
  for r, m in ipairs(ordered) do
    rows[r], values[r] = short(m.name), {}
    for k = 1, #edges - 1 do values[r][k] = NAN end
    for _, b in ipairs(series.buckets(run.steps, pick(m), COLUMNS)) do
      values[r][math.floor((b.from - 1) / each) + 1] = reduce(b)
    end
  end
  local h = { rows = rows, edges = edges, values = values, height = #rows > 60 and 7 or #rows > 30 and 10 or 13 }
  for key, value in pairs(more) do h[key] = value end
  return { title = ("%s, %s"):format(title, run.name), width = WIDTH, x = axis(step_axis), heat = h }
end

-- The quantiles q and 1 - q of the positive values of a strip; nil where they are one.
local function middle(values, q)
  local all = {}
  for _, row in ipairs(values) do
    for _, value in ipairs(row) do
      if value > 0 and value < math.huge then all[#all + 1] = value end
    end
  end
  table.sort(all)
  local low, high = all[math.ceil(q * #all)], all[math.ceil((1 - q) * #all)]
  if low and low < high then return low, high end
end

---Layers x steps of the largest sigma_1 in each column of steps; colours span all but the lowest and highest hundredth.
function M.heat(run)
  local chart = strip(run, "σ₁ by layer", function(m) return m.sigma end, function(b) return b.max end,
    { label = "σ₁", log = true })
  if chart then chart.heat.min, chart.heat.max = middle(chart.heat.values, 0.01) end
  return chart
end

---Layers x steps of the share of steps that were clipped.
function M.events(run)
  return strip(run, "Clipped steps by layer", function(m) return m.clipped end, function(b) return b.mean end,
    { label = "share clipped", unit = "percent", min = 0, max = 1 })
end

-- ----- spectra --------------------------------------------------------------------------------------------

-- At most `most` of a list, every so many from the first on, and the last.
local function spread(list, most)
  local every, result = math.max(1, math.ceil((#list - 1) / (most - 1))), {}
  for i = 1, #list - 1, every do result[#result + 1] = list[i] end
  result[#result + 1] = list[#list]
  return result
end

local function marks_of(run, step, name, sigma)
  local marks = { { x = sigma[1] or NAN, name = "σ₁" } }
  local m = run.matrices[name]
  for i = 1, m and #run.steps or 0 do
    if run.steps[i] == step and m.tau[i] == m.tau[i] then marks[2] = { x = m.tau[i], name = "τ" } end
  end
  return marks
end

-- The bounds of a matrix' values over time, within seven decades: what is smaller is rounding of float32.
local function bounds_of(records, name)
  local low, high = math.huge, 0
  for _, record in ipairs(records) do
    for _, s in ipairs((record.matrices[name] or {}).sigma or {}) do
      if s > 0 and s < math.huge then low, high = math.min(low, s), math.max(high, s) end
    end
  end
  if high == 0 then return nil end
  return math.max(low, high * 1e-7) / 1.5, high * 1.5
end

---Densities of log10 sigma over time, of chosen matrices of a run.
---@param run table
---@return table? chart
---@return string? which matrices and steps, and how many values each has
function M.spectra(run)
  if #run.spectra == 0 then return nil end
  local names, all = {}, {}
  for _, record in ipairs(run.spectra) do
    for name in pairs(record.matrices) do all[name] = true end
  end
  for _, name in ipairs(require("moonbow.options").keys(all)) do names[#names + 1] = { name = name } end
  if #names == 0 then return nil end
  local records, panels, said, exact = spread(run.spectra, RIDGES), {}, {}, true
  for _, m in ipairs(chosen(names, 4)) do
    local low, high = bounds_of(records, m.name)
    local ridges = {}
    for _, record in ipairs(low and records or {}) do
      local found = record.matrices[m.name]
      if found then
        ridges[#ridges + 1] = { name = "step " .. record.step, points = series.log_density(found.sigma, low, high, 120),
          marks = marks_of(run, record.step, m.name, found.sigma) }
        exact = exact and found.exact ~= false
        said[#panels + 1] = ("%s (%d values)"):format(short(m.name), #found.sigma)
      end
    end
    if #ridges > 0 then
      panels[#panels + 1] = { title = short(m.name), x = { log = true, min = low, max = high, label = "σ" }, ridges = ridges }
    end
  end
  if #panels == 0 then return nil end
  local title = ("Spectra of gradients, %s (marks: σ₁ blue, τ orange)"):format(run.name)
  return { title = title, width = WIDTH, columns = math.min(2, #panels), panels = panels,
    panel_height = math.max(150, 70 + 22 * #records) }, table.concat(said, ", ")
      .. (exact and "" or "; of large matrices the largest values only, by a sketch")
end

return M
