-- SPDX-License-Identifier: MIT
--
-- stats_spec.lua: the tests of reports meet SciPy 1.17.1 (scipy.stats.norm.sf, t.sf, t.isf, ttest_ind with equal_var=False and
-- its confidence_interval, ttest_1samp with alternative="less") and the worked examples of Track 3's rules.

local series = require "moonbow.report.series"
local stats = require "moonbow.report.stats"

local NAN = 0 / 0

local function near(expected, got, by)
  local off = math.abs(got - expected)
  assert(off <= (by or 1e-12) * math.abs(expected) + 1e-300, ("%.17g is not %.17g"):format(got, expected))
end

describe("tails", function()
  it("of the normal distribution are SciPy's", function()
    for _, row in ipairs { { 0, 0.5 }, { 0.5, 0.3085375387259869 }, { 1, 0.15865525393145707 },
      { 2.8284, 0.0023390656954665958 }, { 3.0, 0.0013498980316300933 }, { 3.0769230769, 0.0010457463303197151 },
      { 5, 2.866515718791933e-07 }, { 8, 6.22096057427174e-16 }, { 20, 2.7536241186061556e-89 } } do
      near(row[2], stats.normal_tail(row[1]), 1e-12)
      near(1 - row[2], stats.normal_tail(-row[1]))
    end
  end)

  it("of Student's distribution are SciPy's", function()
    for _, row in ipairs { { 0, 1, 0.5 }, { 1, 1, 0.25000000000000006 }, { 2.5, 3, 0.04385332350403278 },
      { 0.3, 2.7, 0.3928832663472241 }, { 10, 1.5, 0.011829677556810778 }, { -1.2, 7, 0.8654140315863967 },
      { 4, 30, 0.0001909228180418782 }, { 2, 1000, 0.02288517324662583 }, { 30, 4, 3.6764280488306595e-06 },
      { 0.001, 5, 0.4996203933860988 } } do
      near(row[3], stats.student_tail(row[1], row[2]), 1e-12)
    end
    for _, row in ipairs { { 0.025, 1, 12.706204736174705 }, { 0.025, 4.2, 2.725072722592375 },
      { 0.001, 30, 3.385184866829305 }, { 0.975, 3, -3.1824463052837078 } } do
      near(row[3], stats.student_quantile(row[1], row[2]), 1e-12)
    end
  end)
end)

describe("Welch's test", function()
  it("is SciPy's", function()
    local a, b = { 3.2759, 3.2781, 3.2791, 3.2771, 3.2838 }, { 3.2851, 3.275, 3.2778, 3.2723 }
    local w = stats.welch(a, b)
    near(0.4068798586066074, w.t, 1e-9) -- differences of numbers near each other
    near(4.437558686040633, w.df, 1e-9)
    near(0.7029670593505787, w.p, 1e-9)
    near(-0.00695800943731917, w.low, 1e-9)
    near(0.009458009437317784, w.high, 1e-9)
    w = stats.welch({ 2.61, 2.60, 2.63 }, { 2.71, 2.70, 2.72 })
    near(-9.170605214488376, w.t, 1e-9)
    near(0.001533744914558932, w.p, 1e-9)
    local other = stats.welch(b, a)
    near(0.7029670593505787, other.p, 1e-9)
    assert.is_true(other.t < 0)
  end)

  it("and the test against a target, too", function()
    local t = stats.below({ 3.2759, 3.2781, 3.2791, 3.2771, 3.2838 }, 3.28)
    near(0.8836917239100724, t.t, 1e-9)
    near(0.21338900743947334, t.p, 1e-9)
  end)

  it("says why it cannot be made", function()
    assert.are.same({ nil, "n = 1: the spread of runs is not known" }, { stats.welch({ 1 }, { 1, 2 }) })
    assert.is_truthy(select(2, stats.below({ 1 }, 3)):find "n = 1")
    assert.is_truthy(select(2, stats.welch({ 1, 1 }, { 2, 2 })):find "no spread")
    assert.is_truthy(select(2, stats.welch({ 1, NAN }, { 2, 3 })):find "not finite")
    assert.is_true(stats.summary({ 2 }).sd ~= stats.summary({ 2 }).sd)
  end)
end)

