-- A training step in which the n-th allocation fails, for every n: the step then either succeeds (the call
-- was made again after a collection) or raises one clear error; nothing is left behind, and the next step
-- works as if nothing had happened.
local helper = require "tests.helper"
local mb = require "moonbow"
local runtime = require "bindings.runtime"

mb.seed(helper.seed)

-- Runs step() with allocation n failing for n = 1, 2, ... until no allocation is left to fail.
-- step returns what must not depend on failures.
local function with_failures(what, step)
  local expected = step()
  collectgarbage()
  local succeeded, failed, n = 0, 0, 0
  repeat
    n = n + 1
    mb.collect()
    local live, before = mb.memory().live_tensors, mb.memory().allocations
    runtime.fail_allocation(n)
    local ok, result = coroutine.resume(coroutine.create(step))
    local made = mb.memory().allocations - before
    runtime.fail_allocation(0)
    if ok then
      succeeded = succeeded + 1
      assert.are.equal(expected, result, ("%s after failure %d of %d"):format(what, n, made))
    else
      failed = failed + 1
      assert.matches("out of memory", tostring(result), 1, true)
    end
    mb.collect()
    assert.are.equal(live, mb.memory().live_tensors, ("%s: tensors left after failure %d: %s"):format(what, n,
      tostring(result)))
    assert.are.equal(expected, step(), ("%s: the step after failure %d"):format(what, n))
  until made < n
  return succeeded, failed
end

describe("a failing allocation", function()
  it("in forward and backward of GPT-2 leaves nothing behind", function()
    local model = mb.models.gpt2 { vocab_size = 7, block_size = 4, n_layer = 1, n_head = 2, n_embd = 4, seed = 1 }
    local batch = { inputs = { { 1, 2, 3 } }, targets = { { 2, 3, 4 } } }
    local succeeded, failed = with_failures("GPT-2", function()
      model:zero_grad()
      model:backward(batch)
      local sum = 0
      for _, p in ipairs(model:parameters()) do sum = sum + p.grad:square():sum():item() end
      return sum
    end)
    assert.is_true(succeeded > 20 and failed > 20, ("%d and %d"):format(succeeded, failed))
  end)

  it("in operations written in Lua leaves nothing behind", function()
    local w = mb.randn(3, 4, { requires_grad = true })
    local succeeded, failed = with_failures("operations", function()
      w:zero_grad()
      local x = mb.scope(function()
        local y = mb.concat { w, w * 2 }
        return mb.softmax(y:transpose(1, 2):matmul(mb.ones(6, 2)) / 3)
      end)
      mb.cross_entropy(x, { 0, 1, 0, 1 }):backward()
      return w.grad:sum():item()
    end)
    assert.is_true(succeeded > 10 and failed > 10, ("%d and %d"):format(succeeded, failed))
  end)

  it("in making a model leaves nothing behind", function()
    with_failures("making a model", function()
      local model = mb.models.mlp { n_input = 3, n_hidden = 4, n_layer = 1, n_output = 2, seed = 1 }
      return model:parameters()[1].value:sum():item()
    end)
  end)
end)
