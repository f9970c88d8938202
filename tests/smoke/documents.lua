-- SPDX-License-Identifier: MIT
--
-- documents.lua: the documents as tests see them: which there are, their blocks of code, their headings and links.
--
-- A block is what stands between ``` and ```. What its first line says, and a comment on the line before it, decide:
--
--   ```lua                  all of a document are one script, in their order
--   ```lua file=mine.lua    is written to that file, for a block of commands
--   ```lua prompt=runs/mine is typed at the prompt, scripts/repl.lua, opened with that run
--   ```sh                   commands, run in their order with the files that the blocks above have written
--   ```text                 what a program prints, a formula, a picture: not code
--   <!-- not run: WHY -->   the block that follows is not run, and this is why
--   <!-- tests: s/600/5/ s/1000/10/ -->    the tests run it with 5 for 600 and so on, to be done in seconds
--
-- Everything happens in a folder of its own that looks like a checkout and has a text, input.txt.

local runner = require "tests.smoke.runner"

local M = {}

local function lines_of(command)
  local pipe, list = assert(io.popen(command)), {}
  for line in pipe:lines() do list[#list + 1] = line end
  pipe:close()
  return list
end

--- Paths of the documents below the root: README.md and docs/.
---@return string[]
function M.all()
  return lines_of(("cd '%s' && { echo README.md; find docs -name '*.md' | LC_ALL=C sort; }"):format(runner.root))
end

---@class tests.Block
---@field kind string "lua", "sh", "text", or "" where nothing is said
---@field file? string
---@field prompt? string
---@field line integer of the opening
---@field text string
---@field reason? string why it is not run
---@field swaps { from: string, to: string }[]

local function marks_of(line, block)
  block.reason = line:match "^<!%-%- not run: (.-) %-%->$"
  local tests = line:match "^<!%-%- tests: (.-) %-%->$"
  for from, to in (tests or ""):gmatch "s/([^/]+)/([^/]*)/" do block.swaps[#block.swaps + 1] = { from = from, to = to } end
end

--- The blocks of a document.
---@param path string below the root
---@return tests.Block[]
function M.blocks(path)
  local blocks, open, number, before = {}, nil, 0, ""
  for line in io.lines(runner.root .. "/" .. path) do
    number = number + 1
    local info = line:match "^%s*```(.*)$"
    if info and open then
      open.text, open = table.concat(open, "\n") .. "\n", nil
    elseif info then
      local file, prompt = info:match "file=(%S+)", info:match "prompt=(%S+)"
      open = { kind = info:match "^%S*", file = file, prompt = prompt, line = number, swaps = {} }
      marks_of(before, open)
      blocks[#blocks + 1] = open
    elseif open then
      open[#open + 1] = line
    end
    before = line
  end
  assert(not open, path .. ": a block is not closed")
  return blocks
end

--- The text of a block as the tests run it.
---@param path string for errors
---@param block tests.Block
---@return string
function M.text(path, block)
  local text = block.text
  for _, swap in ipairs(block.swaps) do
    local at, to = text:find(swap.from, 1, true)
    assert(at, ("%s:%d: there is no '%s' to put '%s' for"):format(path, block.line, swap.from, swap.to))
    while at do
      text = text:sub(1, at - 1) .. swap.to .. text:sub(to + 1)
      at, to = text:find(swap.from, at + #swap.to, true)
    end
  end
  return text
end

--- The Lua blocks that are neither files nor typed as one chunk, with the document's line numbers, and their number.
---@param path string
---@param blocks tests.Block[]
function M.script(path, blocks)
  local text, at, count = {}, 1, 0
  for _, block in ipairs(blocks) do
    if block.kind == "lua" and not (block.file or block.prompt or block.reason) then
      text[#text + 1] = ("\n"):rep(block.line + 1 - at)
      local own = M.text(path, block)
      text[#text + 1] = own
      at, count = block.line + 1 + select(2, own:gsub("\n", "")), count + 1
    end
  end
  return table.concat(text), count
end

-- ----- links ------------------------------------------------------------------------------------------------------------

-- The anchor that GitHub gives a heading.
local function anchor_of(heading)
  local text = heading:gsub("`", ""):gsub("%[([^%]]*)%]%b()", "%1"):lower()
  return (text:gsub("[^%w_%- \128-\255]", ""):gsub(" ", "-"))
end

--- Anchors of a document, and its links as { target, line }; blocks of code have neither.
---@param path string below the root
function M.anchors_and_links(path)
  local anchors, links, inside, number, seen = {}, {}, false, 0, {}
  for line in io.lines(runner.root .. "/" .. path) do
    number = number + 1
    if line:find "^%s*```" then inside = not inside end
    local heading = not inside and line:match "^#+%s+(.-)%s*$"
    if heading then
      local anchor = anchor_of(heading)
      anchors[seen[anchor] and ("%s-%d"):format(anchor, seen[anchor]) or anchor] = true
      seen[anchor] = (seen[anchor] or 0) + 1
    end
    for target in (inside and "" or line:gsub("`[^`]*`", "")):gmatch "%]%(([^%)%s]+)%)" do
      links[#links + 1] = { target = target, line = number }
    end
  end
  return anchors, links
end

return M
