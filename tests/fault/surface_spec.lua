-- SPDX-License-Identifier: MIT
--
-- surface_spec.lua: memory that runs out under a script. The bindings collect and ask once more, so that most
-- steps get through; one that does not ends with an error that says why, leaves no tensor behind, and the
-- step after it is right.

local helper = require "tests.helper"
local runtime = require "bindings.runtime"
local mb = require "moonbow"

local function new_model()
  return mb.models.gpt2 { vocab_size = 11, block_size = 6, n_layer = 1, n_head = 2, n_embd = 8, dropout = 0.1 }
end

local function step(model)
  mb.random_state(helper.seed, 0, 0)
  model:zero_grad()
  local loss = model:loss { inputs = { { 1, 2, 3, 4, 5, 6 } }, targets = { { 2, 3, 4, 5, 6, 7 } } }
  loss:backward()
  return loss:item(), model:parameter("wte.weight").grad:square():sum():item()
end

describe("a script that runs out of memory", function()
  it("goes on after a collection, or stops with the reason", function()
    local model = new_model()
    local loss, norm = step(model)
    mb.collect()
    local tensors = mb.memory().live_tensors
    local n, through, errors = 0, 0, 0
    repeat
      n = n + 1
      mb.memory_trim()
      local before = mb.memory().allocations
      runtime.fail_allocation(n)
      local ok, got_loss, got_norm = pcall(step, model)
      runtime.fail_allocation(0)
      local reached = mb.memory().allocations - before >= n
      if ok then
        through = through + 1
        assert(got_loss == loss and got_norm == norm, "allocation " .. n .. ": a different result")
      else
        errors = errors + 1
        assert(tostring(got_loss):find "out of memory", ("allocation %d: %s"):format(n, tostring(got_loss)))
      end
      mb.collect()
      assert(mb.memory().live_tensors == tensors, "allocation " .. n .. ": tensors were left behind")
      local next_loss, next_norm = step(model)
      assert(next_loss == loss and next_norm == norm, "allocation " .. n .. ": the next step is different")
    until not reached
    assert(through > 20, "no call was tried again")
    assert(errors > 0, "a backward that fails cannot be tried again")
  end)

  it("names the largest tensors", function()
    mb.memory_budget(mb.memory().bytes_live + 2 ^ 20)
    local ok, text = pcall(function() return mb.zeros(2 ^ 20) + 1 end)
    mb.memory_budget(0)
    assert(not ok)
    assert(text:find "out of memory on cpu: 4194304 bytes asked for f32 of shape %(1048576%)", text)
    assert(text:find "the budget is", text)
  end)
end)
