-- SPDX-License-Identifier: MIT
--
-- cudnn.lua: does attention by cuDNN repeat its bits, and which of the two computes which shape? Prints what the device notes,
-- with the times of both where they were taken. Ends with 77 where there is no cuDNN. Sizes may be scaled down: cudnn.lua 16;
-- results go into a file if one is named: cudnn.lua 1 FILE.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"

-- Sequences, positions, heads, width: GPT-2's, the same with wide heads, nanoGPT's small one, whole tiles nowhere.
local SHAPES = { { 64, 1024, 12, 64 }, { 64, 1024, 6, 128 }, { 64, 256, 6, 64 }, { 8, 1000, 12, 64 } }

-- The output and the gradient of packed heads, from numbers that are the same every time.
local function attend(mb, B, T, H, D)
  mb.seed(7)
  local qkv = mb.randn(B, T, 3 * H * D):to("bf16"):detach()
  local weights = mb.randn(B, T, H * D):to "bf16"
  qkv:requires_grad_()
  local out = mb.attention_packed(qkv, H)
  mb.sum(out * weights):backward()
  return out:detach(), qkv.grad
end

cli.main("gpu_check/cudnn", function()
  local mb = require "moonbow"
  mb.device "cuda"
  mb.synchronize() -- a device that was not used notes nothing
  local none = mb.device_notes():match "^no cuDNN[^\n]*"
  if none then
    print(none)
    return 77
  end
  local scale, results = tonumber(arg[1] or 1), {}
  for i, shape in ipairs(SHAPES) do
    local B, T, H, D = math.max(1, math.floor(shape[1] / scale)), math.max(16, math.floor(shape[2] / scale)), shape[3], shape[4]
    mb.scope(function()
      local out, grad = attend(mb, B, T, H, D)
      local again, grad_again = attend(mb, B, T, H, D)
      if not (out:equal(again) and grad:equal(grad_again)) then
        cli.fail(1, "attention of (%d, %d, %d, %d) does not repeat its bits", B, T, H, D)
      end
      if arg[2] then results["out" .. i], results["grad" .. i] = mb.keep(out:to "cpu"), mb.keep(grad:to "cpu") end
    end)
    mb.collect()
  end
  if arg[2] then mb.safetensors.save(arg[2], results) end
  io.write(mb.device_notes())
  print(("%d shapes repeat their bits, forward and backward"):format(#SHAPES))
  return 0
end)
