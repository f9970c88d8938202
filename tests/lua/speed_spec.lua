-- What a run says of its speed: parts of the start-up, operations of a token, the share of a peak.
require "tests.helper"
local mb = require "moonbow"
local speed = require "moonbow.report.speed"

describe("speed", function()
  it("adds up the parts of a start-up", function()
    local now = 100
    local start = speed.start(function() return now end)
    now = 101.5
    start:part "device"
    now = 103.25
    start:part "step"
    assert.equals("3.3 s to the end of the first step: device 1.5, step 1.8", start:text())
  end)

  it("counts a token's operations without the position embedding", function()
    local s = { vocab_size = 11, block_size = 6, n_layer = 2, n_head = 2, n_embd = 8 }
    local model = mb.models.gpt2(s)
    local n = 11 * 8 + 2 * (12 * 64 + 13 * 8) + 2 * 8
    assert.equals(6 * n + 6 * 2 * 8 * 6, speed.flops_of_token(model, s))
  end)

  it("names the peak that a share is of, and says nothing where there is none", function()
    local info = { name = "NVIDIA H200", multiprocessors = 132, clock = 1.98e9, peak = { bf16 = 132 * 1.98e9 * 4096 } }
    local text = speed.share(6e5, 8e8, info, "bf16")
    assert.equals("44.8 % of NVIDIA H200's 1071 TFLOP/s in bf16 (132 SMs at 1.98 GHz), "
      .. "by 6 N + 6 L C T = 800.0 MFLOP a token", text)
    assert.equals(nil, speed.share(6e5, 8e8, info, "f64"))
    assert.equals(nil, speed.share(6e5, 8e8, mb.device_info "cpu", "f32"))
  end)
end)
