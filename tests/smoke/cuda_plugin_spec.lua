-- SPDX-License-Identifier: MIT
--
-- cuda_plugin_spec.lua: what is said of a CUDA device that is not there. The plugin as built must load: what is missing
-- then is the driver or the device, not a symbol.

local helper = require "tests.helper"

-- What mb.device "cuda" says in a process of its own, with this plugin.
local function answer(plugin)
  local pipe = assert(io.popen(("MOONBOW_CUDA_PLUGIN='%s' luajit -e '%s' 2>&1"):format(plugin,
    'print(select(2, pcall(require("moonbow").device, "cuda")))')))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

local function is_there(path)
  local file = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

describe("the CUDA plugin", function()
  local built = (os.getenv "MOONBOW_LIB" or ""):gsub("libmoonbow%.so$", "libmoonbow_cuda.so")

  it("is named when it cannot be found or is none", function()
    assert.matches("there is no /no/such/plugin.so; it is built where nvcc is found", answer "/no/such/plugin.so", 1, true)
    assert.matches("device cuda is not available: ", answer(os.getenv "MOONBOW_ROOT" .. "/README.md"), 1, true)
  end)

  it("says why there is no device, or finds it", function()
    if not is_there(built) then pending "the plugin was not built: there is no nvcc" end
    local text = answer(built)
    assert(text:find "^cuda%s*$" or text:find "device cuda is not available: CUDA driver" or text:find "no CUDA%-capable device",
      text)
  end)

  it("refuses tensors with a text, and the CPU works on", function()
    local mb = require "moonbow"
    if pcall(mb.device, "cuda") then
      mb.device(helper.device)
      pending "there is a CUDA device"
    end
    assert.matches("device cuda is not available", helper.error_of(mb.zeros, 2, { device = "cuda" }), 1, true)
    assert.are.equal(0, mb.zeros(2):sum():item())
  end)
end)
