-- SPDX-License-Identifier: MIT
--
-- naive.lua: the reference of the op tests: arithmetic on plain arrays (row-major, with a field `shape`),
-- one element at a time, in Lua's doubles. It shares nothing with the engine.

local draw = require "tests.ops.draw"

local M = {}

local count = draw.count

--- Indices (from 1) of element i (from 1) in `shape`.
---@return integer[]
function M.indices(i, shape)
  local index, rest = {}, i - 1
  for d = #shape, 1, -1 do
    index[d] = rest % shape[d] + 1
    rest = math.floor(rest / shape[d])
  end
  return index
end

--- Place of the element at `index` in an array of `shape`. Dimensions are aligned at the last one and a
--- size of 1 is stretched, so that the index may be one of a larger shape.
function M.place(index, shape)
  local at, lead = 0, #index - #shape
  for d = 1, #shape do
    at = at * shape[d] + (shape[d] == 1 and 0 or index[lead + d] - 1)
  end
  return at + 1
end

--- The array whose element at `index` is fn(index).
function M.build(shape, fn)
  local out = { shape = shape }
  for i = 1, count(shape) do out[i] = fn(M.indices(i, shape)) end
  return out
end

function M.broadcast_shape(...)
  local ndim, shape = 0, {}
  for k = 1, select("#", ...) do ndim = math.max(ndim, #(select(k, ...)).shape) end
  for d = 1, ndim do
    shape[d] = 1
    for k = 1, select("#", ...) do
      local s = (select(k, ...)).shape
      local size = s[d - ndim + #s]
      if size and size ~= 1 then shape[d] = size end
    end
  end
  return shape
end

--- fn(a, b, ...) element by element, arguments broadcast.
function M.map(fn, ...)
  local arrays, n = { ... }, select("#", ...)
  return M.build(M.broadcast_shape(...), function(index)
    local x = {}
    for k = 1, n do x[k] = arrays[k][M.place(index, arrays[k].shape)] end
    return fn(unpack(x, 1, n))
  end)
end

--- A dimension counted from the end, from the start.
function M.dim(dim, ndim) return dim < 0 and dim + ndim + 1 or dim end

--- fn(list, places) for the list of elements that differ only in `dims` (nil: all), in row-major order.
function M.reduce(a, dims, keep, fn)
  local is_reduced, kept = {}, {}
  if type(dims) == "number" then dims = { dims } end
  for d = 1, #a.shape do is_reduced[d] = dims == nil end
  for _, d in ipairs(dims or {}) do is_reduced[M.dim(d, #a.shape)] = true end
  local lists, order = {}, {}
  for i = 1, #a do
    local index, key = M.indices(i, a.shape), {}
    for d = 1, #a.shape do key[d] = is_reduced[d] and 0 or index[d] end
    local name = table.concat(key, ",")
    if not lists[name] then
      lists[name] = {}
      order[#order + 1] = name
    end
    table.insert(lists[name], a[i])
  end
  for d = 1, #a.shape do
    if not is_reduced[d] then kept[#kept + 1] = a.shape[d] elseif keep then kept[#kept + 1] = 1 end
  end
  local out = { shape = kept }
  for i, name in ipairs(order) do out[i] = fn(lists[name]) end
  return out
end

--- Rows along the last dimension replaced by fn(row), of any length.
function M.rows(a, fn)
  local n, shape, out = a.shape[#a.shape], {}, {}
  for d = 1, #a.shape do shape[d] = a.shape[d] end
  for first = 1, #a, n do
    local row = {}
    for i = 1, n do row[i] = a[first + i - 1] end
    row = fn(row, (first - 1) / n + 1)
    shape[#shape] = #row
    for i = 1, #row do out[#out + 1] = row[i] end
  end
  out.shape = shape
  return out
end

function M.sum(list)
  local s = 0
  for i = 1, #list do s = s + list[i] end
  return s
end

--- A permutation of dimensions: dimension i of the result is dimension order[i] of a.
function M.permute(a, order)
  local shape = {}
  for i = 1, #order do shape[i] = a.shape[M.dim(order[i], #order)] end
  return M.build(shape, function(index)
    local from = {}
    for i = 1, #order do from[M.dim(order[i], #order)] = index[i] end
    return a[M.place(from, a.shape)]
  end)
end

function M.swap_last(a)
  local order = {}
  for d = 1, #a.shape do order[d] = d end
  order[#order], order[#order - 1] = order[#order - 1], order[#order]
  return M.permute(a, order)
end

--- erf by its series of positive terms for |x| <= 3 (Abramowitz and Stegun 7.1.6), and 1 - erfc beyond, erfc
--- by its continued fraction (7.1.14).
function M.erf(x)
  local z = math.abs(x)
  local y
  if z <= 3 then
    local term, sum, n = z, z, 0
    while term > 1e-18 * sum do
      n = n + 1
      term = term * 2 * z * z / (2 * n + 1)
      sum = sum + term
    end
    y = 2 / math.sqrt(math.pi) * math.exp(-z * z) * sum
  else
    local f = z
    for k = 60, 1, -1 do f = z + k / 2 / f end
    y = 1 - math.exp(-z * z) / math.sqrt(math.pi) / f
  end
  return x < 0 and -y or y
end

function M.softmax(row)
  local top, sum, out = -math.huge, 0, {}
  for i = 1, #row do top = math.max(top, row[i]) end
  for i = 1, #row do
    out[i] = math.exp(row[i] - top)
    sum = sum + out[i]
  end
  for i = 1, #row do out[i] = out[i] / sum end
  return out
end

--- log(sum(exp(row)))
function M.log_sum_exp(row)
  local top, sum = -math.huge, 0
  for i = 1, #row do top = math.max(top, row[i]) end
  for i = 1, #row do sum = sum + math.exp(row[i] - top) end
  return top + math.log(sum)
end

--- Row-major (m, k) x (k, n) for the batch of matrices that both broadcast to.
function M.matmul(a, b)
  local ma, mb = a.shape, b.shape
  local lead_a, lead_b = {}, {}
  for d = 1, #ma - 2 do lead_a[d] = ma[d] end
  for d = 1, #mb - 2 do lead_b[d] = mb[d] end
  local shape = M.broadcast_shape({ shape = lead_a }, { shape = lead_b })
  local n_lead, m, k, n = #shape, ma[#ma - 1], ma[#ma], mb[#mb]
  shape[n_lead + 1], shape[n_lead + 2] = m, n
  return M.build(shape, function(index)
    local i, j, sum = index[n_lead + 1], index[n_lead + 2], 0
    local ia, ib = { unpack(index, 1, n_lead) }, { unpack(index, 1, n_lead) }
    for l = 1, k do
      ia[n_lead + 1], ia[n_lead + 2], ib[n_lead + 1], ib[n_lead + 2] = i, l, l, j
      sum = sum + a[M.place(ia, ma)] * b[M.place(ib, mb)]
    end
    return sum
  end)
end

--- The tanh form of GELU, of a number.
function M.gelu_tanh(x)
  return x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ^ 3)))
end

return M
