-- SPDX-License-Identifier: MIT
--
-- doc_spec.lua: moonbow.doc finds names as users type them, and says of them what their comments say.

local doc = require "moonbow.doc"
local read = require "moonbow.doc.read"

local function parameter(entry, name)
  for _, p in ipairs(entry.params) do
    if p.name == name then return p end
  end
end

describe("doc.find", function()
  it("finds functions, modules, classes and methods", function()
    local kinds = { ["mb"] = "module", ["mb.clip"] = "module", ["mb.clip.spectral"] = "function", ["mb.abs"] = "function",
                    ["mb.threshold.ema"] = "function",
                    ["mb.optim.adamw"] = "function", ["mb.models.gpt2"] = "function", ["Model"] = "class",
                    ["Model:parameter"] = "method", ["Tensor:reshape"] = "method", ["Optimizer:step"] = "method" }
    for name, kind in pairs(kinds) do
      local entry = assert(doc.find(name), name)
      assert.are.equal(name, entry.name)
      assert.are.equal(kind, entry.kind)
    end
  end)

  it("takes other objects' names, other cases, calls and last words", function()
    assert.are.equal("Model:parameter", doc.find("model:parameter").name)
    assert.are.equal("Model:parameter", doc.find("net:parameter").name)
    assert.are.equal("Optimizer:step", doc.find("opt:step(clip)").name)
    assert.are.equal("Model:loss", doc.find("GPT2:loss").name)
    assert.are.equal("mb.threshold.quantile", doc.find("quantile").name)
    assert.are.equal("mb.clip.spectral", doc.find("mb.clip.spectral { threshold = 1 }").name)
  end)

  it("names what is near", function()
    local entry, near = doc.find "mb.clip.spectrl"
    assert.is_nil(entry)
    assert.are.same({ "mb.clip.spectral" }, near)
    assert.are.same({ "Tensor:unsqueeze" }, select(2, doc.find "unsqueze"))
    entry, near = doc.find "x:state_dict"
    assert.is_nil(entry)
    assert(#near > 2)
    assert.are.same({}, select(2, doc.find "nothing_is_called_like_this"))
  end)
end)

describe("an entry", function()
  it("has signature, parameters, options and returns", function()
    local entry = doc.find "mb.data.text"
    assert.are.equal("mb.data.text(given)", entry.signature)
    local options = assert(parameter(entry, "given")).fields
    local by_name = {}
    for _, field in ipairs(options) do by_name[field.name] = field end
    assert.is_false(by_name.block_size.optional)
    assert.is_true(by_name.split.optional)
    assert.are.equal("integer", by_name.block_size.type)
    assert.are.equal("moonbow.Text", entry.returns[1].type)
    assert.are.equal("lua/moonbow/data/text.lua", entry.file)
    local line, n = nil, 0
    for one in io.lines((os.getenv "MOONBOW_ROOT" or ".") .. "/" .. entry.file) do
      n = n + 1
      if n == entry.line then line = one end
    end
    assert(line:find("function M.new", 1, true))
  end)

  it("of an optimizer has the defaults of its file", function()
    local fields = parameter(doc.find "mb.optim.adamw", "options").fields
    local texts = {}
    for _, field in ipairs(fields) do texts[field.name] = field.text end
    assert(texts.eps:find("default 1e-8", 1, true))
    assert(texts.betas:find("default { 0.9, 0.999 }", 1, true))
  end)

  it("as text has all of it", function()
    local text = doc.text(doc.find "mb.threshold.ema")
    for _, part in ipairs { "mb.threshold.ema(", "beta?", "number", "moonbow.Threshold", "lua/moonbow/threshold/ema.lua:" } do
      assert(text:find(part, 1, true), part)
    end
  end)
end)

describe("read", function()
  local function read_text(text)
    local path = os.tmpname()
    local out = assert(io.open(path, "w"))
    out:write(text)
    out:close()
    local file = read.file(path)
    os.remove(path)
    return file
  end

  it("takes types with spaces, unions and functions whole", function()
    assert.are.same({ "fun(p: table): boolean", "which", true }, { read.type_of "fun(p: table): boolean which" })
    assert.are.equal('"a b"|{ x: integer, y?: string }', (read.type_of '"a b"|{ x: integer, y?: string } text'))
    local fields = read.fields_of "{ a: number, b?: fun(x: integer, y: integer): string, c: string[] }"
    assert.are.equal(3, #fields)
    assert.are.equal("fun(x: integer, y: integer): string", fields[2].type)
    assert.is_true(fields[2].optional)
    assert.is_nil(read.fields_of "table<string, number>")
  end)

  it("reads comments above declarations, and forgets them after an empty line", function()
    local file = read_text [[
--- Lost.

--- Adds.
---   f(1, 2)
---@param a number the one
---@param b? { x: number,
---  y: string } the other
---@return number sum
---@return string? text
function M.f(a, b) end
M.g, M.h = M.f, nil
return M
]]
    local f = file.declared["M.f"]
    assert.are.equal("Adds.\n  f(1, 2)", f.doc.text)
    assert.are.same({ "f(1, 2)" }, f.doc.usage)
    assert.are.same({ "a", "b" }, f.args)
    assert.are.equal("{ x: number, y: string }", f.doc.params[2].type)
    assert.are.equal("the other", f.doc.params[2].text)
    assert.are.equal("string?", f.doc.returns[2].type)
    assert.are.equal("text", f.doc.returns[2].text)
    assert.are.equal(10, f.line)
    assert.are.equal("M.f", file.declared["M.g"].expression)
  end)
end)
