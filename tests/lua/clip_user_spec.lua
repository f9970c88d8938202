-- SPDX-License-Identifier: MIT
--
-- clip_user_spec.lua: policies and rules that go wrong: they raise an error or answer with nonsense. One line names them
-- and the matrix, and no gradient changes.

local helper = require "tests.helper"
local mb = require "moonbow"

local NAN = 0 / 0

local function with_gradients()
  local model = mb.models.gpt2 { vocab_size = 11, block_size = 6, n_layer = 2, n_head = 2, n_embd = 8, seed = 5 }
  for _, p in ipairs(model:parameters()) do p.grad:randn_() end
  return model
end

-- The error's text, one line, after which every gradient is what it was and the clipper has made no step.
local function refused(clip, model)
  local before = {}
  for _, p in ipairs(model:parameters()) do before[p.name] = p.grad:clone() end
  local text = helper.error_of(clip, model)
  assert.is_nil(text:find("\n", 1, true), text)
  for _, p in ipairs(model:parameters()) do assert.is_true(p.grad:equal(before[p.name]), p.name) end
  assert.are.equal(0, clip:state_dict().step)
  return text
end

local function says(text, got) assert.is_truthy(got:find(text, 1, true), got) end

local LAST = "ln_f.bias" -- what comes last, when all others have their tau

before_each(function() mb.seed(helper.seed) end)

describe("a policy that goes wrong", function()
  local function clip(answer, more)
    local o = { threshold = function(p)
      if p.name == LAST or p.name == "*" or p.name == "h.1" then return answer(p) end
      return 0.1
    end }
    for key, value in pairs(more or {}) do o[key] = value end
    return mb.clip.spectral(o)
  end

  it("by raising is named with the matrix and its own words", function()
    local model = with_gradients()
    local got = refused(clip(function() error "no more\nideas" end), model)
    says("mb.clip.spectral: threshold function failed for 'ln_f.bias': ", got)
    says("no more; ideas", got)
    says("failed for 'ln_f.bias': attempt", (refused(clip(function(p) return p.none.such end), model)
      :gsub("'ln_f.bias': %S+: ", "'ln_f.bias': ")))
    says("failed for 'ln_f.bias': a table", refused(clip(function() error {} end), model))
    says("failed for '*': ", refused(clip(function() error "x" end, { scope = "global" }), model))
    says("failed for 'h.1': ", refused(clip(function() error "x" end, { scope = "block" }), model))
  end)

  it("by its answer is named with the answer", function()
    local model = with_gradients()
    for want, answer in pairs { ["the number %-0%.5"] = -0.5, ["the number %-?nan"] = NAN,
      ["the string 'high'"] = "high", ["true"] = true, ["a table"] = {} } do
      local got = refused(clip(function() return answer end), model)
      assert.is_truthy(got:find("threshold function returned " .. want), got)
      says("for 'ln_f.bias', a number >= 0 or nil was expected", got)
    end
  end)

  it("may go on afterwards", function()
    local model, angry = with_gradients(), true
    local it_goes = clip(function()
      if angry then error "not yet" end
      return 0.1
    end)
    refused(it_goes, model)
    angry = false
    assert.are.equal(26, #it_goes(model))
    assert.are.equal(1, it_goes:state_dict().step)
  end)
end)

describe("a rule that goes wrong", function()
  local function clip(rule) return mb.clip.spectral { threshold = 0.1, rule = rule, method = "exact" } end

  it("is named with sigma, tau, the matrix and its own words", function()
    local model, calls = with_gradients(), 0
    local got = refused(clip(function(sigma)
      calls = calls + 1
      if calls > 50 then error "enough" end
      return sigma / 2
    end), model)
    assert.is_truthy(got:find "mb.clip.spectral: rule%([%d.]+, 0.1%) failed for '[%w_.]+': .*enough$", got)
    for want, answer in pairs { ["the number %-1"] = -1, ["the number %-?nan"] = NAN, ["the number inf"] = math.huge,
      ["the string '3'"] = "3" } do
      got = refused(clip(function() return answer end), model)
      assert.is_truthy(got:find("returned " .. want), got)
      says("for 'h.0.ln_1.weight', a finite number >= 0 was expected", got)
    end
  end)

  it("is refused by mb.clip.matrix too, whose argument stays as it is", function()
    local g = mb.randn { 5, 4 }
    local copy = g:clone()
    local got = helper.error_of(mb.clip.matrix, g, { threshold = 1, rule = function() error "enough" end })
    says("mb.clip.matrix: rule(", got)
    says("enough", got)
    says("mb.clip.matrix: threshold function failed: ",
      helper.error_of(mb.clip.matrix, g, { threshold = function() error "x" end }))
    assert.is_true(g:equal(copy))
  end)

  it("is refused before any call if it is no function", function()
    says("mb.clip.spectral: option 'rule' must be a function, not the number 3",
      helper.error_of(mb.clip.spectral, { threshold = 1, rule = 3 }))
    says("mb.clip.spectral: unknown option 'rul', did you mean 'rule'?",
      helper.error_of(mb.clip.spectral, { threshold = 1, rul = math.min }))
  end)
end)
