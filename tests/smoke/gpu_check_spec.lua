-- SPDX-License-Identifier: MIT
--
-- gpu_check_spec.lua: scripts/gpu_check.sh --host, the whole check of a CUDA machine rehearsed without one: its rows, the
-- table, the JSON, and what is left of a run that fails, runs out of time or is killed.

local json = require "moonbow.io.json"
local runner = require "tests.smoke.runner"

local build = (os.getenv "MOONBOW_LIB" or ""):match "^(.*)/[^/]*$" or (runner.root .. "/build")

-- Runs it; returns exit code, both outputs, the JSON and its rows by name.
local function check(arguments, environment)
  local out = runner.folder() .. "/out"
  local code, said, complaint = runner.shell(("MOONBOW_BUILD='%s' %s '%s/scripts/gpu_check.sh' --host --out '%s' %s"):format(
    build, environment or "", runner.root, out, arguments))
  local text, rows = runner.read(out .. "/rehearsal.json"), {}
  local result = text ~= "" and assert(json.decode(text)) or nil
  for _, row in ipairs(result and result.rows or {}) do rows[row.name] = row end
  return code, said, complaint, result, rows
end

local function it_with_plugin(name, fn)
  it(name, function()
    if runner.read(build .. "/tests/libmoonbow_cuda_host.so") == "" then pending "the plugin for the host was not built" end
    fn()
  end)
end

describe("gpu_check.sh", function()
  after_each(runner.clean)

  it_with_plugin("rehearses its rows on the host, and says that it was a rehearsal", function()
    local code, said, complaint, result, rows = check "--skip parity" -- which ctest runs on the host too
    assert.are.equal(0, code, said .. complaint)
    assert.is_true(result.rehearsal)
    assert.are.equal("rehearsal on the host", result.kind)
    assert.are.equal(0, result.failures)
    for _, name in ipairs { "build", "device", "spec.lua.linalg", "determinism.f32", "determinism.bf16", "run.bf16",
      "bench.gpu", "bench.gemm.f32", "bench.gemm.bf16", "bench.train.bf16", "bench.train.f32", "bench.optim", "bench.spectral" }
    do
      local row = assert(rows[name], name .. " is missing")
      assert.are.equal("passed", row.status, said)
      assert.is_true(row.rehearsal and row.seconds >= 0)
      assert.is_truthy(said:find(name .. " +passed"), said)
    end
    assert.are.equal("skipped", rows["sanitizer.memcheck"].status)
    assert.is_nil(rows.parity)
    assert.are.equal(20, rows["run.bf16"].data.steps)
    assert.is_true(rows["bench.train.bf16"].data.sides[1].tokens_per_second > 0)
    assert.are.equal("cuda", rows["bench.gemm.f32"].data.device)
    assert.are.equal(3, #rows["bench.spectral"].data)
  end)

  it_with_plugin("goes on after a failure, and ends with exit code 1", function()
    local code, said, _, result, rows = check("--only build,determinism,gemm", "MOONBOW_CUDA_PLUGIN=/dev/null")
    assert.are.equal(1, code, said)
    assert.are.equal("FAILED", rows["determinism.f32"].status)
    assert.are.equal("FAILED", rows["bench.gemm.bf16"].status)
    assert.is_truthy(rows["bench.gemm.bf16"].said:find("cuda", 1, true), rows["bench.gemm.bf16"].said)
    assert.are.equal(4, result.failures)
  end)

  it_with_plugin("runs nothing where the build or the device failed", function()
    local code, _, complaint, _, rows = check("--only build,device,bench", "MOONBOW_CUDA_PLUGIN=/dev/null")
    assert.are.equal(1, code)
    assert.are.equal("FAILED", rows.device.status)
    assert.are.equal("not run", rows["bench.optim"].status)
    assert.is_truthy(complaint:find("device cuda is not available", 1, true), complaint)
  end)

  it_with_plugin("does not begin what the budget has no time for", function()
    local code, said, _, _, rows = check "--only build,bench --budget 5"
    assert.are.equal(0, code, said)
    assert.are.equal("not run", rows["bench.spectral"].status)
  end)

  it_with_plugin("leaves what it knows when it is killed", function()
    local out = runner.folder()
    local code, said = runner.shell(("MOONBOW_BUILD='%s' '%s/scripts/gpu_check.sh' --host --only build,device,parity "
      .. "--out '%s' & pid=$!; "
      .. "for i in $(seq 300); do grep -q '\"passed\"' '%s/rehearsal.json' 2>/dev/null && break; sleep 0.1; done; "
      .. "kill -TERM $pid; wait $pid"):format(build, runner.root, out, out))
    assert.are.equal(143, code, said)
    local result = assert(json.decode(runner.read(out .. "/rehearsal.json")))
    assert.are.equal("passed", result.rows[1].status)
    assert.are.equal("not run", result.rows[3].status)
    assert.is_truthy(runner.read(out .. "/table.txt"):find "\n[12] passed, [12] not run\n$")
  end)

  it("says what is wrong with its command line", function()
    local function refused(arguments, text)
      local code, _, complaint = check(arguments)
      assert.are.equal(2, code, complaint)
      assert.is_truthy(complaint:find(text, 1, true), complaint)
    end
    refused("--fast", "unknown option --fast")
    refused("--only nothing", "there is no row 'nothing'")
    refused("--budget long", "'long' is no number")
    refused("--out", "--out needs a value")
    local code, said = check "--list"
    assert.are.equal(0, code)
    assert.is_truthy(said:find("determinism.bf16", 1, true) and not said:find("Usage", 1, true), said)
  end)
end)
