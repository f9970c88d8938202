-- SPDX-License-Identifier: MIT
--
-- runs.lua: a fuzz target for the reader of a run's log, lua/moonbow/report/read.lua: it gives arrays of one length, in the
-- order of the steps, or says in which line what is wrong.

local page = require "moonbow.report.page"
local random = require "tests.fuzz.random"
local read = require "moonbow.report.read"

local runs_page = require "moonbow.report.runs_page"

local M = { sources = { "lua/moonbow/report/read.lua" }, is_file = true }

local values = { "1", "0.5", '"NaN"', '"Infinity"', "null", "true", '"x"', "[]", "{}", "[[]]", "-1", "1e300", '"\\u0000\\n"' }
local keys = { "loss", "val_loss", "lr", "grad_norm", "time_ms", "tokens", "tau", "clipped", "mine", "a\\nb" }

local function value(r) return r:once_in(5) and r:pick(r:once_in(2) and values or random.numbers) or tostring(r:to(99)) end

local rows = {
  function(r) return ('"config":{"steps":%s,"lr":0.1},"build":%s'):format(value(r), value(r)) end,
  function(r)
    return ('"loss":%s,"clip":{"clipped":%s,"matrices":%s,"sigma_tau_clipped":{"m%d":[%s,%s,%s],"n":%s}}'):format(value(r),
      value(r), value(r), r:to(3), value(r), r:once_in(3) and "false" or value(r), value(r),
      r:once_in(9) and value(r) or "[1,2,0]")
  end,
  function(r)
    return ('"spectra":{"of":%s,"matrices":{"m%d":{"shape":[2,2],"norm":1,"exact":true,"sigma":[%s,%s]}}}'):format(
      r:once_in(9) and value(r) or '"grad"', r:to(3), value(r), value(r))
  end,
  function(r) return ('"%s":%s'):format(r:pick { "sample", "skipped", "nonfinite", "spectra", "clip", "config" }, value(r)) end,
  function(r)
    local parts = {}
    for _, key in ipairs(keys) do
      if r:once_in(2) then parts[#parts + 1] = ('"%s":%s'):format(key, value(r)) end
    end
    return #parts > 0 and table.concat(parts, ",") or '"loss":1'
  end,
}

function M.generate(r)
  local lines = { '{"step":0,"config":{"steps":9}}' }
  for i = 2, r:to(12) do
    local step = r:once_in(12) and value(r) or tostring(r:once_in(6) and r:to(9) or i)
    lines[i] = ('{"step":%s,%s}'):format(step, r:pick(rows)(r))
  end
  return table.concat(lines, "\n") .. (r:once_in(3) and "" or "\n")
end

function M.check(_, path)
  local run = read.run(path)
  local count = #run.steps
  for i = 2, count do assert(run.steps[i] > run.steps[i - 1], "steps do not ascend") end
  for _, name in ipairs { "loss", "grad_norm", "lr", "time_ms", "tokens", "tau", "clip_rate" } do
    assert(#run[name] == count, name .. " is not as long as the steps")
  end
  for _, m in ipairs(run.matrices) do
    assert(#m.sigma == count and #m.tau == count and #m.clipped == count, "a matrix is not as long as the steps")
  end
  assert(#run.val.steps == #run.val.loss, "validation losses are not as long as their steps")
  local html = page.html(runs_page.page({ run }, {}))
  assert(html:find("</html>\n$"), "the page is not whole")
  assert(not html:find("[>\" ]%-?nan[<,\" ]"), "a number is not one")
  return "a run that is " .. run.state
end

return M
