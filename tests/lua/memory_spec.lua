-- Memory as Lua sees it: temporaries in constant memory, scopes, the second chance after a collection, and
-- nothing left behind. Figures are bounds on counts and bytes, never on time.
local helper = require "tests.helper"
local mb = require "moonbow"
local runtime = require "bindings.runtime"

mb.seed(helper.seed)

local MIB = 2 ^ 20

-- Did the process grow by more than `limit` bytes since it had `before`? The address sanitizer keeps freed
-- memory for a while, so there only the engine's own counts tell.
local function grew(before, limit)
  if (os.getenv "LD_PRELOAD" or ""):find "asan" then return false end
  return mb.system.peak_rss() - before > limit
end

-- Runs make(i) for i = 1..n and returns the most handles and bytes that were alive beyond those before.
local function most_alive(n, make)
  mb.collect()
  mb.memory_reset_peak()
  local before = mb.memory()
  local handles = 0
  for i = 1, n do
    make(i)
    if i % 1000 == 0 then handles = math.max(handles, mb.memory().live_tensors - before.live_tensors) end
  end
  return handles, mb.memory().bytes_peak - before.bytes_live
end

describe("a loop that makes and drops temporaries", function()
  it("holds a million tiny ones in constant memory", function()
    local t = mb.ones(4)
    local rss = mb.system.peak_rss()
    local handles, bytes = most_alive(1e6, function() return t * 2 end)
    assert.is_true(handles < 50000, handles .. " handles")
    assert.is_true(bytes < 64 * MIB, bytes .. " bytes")
    assert.is_false(grew(rss, 128 * MIB), "the process grew")
  end)

  it("holds a million of 1 MiB in constant memory", function()
    local rss = mb.system.peak_rss()
    local handles, bytes = most_alive(1e6, function() return mb.empty(512, 512) end)
    assert.is_true(handles < 1000, handles .. " handles")
    assert.is_true(bytes < 192 * MIB, bytes .. " bytes")
    assert.is_false(grew(rss, 256 * MIB), "the process grew")
  end)

  it("holds dropped graphs in constant memory", function()
    local w = mb.randn(256, 256, { requires_grad = true })
    local _, bytes = most_alive(300, function() return mb.sum(mb.exp(w * 0.1) * w) end)
    assert.is_true(bytes < 192 * MIB, bytes .. " bytes")
  end)

  it("holds as little inside a scope", function()
    local t = mb.ones(4)
    local most, before = 0, mb.memory().live_tensors
    mb.scope(function()
      for i = 1, 3e5 do
        local _ = t + 1
        if i % 1000 == 0 then most = math.max(most, mb.memory().live_tensors - before) end
      end
    end)
    assert.is_true(most < 50000, most .. " handles")
  end)
end)

describe("a scope", function()
  it("gives back what was made inside, at once", function()
    local a = mb.ones(1000)
    local inner
    mb.collect()
    local before = mb.memory().bytes_live
    local b = mb.scope(function()
      inner = a * 2
      return inner + 1
    end)
    assert.is_true(mb.memory().bytes_live - before <= 8192)
    assert.are.equal(3, b:totable()[1000])
    assert.is_false(inner.is_live)
    assert.are.equal("tensor (released)", tostring(inner))
    local text = helper.error_of(function() return inner + 1 end)
    assert.matches("memory_spec.lua:%d+: mb_affine: a was released: its mb.scope has ended", text)
    assert.matches("mb.keep", text, 1, true)
  end)

  it("asks the engine who else holds a tensor", function()
    local C = require("bindings.load").C
    local a = mb.ones(2, { requires_grad = true })
    assert.are.equal(1, C.mb_tensor_refs(a))
    local same = a:contiguous()
    assert.are.equal(2, C.mb_tensor_refs(a))
    local y = same * 2 -- the graph holds its leaf
    assert.are.equal(3, C.mb_tensor_refs(a))
    assert.are.equal(1, C.mb_tensor_refs(y))
  end)

  it("passes on what it returns, also in tables, and its other results", function()
    local r, n, s = mb.scope(function(x)
      return { a = mb.ones(2), list = { mb.zeros(3), { mb.ones(1) } } }, x, "text"
    end, 5)
    assert.are.same({ 1, 1 }, r.a:totable())
    assert.are.same({ 0, 0, 0 }, r.list[1]:totable())
    assert.are.same({ 1 }, r.list[2][1]:totable())
    assert.are.equal(5, n)
    assert.are.equal("text", s)
  end)

  it("leaves alone what was made before, and what others hold", function()
    local a = mb.ones(2, 2, { requires_grad = true })
    local grad, same
    local loss = mb.scope(function()
      same = a:contiguous()
      local l = mb.sum(a * a)
      l:backward()
      grad = a.grad
      return l
    end)
    assert.are.equal(4, loss:item())
    assert.is_true(same.is_live)
    assert.is_false(grad.is_live) -- this handle of it was made inside
    assert.are.same({ { 2, 2 }, { 2, 2 } }, a.grad:totable())
  end)

  it("keeps the graph of a result that is to be differentiated", function()
    local w = mb.tensor({ 1, 2, 3 }, { requires_grad = true })
    local loss = mb.scope(function()
      local x = w * w
      local y = mb.exp(x)
      return mb.sum(y)
    end)
    loss:backward()
    local g = w.grad:totable()
    for i = 1, 3 do assert.is_true(math.abs(g[i] - 2 * i * math.exp(i * i)) < 1e-5 * g[i]) end
  end)

  it("is kept from by mb.keep and t:keep()", function()
    local kept, also = {}, nil
    mb.scope(function()
      kept[1] = mb.keep(mb.ones(2))
      mb.scope(function() also = mb.ones(3):keep() end)
    end)
    assert.are.same({ 1, 1 }, kept[1]:totable())
    assert.are.same({ 1, 1, 1 }, also:totable())
  end)

  it("nests: what the inner returns belongs to the outer", function()
    local middle
    local out = mb.scope(function()
      middle = mb.scope(function() return mb.ones(2) end)
      return middle * 3
    end)
    assert.are.same({ 3, 3 }, out:totable())
    assert.is_false(middle.is_live)
  end)

  it("ends when an error leaves it", function()
    local inner
    assert.has_error(function()
      mb.scope(function()
        inner = mb.ones(2)
        error "inside"
      end)
    end)
    assert.is_false(inner.is_live)
    assert.is_true(mb.ones(2).is_live)
  end)
end)

