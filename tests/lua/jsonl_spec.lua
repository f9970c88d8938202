-- SPDX-License-Identifier: MIT
--
-- jsonl_spec.lua: a log that can be followed, survives crashes and never holds a step twice.

local mb = require "moonbow"
local helper = require "tests.helper"
local json = require "moonbow.io.json"
local scratch = require "tests.scratch"

describe("mb.jsonl", function()
  local folder, path

  before_each(function()
    folder = scratch.folder()
    path = folder .. "/log.jsonl"
  end)
  after_each(scratch.clean)

  it("writes a line a record, step first, at once", function()
    local log = mb.jsonl.open(path)
    log:write { loss = 1 / 3, step = 1, ["a/b"] = { 1, 2 }, text = "x\ny", done = false }
    assert.are.equal('{"step":1,"a/b":[1,2],"done":false,"loss":0.333333333,"text":"x\\ny"}\n', scratch.read(path))
    log:write { step = 2 }
    log:write { note = "no step" }
    log:write {}
    log:close()
    assert.are.equal('{"step":2}\n{"note":"no step"}\n{}\n', scratch.read(path):match "\n(.*)$")
  end)

  it("writes NaN and infinities as strings, and other numbers with as many digits as asked", function()
    local log = mb.jsonl.open(path, { digits = 17 })
    log:write { a = 0 / 0, b = math.huge, c = -math.huge, d = 0.1, e = 2 ^ 52 }
    log:close()
    local record = json.decode(scratch.read(path))
    assert.are.same({ a = "NaN", b = "Infinity", c = "-Infinity", d = 0.1, e = 2 ^ 52 }, record)
  end)

  it("appends, and on resume drops later steps and a line cut off by a crash", function()
    local log = mb.jsonl.open(path)
    log:write { note = "start" }
    for step = 1, 5 do log:write { step = step, loss = step } end
    log:close()
    scratch.write(path, scratch.read(path) .. '{"step":2,"lo')
    log = mb.jsonl.open(path, { resume_after = 3 })
    log:write { step = 4, loss = 40 }
    log:close()
    assert.are.equal('{"note":"start"}\n{"step":1,"loss":1}\n{"step":2,"loss":2}\n{"step":3,"loss":3}\n{"step":4,"loss":40}\n',
      scratch.read(path))
    mb.jsonl.open(path):close()
    assert.are.equal(5, select(2, scratch.read(path):gsub("\n", "")))
    mb.jsonl.open(path, { resume_after = 100 }):close()
    assert.are.equal(5, select(2, scratch.read(path):gsub("\n", "")))
    assert.are.same({ "log.jsonl" }, mb.system.list(folder))
  end)

  it("can resume where there is no log yet", function()
    local log = mb.jsonl.open(path, { resume_after = 3 })
    log:write { step = 4 }
    log:close()
    assert.are.equal('{"step":4}\n', scratch.read(path))
  end)

  it("names the file in its errors", function()
    assert.is_truthy(helper.error_of(mb.jsonl.open, folder .. "/none/x"):find("none/x", 1, true))
    assert.is_truthy(helper.error_of(mb.jsonl.open, path, { resume = 1 }):find("resume_after", 1, true))
    local log = mb.jsonl.open(path)
    local problem = helper.error_of(log.write, log, { f = print })
    assert.is_truthy(problem:find(path, 1, true) and problem:find("a function", 1, true), problem)
    log:close()
    log:close()
    assert.is_truthy(helper.error_of(log.write, log, {}):find("is closed", 1, true))
    assert.are.equal("", scratch.read(path))
  end)

  it("reports a full disk", function()
    if mb.system.path_kind "/dev/full" == "none" then pending "there is no /dev/full" return end
    local log = mb.jsonl.open "/dev/full"
    local problem = helper.error_of(log.write, log, { step = 1 })
    assert.is_truthy(problem:find("/dev/full': No space left", 1, true), problem)
    pcall(log.close, log)
  end)
end)
