-- SPDX-License-Identifier: MIT
--
-- checkpoint_spec.lua: what goes into a checkpoint comes out of it, the right one is chosen, and what is
-- wrong is named. Crashes, damage and full disks are in tests/fault/.

local mb = require "moonbow"
local create = require "bindings.create"
local helper = require "tests.helper"
local scratch = require "tests.scratch"
local state = require "moonbow.io.state"

-- An object with a state, as optimizers and clippers are.
local function holder(value)
  return {
    value = value,
    state_dict = function(self) return self.value end,
    load_state_dict = function(self, s) self.value = s end,
  }
end

-- The same by a model's names.
local function model_of(tensors)
  return {
    tensors = tensors,
    state = function(self) return self.tensors end,
    load_state = function(self, t) self.tensors = t end,
  }
end

describe("states", function()
  local function round_trip(value)
    local tree, tensors = state.pack(value)
    assert(tree ~= nil, tensors)
    local json = require "moonbow.io.json"
    return assert(state.unpack(assert(json.decode(assert(json.encode(tree)))), tensors))
  end

  it("come back equal, with odd keys and numbers", function()
    for _, value in ipairs {
      { a = 1, b = "x", c = true, d = false, e = {}, f = { 1, 2, { 3 } } },
      { [1] = 1, [2] = 2, [4] = 4 }, { [0] = "zero", [1] = "one" }, { x = 1, [1] = 2, [true] = 3 },
      { ["$tensor"] = "x" }, { ["$number"] = 1 }, { ["$pairs"] = {} }, { [2.5] = 1, [-1] = 2, [2 ^ 52] = 3 },
      { inf = math.huge, minus = -math.huge, tenth = 0.1, third = 1 / 3, tiny = 5e-324, big = 2 ^ 53 + 2, neg = -0.0 },
      { window = { math.huge, 1, -math.huge }, ["a.b"] = { c = 1 } }, {}, { "NaN", "Infinity" }, { "" },
    } do
      local back = round_trip(value)
      assert.are.same(value, back)
    end
    local nan = round_trip({ x = 0 / 0 }).x
    assert.is_true(nan ~= nan)
    assert.are.equal(-math.huge, 1 / round_trip({ x = -0.0 }).x)
    assert.is_nil(getmetatable(round_trip({ { 1 } })[1]))
  end)

  it("give tensors names that are their paths, each its own", function()
    local t, u, v = mb.ones(1), mb.ones(2), mb.ones(3)
    local tree, tensors = state.pack { a = { b = t }, ["a.b"] = u, list = { v, t } }
    assert.are.equal(4, (function() local n = 0 for _ in pairs(tensors) do n = n + 1 end return n end)())
    local back = state.unpack(tree, tensors)
    assert.are.equal(1, back.a.b.numel)
    assert.are.equal(2, back["a.b"].numel)
    assert.are.equal(3, back.list[1].numel)
    assert.is_not_nil(tensors["list.1"])
  end)

  it("cannot hold functions, cycles or handles of other kinds", function()
    local function fails(part, value)
      local tree, problem = state.pack(value)
      assert.is_nil(tree)
      assert.is_truthy(problem:find(part, 1, true), problem)
    end
    fails("a.b is a function", { a = { b = print } })
    fails("is a cdata", { a = 1ull })
    local loop = { inner = {} }
    loop.inner.loop = loop
    fails("contains itself", loop)
    fails("a key that is a table", { [{}] = 1 })
    local shared = { 1 }
    assert.are.same({ a = { 1 }, b = { 1 } }, round_trip { a = shared, b = shared })
  end)

  it("find the first number that is not finite", function()
    local function bad(tensors) return { state.find_nonfinite(tensors) } end
    assert.are.same({}, bad { a = mb.ones(5), b = mb.tensor({ 3 }, { dtype = "i32" }), c = mb.tensor { 3e38, -3e38 } })
    assert.are.same({ "b", 2, math.huge }, bad { a = mb.ones(5), b = mb.tensor { 1, 2, math.huge, 0 / 0 } })
    assert.are.same({ "c", 1, -math.huge },
      bad { c = mb.tensor({ { 1, 2 }, { -math.huge, 4 } }, { dtype = "f64" }):transpose(1, 2):slice(1, 1, 1) })
    local nan = bad { z = mb.tensor { 0 / 0 } }
    assert.are.equal("z", nan[1])
    assert.is_true(nan[3] ~= nan[3])
  end)
end)

