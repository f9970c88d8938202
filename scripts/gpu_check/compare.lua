-- SPDX-License-Identifier: MIT
--
-- compare.lua: two runs of train_gpt2.lua beside each other:
--   luajit scripts/gpu_check/compare.lua same RUN RUN                the same losses, to the bit, and the same last checkpoint
--   luajit scripts/gpu_check/compare.lua near RUN RUN LIMIT [JSON]   last validation losses no more than LIMIT apart

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here) .. package.path

local cli = require "moonbow.cli"
local json = require "moonbow.io.json"

-- Losses by step, the last validation loss, and the speed at the end.
local function log_of(folder)
  local run = { losses = {} }
  local file = io.open(folder .. "/log.jsonl", "rb") or cli.fail(1, "there is no log in %s", folder)
  for line in file:lines() do
    local record = assert(json.decode(line))
    if record.loss then run.losses[record.step], run.last = record.loss, record.step end
    if record.val_loss then run.val_loss = record.val_loss end
    run.tokens_per_second = record.tokens_per_second or run.tokens_per_second
  end
  file:close()
  return run
end

-- Tensors of the last checkpoint as bytes: name -> text.
local function tensors_of(mb, folder)
  local last
  for _, name in ipairs(mb.system.list(folder)) do
    if name:find "^step_%d+$" and (not last or name > last) then last = name end
  end
  if not last then cli.fail(1, "there is no checkpoint in %s", folder) end
  local all, count = {}, 0
  for _, name in ipairs(mb.system.list(folder .. "/" .. last)) do
    if name:find "%.safetensors$" then
      for key, t in pairs(mb.safetensors.load(("%s/%s/%s"):format(folder, last, name))) do
        all[name .. " " .. key], count = t:bytes(), count + 1
      end
    end
  end
  if count == 0 then cli.fail(1, "there are no tensors in %s/%s", folder, last) end
  return all, last, count
end

local function same(a, b)
  local mb = require "moonbow"
  mb.device "cpu"
  local x, y = log_of(a), log_of(b)
  for step = 1, math.max(x.last, y.last) do
    if x.losses[step] ~= y.losses[step] or not x.losses[step] then
      cli.fail(1, "the loss of step %d is %s and %s", step, tostring(x.losses[step]), tostring(y.losses[step]))
    end
  end
  local one, at, count = tensors_of(mb, a)
  local other, at_other = tensors_of(mb, b)
  if at ~= at_other then cli.fail(1, "the last checkpoints are %s and %s", at, at_other) end
  for name, bytes in pairs(one) do
    if other[name] ~= bytes then cli.fail(1, "%s: %s differs", at, name) end
  end
  print(("%d losses and %d tensors of %s are the same, to the bit"):format(x.last, count, at))
end

local function near(a, b, limit, path)
  local x, y = log_of(a), log_of(b)
  for i, run in ipairs { x, y } do
    if not run.val_loss or not run.losses[1] then cli.fail(1, "the log of %s has no losses", i == 1 and a or b) end
  end
  local gap, first = math.abs(x.val_loss - y.val_loss), math.abs(x.losses[1] - y.losses[1])
  if path then
    local file = assert(io.open(path, "wb"))
    file:write(json.encode { steps = x.last, validation_loss = { x.val_loss, y.val_loss }, limit = limit,
      tokens_per_second = { x.tokens_per_second, y.tokens_per_second } })
    file:close()
  end
  if not (gap <= limit and first <= 1e-4) then -- luacheck: ignore 581
    cli.fail(1, "validation losses %.4f and %.4f after %d steps, first losses %.6f and %.6f: too far apart", x.val_loss,
      y.val_loss, x.last, x.losses[1], y.losses[1])
  end
  print(("validation loss %.4f, on the CPU %.4f, after %d steps; %.3g allowed"):format(x.val_loss, y.val_loss, x.last, limit))
end

cli.main("gpu_check/compare", function()
  if arg[1] == "same" and #arg == 3 then
    same(arg[2], arg[3])
  elseif arg[1] == "near" and tonumber(arg[4]) then
    near(arg[2], arg[3], tonumber(arg[4]), arg[5])
  else
    cli.fail(2, "usage: compare.lua same RUN RUN | near RUN RUN LIMIT [JSON]")
  end
  return 0
end)
