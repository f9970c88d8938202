-- SPDX-License-Identifier: MIT
--
-- gpu.lua: one command that measures on a GPU what this library wants to show there, beside PyTorch doing the same work:
--   luajit scripts/bench/gpu.lua                            everything, about seven minutes with PyTorch
--   luajit scripts/bench/gpu.lua --part clip,muon,adamw     some of it
--   luajit scripts/bench/gpu.lua --peer none                without PyTorch
--   luajit scripts/bench/gpu.lua --host                     a rehearsal of every line without a GPU, in tiny sizes
-- Parts: train (GPT-2 124M, bf16, 64 x 1024, AdamW; GELUs made again, or kept, with a head in 4 chunks), small (6 layers of 384,
-- 64 x 256), clip (the 48 matrices, two settings), muon, adamw, startup (seconds to the first step, with an empty cache and a
-- full one), roofline (mb.profile of a training step).
--
-- Each side of a part is a process of its own with a time limit, the sides alternate, and medians over all rounds are compared.
-- Times are those between events in the device's queue on both sides. What fails is said and the rest goes on.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"
local cjson = require "cjson"
local format = require "moonbow.report.format"
local peers = require "scripts.bench.peer"
local sides = require "scripts.bench.gpu.sides"
local timing = require "scripts.bench.spectral.timing"
local work = require "scripts.bench.gpu.work"

local options = {
  { "part", "train,small,clip,muon,adamw,startup,roofline", "what to measure", kind = "string", value = "NAMES" },
  { "peer", "python3", "a Python with PyTorch, or none", kind = "string", value = "COMMAND" },
  { "rounds", 2, "of each part", kind = "integer", min = 1 },
  { "budget", 480, "seconds in all: parts that would begin later are left out", kind = "integer", min = 1 },
  { "host", false, "a rehearsal: tiny sizes, the tests' stand-in for the GPU (or MOONBOW_CUDA_PLUGIN), PyTorch on the CPU" },
  { "record", nil, "a file for the figures as JSON", kind = "string", value = "FILE" },
  { "one", nil, "used by the script itself: our side of a part in this process, as JSON", kind = "string", value = "REQUEST" },
}

local function say(...)
  io.stderr:write(("[%5.1f s] %s\n"):format(require("moonbow").time() - (options.began or 0), string.format(...)))
end

-- ----- a process ------------------------------------------------------------------------------------------------

-- The JSON object in the last line that a command prints within `limit` seconds, or nil and why not. on_line sees lines before.
local function ask(command, limit, on_line)
  local log = os.tmpname()
  local pipe = assert(io.popen(("timeout -k 5 %d %s 2>%s; echo \"exit $?\""):format(limit, command, peers.quoted(log))))
  local last, code
  for line in pipe:lines() do
    if on_line then on_line(line) end
    if line:match "^{.*}$" then last = line end
    code = line:match "^exit (%d+)$" or code
  end
  pipe:close()
  local file = io.open(log, "rb")
  local complaint = file and file:read "*a" or ""
  if file then file:close() end
  os.remove(log)
  if last then return cjson.decode(last) end
  if code == "124" or code == "137" then return nil, ("no answer within %d s"):format(limit) end
  return nil, complaint:match "([^\n]+)\n*$" or ("exit code %s and no answer"):format(code)
end

local function ours(s, request, limit, environment, on_line)
  request.host = s.host
  local stand_in = s.host and not os.getenv "MOONBOW_CUDA_PLUGIN" and here .. "/../../build/tests/libmoonbow_cuda_host.so"
  if stand_in then environment = ("MOONBOW_CUDA_PLUGIN=%s %s"):format(peers.quoted(stand_in), environment or "") end
  return ask(("env %s luajit %s --one %s"):format(environment or "", peers.quoted(arg[0]), peers.quoted(cjson.encode(request))),
    limit, on_line)
end

local function theirs(s, request, limit)
  if s.peer == "none" then return nil, "no peer" end
  request.device = s.host and "cpu" or "cuda"
  return ask(("%s %s %s"):format(s.peer, peers.quoted(here .. "/peers/gpu.py"), peers.quoted(cjson.encode(request))), limit)
end

-- ----- parts ----------------------------------------------------------------------------------------------------
-- A part fills `figures` with medians and what else is known: { name = { seconds =, values =, ... } }.