describe("mb.checkpoint", function()
  local folder

  before_each(function() folder = scratch.folder() .. "/run" end)
  after_each(scratch.clean)

  local function save(step, more)
    local parts = { step = step, model = model_of { w = mb.full({ 3 }, step) } }
    for key, value in pairs(more or {}) do parts[key] = value end
    return mb.checkpoint.save(folder, parts)
  end

  local function folders()
    local list = {}
    for _, name in ipairs(mb.system.list(folder)) do
      if name ~= "checkpoint.lock" then list[#list + 1] = name end
    end
    return list
  end

  it("brings everything back", function()
    mb.seed(77)
    mb.randn(3)
    local model = model_of { ["h.0.w"] = mb.randn(4, 3), b = mb.randn({ 2 }, { dtype = "f64" }) }
    local seed, step, stream = create.rng_get()
    local optimizer = holder { step = 3, m = { w = mb.ones(5), v = mb.zeros(2, 2) }, lr = 0.1, flags = { true, false } }
    local clip = holder { tau = { 1 / 3, math.huge }, names = { "a", "b" } }
    local data = holder { position = 123456 }
    local path = mb.checkpoint.save(folder, { model = model, optimizer = optimizer, clip = clip, data = data, step = 42,
      config = { n = 3, name = "x", rate = 0.1, list = { 1, 2 } } })
    assert.are.equal(folder .. "/step_00000042", path)
    local expected_next = mb.randn(5):totable()

    mb.seed(1)
    local m, o, c, d = model_of {}, holder(), holder(), holder()
    local found = mb.checkpoint.load(folder, { model = m, optimizer = o, clip = c, data = d })
    assert.are.equal(42, found.step)
    assert.are.equal(path, found.path)
    assert.are.same({}, found.notes)
    assert.are.same({ n = 3, name = "x", rate = 0.1, list = { 1, 2 } }, found.config)
    assert.are.same({ seed, step, stream }, { create.rng_get() })
    assert.are.same(expected_next, mb.randn(5):totable())
    for name, t in pairs(model.tensors) do
      assert.are.equal(t.dtype, m.tensors[name].dtype)
      assert.are.same(t:totable(), m.tensors[name]:totable())
    end
    assert.are.same(optimizer.value.m.w:totable(), o.value.m.w:totable())
    assert.are.same(optimizer.value.m.v:totable(), o.value.m.v:totable())
    o.value.m, optimizer.value.m = nil, nil
    assert.are.same(optimizer.value, o.value)
    assert.are.same(clip.value, c.value)
    assert.are.same(data.value, d.value)

    local weights = mb.safetensors.load(path .. "/model.safetensors") -- plain names, for other programs
    assert.is_not_nil(weights["h.0.w"])
  end)

  it("makes a resumed run equal to an uninterrupted one, bit for bit", function()
    local text = ("the moon bow shines on rain at night. "):rep(30)
    local function make()
      mb.seed(3)
      local data = mb.data.text { text = text, block_size = 8, batch_size = 2 }
      local model = mb.models.gpt2 { vocab_size = data.vocab_size, block_size = 8, n_layer = 2, n_head = 2, n_embd = 16,
                                     dropout = 0.1, seed = 5 }
      return { model = model, data = data, optimizer = mb.optim.adamw(model, { lr = 1e-2 }) }
    end
    local function train(run, first, last, after_step)
      local losses = {}
      for step = first, last do
        run.optimizer:zero_grad()
        local loss = run.model:loss(run.data:batch())
        loss:backward()
        run.optimizer:step()
        losses[#losses + 1] = loss:item()
        if after_step then after_step(step) end
      end
      return losses
    end
    local whole = make()
    local losses = train(whole, 1, 12, function(step)
      if step == 5 then
        mb.checkpoint.save(folder, { model = whole.model, optimizer = whole.optimizer, data = whole.data, step = step })
      end
    end)
    local resumed = make()
    train(resumed, 1, 2) -- whatever it did before is gone
    assert.are.equal(5, mb.checkpoint.load(folder, resumed).step)
    assert.are.same({ unpack(losses, 6) }, train(resumed, 6, 12))
  end)

  it("gives only what is asked for", function()
    save(1, { clip = holder { a = 1 } })
    local m = model_of {}
    assert.are.equal(1, mb.checkpoint.load(folder, { model = m }).step)
    assert.are.equal(1, m.tensors.w:totable()[1])
    local problem = helper.error_of(mb.checkpoint.load, folder, { optimizer = holder() })
    assert.is_truthy(problem:find("holds no optimizer", 1, true), problem)
  end)

  it("keeps the newest ones", function()
    for step = 10, 50, 10 do save(step) end
    assert.are.same({ "step_00000040", "step_00000050" }, folders())
    save(60, { keep = 1 })
    assert.are.same({ "step_00000060" }, folders())
    for step = 70, 90, 10 do save(step, { keep = 0 }) end
    assert.are.equal(4, #folders())
  end)

  it("takes the one saved last as newest, whatever its step", function()
    save(100)
    save(200)
    save(150) -- after going back to 100
    assert.are.equal(150, mb.checkpoint.peek(folder).step)
    assert.are.same({ "step_00000150", "step_00000200" }, folders())
    assert.are.equal(200, mb.checkpoint.load(folder .. "/step_00000200", {}).step)
  end)

  it("replaces a checkpoint of the same step", function()
    save(5)
    mb.checkpoint.save(folder, { step = 5, model = model_of { w = mb.full({ 3 }, 55) }, keep = 1 })
    local m = model_of {}
    mb.checkpoint.load(folder, { model = m })
    assert.are.equal(55, m.tensors.w:totable()[1])
    assert.are.same({ "step_00000005" }, folders())
  end)

  it("refuses weights that are not finite, and keeps the old ones", function()
    save(1)
    local problem = helper.error_of(save, 2, { model = model_of { good = mb.ones(2), bad = mb.tensor { 1, 0 / 0 } } })
    assert.is_truthy(problem:find("element 1 of 'bad' (model) is NaN", 1, true), problem)
    problem = helper.error_of(save, 2, { optimizer = holder { m = mb.tensor { math.huge } } })
    assert.is_truthy(problem:find("'m' (optimizer) is Infinity", 1, true), problem)
    assert.are.same({ "step_00000001" }, folders())
    assert.are.equal(1, mb.checkpoint.load(folder, {}).step)
  end)

  it("names every setting that differs", function()
    save(1, { config = { n_layer = 4, n_head = 2, lr = 0.5, name = "a" } })
    local loaded = model_of {}
    local problem = helper.error_of(mb.checkpoint.load, folder,
      { model = loaded, config = { n_layer = 6, n_head = 2, name = "b", new = 1 } })
    for _, part in ipairs { "n_layer is 4 there, 6 here", "name is a there, b here", "new is not set there, 1 here" } do
      assert.is_truthy(problem:find(part, 1, true), problem)
    end
    assert.is_nil(problem:find("n_head", 1, true))
    assert.is_nil(loaded.tensors.w)
    assert.are.equal(1, mb.checkpoint.load(folder, { config = { n_layer = 4, lr = 0.5 } }).step)
  end)

  it("says when there is none", function()
    local function fails(part, dir)
      for _, fn in ipairs { mb.checkpoint.load, mb.checkpoint.peek } do
        local problem = helper.error_of(fn, dir, fn == mb.checkpoint.load and {} or nil)
        assert.is_truthy(problem:find(part, 1, true), problem)
        assert.is_truthy(problem:find(dir, 1, true), problem)
      end
    end
    fails("no folder", folder .. "/none")
    mb.system.make_folder(folder)
    fails("no checkpoint", folder)
    fails("is a file", scratch.write(folder .. "/file", ""))
    mb.system.make_folder(folder .. "/step_00000007.tmp")
    fails("only an unfinished one, step_00000007.tmp", folder)
    mb.system.make_folder(folder .. "/step_00000006")
    fails("step_00000006: manifest.json is missing", folder)
  end)

  it("clears unfinished saves at the next one", function()
    save(1)
    mb.system.make_folder(folder .. "/step_00000002.tmp")
    assert.are.same({ "step_00000002.tmp is an unfinished save; using step_00000001" }, mb.checkpoint.load(folder, {}).notes)
    save(3)
    assert.are.same({ "step_00000001", "step_00000003" }, folders())
  end)

  it("checks its options", function()
    local function fails(part, parts)
      local problem = helper.error_of(mb.checkpoint.save, folder, parts)
      assert.is_truthy(problem:find(part, 1, true), problem)
      assert.are.equal("none", mb.system.path_kind(folder))
    end
    fails("'step' is missing", {})
    fails("did you mean 'optimizer'", { step = 1, optimiser = holder() })
    fails("'step' must be an integer", { step = 1.5 })
    fails("neither state_dict() nor state()", { step = 1, model = {} })
    fails("optimizer: a is a function", { step = 1, optimizer = holder { a = print } })
    fails("config: f is a function", { step = 1, config = { f = print } })
  end)

  it("does not save where another save is going on", function()
    mb.system.make_folder(folder)
    local lock = mb.system.lock(folder .. "/checkpoint.lock")
    assert.is_truthy(helper.error_of(save, 1):find("is locked", 1, true))
    mb.system.unlock(lock)
    save(1)
    assert.are.equal(1, mb.checkpoint.peek(folder).step)
  end)

  -- Which algorithms products of matrices take is timed: another process might find others, which round differently.
  it("keeps which algorithms the products of a run on cuda took", function()
    local runtime = require "bindings.runtime"
    local model = mb.models.mlp { n_input = 64, n_hidden = 64, n_output = 8 }
    mb.no_grad(function() model:logits { inputs = mb.ones(64, 64) } end)
    local path = mb.checkpoint.save(folder, { model = model, step = 1 })
    local file = io.open(path .. "/products.txt", "rb")
    if helper.device == "cpu" then
      assert.is_nil(file)
      assert.are.equal("", runtime.choices "cpu")
      helper.says("the device in use has no choices", function() error(runtime.set_choices("cpu", "moonbow")) end)
      return
    end
    local text = file:read "*a"
    file:close()
    assert.matches("^moonbow products 2: [^\n]+\n64 64 64 ", text)
    assert.are.equal(text, runtime.choices "cuda")
    assert.are.same({}, mb.checkpoint.load(folder, { model = model }).notes)
    assert.are.equal(text, runtime.choices "cuda")
    local older = text:gsub("2: [^\n]+", "2: a GPU of another time")
    assert.matches("are those of a GPU of another time, this is", runtime.set_choices("cuda", older))
    helper.says("no text of this program", runtime.set_choices, "cuda", "nonsense\n")
  end)

  it("frees what it used", function()
    helper.no_leaks(function()
      save(1)
      mb.checkpoint.load(folder, { model = model_of {} })
      pcall(save, 2, { model = model_of { w = mb.tensor { 0 / 0 } } })
    end)
  end)
end)