describe("Track 3's rules", function()
  -- "for a single run any val loss below 3.276 suffices, and for n = 4 runs any average below 3.278".
  it("for a target", function()
    assert.is_true(stats.track3_target({ 3.2759 }, 3.28).passes)
    assert.is_false(stats.track3_target({ 3.2761 }, 3.28).passes)
    assert.is_true(stats.track3_target({ 3.2779, 3.2781, 3.2777, 3.2779 }, 3.28).passes)
    assert.is_false(stats.track3_target({ 3.2781, 3.2783, 3.2779, 3.2781 }, 3.28).passes)
    local result = stats.track3_target({ 3.276 }, 3.28)
    near(0.004, result.value, 1e-9)
    near(0.0010457463303, result.p, 1e-6)
  end)

  local function of(mean, n)
    local list = {}
    for i = 1, n do list[i] = mean end
    return list
  end

  -- The three calculations of the rules' text: steps are worth 0.0045 for 100.
  it("for a pair", function()
    local result = stats.track3_pair(of(3.2778, 16), of(3.2778, 10), 15 / 100 * 0.0045)
    assert.are.equal("0.00167", ("%.5f"):format(result.value))
    assert.is_false(result.passes)
    result = stats.track3_pair(of(3.2785, 16), of(3.2778, 10), 40 / 100 * 0.0045)
    assert.are.equal("0.0027", ("%.4f"):format(result.value))
    result = stats.track3_pair(of(3.2792, 20), of(3.2790, 20), 50 / 100 * 0.0045)
    assert.are.equal("0.00648", ("%.5f"):format(result.value))
    assert.is_true(result.passes)
  end)
end)

describe("series", function()
  local function ramp(n)
    local xs, ys = {}, {}
    for i = 1, n do xs[i], ys[i] = i, math.sin(i / 50) end
    return xs, ys
  end

  it("are drawn whole where they are short, and keep their extremes where they are long", function()
    local xs, ys = ramp(100000)
    ys[77777], ys[3] = 9, -9
    local points, low, high = series.points(xs, ys, 600), math.huge, -math.huge
    assert.is_true(#points <= 602)
    for i, p in ipairs(points) do
      assert.are.equal(ys[p[1]], p[2])
      assert.is_true(i == 1 or p[1] > points[i - 1][1])
      low, high = math.min(low, p[2]), math.max(high, p[2])
    end
    assert.are.same({ -9, 9 }, { low, high })
    assert.are.equal(100, #series.points(ramp(100)))
  end)

  it("have buckets of what is finite", function()
    local buckets = series.buckets({ 1, 2, 3, 4, 5, 6, 7 }, { 1, 3, NAN, 1 / 0, NAN, NAN, 5 }, 4)
    assert.are.equal(2, #buckets)
    assert.are.same({ x = 1, min = 1, max = 3, mean = 2, count = 2, from = 1, to = 2 }, buckets[1])
    assert.are.same({ x = 7, min = 5, max = 5, mean = 5, count = 1, from = 7, to = 7 }, buckets[2])
  end)

  it("are smoothed without a shift, over what is finite", function()
    local ys = {}
    for i = 1, 50 do ys[i] = 3 * i end
    ys[20] = NAN
    local smooth = series.smooth(ys, 4)
    near(30, smooth[10])
    near(3, smooth[1])
    near((8 * 60 + 3 * (-4 - 3 - 2 - 1 + 1 + 2 + 3 + 4)) / 8, smooth[20]) -- its eight neighbours
    near(3 * (46 + 47 + 48 + 49 + 50) / 5, smooth[50])
  end)

  it("of positive values have densities in log10 that add up to one, where they are", function()
    local values, sum = {}, 0
    for i = 1, 200 do values[i] = 10 ^ (-2 + 0.5 * math.sin(i * 12.9898) * math.cos(i * 78.233)) end
    values[201], values[202] = 0, NAN
    local points = series.log_density(values, 1e-4, 1, 401)
    local top = points[1]
    for _, p in ipairs(points) do
      sum = sum + p[2] * 4 / 400
      if p[2] > top[2] then top = p end
    end
    near(1, sum, 1e-3)
    assert.is_true(top[1] > 3e-3 and top[1] < 3e-2)
    assert.are.same({}, series.log_density({ 0, -1 }, 1, 2, 5))
    assert.are.equal(5, #series.log_density({ 1, 1, 1 }, 0.5, 2, 5))
  end)
end)