local function push(figures, name, answer, problem)
  local f = figures[name] or { values = {} }
  figures[name] = f
  if not answer or not answer.seconds then
    f.problem = problem or answer and answer.missing and "there is no " .. answer.missing
    say("%s: %s", name, f.problem or "no times")
    return
  end
  for _, value in ipairs(answer.seconds) do f.values[#f.values + 1] = value end
  for key, value in pairs(answer) do
    if key ~= "seconds" then f[key] = value end
  end
  f.seconds = timing.median(f.values)
  say("%s: %s, %d times%s", name, timing.text(f.seconds), #f.values, f.no_graph and ", without a graph: " .. f.no_graph or "")
end

local function shape_of(s, name) return (s.host and work.tiny or work.sizes)[name] end
local function few(s, n) return s.host and 1 or n end

local parts = {}

-- As the default is, with GELUs made again; and kept, in about the memory that a head in chunks leaves for them.
local ways = { ["train"] = {}, ["train kept"] = { recompute = false, head_chunks = 4 } }

function parts.train(s, figures)
  local request = { part = "train", sizes = shape_of(s, "train"), warmup = few(s, 5), steps = few(s, 20) }
  local kinds = { "compile", "pure" } -- after the first round only the faster one
  for round = 1, s.rounds do
    for _, way in ipairs { "train", "train kept" } do
      request.more = ways[way]
      push(figures, way, ours(s, request, 60))
    end
    request.more = nil
    for _, kind in ipairs(kinds) do
      request.kind = kind
      push(figures, "train torch " .. kind, theirs(s, request, round == 1 and 120 or 60))
    end
    local a, b = figures["train torch compile"].seconds, figures["train torch pure"].seconds
    if a and b then kinds = { a <= b and "compile" or "pure" } end
  end
end

function parts.small(s, figures)
  local request = { part = "small", sizes = shape_of(s, "small"), warmup = few(s, 10), steps = few(s, 100) }
  for round = 1, s.rounds do
    push(figures, "small", ours(s, request, 60))
    for _, kind in ipairs { "eager", "compile" } do
      request.kind = kind
      push(figures, "small torch " .. kind, theirs(s, request, round == 1 and 90 or 45))
    end
  end
end

function parts.clip(s, figures)
  local settings = s.host and { { 4, 2, 1 }, { 8, 2, 2 } } or { { 8, 5, 1 }, { 64, 10, 2 } }
  for round = 1, s.rounds do
    for i, o in ipairs(settings) do
      local request = { part = "clip", sizes = shape_of(s, "train"), rank = o[1], oversample = o[2], power_iters = o[3],
        warmup = few(s, 5), steps = few(s, 20) }
      request.tau = 0.5 * request.sizes.n_embd ^ 0.5
      push(figures, "clip" .. i, ours(s, request, 60))
      request.steps = few(s, 3)
      if round == 1 or figures["clip" .. i .. " torch loop"].seconds then
        push(figures, "clip" .. i .. " torch loop", theirs(s, request, 60))
      end
    end
  end
end

for name, peer in pairs { muon = "torch.optim.Muon", adamw = "torch fused" } do
  parts[name] = function(s, figures)
    local request = { part = name, sizes = shape_of(s, "train"), warmup = few(s, 5), steps = few(s, 20) }
    for _ = 1, s.rounds do
      push(figures, name, ours(s, request, 60))
      push(figures, name .. " " .. peer, theirs(s, request, 60))
    end
  end
end

-- From the start of the process to the end of its first step, by this process's clock.
function parts.startup(s, figures)
  local mb = require "moonbow"
  local folder = os.tmpname()
  os.remove(folder)
  for _, name in ipairs { "cold", "warm" } do
    local start, seconds = mb.time(), nil
    local request = { part = "startup", sizes = shape_of(s, "train") }
    local answer, problem = ours(s, request, 60, "MOONBOW_CACHE=" .. peers.quoted(folder), function(line)
      if line == "first step" then seconds = mb.time() - start end
    end)
    if answer and seconds then
      push(figures, "startup " .. name, { seconds = { seconds }, parts = answer.parts })
      for _, part in ipairs(answer.parts) do say("  %-34s %s", part[1], timing.text(part[2])) end
    else
      push(figures, "startup " .. name, nil, problem)
    end
  end
  if mb.system.path_kind(folder) == "folder" then mb.system.remove(folder) end
end

function parts.roofline(s, figures)
  local answer, problem = ours(s, { part = "roofline", sizes = shape_of(s, "train") }, 90)
  if not answer then return push(figures, "roofline", nil, problem) end
  print(answer.text)
  figures.roofline = { seconds = answer.report.busy, report = answer.report }
end

-- ----- what it was for ------------------------------------------------------------------------------------------

-- name, target as text, figure or nil, whether it is met.
local function verdicts(figures, s)
  local rows = {}
  local function add(name, target, value, text, is_met)
    if value then rows[#rows + 1] = { name = name, target = target, value = value, text = text, is_met = is_met } end
  end
  local function ms(name, what, limit)
    local f = figures[name]
    if f and f.seconds then add(what, ("<= %g ms"):format(1e3 * limit), f.seconds, timing.text(f.seconds), f.seconds <= limit) end
  end
  local function ratio(name, other, what, least)
    local f, g = figures[name], figures[other]
    if f and g and f.seconds and g.seconds then
      local value = g.seconds / f.seconds
      add(what, least and (">= %g"):format(least) or "", value, ("%.2f"):format(value), not least or value >= least)
    end
  end
  local function trained(way)
    local f, sizes = figures[way], shape_of(s, "train")
    if not f or not f.seconds then return end
    local tokens = sizes.batch_size * sizes.block_size / f.seconds
    add(way .. ": tokens/s", ">= 550000", tokens, ("%.0f"):format(tokens), tokens >= 550000)
    if f.peak then
      local share = work.flops(sizes) / f.seconds / f.peak
      add(way .. ": MFU of " .. format.count(f.peak) .. "FLOP/s", "", share, ("%.1f %%"):format(100 * share), true)
    end
    add(way .. ": memory", "<= 24 GiB", f.peak_bytes, format.bytes(f.peak_bytes), f.peak_bytes <= 24 * 2 ^ 30)
    local compiled, pure = figures["train torch compile"] or {}, figures["train torch pure"] or {}
    local best = (pure.seconds or math.huge) < (compiled.seconds or math.huge) and "pure" or "compile"
    ratio(way, "train torch " .. best, ("%s: times torch, %s"):format(way, best), 1.15)
  end
  trained "train"
  trained "train kept"
  if figures.small and figures.small.seconds then
    add("small: steps/s", "", 1 / figures.small.seconds, ("%.1f"):format(1 / figures.small.seconds), true)
  end
  ratio("small", "small torch eager", "small: times torch, eager", 3)
  ratio("small", "small torch compile", "small: times torch, compile", 1.5)
  ms("clip1", "clip 48 matrices, r 8", 2e-3)
  ms("clip2", "clip 48 matrices, r 64", 4e-3)
  ratio("clip1", "clip1 torch loop", "clip, r 8: times the loop", 50)
  ratio("clip2", "clip2 torch loop", "clip, r 64: times the loop", 50)
  ms("muon", "muon: a step", 4e-3)
  ratio("muon", "muon torch.optim.Muon", "muon: times torch.optim.Muon")
  ms("adamw", "adamw in Lua: a step", 1.1e-3)
  ratio("adamw", "adamw torch fused", "adamw: times torch, fused")
  ms("startup cold", "first step, empty cache", 10)
  ms("startup warm", "first step, full cache", 3)
  return rows
end

local function show(rows, s)
  local lines = { { "", "figure", "target", "" } }
  for _, row in ipairs(rows) do
    local verdict = s.host and "(rehearsal)" or row.is_met and "met" or "NOT MET"
    lines[#lines + 1] = { row.name, row.text, row.target, row.target == "" and "" or verdict }
  end
  print(format.columns(lines, { [2] = true }))
end

cli.main("bench/gpu", function()
  local given = cli.parse(options, arg)
  if given.help then
    print(cli.help("Measures on a GPU, beside PyTorch.", options))
    return 0
  end
  local s = cli.settings(options, given)
  if s.one then return sides.run(cjson.decode(s.one)) end
  if s.host then s.rounds = given.rounds or 1 end
  local mb = require "moonbow"
  options.began = mb.time()
  local figures, left_out = {}, {}
  for name in s.part:gmatch "[^,%s]+" do
    if not parts[name] then cli.fail(2, "--part: there is no '%s': %s", name, options[1][2]) end
  end
  if s.record then
    local file, problem = io.open(s.record, "a") -- known before minutes are spent
    if not file then cli.fail(1, "--record: %s", problem) end
    file:close()
  end
  local _, absent = ours(s, { part = "probe" }, 60)
  if absent then cli.fail(1, "%s", (absent:gsub("^bench/gpu: ", ""))) end
  for name in s.part:gmatch "[^,%s]+" do
    if mb.time() - options.began > s.budget - 20 then
      left_out[#left_out + 1] = name
    else
      say("--- %s", name)
      parts[name](s, figures)
    end
  end
  local rows = verdicts(figures, s)
  print()
  show(rows, s)
  print("FLOPs: " .. work.formula)
  if #left_out > 0 then print("left out, the budget was spent: " .. table.concat(left_out, ", ")) end
  local failed, missed = {}, 0
  for name, f in pairs(figures) do
    if f.problem and not f.seconds and f.problem ~= "no peer" then failed[#failed + 1] = name .. ": " .. f.problem end
    if f.no_graph then print(("without a graph: %s: %s"):format(name, f.no_graph)) end
  end
  table.sort(failed)
  for _, text in ipairs(failed) do print("failed: " .. text) end
  for _, row in ipairs(rows) do missed = missed + (row.is_met and 0 or 1) end
  if s.record then
    peers.record(s.record, { rehearsal = s.host, figures = figures, verdicts = rows, formula = work.formula,
      build = mb.build_info() })
  end
  local own_failed = 0
  for _, text in ipairs(failed) do
    if not text:find "torch" then own_failed = own_failed + 1 end
  end
  print(s.host and ("rehearsed: %d figures, %d failed"):format(#rows, #failed)
    or ("%d of %d targets met%s"):format(#rows - missed, #rows, #failed > 0 and (", %d failed"):format(#failed) or ""))
  return own_failed > 0 and 1 or 0
end)
