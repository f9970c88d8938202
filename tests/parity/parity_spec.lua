-- SPDX-License-Identifier: MIT
--
-- parity_spec.lua: the device beside the CPU, row by row (measure.lua says what is measured). MB_PARITY_JSON names a
-- file for all figures. Left out where the tests run on the CPU.

local helper = require "tests.helper"
local mb = require "moonbow"
local measure = require "tests.parity.measure"
local ops = require "tests.parity.ops"

local is_here = helper.device ~= "cpu"

-- A row as a test: fn() must not raise an error.
local function row(name, fn)
  it(name, function()
    if not is_here then pending "MB_TEST_DEVICE names no device but the CPU" end
    mb.seed(helper.seed)
    local ok, problem = pcall(fn)
    mb.device(helper.device)
    if not ok then error(("%s; MB_SEED=%d"):format(problem, helper.seed), 0) end
  end)
end

describe("an op is the CPU's:", function()
  for _, entry in ipairs(require "tests.ops.table") do
    row(entry.op .. " in f32", function() ops.compare(entry, "f32") end)
    if entry.bf16 ~= false then row(entry.op .. " in bf16", function() ops.compare(entry, "bf16") end) end
  end
end)

-- Runs the row on the CPU and on the device, and compares what it put.
local function compare(entry, dtype)
  local own = entry.dtypes[dtype]
  local result = measure.row(entry.name, dtype, type(own) == "table" and own or nil)
  local want, order = {}, {}
  mb.scope(function()
    for _, device in ipairs { "cpu", helper.device } do
      mb.device(device)
      mb.seed(helper.seed)
      local at = 0
      entry.run(device, device == "cpu" and "f32" or dtype, function(part, t)
        if device == "cpu" then
          want[#want + 1], order[#order + 1] = t:detach():clone(), part
        else
          at = at + 1
          assert(order[at] == part, entry.name .. ": other parts on the device")
          measure.add(result, part, t, want[at])
        end
      end)
      assert(device == "cpu" or at == #want, entry.name .. ": fewer parts on the device")
    end
  end)
  measure.check(result)
end

describe("the device gives what the CPU gives:", function()
  for _, entry in ipairs(require "tests.parity.rows") do
    for _, dtype in ipairs { "f32", "bf16" } do
      if entry.dtypes[dtype] then row(entry.name .. " in " .. dtype, function() compare(entry, dtype) end) end
    end
  end
end)

teardown(function()
  if not is_here then return end
  measure.print(8)
  local path = os.getenv "MB_PARITY_JSON"
  if path then measure.write(path) end
end)
