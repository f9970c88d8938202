-- SPDX-License-Identifier: MIT
--
-- cudnn_spec.lua: the numbers of engine/backend/cuda/cudnn.h are those of cuDNN's own header, where there is one.

local function text_of(path)
  local file = io.open(path)
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  return text
end

local function header()
  local package = io.popen "python3 -c 'import nvidia.cudnn as c; print(list(c.__path__)[0])' 2>/dev/null"
  local folder = package:read "*l"
  package:close()
  local folders = { os.getenv "CUDNN_INCLUDE", "/usr/include", "/usr/include/x86_64-linux-gnu", "/usr/local/include",
                    "/usr/local/cuda/include", folder and folder .. "/include" }
  for i = 1, 6 do
    for _, name in ipairs { "cudnn_graph.h", "cudnn_graph_v9.h" } do
      local text = folders[i] and text_of(folders[i] .. "/" .. name)
      if text then return text, folders[i] end
    end
  end
end

-- Names and numbers of enumerations: NAME = 1, or NAME MACRO = 1.
local function numbers_of(text)
  local numbers = {}
  for name, number in text:gmatch "(CUDNN_[%u%d_]+)[%u_ ]*=%s*(%-?%d+)" do numbers[name] = tonumber(number) end
  return numbers
end

describe("cudnn.h", function()
  it("has the numbers of cuDNN's header", function()
    local theirs, folder = header()
    if not theirs then return pending "there is no cudnn_graph.h here: CUDNN_INCLUDE names its folder" end
    theirs = numbers_of(theirs)
    local count = 0
    for name, number in pairs(numbers_of(assert(text_of "engine/backend/cuda/cudnn.h"))) do
      assert.are.equal(theirs[name], number, name .. " in " .. folder)
      count = count + 1
    end
    assert.is_true(count > 90, count .. " numbers")
  end)
end)
