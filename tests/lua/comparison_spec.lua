-- SPDX-License-Identifier: MIT
--
-- comparison_spec.lua: the verdicts on norm clipping against spectral clipping, of runs whose losses are made up: which setting
-- is the best one, when a claim holds, holds partly and fails, what is said of grids.

local comparison = require "scripts.reproduce.problems.comparison"

-- A run as the journal leaves it: loss 5, 4 after half of the seconds, `final` at the end.
local function run(clip, lr, threshold, seed, final, seconds)
  local curve = { { step = 0, seconds = 0, val = 5 }, { step = 1, seconds = (seconds or 2) / 2, val = 4 },
    { step = 2, seconds = seconds or 2, val = final } }
  return { name = clip, seed = seed, settings = { optimizer = "SGDM", clip = clip, lr = lr, threshold = threshold },
    result = { curve = curve, final = final, seconds = seconds or 2, clipped = 0.5, saturated = 0 } }
end

local function report(results)
  return comparison.report(results, { optimizers = { "SGDM" }, source = "here", notes = {} })
end

local function verdicts(results)
  local list = {}
  for i, claim in ipairs(report(results).claims) do list[i] = claim.verdict end
  return list
end

describe("norm against spectral clipping", function()
  it("is judged by the mean and by every seed", function()
    local function of(a, b)
      return verdicts { run("norm", 1, 1, 1, 3), run("norm", 1, 1, 2, 2), run("spectral", 1, 1, 1, a),
        run("spectral", 1, 1, 2, b) }[1]
    end
    assert.equal("reproduced", of(2.9, 1.9))
    assert.equal("partly", of(2, 2.1)) -- lower in the mean
    assert.equal("not reproduced", of(3.5, 2.5))
    assert.equal("not reproduced", of(3, 2))
    assert.equal("not reproduced", of(0 / 0, 1))
  end)

  it("takes the setting of the least mean, and none that diverged", function()
    local results = { run("norm", 1, 1, 1, 3), run("norm", 1, 1, 2, 3), run("norm", 2, 1, 1, 0.5), run("norm", 2, 1, 2, 0 / 0),
      run("norm", 3, 1, 1, 2), run("norm", 3, 1, 2, 3.5), run("spectral", 1, 1, 1, 2.8), run("spectral", 1, 1, 2, 2.6) }
    local cells = comparison.cells(results, { "optimizer", "clip", "lr", "threshold" })
    assert.equal(4, #cells)
    local best = comparison.best(cells, { optimizer = "SGDM", clip = "norm" })
    assert.equal(3, best.lr)
    assert.equal(2.75, best.loss)
    assert.is_nil(comparison.best(cells, { optimizer = "Muon", clip = "norm" }))
    assert.same({ "lr 3" }, comparison.edges(best, cells, { clip = "norm" }, { "lr", "threshold" }))
    assert.same({}, comparison.edges(cells[2], cells, { clip = "norm" }, { "lr", "threshold" }))
    assert.equal("partly", verdicts(results)[1]) -- 2.7 below 2.75, with one seed of two
  end)

  it("is judged at the second when the faster one is done", function()
    local slow = { run("norm", 1, 1, 1, 3, 2), run("spectral", 1, 1, 1, 2, 4) } -- 4 after two seconds
    assert.same({ "reproduced", "not reproduced" }, verdicts(slow))
    local fast = { run("norm", 1, 1, 1, 3, 4), run("spectral", 1, 1, 1, 3.5, 2) } -- norm has 4 then
    assert.same({ "not reproduced", "reproduced" }, verdicts(fast))
    local numbers = report { run("norm", 1, 1, 1, 3, 2), run("spectral", 1, 1, 1, 2, 2.5) }.claims[2].numbers
    assert(math.abs(numbers.spectral_in_time - (4 - 2 * 0.75 / 1.25)) < 1e-12)
    assert(math.abs(numbers.overhead - 0.25) < 1e-12)
  end)

  it("says that everything diverged", function()
    local nan = 0 / 0
    local function measured(norm, spectral)
      local claim = report({ run("norm", 1, 1, 1, norm), run("spectral", 1, 1, 1, spectral) }).claims[1]
      return claim.measured .. ": " .. claim.verdict
    end
    assert.equal("norm diverges everywhere: reproduced", measured(nan, 2))
    assert.equal("spectral diverges everywhere: not reproduced", measured(2, nan))
    assert.equal("both diverge everywhere: not reproduced", measured(nan, nan))
  end)

  it("says where grids differ in size, and where the best lies at an edge", function()
    local function notes(results) return table.concat(report(results).notes, "\n") end
    local even = notes { run("norm", 1, 1, 1, 3), run("spectral", 1, 1, 1, 2) }
    assert(even:find("of 1 of norm clipping and 1 of spectral clipping. ", 1, true), even)
    assert.is_nil(even:find("edge", 1, true))
    local uneven = notes { run("norm", 1, 1, 1, 3), run("spectral", 1, 1, 1, 2), run("spectral", 1, 2, 1, 1.5) }
    assert(uneven:find("1 of norm clipping and 2 of spectral clipping: the larger grid has the better chances", 1, true), uneven)
    assert(uneven:find("beyond which there may be better ones: SGDM, spectral: threshold 2.", 1, true), uneven)
  end)
end)
