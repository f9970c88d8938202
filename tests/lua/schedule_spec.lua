-- SPDX-License-Identifier: MIT
--
-- Schedules: their shapes, where they begin and end, and wrong options.
local helper = require "tests.helper"
local mb = require "moonbow"

local function near(expected, got) assert.near(expected, got, 1e-12) end

describe("mb.schedule", function()
  it("const is one number, after a warm-up if there is one", function()
    local s = mb.schedule.const(0.3)
    near(0.3, s(1))
    near(0.3, s(100000))
    local warm = mb.schedule.const { value = 2, warmup = 4 }
    near(0.5, warm(1))
    near(1.5, warm(3))
    near(2, warm(4))
    near(2, warm(50))
  end)

  it("linear reaches the peak at the end of the warm-up and the final value at the last step", function()
    local s = mb.schedule.linear { peak = 1, warmup = 10, steps = 110, final = 0.2 }
    near(0.1, s(1))
    near(0.9, s(9))
    near(1, s(10))
    near(0.2 + 0.8 * 0.99, s(11))
    near(0.6, s(60))
    near(0.2, s(110))
    near(0.2, s(5000))
    local plain = mb.schedule.linear { peak = 1, steps = 4 }
    near(0.75, plain(1))
    near(0, plain(4))
  end)

  it("cosine falls along half a cosine", function()
    local s = mb.schedule.cosine { peak = 1e-3, warmup = 100, steps = 2100, min = 1e-4 }
    near(1e-5, s(1))
    near(1e-3, s(100))
    near(1e-4 + 0.9e-3 * 0.5 * (1 + math.cos(math.pi / 4)), s(600))
    near(5.5e-4, s(1100))
    near(1e-4, s(2100))
    near(1e-4, s(9999))
    for step = 101, 2100 do assert.is_true(s(step) < s(step - 1)) end
    near(1e-4, mb.schedule.cosine { peak = 1e-3, steps = 10, final = 1e-4 }(10))
  end)

  it("warm-up may take all the steps", function()
    local s = mb.schedule.linear { peak = 3, warmup = 6, steps = 6 }
    near(0.5, s(1))
    near(3, s(6))
    near(0, s(7))
  end)

  it("prints what it is", function()
    assert.are.equal("cosine(peak 0.001, warmup 20, steps 500, final 0)",
      tostring(mb.schedule.cosine { peak = 1e-3, warmup = 20, steps = 500 }))
    assert.are.equal("const(0.1)", tostring(mb.schedule.const(0.1)))
  end)

  it("says what is wrong with its options", function()
    local function says(text, fn, ...)
      local got = helper.error_of(fn, ...)
      assert.is_truthy(got:find(text, 1, true), got)
      assert.is_truthy(got:find("schedule_spec.lua", 1, true), got)
    end
    local s = mb.schedule
    says("mb.schedule has no 'cosin', did you mean 'cosine'?", function() return s.cosin end)
    says("unknown option 'warm_up', did you mean 'warmup'?", function() s.cosine { peak = 1, steps = 5, warm_up = 1 } end)
    says("option 'peak' is missing", function() s.linear { steps = 5 } end)
    says("option 'steps' must be at least 1", function() s.linear { peak = 1, steps = 0 } end)
    says("warmup is 9, more than the 5 steps", function() s.linear { peak = 1, steps = 5, warmup = 9 } end)
    says("'final' and 'min' are the same", function() s.cosine { peak = 1, steps = 5, final = 0, min = 0 } end)
    says("a step is a number, not nil", function() return (s.const(1)()) end)
  end)
end)
