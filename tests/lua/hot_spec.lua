-- SPDX-License-Identifier: MIT
--
-- hot_spec.lua: tensors and numbers in loops that LuaJIT compiles, whose results are those of the interpreter. LuaJIT 2.1 once
-- took tensor + number for pointer arithmetic there (bindings/handle.lua).
local mb = require "moonbow"

local formulas = {
  function(x) return x + 2 end, function(x) return 2 + x end, function(x) return x - 2 end, function(x) return 2 - x end,
  function(x) return x + 2 - 1 end, function(x) return (x * 2 + 1) / 3 - x end, function(x) return -x + 1 end,
  function(x) return x:abs() + 2 end, function(x) return x:sum() + x.numel end,
}

describe("hot loops", function()
  it("compute with tensors and numbers", function()
    local x = mb.tensor({ 1, -2, 3 }, { dtype = "f64" })
    for i, formula in ipairs(formulas) do
      local got
      for _ = 1, 500 do got = formula(x) end
      jit.off()
      local ok, wanted = pcall(loadstring(string.dump(formula)), x)
      jit.on()
      assert.is_true(ok and got:equal(wanted), "formula " .. i)
    end
  end)

  it("read tensors while they make them", function()
    local x, total = mb.ones(3, 2), 0
    for i = 1, 2000 do
      local y = mb.square(x) + i
      total = total + mb.sum(y):item() + #y.shape + y.numel
    end
    assert.are.equal(6 * 2000 + 6 * 2000 * 2001 / 2 + 8 * 2000, total)
  end)
end)