describe("no_grad", function()
  local w = mb.ones(2, { requires_grad = true })

  it("records nothing, and switches back", function()
    local y = mb.no_grad(function() return w * 2 end)
    assert.is_false(y.requires_grad)
    assert.has_error(function() mb.no_grad(function() error "inside" end) end)
    assert.is_true((w * 2).requires_grad)
  end)
end)

describe("a second chance after a collection", function()
  it("frees a dropped graph that blocks a change in place", function()
    local w = mb.ones(3, { requires_grad = true })
    do
      local y = w * w
      assert.is_true(y.requires_grad)
    end
    w:add_(mb.ones(3))
    assert.are.same({ 2, 2, 2 }, w:totable())
  end)

  it("is not given to a graph that is still held", function()
    local w = mb.ones(3, { requires_grad = true })
    local y = w * w
    local text = helper.error_of(function() w:add_(mb.ones(3)) end)
    assert.matches("memory_spec.lua:%d+: mb_add_: .*still needed by the backward", text)
    assert.is_true(y.requires_grad)
    assert.are.same({ 1, 1, 1 }, w:totable())
  end)

  it("frees garbage when memory is short", function()
    mb.collect()
    mb.memory_budget(mb.memory().bytes_live + 10 * MIB)
    for _ = 1, 100 do
      local t = mb.ones(512, 512)
      assert.is_true(t.is_live)
    end
    mb.memory_budget(0)
  end)

  it("ends with the largest tensors, on one line", function()
    mb.collect()
    local big = mb.ones(700, 1000)
    mb.memory_budget(mb.memory().bytes_live + MIB)
    local text = helper.error_of(function()
      local t = mb.ones(512, 1024)
      return t
    end)
    mb.memory_budget(0)
    assert.matches("memory_spec.lua:%d+: ", text)
    assert.matches("largest tensors: 2.7 MiB f32 (700, 1000)", text, 1, true)
    assert.is_nil(text:find "\n")
    assert.is_true(big.is_live)
  end)

  it("is not given to a backward, whose graph is gone after a failure", function()
    local w = mb.ones(512, 512, { requires_grad = true })
    local loss = (w * w):sum()
    runtime.fail_allocation(3)
    local text = helper.error_of(function() loss:backward() end)
    runtime.fail_allocation(0)
    assert.matches("memory_spec.lua:%d+: .*largest tensors: ", text)
    w:zero_grad();
    (w * w):sum():backward()
    assert.are.equal(2, w.grad:max():item())
  end)

  it("is given to one failed allocation", function()
    for n = 1, 3 do
      runtime.fail_allocation(n)
      local t = mb.ones(3) + mb.ones(3)
      runtime.fail_allocation(0)
      assert.are.same({ 2, 2, 2 }, t:totable())
    end
  end)
end)

describe("nothing is left behind", function()
  it("by arithmetic, gradients, views and errors", function()
    helper.no_leaks(function()
      local w = mb.randn(3, 4, { requires_grad = true })
      local loss = mb.sum(mb.tanh(w:transpose(1, 2) * 2) ^ 2)
      loss:backward()
      assert.are.same({ 3, 4 }, w.grad.shape)
      pcall(function() return w + mb.ones(5) end)
      pcall(function() return w:reshape(7) end)
      pcall(function() return mb.tensor { { 1 }, { 1, 2 } } end)
    end)
  end)

  it("by models", function()
    helper.no_leaks(function()
      local model = mb.models.define {
        name = "small", parameters = function(add) add("w", { 2, 3 }, { role = "matrix", init = "ones" }) end,
        forward = function(p, batch) return mb.linear(batch.inputs, p.w) end,
        loss = function(y) return mb.sum(y) end,
      } {}
      model:backward { inputs = mb.ones(4, 3) }
      assert.are.same({ { 4, 4, 4 }, { 4, 4, 4 } }, model:parameter("w").grad:totable())
    end)
  end)
end)
