-- SPDX-License-Identifier: MIT
--
-- xml.lua: reads XML strictly enough to say whether a page is well-formed, and what is in it. It knows elements,
-- attributes in double quotes, text with the five named entities, and a declaration; anything else is an error.

local M = {}

local entities = { amp = "&", lt = "<", gt = ">", quot = '"', apos = "'" }

local function text_of(raw, where)
  assert(not raw:find "[%z\1-\8\11\12\14-\31]", "a control character in " .. where)
  return (raw:gsub("&([^;]*);?", function(name)
    return assert(entities[name], ("'&%s' in %s is no entity"):format(name, where))
  end))
end

local function attributes_of(raw, tag)
  local found = {}
  local rest = raw:gsub('%s+([%w:_-]+)="([^"<]*)"', function(name, value)
    assert(found[name] == nil, ("<%s> has %s twice"):format(tag, name))
    found[name] = text_of(value, ("%s of <%s>"):format(name, tag))
    return ""
  end)
  assert(not rest:find "%S", ("<%s> holds '%s'"):format(tag, rest))
  return found
end

--- The elements of a document in order, each { tag, attributes, text, parent }; an error if it is not well-formed.
---@param source string
---@return table[]
function M.elements(source)
  local all, open, roots = {}, {}, 0
  local at = select(2, source:find "^<%?xml [^?]*%?>")
  at = at and at + 1 or 1
  while at <= #source do
    local text = source:match("^[^<]+", at)
    if text then
      assert(#open > 0 or not text:find "%S", "text outside of any element")
      if #open > 0 then open[#open].text = open[#open].text .. text_of(text, "text") end
      at = at + #text
    else
      local whole, closing, tag, raw, alone = source:match('^(<(/?)([%a][%w:_-]*)([^<>]-)(/?)>)', at)
      assert(whole, "no tag: " .. source:sub(at, at + 40))
      at = at + #whole
      if closing == "/" then
        local last = table.remove(open)
        assert(last and last.tag == tag, ("</%s> closes <%s>"):format(tag, last and last.tag or "nothing"))
      else
        local element = { tag = tag, attributes = attributes_of(raw, tag), text = "", parent = open[#open] }
        if #open == 0 then roots = roots + 1 end
        all[#all + 1] = element
        if alone == "" then open[#open + 1] = element end
      end
    end
  end
  assert(#open == 0, ("<%s> is not closed"):format(#open > 0 and open[#open].tag or ""))
  assert(roots == 1, ("%d outermost elements"):format(roots))
  return all
end

return M
