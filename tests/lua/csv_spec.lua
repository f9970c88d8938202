-- SPDX-License-Identifier: MIT
--
-- csv_spec.lua: fields survive being written and read, by us and by Python's csv; tables of a log hold its numbers.

local csv = require "moonbow.io.csv"
local helper = require "tests.helper"
local read = require "moonbow.report.read"
local runner = require "tests.smoke.runner"


local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

local LOG = [[
{"step":0,"config":{"steps":4}}
{"step":1,"loss":2.5,"lr":0.1,"clip":{"clipped":1,"matrices":2,"sigma_tau_clipped":{"a,\"b\"":[1.5,0.5,1],"c":[0.1,false,0]}}}
{"step":2,"loss":"NaN","lr":0.30000000000000004}
{"step":2,"val_loss":2.25}
{"step":3,"loss":1e-300,"lr":0.1,"clip":{"clipped":0,"matrices":2,"sigma_tau_clipped":{"a,\"b\"":["Infinity",0.5,0],
"c":[0.2,0.7,0]}}}
{"step":3,"spectra":{"of":"grad","matrices":{"c":{"sigma":[2,1]}}}}
{"step":4,"val_loss":2}
{"step":4,"mine":7}
]]

describe("csv", function()
  after_each(runner.clean)

  it("writes fields as RFC 4180 has them", function()
    assert.are.equal('a,"b,c","d""e","f\ng",,1.5,NaN,-Infinity,true\r\n',
      csv.row({ "a", "b,c", 'd"e', "f\ng", nil, 1.5, 0 / 0, -math.huge, true }, 9))
    assert.are.equal("0.1,0.30000000000000004,12345678901\r\n", csv.row({ 0.1, 0.1 + 0.2, 12345678901 }, 3))
  end)

  it("reads what it writes, whatever the fields hold", function()
    math.randomseed(helper.seed)
    local characters = { ",", '"', "\n", "\r", "a", "é", " " }
    for _ = 1, 200 do
      local row = { "x" }
      for i = 2, math.random(2, 6) do
        local parts = {}
        for k = 1, math.random(0, 5) do parts[k] = characters[math.random(#characters)] end
        row[i] = table.concat(parts)
      end
      assert.are.same({ row, row }, csv.read(csv.row(row, #row) .. csv.row(row, #row)))
    end
    assert.are.same({ { "a", "" }, { "" } }, csv.read "a,\n\n")
    assert.is_false(pcall(csv.read, '"a'))
    assert.is_false(pcall(csv.read, '"a"b'))
  end)

  it("has the numbers of a log", function()
    local folder = runner.folder()
    write(folder .. "/log.jsonl", (LOG:gsub(",\n", ",")))
    local code, said, complaint = runner.script("export", ("'%s'"):format(folder))
    assert.are.equal(0, code, complaint)
    assert.are.equal("", said)
    assert.is_truthy(complaint:find("steps.csv: 4 rows of steps", 1, true), complaint)
    assert.are.equal("step,loss,val_loss,lr,clip_rate,mine\r\n1,2.5,,0.1,0.5,\r\n2,NaN,2.25,0.30000000000000004,NaN,\r\n"
      .. "3,1e-300,,0.1,0,\r\n4,,2,,,7\r\n", runner.read(folder .. "/steps.csv"))
    local rows = csv.read(runner.read(folder .. "/matrices.csv"))
    assert.are.same({ "step", "name", "sigma", "tau", "clipped" }, rows[1])
    assert.are.same({ "1", 'a,"b"', "1.5", "0.5", "1" }, rows[2])
    assert.are.same({ "1", "c", "0.1", "", "0" }, rows[3])
    assert.are.same({ "3", 'a,"b"', "Infinity", "0.5", "0" }, rows[6])
    assert.are.same({ "3", "c", "0.2", "0.7", "0" }, rows[7])
    assert.are.equal("step,name,index,sigma\r\n3,c,1,2\r\n3,c,2,1\r\n", runner.read(folder .. "/spectra.csv"))
    code, said = runner.script("export", ("'%s' --matrices - --quiet"):format(folder))
    assert.are.equal(0, code)
    assert.are.equal(runner.read(folder .. "/matrices.csv"), said)
    code, said = runner.shell(([[python3 -c 'import csv, sys
rows = list(csv.reader(open(sys.argv[1], newline="")))
print(len(rows), rows[1][1], float(rows[5][2]))' '%s/matrices.csv']]):format(folder))
    if code == 127 then pending "python3 is not installed" return end
    assert.are.equal('7 a,"b" inf\n', said)
  end)

  it("finds out that standard output is full", function()
    local folder = runner.folder()
    write(folder .. "/log.jsonl", (LOG:gsub(",\n", ",")))
    local code, _, complaint = runner.shell(("luajit '%s/scripts/export.lua' '%s' --steps - > /dev/full")
      :format(runner.root, folder))
    assert.are.equal("export: cannot write to standard output: No space left on device\n", complaint)
    assert.are.equal(1, code)
  end)

  it("says what is wrong", function()
    local folder = runner.folder()
    write(folder .. "/log.jsonl", (LOG:gsub(",\n", ",")))
    local function refused(code, part, arguments)
      local found, _, complaint = runner.script("export", arguments)
      assert.are.equal(code, found, complaint)
      assert.is_truthy(complaint:find(part, 1, true), complaint)
    end
    refused(2, "name the folder of a run", "")
    refused(1, "/nowhere: there is no such file", "/nowhere")
    refused(2, "did you mean --matrices", ("'%s' --matrics x"):format(folder))
    refused(2, "give one", ("'%s' --csv a --steps b"):format(folder))
    refused(1, "cannot write", ("'%s' --csv /nowhere/x.csv"):format(folder))
    assert.is_truthy(read.run(folder))
  end)
end)
