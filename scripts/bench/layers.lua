-- SPDX-License-Identifier: MIT
--
-- layers.lua: forward and backward of the layers that move memory rather than multiply: norms, softmax, the
-- fused loss, embedding, dropout, rotary. Float32; the gradient of every input is made.
--   luajit scripts/bench/layers.lua                     this engine
--   luajit scripts/bench/layers.lua --peer python3      and PyTorch beside it, in turn
-- The best time of a round counts; printed are medians over rounds, their ratio, and the rate at which the
-- least memory traffic (each array read or written once a pass, no weight counted) went by.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"
local cjson = require "cjson"
local format = require "moonbow.report.format"

local options = {
  { "rounds", 5, "rounds", kind = "integer", min = 1 },
  { "seconds", 0.25, "seconds for each layer a round", kind = "number", min = 0 },
  { "threads", 2, "", kind = "integer", min = 1 },
  { "only", nil, "layers with this in their name", kind = "string", value = "TEXT" },
  { "peer", nil, "a Python with PyTorch, e.g. python3", kind = "string", value = "COMMAND" },
}

-- name, rows, columns, and how many (rows, columns) arrays forward and backward must read or write.
local cases = {
  { "layernorm", 256, 768, 5 }, { "layernorm", 4096, 768, 5 }, { "layernorm", 768, 128, 5 }, { "rmsnorm", 4096, 768, 5 },
  { "softmax", 4096, 64, 5 }, { "softmax", 768, 1024, 5 }, { "log_softmax", 256, 50257, 5 }, { "softmax_columns", 256, 1024, 5 },
  { "cross_entropy", 256, 50257, 3 }, { "cross_entropy", 768, 65, 3 }, { "cross_entropy_smooth", 256, 50257, 3 },
  { "embedding", 256, 768, 5 }, { "embedding_gpt2", 256, 768, 5 }, { "dropout", 4096, 768, 4 }, { "rotary", 1024, 768, 4 },
}

local function median(values)
  table.sort(values)
  local n = #values
  return n % 2 == 1 and values[(n + 1) / 2] or 0.5 * (values[n / 2] + values[n / 2 + 1])
end

-- A function that runs one forward and backward of the case.
local function prepare(mb, name, rows, columns)
  local function ids(count, limit)
    local t = {}
    for i = 1, count do t[i] = (i * 7919) % limit end
    return mb.tensor(t, { dtype = "i32" })
  end
  local function leaf(shape)
    local t = mb.randn(shape)
    t:requires_grad_()
    return t
  end
  local inputs, call
  if name:find("^embedding") then
    local picks = ids(rows, 65)
    inputs = { leaf { name == "embedding" and 65 or 50257, columns } }
    call = function() return inputs[1]:embedding(picks) end
  elseif name:find("^cross_entropy") then
    local targets, given = ids(rows, columns), { label_smoothing = name:find("smooth") and 0.1 or 0 }
    inputs = { leaf { rows, columns } }
    call = function() return mb.cross_entropy(inputs[1], targets, given) end
  elseif name == "layernorm" then
    inputs = { leaf { rows, columns }, leaf { columns }, leaf { columns } }
    call = function() return inputs[1]:layernorm(inputs[2], inputs[3], 1e-5) end
  elseif name == "rmsnorm" then
    inputs = { leaf { rows, columns }, leaf { columns } }
    call = function() return inputs[1]:rmsnorm(inputs[2], 1e-5) end
  elseif name == "rotary" then
    inputs = { leaf { rows / 256, 256, columns / 64, 64 } }
    call = function() return inputs[1]:rotary() end
  else
    inputs = { leaf { rows, columns } }
    call = ({
      softmax = function() return inputs[1]:softmax(-1) end,
      log_softmax = function() return inputs[1]:log_softmax(-1) end,
      softmax_columns = function() return inputs[1]:softmax(1) end,
      dropout = function() return inputs[1]:dropout(0.1) end,
    })[name]
  end
  local shape = call().shape
  local seed = #shape > 0 and mb.randn(shape) or nil
  return function()
    for _, t in ipairs(inputs) do t:zero_grad() end
    local out = call()
    out:backward(seed)
    out:discard()
  end
end

local function best_time(mb, run, seconds)
  run()
  local best, stop = math.huge, mb.time() + seconds
  repeat
    local start = mb.time()
    run()
    best = math.min(best, mb.time() - start)
  until mb.time() > stop
  return best
end

-- The peer's best times, in the order of `chosen`.
local function peer_times(s, chosen)
  local request = cjson.encode { cases = chosen, seconds = s.seconds, threads = s.threads }
  local pipe = assert(io.popen(("%s '%s/peers/layers.py' '%s'"):format(s.peer, here, request)))
  local text = pipe:read("*a")
  pipe:close()
  return cjson.decode(text:match("(%b{})%s*$") or error("the peer gave no answer: " .. text, 0))
end

cli.main("bench/layers", function()
  local given = cli.parse(options, arg)
  if given.help then
    print(cli.help("Times layers that are bound by memory.", options))
    return 0
  end
  local s = cli.settings(options, given)
  local mb = require "moonbow"
  mb.threads(s.threads)
  local chosen, ours, theirs, peer = {}, {}, {}, nil
  for _, case in ipairs(cases) do
    if not s.only or case[1]:find(s.only, 1, true) then chosen[#chosen + 1] = case end
  end
  for _ = 1, s.rounds do
    for i, case in ipairs(chosen) do
      ours[i], theirs[i] = ours[i] or {}, theirs[i] or {}
      ours[i][#ours[i] + 1] = best_time(mb, prepare(mb, case[1], case[2], case[3]), s.seconds)
      collectgarbage()
    end
    if s.peer then
      peer = peer_times(s, chosen)
      for i in ipairs(chosen) do theirs[i][#theirs[i] + 1] = peer.seconds[i] end
    end
  end
  local rows = { { "layer", "rows", "columns", "us", "GB/s", "peer us", "ratio" } }
  for i, case in ipairs(chosen) do
    local mine = median(ours[i])
    local other = peer and median(theirs[i])
    rows[#rows + 1] = { case[1], tostring(case[2]), tostring(case[3]), ("%.1f"):format(mine * 1e6),
      ("%.1f"):format(4e-9 * case[2] * case[3] * case[4] / mine), other and ("%.1f"):format(other * 1e6) or "",
      other and ("%.2f"):format(other / mine) or "" }
  end
  print(mb.build_info() .. (peer and "; peer: " .. peer.what or ""))
  print(format.columns(rows, { [2] = true, [3] = true, [4] = true, [5] = true, [6] = true, [7] = true }))
  return 0
end)
