-- Tensors as scripts see them: making, reading, arithmetic, gradients, and the text and place of errors.
local helper = require "tests.helper"
local mb = require "moonbow"

describe("arithmetic", function()
  local a = mb.tensor({ { 1, 2 }, { 3, 4 } }, { dtype = "f64" })

  it("takes tensors and numbers on either side", function()
    assert.are.same({ { 2, 3 }, { 4, 5 } }, (a + 1):totable())
    assert.are.same({ { 0, -1 }, { -2, -3 } }, (1 - a):totable())
    assert.are.same({ { 0, 1 }, { 2, 3 } }, (a - 1):totable())
    assert.are.same({ { 3, 6 }, { 9, 12 } }, (3 * a):totable())
    assert.are.same({ { 1 / 3, 2 / 3 }, { 3 / 3, 4 / 3 } }, (a / 3):totable())
    assert.are.same({ { 12, 6 }, { 4, 3 } }, (12 / a):totable())
    assert.are.same({ { 1, 4 }, { 9, 16 } }, (a ^ 2):totable())
    assert.are.same({ { 2, 4 }, { 8, 16 } }, (2 ^ a):totable())
    assert.are.same({ { -1, -2 }, { -3, -4 } }, (-a):totable())
    assert.are.same({ { 2, 4 }, { 6, 8 } }, (a + a):totable())
  end)

  it("adds into the gradients of leaves", function()
    local w = mb.tensor({ 1, 2, 3 }, { dtype = "f64", requires_grad = true })
    assert.is_nil(w.grad);
    (w * w * 2):backward(mb.ones_like(w))
    assert.are.same({ 4, 8, 12 }, w.grad:totable())
  end)

  it("reports errors at the user's line", function()
    local line = debug.getinfo(1, "l").currentline + 1
    local text = helper.error_of(function() return a + mb.zeros(3, { dtype = "f64" }) end)
    local expected = "tests/lua/tensor_spec.lua:%d: mb_add: shapes do not fit, a is (2, 2), b is (3)"
    assert.are.equal(expected:format(line), (text:gsub("^.*(tests/lua)", "%1")))
  end)
end)
