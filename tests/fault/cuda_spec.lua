-- Errors of the CUDA device, put there by the tests' stand-in (MOONBOW_CUDA_FAULT): what they say, that nothing is left
-- behind and the next step works, and that a device that is lost names the checkpoint to go on from.
local ffi = require "ffi"
local helper = require "tests.helper"
local mb = require "moonbow"
local runner = require "tests.smoke.runner"

pcall(ffi.cdef, "int setenv(const char *name, const char *value, int overwrite);")
local function set_fault(text) ffi.C.setenv("MOONBOW_CUDA_FAULT", text, 1) end


-- Runs step() with the n-th call of the device failing, for n = 1, 2, ... until all go through. Returns the texts.
local function with_faults(kind, step)
  local expected, texts, n = step(), {}, 0
  mb.collect()
  repeat
    n = n + 1
    local live, bytes = mb.memory().live_tensors, mb.memory("cuda").bytes_live
    set_fault(("%s:%d"):format(kind, n))
    local ok, result = coroutine.resume(coroutine.create(step))
    set_fault ""
    mb.collect()
    if not ok then
      texts[#texts + 1] = tostring(result)
      assert.are.equal(live, mb.memory().live_tensors, "tensors left after " .. tostring(result))
      assert.are.equal(bytes, mb.memory("cuda").bytes_live, "bytes left after " .. tostring(result))
      assert.are.equal(expected, step(), "the step after " .. tostring(result))
      mb.collect()
    else
      assert.are.equal(expected, result)
    end
  until ok and (kind == "plain" or n > #texts + 40)
  return texts
end

describe("a call that the device refuses", function()
  if not helper.is_stand_in then
    pending "runs on the tests' stand-in for a GPU only"
    return
  end

  local function has(texts, ...)
    for _, pattern in ipairs { ... } do
      local found = false
      for _, text in ipairs(texts) do found = found or text:find(pattern) ~= nil end
      assert(found, ("no '%s' among:\n%s"):format(pattern, table.concat(texts, "\n")))
    end
  end

  it("in a step of GPT-2 is named with its sizes, and the next step works", function()
    local model = mb.models.gpt2 { vocab_size = 7, block_size = 4, n_layer = 1, n_head = 2, n_embd = 4, seed = 1 }
    local clip = mb.clip.spectral { threshold = 1e-3 }
    local texts = with_faults("plain", function()
      model:zero_grad()
      mb.scope(function() model:loss({ inputs = mb.ids { { 1, 2, 3 } }, targets = mb.ids { { 2, 3, 4 } } }):backward() end)
      clip(model)
      return model:gradient_norm()
    end)
    assert.is_true(#texts > 50, #texts .. " failures")
    local refusal = "cudaErrorLaunchOutOfResources %(too many resources requested for launch%), at [%w_]+%.%a+:%d+ in "
    for _, text in ipairs(texts) do
      assert(text:find("cuda: [%w_]+") and text:find(refusal), text)
      assert.is_nil(text:find "\n")
    end
    has(texts, "cuda: gemm of f32, m 3, n 12, k 4: ", "cuda: layernorm_backward of f32, rows 3, columns 4: ",
      "cuda: attention of f32, batch 1, time 3, heads 2, width 2: ", "cuda: to_device, bytes 12: ",
      "at product.cu:%d+ in cublasLtMatmul",
      "cuda: embedding of f32, count 3, columns 4: ", "at memory.cu:%d+ in cudaMemcpyAsync",
      "at layernorm.cu:%d+ in ", "cuda: sum_squares of f32, ")
  end)

  it("for want of memory is tried again, or leaves nothing behind", function()
    local w = mb.ones(100, 3, { requires_grad = true })
    local texts = with_faults("memory", function()
      w:zero_grad()
      mb.memory_trim()
      mb.scope(function() mb.sum(mb.exp(w) * 2):backward() end)
      return w.grad:max():item()
    end)
    has(texts, "out of memory on cuda: 1200 bytes asked for f32 of shape %(100, 3%), ", "largest tensors: ")
  end)

  it("in a decomposition or an optimizer", function()
    local a = mb.randn(6, 4)
    has(with_faults("plain", function() return mb.linalg.svdvals(a):sum():item() end), "cuda: svd of f32, m 6, n 4, count 1: ",
      "at solver.cu:%d+ in cusolverDn gesvdj")
    local model = mb.models.mlp { n_input = 3, n_hidden = 4, n_layer = 1, n_output = 2, seed = 1 }
    local sgd = mb.optim.sgd(model, { lr = 0 })
    has(with_faults("plain", function()
      sgd:step()
      return 1
    end), "cuda: fuse of f32, %d+ arrays, %d+ steps, %d+ elements: ")
  end)
end)

describe("a device that is lost", function()
  if not helper.is_stand_in then
    pending "runs on the tests' stand-in for a GPU only"
    return
  end
  teardown(runner.clean)

  local function train(fault, arguments)
    return runner.shell(("MOONBOW_CUDA_FAULT=%s luajit '%s/scripts/train_gpt2.lua' --device cuda --plain %s"):format(fault,
      runner.root, arguments))
  end
  local small = "--n_layer 1 --n_head 2 --n_embd 8 --block_size 8 --batch_size 2 --sample_tokens 0 --eval_iters 1 --warmup 2 "

  it("fails every later call with the first one's name", function()
    local file = runner.folder() .. "/run.lua"
    local f = assert(io.open(file, "w"))
    f:write [[
      local mb = require "moonbow"
      mb.device "cuda"
      local a = mb.ones(3)
      local ok, first = pcall(mb.softmax, a)
      local again, second = pcall(mb.exp, a)
      local third, text = pcall(mb.device, "cuda")
      print(ok, again, third, first) print(second) print(text)
      print(mb.ones(2, { device = "cpu" }):sum():item())
    ]]
    f:close()
    local rc, said, complaint = runner.shell(("MOONBOW_CUDA_FAULT=sticky:1:softmax luajit '%s'"):format(file))
    assert.are.equal(0, rc, complaint)
    assert.matches("^false\tfalse\tfalse\t.-cuda: softmax of f32, outer 1, size 3, inner 1: cudaErrorIllegalAddress %(an illegal "
      .. "memory access was encountered%), at softmax.cu:%d+ in [%w_ ]+, or in work queued before it; the device is lost: this "
      .. "process must restart\n", said)
    local _, count = said:gsub("the device was lost to an earlier error, cudaErrorIllegalAddress at softmax.cu:%d+: this process "
      .. "must restart", "")
    assert.are.equal(2, count, said)
    assert.matches("\n2\n$", said)
  end)

  -- fault: of step 8; what: the operation that the error names.
  local function goes_on_after(fault, what, arguments)
    local text = runner.corpus(runner.folder() .. "/text", 3000)
    local whole, parts = runner.folder() .. "/whole", runner.folder() .. "/parts"
    local common = small .. arguments .. (" --data '%s' --steps 9 --save_every 3 --schedule const "):format(text)
    assert.are.equal(0, (train("", common .. ("--out '%s'"):format(whole))))
    local code, said, complaint = train(fault, common .. ("--out '%s'"):format(parts))
    assert.are.equal(1, code, said .. complaint)
    assert.are.equal(1, select(2, complaint:gsub("\n", "")), complaint)
    local path, out = complaint:match("the device is lost: this process must restart; the last checkpoint is (%S+), "
      .. "continue with %-%-resume (%S+)\n")
    assert.are.equal(parts .. "/step_00000006", path, complaint)
    assert.matches(what, complaint, 1, true)
    code, said, complaint = train("", ("--resume '%s'"):format(out))
    assert.are.equal(0, code, said .. complaint)
    assert.are.same(runner.losses(whole), runner.losses(parts))
  end

  it("ends training with exit code 1 and the last checkpoint, from which the run goes on as if nothing had been", function()
    -- One update a step, of both groups of parameters: the 8th fused program is that of step 8.
    goes_on_after("sticky:8:fused", "cuda: fuse of f32", "--graph off")
  end)

  it("does so in the middle of replayed steps", function()
    -- Two graphs a step from the third one on: the 12th launch is the update of step 8.
    goes_on_after("sticky:12:cudaGraphLaunch", "cuda: replay: cudaErrorIllegalAddress", "")
  end)

  it("says that there is no checkpoint before the first", function()
    local code, said, complaint = train("sticky:1:fused", small .. ("--steps 3 --out '%s/none'"):format(runner.folder()))
    assert.are.equal(1, code, said)
    assert.matches("must restart; there is no checkpoint yet", complaint, 1, true)
  end)
end)
