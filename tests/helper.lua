-- SPDX-License-Identifier: MIT
--
-- helper.lua: what every spec starts with. busted loads it before the specs (.busted, tests/CMakeLists.txt);
-- a spec gets it with `local helper = require "tests.helper"`.
--
-- It makes undeclared globals an error, and offers helper.no_leaks(fn), which fails when fn leaves tensors
-- behind. Specs that draw random numbers begin with mb.seed(helper.seed); MB_SEED sets it, and it is printed.

local strict = require "moonbow.strict"

local M = {}

--- Seed of this run.
M.seed = tonumber(os.getenv "MB_SEED") or 20260711

--- Device that specs put their tensors on; MB_TEST_DEVICE sets it.
M.device = os.getenv "MB_TEST_DEVICE" or "cpu"

--- How many of `n` random cases to draw: MB_FEWER=4 is a quarter of them, for devices whose kernels run slowly on the host.
---@param n integer
---@return integer
function M.draws(n) return math.max(1, math.ceil(n / (tonumber(os.getenv "MB_FEWER") or 1))) end

--- Folder of fixtures and data beside the checkout; MOONBOW_SHARED names another.
M.shared = os.getenv "MOONBOW_SHARED" or (os.getenv "MOONBOW_ROOT" or ".") .. "/../shared"

--- Is the device of the specs the CUDA plugin's sources run by the host?
M.is_stand_in = M.device == "cuda" and (os.getenv "MOONBOW_CUDA_PLUGIN" or ""):find("cuda_host", 1, true) ~= nil

--- Folder of the checkout's shared fixtures, or nil when they are not there.
---@return string?
function M.fixtures()
  local folder = M.shared .. "/fixtures"
  local file = io.open(folder .. "/README.md", "rb")
  if not file then return nil end
  file:close()
  return folder
end

--- busted's `it` on the device of the specs, from the seed, in a scope.
---@param name string
---@param fn function
function M.it_on_device(name, fn)
  local mb = require "moonbow"
  require("busted").it(name, function()
    local before = mb.device()
    mb.device(M.device)
    mb.seed(M.seed)
    local ok, problem = pcall(mb.scope, fn)
    mb.device(before)
    if not ok then error(problem, 0) end
  end)
end

-- How many tensors more are alive after fn() and a collection.
local function left_by(fn)
  local mb = require "moonbow"
  mb.collect()
  local before = mb.memory().live_tensors
  -- On a stack of its own, which is gone afterwards: unused slots of this one would keep values alive.
  -- And not compiled: a trace holds on to the functions it was made for, and they to their model.
  jit.off()
  local ok, problem = coroutine.resume(coroutine.create(fn))
  jit.on()
  if not ok then error(problem, 0) end
  mb.collect()
  return mb.memory().live_tensors - before
end

--- Runs fn() and fails if tensors that did not exist before are alive after a collection. What a trace made earlier or a slot
--- of the stack holds is held once; a leak is one every time.
---@param fn function
function M.no_leaks(fn)
  local left
  for _ = 1, 3 do
    left = left_by(fn)
    if left == 0 then return end
  end
  error(("%d tensors more were alive after each of three calls; MB_SEED=%d"):format(left, M.seed), 2)
end

--- Calls fn(...), which must fail, and returns the text of the error.
---@return string
function M.error_of(fn, ...)
  local ok, text = pcall(fn, ...)
  if ok then error("an error was expected", 2) end
  return tostring(text)
end

--- Fails unless fn(...) fails with an error that contains `text`.
function M.says(text, fn, ...)
  local got = M.error_of(fn, ...)
  if not got:find(text, 1, true) then error(("'%s' was expected in: %s"):format(text, got), 2) end
end

io.stderr:write(("MB_SEED=%d\n"):format(M.seed))
strict.on()
require("moonbow").device(M.device)
package.loaded["tests.helper"] = M -- busted loads this file by its path

return M
