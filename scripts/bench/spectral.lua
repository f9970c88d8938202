-- SPDX-License-Identifier: MIT
--
-- spectral.lua: what spectral clipping costs and how exact it is, beside the loop over PyTorch's decompositions.
--   luajit scripts/bench/spectral.lua                          this engine
--   luajit scripts/bench/spectral.lua --peer python3           and PyTorch beside it, in turn
--   luajit scripts/bench/spectral.lua --part gpt2 --peer python3,/usr/bin/python3
-- Parts (scripts/bench/spectral/): gpt2, the 48 matrices of GPT-2 124M; methods, method x shape x rank with errors;
-- mlp, whole steps of a small network under heavy-tailed noise. In each round this engine is timed, then each peer in a
-- process of its own; medians over all rounds are shown. Tables go to stdout, spectral.svg and spectral.jsonl to --out.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"
local cjson = require "cjson"
local format = require "moonbow.report.format"
local peers = require "scripts.bench.peer"

local options = {
  { "part", "all", "what to measure", choices = { "all", "gpt2", "methods", "mlp" } },
  { "rounds", 5, "rounds", kind = "integer", min = 1 },
  { "seconds", 0.2, "seconds for each entry of `methods` a round, at least one call", kind = "number", min = 0 },
  { "steps", 300, "steps of `mlp` a round", kind = "integer", min = 1 },
  { "threads", 2, "", kind = "integer", min = 1 },
  { "device", "cpu", "", choices = { "cpu", "cuda" } },
  { "dtype", "f32", "what the network of `mlp` computes with; spectra are float32's", choices = { "f32", "bf16" } },
  { "peer", nil, "a Python with PyTorch, or several: python3,/usr/bin/python3", kind = "string", value = "COMMAND" },
  { "peer_device", nil, "where it computes [--device]", choices = { "cpu", "cuda" } },
  { "quick", false, "small matrices and one round: whether it works, not how fast" },
  { "json", false, "one JSON line a part instead of tables" },
  { "out", "runs/bench", "folder of the plot and the record", kind = "string", value = "FOLDER" },
  { "record", nil, "a file for all parts' records as one JSON array", kind = "string", value = "FILE" },
}
local part_names = { "gpt2", "methods", "mlp" }

-- What a part is given: the library, the settings, a clock that waits for the device, and the rate of products as the other
-- benches measure it.
local function context_of(mb, s, folder)
  local peaks = { 0 }
  local function measure_products()
    for _, library in ipairs { "onednn", "openblas" } do
      local r = peers.ask(("MOONBOW_BLAS=%s luajit %s/gemm.lua --json --quick --threads %d --device %s --rounds %d%s"):format(
        library, peers.quoted(here), s.threads, s.device, s.quick and 1 or 7, s.quick and " --scale 0.02" or ""))
      peaks[1] = math.max(peaks[1], r.best)
    end
    return peaks[1]
  end
  local function now()
    mb.synchronize()
    return mb.time()
  end
  return { mb = mb, settings = s, folder = folder, now = now, measure_products = measure_products }
end

-- Runs all rounds of a part; returns its report.
local function measure(part, sides, s)
  for round = 1, s.rounds do
    part:ours()
    for _, peer in ipairs(sides) do
      local request = part:request(round)
      request.threads, request.device, request.dtype = s.threads, s.peer_device or s.device, s.dtype
      local answer = peers.ask(("%s %s/peers/spectral.py %s"):format(peer.command, peers.quoted(here),
        peers.quoted(cjson.encode(request))))
      peer.name = answer.what
      part:theirs(peer, answer)
    end
  end
  return part:report(sides)
end

local function write(path, text)
  local file, problem = io.open(path, "wb")
  if not file then cli.fail(1, "%s", problem) end
  file:write(text)
  file:close()
end

cli.main("bench/spectral", function()
  local given = cli.parse(options, arg)
  if given.help then
    print(cli.help("Times spectral clipping.", options))
    return 0
  end
  local s = cli.settings(options, given)
  if s.quick then
    s.rounds, s.seconds, s.steps = given.rounds or 1, given.seconds or 0, given.steps or 5
  end
  local sides = {}
  for command in (s.peer or ""):gmatch "[^,]+" do sides[#sides + 1] = { command = command } end
  local mb = require "moonbow"
  local svg = require "moonbow.report.svg"
  mb.threads(s.threads)
  mb.device(s.device)
  mb.seed(1)
  math.randomseed(1)
  mb.system.make_folder(s.out)
  local context = context_of(mb, s, s.out)
  local charts, records = {}, {}
  if not s.json then print(mb.build_info()) end
  for _, name in ipairs(part_names) do
    if s.part == "all" or s.part == name then
      local report = measure(require("scripts.bench.spectral." .. name).new(context), sides, s)
      report.record.part, report.record.build, report.record.device = name, mb.build_info(), s.device
      records[#records + 1] = cjson.encode(report.record)
      for _, chart in ipairs(report.charts) do charts[#charts + 1] = chart end
      if s.json then print(records[#records])
      else
        print(("\n%s"):format(report.head))
        print(format.columns(report.rows, report.right))
      end
    end
  end
  write(s.out .. "/spectral.svg", svg.page(charts))
  write(s.out .. "/spectral.jsonl", table.concat(records, "\n") .. "\n")
  if s.record then write(s.record, ("[%s]\n"):format(table.concat(records, ",\n"))) end
  if not s.json then print(("\nthe plot is %s/spectral.svg, the record %s/spectral.jsonl"):format(s.out, s.out)) end
  return 0
end)
