-- SPDX-License-Identifier: MIT
--
-- files_spec.lua: rules about the sources themselves: which file may include which, how long a file may
-- be, who may say ffi, and that every public function of the C API is used by a test.

local root = os.getenv("MOONBOW_ROOT") or "."

local function lines_of(command)
  local pipe = assert(io.popen(command))
  local result = {}
  for line in pipe:lines() do result[#result + 1] = line end
  pipe:close()
  return result
end

local function read(path)
  local file = assert(io.open(root .. "/" .. path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function files(...)
  local result = {}
  for _, folder in ipairs({ ... }) do
    local find = "cd '%s' && find %s -type f \\( -name '*.c' -o -name '*.h' -o -name '*.def' -o -name '*.cu' -o "
      .. "-name '*.cuh' -o -name '*.lua' -o -name '*.py' -o -name '*.sh' \\) 2>/dev/null | LC_ALL=C sort"
    for _, path in ipairs(lines_of(find:format(root, folder))) do result[#result + 1] = path end
  end
  return result
end

-- Who may include what, by the first path pattern that matches the including file. A header outside
-- the project (<...>) is always allowed, but for CUDA's.
local arrows = {
  { "^models/", { "^moonbow%.h$", "^flow%.h$", "^decoder%.h$" } },
  { "^engine/include/", {} },
  { "^engine/core/", { "^core/", "^backend/backend%.h$", "^moonbow%.h$" } },
  { "^engine/autograd/", { "^autograd/", "^ops/ops%.h$", "^ops/ops%.def$", "^core/", "^backend/backend%.h$", "^moonbow%.h$" } },
  { "^engine/ops/", { "^ops/", "^autograd/", "^core/", "^backend/backend%.h$", "^moonbow%.h$" } },
  { "^engine/spectral/", { "^spectral/", "^ops/", "^autograd/", "^core/", "^backend/backend%.h$", "^moonbow%.h$" } },
  { "^engine/fuse/", { "^fuse/", "^core/", "^autograd/", "^backend/backend%.h$", "^moonbow%.h$" } },
  { "^engine/text/", { "^text/", "^core/", "^moonbow%.h$" } },
  { "^engine/backend/cuda/", { "^backend/", "^core/", "^cuda/" } },
  { "^engine/backend/", { "^backend/", "^core/" } },
}

describe("the sources", function()
  it("include only downwards", function()
    for _, path in ipairs(files("engine", "models")) do
      local allowed
      for _, arrow in ipairs(arrows) do
        if path:find(arrow[1]) then allowed = arrow[2] break end
      end
      assert(allowed, path .. " is in a folder the lint does not know")
      for line in read(path):gmatch("[^\n]+") do
        local header = line:match('^%s*#%s*include%s+"([^"]+)"')
        local system = line:match("^%s*#%s*include%s+<([^>]+)>")
        if header then
          local ok = false
          for _, pattern in ipairs(allowed) do ok = ok or header:find(pattern) ~= nil end
          assert(ok, ("%s must not include %s"):format(path, header))
        elseif system and not path:find("^engine/backend/cuda/") then
          assert(not system:find("cuda") and not system:find("cublas"), ("%s includes %s"):format(path, system))
        end
      end
    end
  end)

  it("stay below 800 lines a file", function()
    for _, path in ipairs(files("engine", "models", "bindings", "lua", "scripts", "tests")) do
      local _, count = read(path):gsub("\n", "")
      assert(count <= 800, ("%s has %d lines"):format(path, count))
    end
  end)

  it("say ffi only in bindings/", function()
    for _, path in ipairs(files("lua", "scripts")) do
      if path:find("%.lua$") then
        assert(not read(path):find("require%s*%(?%s*[\"']ffi[\"']"), path .. " requires ffi")
      end
    end
  end)

  it("open with a licence line", function()
    for _, path in ipairs(files("engine", "models", "bindings", "lua", "scripts")) do
      if path:find("%.[ch]$") or path:find("%.lua$") or path:find("%.cuh?$") then
        assert(read(path):sub(1, 200):find("SPDX%-License%-Identifier: MIT"), path .. " has no SPDX line")
      end
    end
  end)

  it("use every public function in a test", function()
    local tests = {}
    for _, path in ipairs(files("tests")) do tests[#tests + 1] = read(path) end
    local text = table.concat(tests, "\n")
    local missing = {}
    for name in read("engine/include/moonbow.h"):gmatch("\nMB_[AC][PA][IL]L?%s[^;(]-%*?([%w_]+)%(") do
      if not text:find(name .. "%f[^%w_]") then missing[#missing + 1] = name end
    end
    assert(#missing == 0, "no test mentions " .. table.concat(missing, ", "))
  end)

  it("pass luacheck", function()
    if not os.execute("command -v luacheck >/dev/null 2>&1") then pending("luacheck is not installed") end
    local output = lines_of(("cd '%s' && luacheck -q --no-color lua bindings scripts tests 2>&1; echo rc=$?"):format(root))
    assert(output[#output] == "rc=0", table.concat(output, "\n"))
  end)
end)
