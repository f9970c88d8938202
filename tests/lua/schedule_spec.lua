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

  it("wsd stays at the peak and falls at the end", function()
    local s = mb.schedule.wsd { peak = 2, warmup = 10, steps = 100, decay = 40, final = 0.4 }
    near(0.2, s(1))
    near(2, s(10))
    near(2, s(60))
    near(2 - 1.6 / 40, s(61))
    near(1.2, s(80))
    near(0.4, s(100))
    near(0.4, s(5000))
    near(1, mb.schedule.wsd { peak = 2, steps = 100, decay = 0.4, shape = "sqrt" }(70))
    near(1, mb.schedule.wsd { peak = 2, steps = 100, shape = "cosine" }(90))
    near(2, mb.schedule.wsd { peak = 2, steps = 100, decay = 0 }(99))
    near(0, mb.schedule.wsd { peak = 2, steps = 100, decay = 0 }(100))
    near(1.2, mb.schedule.trapezoidal { peak = 2, warmup = 10, steps = 100, decay = 40, final = 0.4 }(80))
  end)

  it("inverse_sqrt falls by the root of the step", function()
    local s = mb.schedule.inverse_sqrt { peak = 0.5, warmup = 100 }
    near(0.005, s(1))
    near(0.5, s(100))
    near(0.25, s(400))
    near(0.05, s(10000))
    near(1.5, mb.schedule.inverse_sqrt { peak = 3 }(4))
    near(3, mb.schedule.inverse_sqrt { peak = 3, warmup = 0 }(1))
  end)

  -- torch.optim.lr_scheduler.OneCycleLR(max_lr 0.1, total_steps 20, pct_start 0.3, div_factor 10, final_div_factor 100)
  it("one_cycle is PyTorch's", function()
    local shape = { peak = 0.1, steps = 20, rise = 0.3, start_factor = 10, final_factor = 100 }
    local wanted = { 0.01, 0.0185942352531, 0.0410942352531, 0.0689057647469, 0.0914057647469, 0.1, 0.0987476492135,
      0.0950533949517, 0.0891024825493, 0.0811933156028, 0.0717224927689, 0.0611649206511, 0.05005, 0.0389350793489,
      0.0283775072311, 0.0189066843972, 0.0109975174507, 0.00504660504827, 0.00135235078652, 0.0001 }
    local s = mb.schedule.one_cycle(shape)
    for step, lr in ipairs(wanted) do assert.near(lr, s(step), 1e-12) end
    near(0.0001, s(50))
    shape.shape = "linear"
    s = mb.schedule.one_cycle(shape)
    for step, lr in pairs { [2] = 0.028, [6] = 0.1, [13] = 0.05005, [19] = 0.00723571428571 } do
      assert.near(lr, s(step), 1e-12)
    end
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
    says("warmup 80 and decay 30 are more than the 100 steps", function()
      s.wsd { peak = 1, steps = 100, warmup = 80, decay = 30 }
    end)
    says("a whole number of steps, or a share", function() s.wsd { peak = 1, steps = 100, decay = 2.5 } end)
    says("mb.schedule.wsd takes a shape", function() s.trapezoidal { peak = 1, steps = 9, shape = "sqrt" } end)
    says("less than two steps", function() s.one_cycle { peak = 1, steps = 3 } end)
    says("mb.schedule has no 'base'", function() return s.base end)
    says("a step is a number, not nil", function() return (s.const(1)()) end)
  end)
end)

describe("schedules elsewhere", function()
  local arena = require "tests.arena_model"

  it("are thresholds", function()
    local model = arena.Plain { dtype = "f64" }
    local schedule = mb.schedule.linear { peak = 1, steps = 4, final = 0.2 }
    local spectral, norm = mb.clip.spectral { threshold = schedule, method = "exact" }, mb.clip.norm { threshold = schedule }
    for _, clip in ipairs { spectral, norm } do
      for step = 1, 5 do
        arena.set_gradients(model, step)
        local report = clip(model)
        near(schedule(step), (report[1] or report).tau)
      end
      assert.is_truthy(tostring(clip):find("linear(peak 1, warmup 0, steps 4, final 0.2)", 1, true))
    end
    helper.says("as a threshold it needs the sample's step", function()
      require("moonbow.threshold.policy").of("me", schedule) { sigma = 1, state = {} }
    end)
    local wrong = mb.clip.norm { threshold = mb.schedule.linear { peak = 1, steps = 2, final = -1 } }
    arena.set_gradients(model, 1)
    wrong(model)
    helper.says("returned the number -1", wrong, model)
  end)

  it("are radii", function()
    local radius = { matrix = mb.schedule.linear { peak = 3, steps = 4, final = 1 }, vector = function(step) return 1 / step end }
    local moving, fixed = arena.Plain { dtype = "f64" }, arena.Plain { dtype = "f64" }
    local opt = mb.optim.scion(moving, { lr = 0.1, radius = radius, msign = "exact" })
    for step = 1, 4 do
      fixed:load_state(moving:state())
      local radius_now = { matrix = radius.matrix(step), vector = 1 / step }
      local now = mb.optim.scion(fixed, { lr = 0.1, radius = radius_now, msign = "exact" })
      if step > 1 then
        now:load_state_dict(opt:state_dict())
      end
      arena.set_gradients(moving, step)
      arena.set_gradients(fixed, step)
      opt:step()
      now:step()
      for i, p in ipairs(moving:parameters()) do assert.is_true(p.value:equal(fixed:parameters()[i].value), p.name) end
    end
    local bad = mb.optim.scion(moving, { radius = function(step) return 1 - step end })
    helper.says("radius at step 1 must be more than 0", function() bad:step() end)
  end)
end)
