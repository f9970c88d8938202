-- SPDX-License-Identifier: MIT
--
-- repl_complete_spec.lua: what TAB offers, and what `?` says.

local complete = require "moonbow.repl.complete"
local doc = require "moonbow.doc"
local evaluate = require "moonbow.repl.evaluate"
local help = require "moonbow.repl.help"
local mb = require "moonbow"

local session = evaluate.new { commands = { spectrum = function() end, peek = function() end } }
session.globals.mb = mb
session.globals.model = mb.models.mlp { n_input = 3, n_hidden = 4, n_layer = 1, n_output = 2 }
session.globals.t = mb.ones(2, 3)
session.globals.nested = { list = { { alpha = 1, alphabet = { 2 } } }, ["no name"] = 1 }
session.globals.trap = setmetatable({}, { __index = function() error "completion must not run this" end })

local function offered(text)
  local _, list = complete.candidates(session, text)
  return table.concat(list, " ")
end

describe("TAB", function()
  it("completes names, fields, methods and elements", function()
    for text, wanted in pairs {
      ["mb.cli"] = "clip", ["mb.clip.sp"] = "spectral", ["x = mb.threshold.em"] = "ema", ["nes"] = "nested", ["whi"] = "while",
      ["nested.list[1].alp"] = "alpha alphabet", ["nested['list'][1].alphab"] = "alphabet", ["nested.no"] = "",
      ["t:transp"] = "transpose", ["t.requ"] = "requires_grad", ["model:find_nonfinite_g"] = "find_nonfinite_gradient",
      ["model:parameter('layers.0.weight').gr"] = "grad", ["model:parameter 'layers.0.weight'.grad.nd"] = "ndim",
      ["('x'):gsu"] = "gsub", ["trap.x"] = "", ["trap:x"] = "", ["a..mode"] = "model", ["3"] = "", ["-- mb.cl"] = "",
      ["mb.nothing.x"] = "", ["print(mode"] = "model", ["? mb.clip.ada"] = "adagc", [":lo"] = "load",
    } do
      assert.are.equal(wanted, offered(text), text)
    end
  end)

  it("completes parameters, files and options", function()
    assert.are.equal("layers.0.weight", offered 'spectrum "layers.0.w')
    assert.are.equal("layers.0.weight", offered "model:parameter('layers.0.w")
    local root = os.getenv "MOONBOW_ROOT" or "."
    assert(offered(('io.open("%s/scrip'):format(root)):find("/scripts/", 1, true))
    assert(offered((":load %s/scripts/samp"):format(root)):find("sample.lua", 1, true))
    assert.are.equal("threshold = ", offered "mb.clip.spectral { thre")
    assert.are.equal("power_iters = ", offered "clip = mb.clip.spectral { threshold = 1, power_i")
    assert.are.equal("temperature =  tokens =  top_k =  top_p = ", (offered 'generate("x", { t'))
    assert.are.equal("of = ", (offered 'spectrum("x", { o'))
    assert(not offered("mb.threshold.quantile{"):find "print")
    assert(offered("mb.threshold.quantile{"):find("q = ", 1, true))
    assert(offered("print { mode"):find("model", 1, true))
    assert.are.equal("layers.0.weight layers.0.bias layers.1.weight layers.1.bias layers", offered 'spectra "la')
    assert.are.equal("weight", offered 'spectra "wei')
    assert.are.equal("", offered "model.han" .. offered "model.by_n" .. offered "model.run_")
    assert.are.equal("betas = ", offered "mb.optim.adamw(model, { lr = 1, bet")
  end)

  it("types what is common, and lists what is not", function()
    local function at(text) return { complete.at(session, text, #text, 60) } end
    assert.are.same({ "  " }, at "")
    assert.are.same({ "alpha" }, at "nested.list[1].")
    local insert, list = unpack(at "nested.list[1].alpha", 1, 2)
    assert.is_nil(insert)
    assert.are.equal("alpha     alphabet", list)
    assert.are.same({ 'eight"' }, at 'peek "layers.0.w')
    assert.are.equal("a\nbb", complete.columns({ "a", "bb" }, 3))
  end)
end)

describe("?", function()
  local rows = { { "step(n)", "trains", "more" } }

  it("shows commands, the library's documentation, and values", function()
    assert.are.equal("step(n)\n\ntrains\nmore", help.about(session, rows, "step"))
    assert.are.equal(doc.text((doc.find "mb.clip.norm")), help.about(session, rows, "mb.clip.norm"))
    assert.are.equal(doc.text((doc.find "Model:loss")), help.about(session, rows, "model:loss"))
    assert(help.about(session, rows, "nested.list"):find("alphabet", 1, true))
    assert(help.about(session, rows, "mb.clip.spectrall"):find("there is mb.clip.spectral", 1, true))
    assert(help.about(session, rows, ""):find("step(n)  trains", 1, true))
  end)

  it("knows what is no name of the library's", function()
    assert.are.equal(":load FILE [ARG…]  runs a script; its globals stay", help.about(session, rows, ":load"))
    assert.are.equal("3 is a number", help.about(session, rows, "3"))
    assert.are.equal("for is a word of Lua's grammar", help.about(session, rows, "for"))
    assert.are.equal("print is a function of Lua's own", help.about(session, rows, "print"))
    session.globals.clip = mb.clip.spectral { threshold = 0.5 }
    local text = help.about(session, rows, "clip")
    assert(text:find("^clip is a variable: mb%.clip%.spectral"), text)
    assert(text:find(doc.text((doc.find "mb.clip.spectral")), 1, true), text)
    assert(help.about(session, rows, "model"):find(doc.text((doc.find "Model")), 1, true))
  end)
end)
