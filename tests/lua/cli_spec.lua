-- SPDX-License-Identifier: MIT
--
-- cli_spec.lua: command lines (cli.lua) and how numbers and texts are shown (report/format.lua, routing.lua, live.lua).

local cli = require "moonbow.cli"
local format = require "moonbow.report.format"
local routing = require "moonbow.report.routing"

local rows = {
  { "steps", 100, "updates", kind = "integer", min = 1, max = 1000 },
  { "lr", 1e-3, "learning rate", min = 0 },
  { "shift", 0, "may be negative" },
  { "method", "exact", "how", choices = { "exact", "randomized" } },
  { "out", nil, "folder", kind = "string", value = "DIR" },
  { "plain", false, "plain lines" },
}

local function parse(...) return cli.parse(rows, { ... }) end

local function refused(expected, ...)
  local ok, problem = pcall(parse, ...)
  assert.is_false(ok)
  assert.are.equal(2, problem.code)
  assert.are.equal(expected, tostring(problem))
end

describe("cli", function()
  it("reads both forms, flags, and the last of two values", function()
    assert.are.same({ steps = 3, lr = 0.5, out = "a=b", plain = true }, parse("--steps", "3", "--lr=0.5", "--out=a=b", "--plain"))
    assert.are.same({ steps = 4 }, parse("--steps", "3", "--steps=4"))
    assert.are.same({ shift = -2 }, parse("--shift", "-2"))
    assert.are.same({ out = "--x" }, parse("--out=--x"))
    assert.are.same({ help = true }, parse("-h"))
    assert.are.same({ help = true }, parse("--help"))
    assert.are.same({}, parse())
  end)

  it("refuses what it does not know, with the nearest name", function()
    refused("unknown option --step; did you mean --steps? (--help lists all)", "--step", "3")
    refused("unknown option --zzzzzz (--help lists all)", "--zzzzzz")
    refused("'train' is not an option; options look like --name value", "train")
    refused("'--' is not an option; options look like --name value", "--")
    refused("--method: 'exakt' is not one of exact, randomized; did you mean exact?", "--method", "exakt")
  end)

  it("refuses values that are missing, of the wrong kind or out of bounds", function()
    refused("--steps: a value is missing", "--steps")
    refused("--out: a value is missing before --plain (--out=--plain if that is the value)", "--out", "--plain")
    refused("--out: the value is empty", "--out=")
    refused("--plain takes no value", "--plain=yes")
    refused("--lr: 'fast' is not a number", "--lr", "fast")
    refused("--lr: 'nan' is not a number", "--lr", "nan")
    refused("--lr: inf is not finite", "--lr", "inf")
    refused("--lr: 1e999 is not finite", "--lr", "1e999")
    refused("--lr: -1 is below 0", "--lr", "-1")
    refused("--steps: 1.5 is not a whole number", "--steps", "1.5")
    refused("--steps: 1001 is above 1000", "--steps", "1001")
  end)

  it("prints whole bounds with all their digits, and has one for every integer", function()
    local more = { { "seed", 1, "", kind = "integer", min = 0, max = 2 ^ 53 }, { "count", 1, "", kind = "integer" },
      { "beta", 0.5, "", max = 0.99 } }
    for given, expected in pairs { ["--seed=1e16"] = "--seed: 1e16 is above 9007199254740992",
      ["--count=1e18"] = "--count: 1e18 is above 2147483647", ["--beta=1"] = "--beta: 1 is above 0.99" } do
      local ok, problem = pcall(cli.parse, more, { given })
      assert.is_false(ok)
      assert.are.equal(expected, tostring(problem))
    end
    assert.are.equal(2 ^ 31 - 1, cli.parse(more, { "--count", "2147483647" }).count)
  end)

  it("says that it was interrupted where LuaJIT raises an error for Ctrl-C", function()
    local runner = require "tests.smoke.runner"
    local code, said, complaint = runner.shell(("cd '%s' && luajit -e 'package.path = \"./lua/?.lua;./?.lua;\" .. package.path; "
      .. "require(\"moonbow.cli\").main(\"try\", function() io.popen(\"kill -INT $PPID\"):close() "
      .. "for i = 1, 1e5 do tostring(i) end end)'"):format(runner.root))
    assert.are.equal("try: interrupted\n", complaint)
    assert.are.equal(130, code, said)
    runner.clean()
  end)

  it("overlays defaults with presets and what was given", function()
    local settings = cli.settings(rows, { lr = 1, steps = 7 }, { steps = 9 })
    assert.are.same({ steps = 9, lr = 1, shift = 0, method = "exact", plain = false }, settings)
    assert.are.equal(100, rows[1][2])
  end)

  it("lists every option with its default", function()
    local help = cli.help("About.", rows)
    local parts = { "About.", "--steps NUMBER", "[100]", "--method exact|randomized", "--out DIR", "--plain ", "--help" }
    for _, part in ipairs(parts) do
      assert.is_truthy(help:find(part, 1, true), part)
    end
    assert.is_nil(help:find("[false]", 1, true))
  end)
end)

