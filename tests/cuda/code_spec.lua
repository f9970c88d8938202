-- SPDX-License-Identifier: MIT
--
-- code_spec.lua: what nvcc makes of the CUDA kernels: streaming ones read and write 16 bytes at a time, hot ones keep their
-- values in registers. Needs nvcc and ptxas, no device. MB_CUDA_ARCH (90) says for which architecture.

local root = os.getenv("MOONBOW_ROOT") or "."
local arch = os.getenv("MB_CUDA_ARCH") or "90"

local function run(command)
  local pipe = assert(io.popen("PATH=$PATH:/usr/local/cuda/bin; " .. command .. " 2>&1; echo status $?"))
  local text = pipe:read("*a")
  pipe:close()
  return text:match("^(.*)status (%d+)%s*$")
end

local has_compiler = select(2, run("nvcc --version && ptxas --version")) == "0"

-- The PTX of a kernel file, by entry, and what ptxas says of it.
local compiled = {}
local function compile(file)
  if compiled[file] then return compiled[file] end
  local ptx = os.tmpname()
  local text, status = run(("cd '%s/engine' && nvcc -std=c++17 -O3 -ptx -arch=compute_%s -I . -I include -o %s 'backend/cuda/%s'")
    :format(root, arch, ptx, file))
  assert(status == "0", text)
  local log
  log, status = run(("ptxas -v -arch=sm_%s -o /dev/null %s"):format(arch, ptx))
  assert(status == "0", log)
  local entries, name = {}, nil
  for line in io.lines(ptx) do
    name = line:match("%.entry ([%w_$]+)") or name
    if name then
      entries[name] = entries[name] or {}
      table.insert(entries[name], line)
    end
  end
  os.remove(ptx)
  local frames = {}
  local frame = "Compiling entry function '([^']+)'.-(%d+) bytes stack frame, (%d+) bytes spill stores"
  for entry, stack, stores in log:gmatch(frame) do
    frames[entry] = { stack = tonumber(stack), spills = tonumber(stores) }
  end
  for entry, lines in pairs(entries) do entries[entry] = table.concat(lines, "\n") end
  compiled[file] = { entries = entries, frames = frames }
  return compiled[file]
end

-- An access of 16 bytes in PTX.
local function is_wide(text, access)
  return text:find(access .. "%.global[%w.]*%.v4%.[busf]32") ~= nil or text:find(access .. "%.global[%w.]*%.v2%.[busf]64") ~= nil
end

-- Kernels, by a piece of their mangled names, that read and write 16 bytes at a time; what only reads or only writes.
local streams = {
  { "kernels/unary.cu", { "MapPacks", "MapBackwardPacks" } },
  { "kernels/binary.cu", { "PairPacks", "PairBackwardPacks", "AxpbyPacks", "ChoosePacks" } },
  { "kernels/random.cu", { "Dropout" } },
  { "kernels/layernorm.cu", { "WarpForward", "WarpBackward", "7Forward", "8Backward" } },
  { "kernels/rmsnorm.cu", { "WarpForward", "WarpBackward", "7Forward", "8Backward" } },
  { "kernels/softmax.cu", { "4Rows", "RowsBackward" } },
  { "kernels/cross_entropy.cu", { "Gradient" } },
  { "kernels/embedding.cu", { "LookI[fd]Li[24]", "LookINS_4bf16ELi8", "AddRows" } },
  { "device.cu", { "ConvertIfNS_4bf16", "ConvertINS_4bf16Ef", "ConvertI[fd][fd]", "CopyPacks" } },
}
local readers = { { "kernels/cross_entropy.cu", { "Losses" } }, { "kernels/reduce.cu", { "ColumnShares" } } }
local writers = { { "device.cu", { "4Fill" } }, { "kernels/random.cu", { "Normal", "Uniform" } } }

local function all(list, ...)
  for _, row in ipairs(list) do
    local code = compile(row[1])
    for _, pattern in ipairs(row[2]) do
      local found = 0
      for entry, text in pairs(code.entries) do
        if entry:find(pattern) then
          found = found + 1
          for _, access in ipairs({ ... }) do
            assert(is_wide(text, access), ("%s: %s has no %s of 16 bytes"):format(row[1], entry, access))
          end
        end
      end
      assert(found > 0, ("%s: no kernel is called %s"):format(row[1], pattern))
    end
  end
end

-- Files whose kernels are hot, and the kernels that may use the stack, with the bytes and why.
local hot = {
  "device.cu", "kernels/unary.cu", "kernels/binary.cu", "kernels/random.cu", "kernels/layernorm.cu", "kernels/rmsnorm.cu",
  "kernels/softmax.cu", "kernels/cross_entropy.cu", "kernels/embedding.cu", "kernels/reduce.cu", "kernels/rotary.cu",
  "kernels/attention.cu", "kernels/attention_bf16.cu", "kernels/attention_cached.cu", "kernels/sketch.cu",
  "kernels/gram.cu", "kernels/factor.cu",
  "kernels/iterate.cu", "small.cu",
}
local reasons = {
  Rotary = { 40, "cos and sin of a double reduce huge angles with a table of digits" },
  Widen = { 8, "an element's place takes two divisions of 64 bits, which are calls" },
  KeyGradientIfLi256 = { 16, "float32 heads wider than 128: two sums of 128 values a thread" },
  ForwardIfLi256 = { 32, "the same on sm_80" },
}

describe("CUDA code", function()
  if not has_compiler then
    pending("nvcc and ptxas were not found")
    return
  end

  it("reads and writes 16 bytes at a time where it streams", function()
    all(streams, "ld", "st")
    all(readers, "ld")
    all(writers, "st")
  end)

  it("multiplies in tensor cores, and copies meanwhile, in bf16 attention", function()
    local kernels = 0
    for entry, text in pairs(compile("kernels/attention_bf16.cu").entries) do
      if not entry:find("ElementKernel") then
        kernels = kernels + 1
        for _, instruction in ipairs { "mma%.sync%.aligned%.m16n8k16", "ldmatrix", "ldmatrix[%w.]*trans", "cp%.async%.cg" } do
          assert(text:find(instruction), entry .. " has no " .. instruction)
        end
        assert(not text:find("%f[%w]atom[.%w]") and not text:find("%f[%w]red%."), entry .. " has atomics")
      end
    end
    assert.equal(13, kernels)
  end)

  it("keeps the values of hot kernels in registers", function()
    local bad = {}
    for _, file in ipairs(hot) do
      for entry, frame in pairs(compile(file).frames) do
        local allowed = 0
        for pattern, row in pairs(reasons) do
          if entry:find(pattern) then allowed = math.max(allowed, row[1]) end
        end
        if frame.stack > allowed then
          bad[#bad + 1] = ("%s: %s: %d bytes, %d of spills"):format(file, entry, frame.stack, frame.spills)
        end
      end
    end
    table.sort(bad)
    assert(#bad == 0, table.concat(bad, "\n"))
  end)
end)
