-- SPDX-License-Identifier: MIT
--
-- bench_gpu_spec.lua: scripts/bench/gpu.lua and roofline.lua on the stand-in for a GPU, in tiny sizes and without a peer: every
-- part runs and leaves its figures. What is measured or predicted is not tested.

local runner = require "tests.smoke.runner"

local stand_in = (os.getenv "MOONBOW_LIB" or "build/libmoonbow.so"):gsub("[^/]*$", "") .. "tests/libmoonbow_cuda_host.so"

local function it_on_stand_in(name, fn)
  it(name, function()
    if runner.read(stand_in) == "" then pending "the plugin for the host was not built" end
    fn()
  end)
end

local function bench(name, arguments)
  return runner.shell(("MOONBOW_CUDA_PLUGIN='%s' OMP_WAIT_POLICY=passive luajit '%s/scripts/bench/%s.lua' %s"):format(stand_in,
    runner.root, name, arguments))
end

local function record_of(path) return require("cjson").decode(runner.read(path)) end

describe("bench/gpu.lua", function()
  after_each(runner.clean)

  it_on_stand_in("rehearses every part on the host", function()
    local path = runner.folder() .. "/figures.json"
    local code, said, complaint = bench("gpu", ("--host --peer none --record '%s'"):format(path))
    assert.are.equal(0, code, said .. complaint)
    assert.is_truthy(said:find("train: tokens/s +%d+ +>= 550000 +%(rehearsal%)"), said)
    assert.is_truthy(said:find("rehearsed: %d+ figures, 0 failed"), said)
    assert.is_truthy(said:find("kernel +dtype +shape"), said)
    local record = record_of(path)
    assert.is_true(record.rehearsal)
    for _, name in ipairs { "train", "small", "clip1", "clip2", "muon", "adamw", "startup cold", "startup warm", "roofline" } do
      local f = record.figures[name]
      assert(f and f.seconds, name .. " has no figure\n" .. complaint)
    end
    assert.is_true(record.figures.train.peak_bytes > 0)
    assert.is_true(#record.figures["startup cold"].parts >= 4)
    assert.are.equal("moonbow 0.1.0", record.figures.train.what)
  end)

  it_on_stand_in("says what failed, and goes on", function()
    local code, said = bench("gpu", "--host --peer /bin/false --part muon,adamw")
    assert.are.equal(0, code, said) -- a peer that is missing is no failure of ours
    assert.is_truthy(said:find("failed: muon torch[^\n]*: exit code 1 and no answer"), said)
    assert.is_truthy(said:find "muon: a step", said)
    code, said = bench("gpu", "--part adamw --rounds 1 --peer none --budget 15")
    assert.are.equal(0, code, said)
    assert.is_truthy(said:find("left out, the budget was spent: adamw", 1, true), said)
    local _, _, complaint = bench("gpu", "--part everything")
    assert.is_truthy(complaint:find("there is no 'everything'", 1, true), complaint)
  end)

  it_on_stand_in("spends no minutes where the figures have no place, or there is no device", function()
    local code, said, complaint = bench("gpu", "--host --part adamw --peer none --record /nowhere/figures.json")
    assert.are.equal("bench/gpu: --record: /nowhere/figures.json: No such file or directory\n", complaint)
    assert.are.equal(1, code, said)
    code, said, complaint = runner.shell(("MOONBOW_CUDA_PLUGIN=/nowhere luajit '%s/scripts/bench/gpu.lua' --peer none"):format(
      runner.root))
    assert.is_truthy(complaint:find "^bench/gpu: device cuda is not available: [^\n]+\n$", complaint)
    assert.are.equal(1, code, said)
  end)

  it_on_stand_in("counts what a graph keeps as memory of the step", function()
    local path = runner.folder() .. "/figures.json"
    assert.are.equal(0, (bench("gpu", ("--host --part train --peer none --record '%s'"):format(path))))
    local predicted = runner.folder() .. "/predicted.json" -- the same step without a graph
    assert.are.equal(0, (bench("roofline", ("--quick --part train --record '%s'"):format(predicted))))
    local graphed, plain = record_of(path).figures.train.peak_bytes, record_of(predicted).parts.train.peak_bytes
    assert.is_true(graphed >= plain, graphed .. " is less than " .. plain)
  end)
end)

describe("bench/roofline.lua", function()
  after_each(runner.clean)

  it_on_stand_in("predicts a step of full size from the calls that are made for it", function()
    local path = runner.folder() .. "/predicted.json"
    local code, said, complaint = bench("roofline", ("--part train,adamw --bandwidth 4e12 --record '%s'"):format(path))
    assert.are.equal(0, code, said .. complaint)
    local parts = record_of(path).parts
    assert.are.equal(64 * 1024, parts.train.tokens)
    local products = 0
    for _, row in ipairs(parts.train.rows) do
      if row.name:find "^gemm" then products = products + row.flops end
    end
    -- 6 N a token, N what is multiplied with: matrices of the blocks, and the head of at least 50257 rows.
    local least = 6 * 65536 * (12 * 12 * 768 ^ 2 + 50257 * 768)
    assert.is_true(products >= least and products <= 1.01 * least, products .. " is not " .. least)
    assert.is_true(parts.train.seconds > parts.train.floor and parts.train.floor > products / 7.9e14)
    assert.is_true(parts.train.peak_bytes < 24 * 2 ^ 30)
    assert.are.equal(1, parts.adamw.launches)
    assert.are.equal(28 * 124439808, parts.adamw.bytes)
  end)

  it_on_stand_in("knows all parts", function()
    local code, said, complaint = bench("roofline", "--quick")
    assert.are.equal(0, code, said .. complaint)
    for _, part in ipairs { "train", "small", "clip", "clip64", "muon", "adamw" } do
      assert.is_truthy(said:find(part .. ": [%d%.e-]+ ms predicted"), part .. " is missing in:\n" .. said)
    end
  end)
end)
