-- SPDX-License-Identifier: MIT
--
-- device.lua: is the device there, and does it compute? One product, one sum and one program in each dtype: what must work
-- before anything else is worth running.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"

cli.main("gpu_check/device", function()
  local mb = require "moonbow"
  mb.device "cuda"
  print(mb.build_info())
  for _, dtype in ipairs { "f32", "f64", "bf16" } do
    local a, b = mb.ones(33, 65):to(dtype), mb.ones(65, 17):to(dtype)
    local sum = mb.matmul(a, b):to("f64"):sum():item()
    if sum ~= 33 * 65 * 17 then cli.fail(1, "a product of ones in %s sums to %.17g, not %d", dtype, sum, 33 * 65 * 17) end
  end
  local t = mb.fuse(function(p, h) p.y = h.a * p.x + p.y end)({ x = mb.ones(1000), y = mb.ones(1000) }, { a = 2 })
  if t.y:sum():item() ~= 3000 then cli.fail(1, "a fused program gives %g, not 3000", t.y:sum():item()) end
  print("products in f32, f64 and bf16 and a fused program are right")
  return 0
end)
