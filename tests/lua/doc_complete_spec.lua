-- SPDX-License-Identifier: MIT
--
-- doc_complete_spec.lua: everything that `mb` and its objects offer is documented: a description, every parameter under the
-- name that the function has for it and with a type, and what is returned. Asked of the live tables, not of the sources.

local bytecode = require "jit.vmdef"
local doc = require "moonbow.doc"
local mb = require "moonbow"
local system = require "bindings.system"
local util = require "jit.util"

local root = os.getenv "MOONBOW_ROOT" or "."

-- ----- what there is ----------------------------------------------------------------------------------------------------

local function upvalue(fn, wanted)
  for i = 1, 60 do
    local name, value = debug.getupvalue(fn, i)
    if name == wanted then return value end
  end
end

-- Loads what is loaded when it is named: parts of mb, and members that are files of a part's folder.
local function load_members(t, folder)
  if system.path_kind(folder) ~= "folder" then return end
  for _, file in ipairs(system.list(folder)) do
    local name = file:match "^([%w_]+)%.lua$"
    if name then pcall(function() return t[name] end) end
  end
end

local function callable(x)
  local meta = type(x) == "table" and getmetatable(x)
  return type(meta) == "table" and meta.__call or type(x) == "function" and x
end

-- Calls visit(name, function, is_object) for each public function below a table.
local function walk(name, t, visit, seen)
  for key, value in pairs(t) do
    if type(key) == "string" and not key:find "^_" then
      local full = name .. "." .. key
      if callable(value) then
        visit(full, callable(value), type(value) == "table")
      elseif type(value) == "table" and not seen[value] then
        seen[value] = true
        load_members(value, ("%s/lua/moonbow/%s"):format(root, key))
        walk(full, value, visit, seen)
      end
    end
  end
end

-- Names of parameters as the function has them, without the first `skip`.
local function parameters(fn, skip)
  local info, list = debug.getinfo(fn, "u"), {}
  for i = 1 + skip, info.nparams do list[#list + 1] = debug.getlocal(fn, i) end
  if info.isvararg then list[#list + 1] = "..." end
  return list
end

-- Does any path through a Lua function return a value?
local function returns_something(fn)
  local at = 1
  while true do
    local word = util.funcbc(fn, at)
    if not word then return false end
    local name = bytecode.bcnames:sub(bit.band(word, 0xff) * 6 + 1, bit.band(word, 0xff) * 6 + 6):match "%S+"
    if name == "RET" or name == "RET1" or name == "RETM" or name == "CALLT" or name == "CALLMT" then return true end
    at = at + 1
  end
end

-- ----- what is said of it -----------------------------------------------------------------------------------------------

-- What is wrong with the documentation of a function, added to `problems`.
local function check(problems, name, fn, skip)
  local function wrong(text, ...) problems[#problems + 1] = name .. " " .. text:format(...) end
  local entry = doc.find(name)
  local inherited = entry and skip == 1 and entry.name:match ":(.*)$" == name:match ":(.*)$"
  if not entry or entry.name ~= name and not inherited then return wrong "is not documented" end
  if not entry.text:find "%S" then wrong("(%s:%d) has no description", entry.file, entry.line) end
  local has = parameters(fn, skip)
  if entry.params[1] and table.concat(has, ", ") == "..." and entry.params[1].name ~= "..." then return end -- __call(_, ...)
  for i, parameter in ipairs(has) do
    local said = entry.params[i]
    if not said or said.name ~= parameter then
      wrong("(%s:%d) has parameter %s, its comment %s", entry.file, entry.line, parameter, said and said.name or "none")
    elseif said.is_undocumented or said.type == "" then
      wrong("(%s:%d) says nothing of parameter %s", entry.file, entry.line, parameter)
    end
  end
  if #entry.params > #has then wrong("has no parameter %s", entry.params[#has + 1].name) end
  if #entry.returns == 0 and returns_something(fn) then wrong("(%s:%d) says not what it returns", entry.file, entry.line) end
end

local function none(problems)
  table.sort(problems)
  assert(#problems == 0, ("%d of the public functions:\n%s"):format(#problems, table.concat(problems, "\n")))
end

-- The table of an object's methods: what its metatable looks into, itself or through a function.
local function methods_of(object)
  local index = getmetatable(object).__index
  if type(index) == "table" then return index end
  for i = 1, 60 do
    local name, value = debug.getupvalue(index, i)
    if type(value) == "table" then return value end
    assert(name, "no table of methods was found")
  end
end

-- Methods of a class, looked up in a table of them.
local function check_methods(problems, class, methods)
  for name, fn in pairs(methods) do
    if type(fn) == "function" and not name:find "^_" then check(problems, class .. ":" .. name, fn, 1) end
  end
end

describe("documented is", function()
  it("every function of mb", function()
    for name in pairs(upvalue(getmetatable(mb).__index, "modules")) do local _ = mb[name] end
    local problems, count = {}, 0
    walk("mb", mb, function(name, fn, is_object)
      count = count + 1
      if name:find "^mb%.optim%." and name ~= "mb.optim.groups" and name ~= "mb.optim.define" then return end
      check(problems, name, fn, is_object and 1 or 0)
    end, { [mb] = true })
    none(problems)
    assert(count > 150, "few functions were found")
  end)

  it("every option of every optimizer", function()
    local problems = {}
    for _, name in ipairs(require("moonbow.optim.registry").built_ins()) do
      local entry, said = assert(doc.find("mb.optim." .. name)), {}
      assert(entry.text:find "%S" and #entry.returns > 0, name)
      for _, field in ipairs(entry.params[2].fields) do said[field.name] = true end
      for option in pairs(mb.optim[name].spec) do
        if not said[option] then problems[#problems + 1] = ("mb.optim.%s says nothing of option %s"):format(name, option) end
        said[option] = nil
      end
      for option in pairs(said) do problems[#problems + 1] = ("mb.optim.%s has no option %s"):format(name, option) end
    end
    none(problems)
  end)

  it("every method of tensors", function()
    local tensor, problems = require "bindings.tensor", {}
    check_methods(problems, "Tensor", tensor.methods)
    local said = {}
    for _, field in ipairs(doc.find("Tensor").fields) do said[field.name] = true end
    for name in pairs(tensor.properties) do
      if not said[name] then problems[#problems + 1] = "Tensor has a property " .. name end
    end
    none(problems)
  end)

  it("every method of models, optimizers, clippers and what else functions return", function()
    local model = mb.models.gpt2 { vocab_size = 8, block_size = 4, n_layer = 1, n_head = 1, n_embd = 4, device = "cpu" }
    local classes = {
      LanguageModel = { generate = model.generate },
      GPT2 = methods_of(model),
      Model = methods_of(methods_of(model)),
      Optimizer = methods_of(mb.optim.sgd(model, {})),
      SpectralClip = methods_of(mb.clip.spectral { threshold = 1 }),
      NormClip = methods_of(mb.clip.norm { max_norm = 1 }),
      Text = methods_of(mb.data.text { text = ("moonbow "):rep(20), block_size = 4, batch_size = 2 }),
      Stream = methods_of(mb.data.stream(mb.data.tokenizer "bytes" {})),
      Fused = methods_of(mb.fuse(function(p) p.x = p.x end)),
    }
    local problems = {}
    for class, methods in pairs(classes) do check_methods(problems, class, methods) end
    none(problems)
  end)
end)