describe("format", function()
  it("writes counts, bytes, times and shapes", function()
    assert.are.equal("999", format.count(999))
    assert.are.equal("1.23k", format.count(1234))
    assert.are.equal("124M", format.count(124439808))
    assert.are.equal("512 B", format.bytes(512))
    assert.are.equal("1.50 KiB", format.bytes(1536))
    assert.are.equal("2.00 GiB", format.bytes(2 ^ 31))
    assert.are.equal("12s", format.duration(12.4))
    assert.are.equal("1m00s", format.duration(59.6))
    assert.are.equal("1h02m", format.duration(3725))
    assert.are.equal("?", format.duration(0 / 0))
    assert.are.equal("?", format.duration(math.huge))
    assert.are.equal("(2, 3)", format.shape { 2, 3 })
  end)

  it("aligns columns by characters, not bytes", function()
    assert.are.equal("name  n\nσ₁    1\nabcd  22", format.columns({ { "name", "n" }, { "σ₁", "1" }, { "abcd", "22" } }))
    assert.are.equal("a   n\nb  10", format.columns({ { "a", "n" }, { "b", "10" } }, { [2] = true }))
  end)

  it("shows no byte that a terminal would obey", function()
    local r = "\239\191\189"
    assert.are.equal("é\tσ\n", format.printable("é\tσ\n"))
    assert.are.equal("a\nb", format.printable("a\r\nb"))
    assert.are.equal(r .. "[2J" .. r .. r .. "x", format.printable("\27[2J\0\rx"))
    assert.are.equal(r .. r .. "A" .. r, format.printable("\255\195A\226"))
    assert.are.equal(r, format.printable("\194\155"))
  end)
end)

describe("routing", function()
  it("puts layers that are treated alike on one line", function()
    local function route(name, optimizer)
      return { name = name, shape = { 2, 2 }, role = "matrix", clipper = "norm", optimizer = optimizer }
    end
    local text = routing.text {
      route("h.0.w", "adamw"), route("h.1.w", "adamw"), route("h.0.b", "sgd"), route("h.1.b", "adamw"),
    }
    local names = {}
    for line in text:gmatch "[^\n]+" do names[#names + 1] = line:match "^%S+" end
    assert.are.same({ "parameter", "h.0-1.w", "h.0.b", "h.1.b" }, names)
  end)
end)

describe("live line", function()
  local live = require "moonbow.report.live"

  -- What `action` writes with a live line on a terminal of the given width.
  local function on_terminal(width, action)
    local written = {}
    local screen = { flush = function() end, write = function(_, ...)
      for _, s in ipairs { ... } do written[#written + 1] = s end
    end }
    local stderr, getenv = io.stderr, os.getenv
    -- luacheck: push ignore 122
    io.stderr = screen
    os.getenv = function(name) return name ~= "TERM" and getenv(name) or nil end
    local ok, problem = pcall(action, live.new { steps = 10, system = {
      time = function() return 0 end,
      is_terminal = function() return true end,
      terminal_width = function() return width end,
    } })
    io.stderr, os.getenv = stderr, getenv
    -- luacheck: pop
    assert.is_true(ok, problem)
    return table.concat(written)
  end

  local step = { step = 3, loss = 2.5, lr = 1e-3, grad_norm = 1, clipped = 1, matrices = 4, saturated = 0, top_sigma = 0.5,
                 top_name = "h.0.w", tokens_per_second = 1000, eta = 5 }

  it("is rewritten in place and never wider than the terminal", function()
    local whole = "step 3/10 | loss 2.5000 | lr 1.00e-03 | norm 1 | clip 1/4 | σ₁ 0.5 h.0.w | 1k tok/s | eta 5s"
    for _, width in ipairs { 1, 20, 40, 60, 80, 200 } do
      local text = on_terminal(width, function(l) l:step(step) end)
      local line = text:match "^\r(.*)\27%[K$"
      assert.is_truthy(line, text)
      assert.is_true(#line:gsub("[\128-\191]", "") < math.max(width, 2), line)
      assert.are.equal(line, whole:sub(1, #line))
      if width == 200 then assert.are.equal(whole, line) end
    end
  end)

  it("ends with one line break, and none when nothing was shown", function()
    assert.are.equal("", on_terminal(80, function(l) l:finish() end))
    local text = on_terminal(80, function(l)
      l:step(step)
      l:finish()
      l:finish()
    end)
    assert.are.equal("\n", text:match "\27%[K(.*)$")
  end)
end)
