-- SPDX-License-Identifier: MIT
--
-- bf16.lua: the same training in bf16 and in float32: losses step by step beside each other, and the memory of bf16.
--   luajit scripts/gpu_check/bf16.lua            GPT-2 124M, 64 x 1024, 100 steps, on bytes of the project's own text
-- Fails if the losses are further apart than bf16's rounding explains (see --mean and --most), or if bf16 took more memory
-- than --gibibytes. Where the time runs out, the steps that both have made are compared, and that is a failure too.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"
local format = require "moonbow.report.format"
local json = require "moonbow.io.json"

local options = {
  { "vocab_size", 50257, "", kind = "integer", min = 256 },
  { "block_size", 1024, "tokens of context", kind = "integer", min = 1 },
  { "n_layer", 12, "", kind = "integer", min = 1 },
  { "n_head", 12, "", kind = "integer", min = 1 },
  { "n_embd", 768, "", kind = "integer", min = 1 },
  { "batch_size", 64, "", kind = "integer", min = 1 },
  { "steps", 100, "", kind = "integer", min = 1 },
  { "lr", 6e-4, "of AdamW, after a tenth of the steps" },
  { "device", "cuda", "", choices = { "cpu", "cuda" } },
  { "seconds", 330, "of training in all", min = 1 },
  { "mean", 0.005, "allowed difference of the losses, of the loss, in the mean over the steps", min = 0 },
  { "most", 0.03, "and at any step", min = 0 },
  { "gibibytes", 24, "memory allowed to bf16", min = 0 },
  { "json", nil, "a file for all figures", kind = "string", value = "FILE" },
}

-- Bytes in use on the GPU, by everybody, or nil.
local function used_on_gpu(device)
  if device ~= "cuda" then return nil end
  local pipe = io.popen "nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits 2>/dev/null"
  local text = pipe and pipe:read "*l"
  if pipe then pipe:close() end
  local mebibytes = tonumber(text)
  return mebibytes and mebibytes * 2 ^ 20
end

-- Trains in `dtype` until `stop`; returns losses, seconds of each step and the most memory.
local function train(mb, s, dtype, stop)
  mb.seed(1)
  mb.memory_reset_peak()
  local data = mb.data.text { text = mb.data.corpus(), tokenizer = "bytes", block_size = s.block_size,
    batch_size = s.batch_size, seed = 1 }
  local before = used_on_gpu(s.device)
  local model = mb.models.gpt2 { vocab_size = s.vocab_size, block_size = s.block_size, n_layer = s.n_layer, n_head = s.n_head,
    n_embd = s.n_embd, dropout = 0, seed = 1, dtype = dtype }
  local optimizer = mb.optim.adamw(model, { betas = { 0.9, 0.95 }, weight_decay = 0.1,
    lr = mb.schedule.linear { peak = s.lr, warmup = math.ceil(s.steps / 10), steps = 10 * s.steps } })
  local clip = mb.clip.norm { max_norm = 1 }
  local run = { losses = {}, seconds = {} }
  for step = 1, s.steps do
    local start = mb.time()
    if start > stop then break end
    mb.set_step(step)
    optimizer:zero_grad()
    local loss = model:loss(data:batch())
    loss:backward()
    clip(model)
    optimizer:step()
    run.losses[step] = loss:item()
    run.seconds[step] = mb.time() - start
    if step == 3 or step == s.steps then
      local now = used_on_gpu(s.device)
      run.on_gpu = now and math.max(run.on_gpu or 0, now - before)
    end
  end
  run.in_tensors = mb.memory().bytes_peak
  return run
end

local function median(values)
  local sorted = { unpack(values) }
  table.sort(sorted)
  return sorted[math.ceil(#sorted / 2)] or 0 / 0
end

cli.main("gpu_check/bf16", function()
  local given = cli.parse(options, arg)
  if given.help then
    print(cli.help("Trains in bf16 and in float32.", options))
    return 0
  end
  local s = cli.settings(options, given)
  local mb = require "moonbow"
  mb.device(s.device)
  local start = mb.time()
  local runs = {}
  for i, dtype in ipairs { "bf16", "f32" } do
    runs[i] = mb.scope(function() return train(mb, s, dtype, start + s.seconds * (i == 1 and 0.5 or 1)) end)
    mb.collect()
    mb.memory_trim()
  end
  local half, full = runs[1], runs[2]
  local steps, sum, most, at = math.min(#half.losses, #full.losses), 0, 0, 0
  for step = 1, steps do
    local gap = math.abs(half.losses[step] - full.losses[step]) / full.losses[step]
    sum = sum + gap
    if not (gap <= most) then most, at = gap, step end -- luacheck: ignore 581
    print(("step %3d   bf16 %.4f   f32 %.4f   %.3f %%"):format(step, half.losses[step], full.losses[step], 100 * gap))
  end
  local mean, tokens = sum / steps, s.batch_size * s.block_size
  local memory = math.max(half.on_gpu or 0, half.in_tensors)
  if s.json then
    local file = assert(io.open(s.json, "wb"))
    file:write(json.encode { steps = steps, wanted_steps = s.steps, batch_size = s.batch_size, block_size = s.block_size,
      mean_difference = mean, most_difference = most, most_at_step = at, memory = { bf16_on_gpu = half.on_gpu,
        bf16_in_tensors = half.in_tensors, f32_on_gpu = full.on_gpu, f32_in_tensors = full.in_tensors },
      tokens_per_second = { bf16 = tokens / median(half.seconds), f32 = tokens / median(full.seconds) },
      losses = { bf16 = half.losses, f32 = full.losses } })
    file:close()
  end
  local text = ("bf16 is %.2f %% from f32 in the mean of %d steps, %.2f %% at most; it took %s"):format(100 * mean, steps,
    100 * most, format.bytes(memory))
  if steps < s.steps then cli.fail(1, "%s; the time was too short for %d steps", text, s.steps) end
  if mean ~= mean or mean > s.mean or most > s.most then
    cli.fail(1, "%s; %g %% and %g %% are allowed", text, 100 * s.mean, 100 * s.most)
  end
  if memory > s.gibibytes * 2 ^ 30 then cli.fail(1, "%s; %g GiB are allowed", text, s.gibibytes) end
  print(text)
  return 0
end)
