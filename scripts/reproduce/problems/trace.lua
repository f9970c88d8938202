-- SPDX-License-Identifier: MIT
--
-- trace.lua: trace regression by clipped SGD, and the bias of its gradients (arXiv 2605.11838, figure 5a). All in float64.
--
--   f(X) = 1/N sum_i (<A_i, X> - b_i)^2,   b_i = <A_i, X*> + noise e_i,   A_i = Q_i diag(U[.5, 1.5]) Q_i^T, Q_i orthogonal
--   X <- X - lr clip_tau(g_i),   g_i = 2 (<A_i, X> - b_i) A_i,   lr = 1/2 / L,   L = 2/N sum_i |A_i|_F^2
--   bias = |grad f(X) - mean of clip_tau(g_j) over `samples` random j|_F^2, with the tau of the step
--
-- Several policies go at once: every step has policies x (samples + 1) matrices, the last of each policy makes the step, and the
-- engine clips them in one call. Each policy has random numbers of its own.

local json = require "moonbow.io.json"
local mb = require "moonbow"
local spectral = require "bindings.spectral"

local M = {}

local F64 = { dtype = "f64" }

local function finish(A, b) return { A = A, b = b, L = 2 / b.shape[1] * A:square():sum():item() } end

---The problem that NumPy draws with one of the paper's seeds, from trace_numpy.json, or nil for another seed.
---@param seed integer
---@return { A: moonbow.Tensor, b: moonbow.Tensor, L: number }? A (10, 9), b (10)
function M.paper_problem(seed)
  local path = debug.getinfo(1, "S").source:match "^@(.*)%.lua$" .. "_numpy.json"
  local file = assert(io.open(path, "rb"))
  local all = assert(json.decode(file:read "*a"))
  file:close()
  local found = all[tostring(seed)]
  return found and finish(mb.tensor(found.A, F64), mb.tensor(found.b, F64)) or nil
end

---A problem drawn by the engine's own generator.
---@param o { n: integer, N: integer, noise: number }
---@return { A: moonbow.Tensor, b: moonbow.Tensor, L: number } A (N, n n), b (N)
function M.problem(o)
  local n, count = o.n, o.N
  local q = mb.linalg.qr(mb.randn({ count, n, n }, F64))
  local eigenvalues = mb.uniform({ count, 1, n }, 0.5, 1.5, F64)
  local A = mb.matmul(q * eigenvalues, q:transpose(2, 3)):reshape(count, n * n)
  local target = mb.randn({ 1, n * n }, F64)
  local b = (A * target):sum(2) + mb.randn({ count }, F64) * o.noise
  return finish(A, b)
end

-- Indices of the terms that the next `steps` steps draw: (steps, policies * (samples + 1)).
local function draw(steps, width, count)
  return mb.uniform({ steps, width }, 0, count, F64):to "i32"
end

---Cumulative means of the bias, of every policy, at the steps asked for.
---@param problem table from M.problem
---@param policies moonbow.Threshold[]
---@param o { steps: integer, samples: integer, at: integer[] } at: ascending steps, the last one `steps`
---@param progress fun(share: number)
---@return number[][] curves curves[policy][k], of the first at[k] steps
---@return number[] losses f(X) at the end
function M.run(problem, policies, o, progress)
  local A, b = problem.A, problem.b
  local P, S, terms, size = #policies, o.samples + 1, A.shape[1], A.shape[2]
  local n, lr = math.floor(math.sqrt(size) + 0.5), 0.5 / problem.L
  local X = mb.zeros({ P, 1, size }, F64)
  local G = mb.zeros({ P * S, n, n }, F64)
  local matrices, tau, curves = {}, {}, {}
  for i = 1, P * S do matrices[i] = G:slice(1, i, i):reshape(n, n) end
  local plan = spectral.plan(matrices, { method = "exact" })
  local clipped = G:reshape(P, S, size)
  local sampled, stepped = clipped:slice(2, 1, o.samples), clipped:slice(2, S, S)
  local sum = mb.zeros({ P }, F64)
  for p = 1, P do curves[p] = {} end

  local at, drawn, left = 1, nil, 0
  for step = 1, o.steps do
    if left == 0 then
      left = math.min(1000, o.steps - step + 1)
      drawn = draw(left, P * S, terms)
    end
    mb.scope(function()
      local ids = drawn:slice(1, left, left):reshape(P * S)
      local chosen = A:embedding(ids):reshape(P, S, size)
      local residual = (chosen * X):sum(3) - b:reshape(terms, 1):embedding(ids):reshape(P, S)
      clipped:copy_(chosen * (residual * 2):reshape(P, S, 1))
      local whole = mb.matmul(X:reshape(P, size), A:transpose(1, 2)) - b
      local gradient = mb.matmul(whole, A) * (2 / terms)

      local sigma, width = plan:probe(), plan:width()
      for p = 1, P do
        local own = policies[p] { name = "X", shape = { n, n }, step = step - 1, sigma = sigma[(p * S - 1) * width] }
        for i = (p - 1) * S + 1, p * S do tau[i] = own end
      end
      plan:clamp(tau)
      sum:add_((gradient - sampled:mean(2)):square():sum(2))
      X:add_(stepped, -lr)
    end)
    left = left - 1
    if step == o.at[at] then
      for p, value in ipairs(sum:totable()) do curves[p][at] = value / step end
      at = at + 1
      progress(step / o.steps)
    end
  end
  local rest = mb.matmul(X:reshape(P, size), A:transpose(1, 2)) - b
  return curves, rest:square():mean(2):totable()
end

return M
