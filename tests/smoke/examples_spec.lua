-- SPDX-License-Identifier: MIT
--
-- examples_spec.lua: every script of scripts/examples, run as its head says, from a folder elsewhere.

local runner = require "tests.smoke.runner"

-- The rows of numbers that a script prints, as arrays.
local function rows_of(text)
  local rows = {}
  for line in text:gmatch "[^\n]+" do
    if not line:find "%a%a%a" then
      local row = {}
      for number in line:gmatch "[%d.]+" do row[#row + 1] = tonumber(number) end
      rows[#rows + 1] = row
    end
  end
  return rows
end

local function run(name)
  local code, said, complaint = runner.shell(("cd / && luajit '%s/scripts/examples/%s.lua'"):format(runner.root, name))
  assert.are.equal(0, code, complaint)
  assert.are.equal("", complaint)
  return rows_of(said), said
end

describe("scripts/examples", function()
  teardown(runner.clean)

  local checks = {
    policy = function(rows)
      assert.are.equal(12, #rows)
      local first, last = rows[1], rows[#rows - 1]
      assert.is_true(last[2] < first[2] / 2, "the loss did not fall")
      for _, row in ipairs(rows) do
        local step, sigma, tau = row[1], row[5], row[6]
        if step % 10 == 0 then assert.is_true(sigma > 10 * tau, "a spike is missing") end
        assert.is_true(tau < 0.2, "a spike has raised the bar")
      end
    end,
    rule = function(rows)
      for i, sigma in ipairs { 8, 4, 1, 0.5 } do
        assert.are.equal(sigma, rows[i][1])
        assert.are.equal(math.min(sigma, 1), rows[i][2])
        local want = sigma <= 1 and sigma or 1 + math.log(sigma)
        assert.is_true(math.abs(rows[i][3] - want) < 1e-4)
      end
      assert.is_true(rows[5][3] > 0, "nothing was changed")
      assert.is_true(rows[#rows][2] < rows[5][2] / 2, "the loss did not fall")
    end,
  }

  it("are all run here", function()
    local _, listing = runner.shell(("ls '%s/scripts/examples'"):format(runner.root))
    for name in listing:gmatch "([%w_]+)%.lua" do
      assert.is_function(checks[name], "scripts/examples/" .. name .. ".lua has no test")
    end
  end)

  for name, check in pairs(checks) do
    it("run: " .. name, function() check(run(name)) end)
  end
end)
