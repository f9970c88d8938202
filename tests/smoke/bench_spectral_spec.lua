-- SPDX-License-Identifier: MIT
--
-- bench_spectral_spec.lua: scripts/bench/spectral.lua on small matrices and without a peer: the tables, the plot, the
-- record, and its complaints. What it measures is not tested.

local runner = require "tests.smoke.runner"
local xml = require "tests.xml"

describe("bench/spectral.lua", function()
  after_each(runner.clean)

  local function bench(arguments) return runner.script("bench/spectral", arguments) end

  -- Records of the parts by name, and the elements of the plot.
  local function results(folder)
    local by_part = {}
    for _, record in ipairs(runner.records(folder .. "/spectral.jsonl")) do by_part[record.part] = record end
    return by_part, xml.elements(runner.read(folder .. "/spectral.svg"))
  end

  it("measures all parts and leaves tables, a plot and a record", function()
    local out = runner.folder() .. "/a new/folder"
    local code, said, complaint = bench(("--quick --out '%s'"):format(out))
    assert.are.equal(0, code, said .. complaint)
    for _, part in ipairs { "matrices of GPT-2", "streaming", "r=4 p=2 it=1", "12x8 flat", "20x30 heavy", "exact", "steps/s" } do
      assert.is_truthy(said:find(part, 1, true), part .. " is missing in:\n" .. said)
    end
    local parts, plot = results(out)
    assert.are.equal(8, parts.gpt2.matrices)
    assert.is_true(parts.gpt2.product_rate > 0 and parts.gpt2.copy_seconds > 0)
    for _, entry in ipairs(parts.gpt2.entries) do
      assert.is_true(entry.seconds > 0 and entry.bytes_moved > parts.gpt2.bytes and entry.flops > 0)
    end
    assert.are.equal(3, #parts.mlp.entries)
    local bars = 0
    for _, element in ipairs(plot) do bars = bars + (element.tag == "title" and 1 or 0) end
    assert.is_true(bars > 10, "the plot shows " .. bars .. " values")
  end)

  it("finds methods that decompose exact to float32's rounding, and sketches where they hold all that is lowered", function()
    local out = runner.folder()
    local code, _, complaint = bench(("--quick --part methods --json --out '%s'"):format(out))
    assert.are.equal(0, code, complaint)
    local parts, seen = results(out), {}
    assert.is_nil(parts.gpt2)
    for _, entry in ipairs(parts.methods.entries) do
      seen[entry.method] = true
      if not entry.saturated then assert.is_true(entry.error < 1e-5, entry.method .. ": " .. entry.error) end
    end
    assert.is_true(seen.exact and seen["r=8 p=5 it=1"])
  end)

  it("says in one line what is wrong", function()
    local function fails(expected_code, arguments, ...)
      local code, _, complaint = bench(arguments)
      assert.are.equal(expected_code, code, complaint)
      assert.are.equal(1, select(2, complaint:gsub("\n", "")), complaint)
      for _, part in ipairs { ... } do assert.is_truthy(complaint:find(part, 1, true), complaint) end
    end
    fails(2, "--rund 3", "--rounds")
    fails(2, "--part gpt3", "did you mean gpt2")
    fails(2, "--rounds 0", "--rounds: 0 is below 1")
    fails(1, ("--quick --part mlp --peer false --out '%s'"):format(runner.folder()), "no result from: false")
    fails(1, "--quick --part mlp --out /proc/none", "/proc/none")
    local code, said = bench "--help"
    assert.are.equal(0, code)
    assert.is_truthy(said:find("--peer COMMAND", 1, true), said)
  end)
end)
