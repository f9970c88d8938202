-- SPDX-License-Identifier: MIT
--
-- editor.lua: the line editor of editline.c, where libmoonbow_edit was built. It knows nothing of Lua: what TAB completes to
-- is asked of `complete` between two of its calls.
--
--   local editor = require("bindings.editor").open { history_size = 1000 }      nil where there is no such library
--   editor:read("> ", complete) -> line, or nil and "end" or "interrupted"
--   editor:remember(line)       -> the arrow keys bring it back
--
-- complete(text, cursor) gets the line and how many bytes of it are before the cursor, and returns what to type there, and
-- a list to show below the line, or nil for either.

local ffi = require "ffi"
local load = require "bindings.load"

local M = {}

local LINE, TAB, END = 0, 1, 2 -- ORDER EDIT (bindings/editline.c); 3 is an interrupt

local declared = false
local function declare()
  if declared then return end
  ffi.cdef [[
    typedef struct mb_edit mb_edit;
    mb_edit *mb_edit_new(int history_size);
    void mb_edit_free(mb_edit *edit);
    int mb_edit_read(mb_edit *edit, const char *prompt);
    const char *mb_edit_text(mb_edit *edit, int *cursor);
    void mb_edit_insert(mb_edit *edit, const char *text);
    void mb_edit_show(mb_edit *edit, const char *text);
    void mb_edit_remember(mb_edit *edit, const char *line);
  ]]
  declared = true
end

-- Beside the engine's library.
local function open_library()
  local folder = load.path:match "^(.*/)[^/]*$" or ""
  local ok, library = pcall(ffi.load, folder .. (jit.os == "OSX" and "libmoonbow_edit.dylib" or "libmoonbow_edit.so"))
  return ok and library or nil
end

---@class moonbow.Editor
local Editor = {}
Editor.__index = Editor

local cursor_out = ffi.new "int[1]"

--- Reads a line; nil and "end" after Ctrl-D, nil and "interrupted" after Ctrl-C.
---@param prompt string
---@param complete? fun(text: string, cursor: integer): string?, string?
---@return string? line
---@return string? why
function Editor:read(prompt, complete)
  local C, handle = self.library, self.handle
  while true do
    local event = C.mb_edit_read(handle, prompt)
    if event == LINE then return ffi.string(C.mb_edit_text(handle, cursor_out)) end
    if event ~= TAB then return nil, event == END and "end" or "interrupted" end
    local text = ffi.string(C.mb_edit_text(handle, cursor_out))
    local insert, list
    if complete then insert, list = complete(text, cursor_out[0]) end
    if list then C.mb_edit_show(handle, list) end
    if insert and insert ~= "" then C.mb_edit_insert(handle, insert) end
  end
end

--- Adds a line to those that the arrow keys bring back.
---@param line string
function Editor:remember(line) self.library.mb_edit_remember(self.handle, line) end

--- Gives the terminal back.
function Editor:close()
  if self.handle then
    self.library.mb_edit_free(ffi.gc(self.handle, nil))
    self.handle = nil
  end
end

--- An editor on the terminal, or nil where the library is not there.
---@param options { history_size: integer }
---@return moonbow.Editor?
function M.open(options)
  declare()
  local library = open_library()
  if not library then return nil end
  local handle = library.mb_edit_new(options.history_size)
  if handle == nil then return nil end
  -- The finalizer holds the library, which must not be unloaded before it.
  return setmetatable({ library = library, handle = ffi.gc(handle, library.mb_edit_free) }, Editor)
end

return M
