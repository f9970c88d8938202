-- SPDX-License-Identifier: MIT
--
-- cudnn_run_spec.lua: a run whose attention is cuDNN's, by the library that stands for it (libraries/cudnn_on_the_host.cpp):
-- it says so, its graphs take it over, and resumed in the middle it ends with the same bits; where the library is gone, the
-- resumed run says that, and goes on without.

local helper = require "tests.helper"

local build = (os.getenv "MOONBOW_LIB" or ""):match "^(.*)/[^/]*$" or "build"
local plugin, library = build .. "/tests/libmoonbow_cuda_host.so", build .. "/tests/libcudnn_on_the_host.so"

local function exists(path)
  local file = io.open(path)
  return file ~= nil and file:close()
end

local SIZES = "--device cuda --dtype bf16 --steps 4 --n_layer 2 --n_head 2 --n_embd 64 --block_size 64 --batch_size 2 "
  .. "--eval_every 100 --save_every 2 --sample_every 0 --seed " .. helper.seed % 1000

-- What a run prints.
local function train(cudnn, arguments)
  local command = ("MOONBOW_CACHE= MOONBOW_TUNE=0 MOONBOW_CUDA_PLUGIN=%s MOONBOW_CUDNN=%s luajit scripts/train_gpt2.lua %s 2>&1")
    :format(plugin, cudnn, arguments)
  local pipe = io.popen(command)
  local text = pipe:read "*a"
  pipe:close()
  return text
end

local function sums(folder)
  local pipe = io.popen(("cd %s && sha256sum model.safetensors optimizer.safetensors products.txt"):format(folder))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

describe("a run with cuDNN's attention", function()
  if not exists(plugin) or not exists(library) then
    return pending("there is no stand-in for a GPU, or for cuDNN: " .. library)
  end

  it("repeats its bits when it is resumed, and says when it cannot", function()
    local out = os.tmpname()
    os.remove(out)
    local said = train(library, SIZES .. " --out " .. out)
    assert.matches("attention %(2, 64, 2, 32%) forward: cuDNN 9%.19%.0", said)
    assert.matches("attention %(2, 64, 2, 32%) backward: cuDNN 9%.19%.0", said)
    assert.matches("graphs  forward and backward: 1", said)
    local whole = sums(out .. "/step_00000004")
    assert.matches("model.safetensors", whole)
    os.execute(("rm -r %s/step_00000004"):format(out))
    train(library, ("--resume %s/step_00000002"):format(out))
    assert.are.equal(whole, sums(out .. "/step_00000004"))
    said = train("", ("--resume %s/step_00000002"):format(out))
    assert.matches("attention took cuDNN 9%.19%.0, here is none", said)
    assert.matches("forward: own kernel: no cuDNN, MOONBOW_CUDNN wants none", said)
    assert.are_not.equal(whole, sums(out .. "/step_00000004"))
    os.execute("rm -r " .. out)
  end)
end)
