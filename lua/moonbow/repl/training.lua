-- SPDX-License-Identifier: MIT
--
-- training.lua: training by hand at the prompt: a run's newest checkpoint opened, a small model for a try, and steps.
--
-- The session's globals model, optimizer, clip and data are what a step works with, whoever set them: a run, demo(), a script
-- or a typed line; parts.lua says what each must be. `data` is anything with data:batch(), or a function that returns a batch;
-- without `clip` nothing is clipped. settings.grad_accum is the number of micro-batches of a step. A step that fails puts data
-- and random numbers back. Nothing is written but by save().

local evaluate = require "moonbow.repl.evaluate"
local format = require "moonbow.report.format"
local live = require "moonbow.report.live"
local options = require "moonbow.options"
local parts_of = require "moonbow.repl.parts"
local saving = require "moonbow.repl.saving"
local system = require "bindings.system"

local M = {}

---@class moonbow.repl.Training
---@field repl moonbow.Repl
---@field history table[] what the steps of this session were: { step, loss, norm, sigma, tau, clipped }
---@field log table[]? likewise, of the run that was opened
---@field folder string? of the run, or the last one that was saved to
---@field made table what open() or demo() made, by name; its values are held weakly
---@field seen table model and optimizer of the last step, held weakly
---@field ahead integer steps of the session that its optimizer has not made: those of earlier ones
---@field last? integer the last step
local Training = {}
Training.__index = Training

local KEPT = 20000 -- steps of the history

---@param repl moonbow.Repl
---@return moonbow.repl.Training
function M.new(repl)
  local function weak() return setmetatable({}, { __mode = "v" }) end
  return setmetatable({ repl = repl, history = {}, made = weak(), seen = weak(), ahead = 0 }, Training)
end

-- ----- parts ------------------------------------------------------------------------------------------------

---The globals that training works with; an error says which is missing, or is something else.
---@param who string
---@param ... string names that must be there
---@return { model: table, optimizer: table, clip: table?, data: table|function, settings: table }
function Training:parts(who, ...)
  return parts_of.of(self.repl.session.globals, who, ...)
end

---The number of steps made by now: the optimizer's updates, and those of optimizers that it took the place of. With another
---model a new course begins.
---@param parts table
---@return integer
function Training:steps_done(parts)
  local seen, updates = self.seen, parts.optimizer.updates or 0
  if seen.model ~= parts.model then
    self.ahead = 0
    if self.last then self.history, self.log, self.last = {}, nil, nil end
  elseif seen.optimizer ~= parts.optimizer then
    self.ahead = (self.last or updates) - updates
  end
  seen.model, seen.optimizer = parts.model, parts.optimizer
  return updates + self.ahead
end

local function batch_of(data)
  if type(data) == "function" then return data() end
  return data:batch()
end

local function tokens_of(batch)
  local ok, n = pcall(function() return batch.inputs.numel end)
  return ok and n or nil
end

-- The gradient of one step's micro-batches, and the mean loss.
local function gradient(parts)
  local mb = require "moonbow"
  local parts_of_step, loss, tokens = parts.settings.grad_accum or 1, 0, 0
  parts.optimizer:zero_grad()
  for _ = 1, parts_of_step do
    mb.scope(function()
      local batch = batch_of(parts.data)
      local part = parts.model:loss(batch)
      if parts_of_step > 1 then part = part / parts_of_step end
      part:backward()
      loss = loss + part:item()
      tokens = tokens + (tokens_of(batch) or 0)
    end)
  end
  return loss, tokens
end

-- ----- one step -----------------------------------------------------------------------------------------------

-- Calls fn; then, or if it fails and only then, puts data and random numbers back as they were.
local function and_back(parts, always, fn, ...)
  local mb = require "moonbow"
  local has_state = type(parts.data) == "table" and parts.data.state_dict
  local before = has_state and parts.data:state_dict()
  local seed, step, stream = mb.random_state()
  local ok, result = pcall(fn, ...)
  if always or not ok then
    mb.random_state(seed, step, stream)
    if before then parts.data:load_state_dict(before) end
  end
  if not ok then error(result, 0) end
  return result
end

---The gradient that a parameter will have in the next step, before clipping: a tensor of its own. Gradients, data and random
---numbers are put back.
---@param parts table
---@param p moonbow.Parameter
---@return moonbow.Tensor
function Training:next_gradient(parts, p)
  local mb = require "moonbow"
  local kept, found = {}, nil
  parts.model:gradient_norm() -- what no backward has reached is zero, and not what lay there
  for i, q in ipairs(parts.model:parameters()) do kept[i] = q.grad:clone() end
  local ok, problem = pcall(and_back, parts, true, function()
    mb.set_step(self:steps_done(parts) + 1)
    gradient(parts)
    parts.model:gradient_norm()
    found = p.grad:clone()
  end)
  for i, q in ipairs(parts.model:parameters()) do q.grad:copy_(kept[i]) end
  if not ok then error(problem, 0) end
  return found
end

-- What a clipper's report says, matrix by matrix and in sum.
local function summary(report)
  local s = { sigma = {}, tau = {}, clipped = 0, matrices = 0 }
  if type(report) ~= "table" then return s end
  for _, row in ipairs(report) do
    local sigma = row.sigma or row.norm
    s.matrices = s.matrices + 1
    s.sigma[row.name], s.tau[row.name] = sigma, row.tau
    if row.clipped then s.clipped = s.clipped + 1 end
    if sigma and sigma > (s.top_sigma or -math.huge) then s.top_sigma, s.top_name = sigma, row.name end
  end
  if #report == 0 and report.norm then
    s.matrices, s.clipped, s.tau["*"] = 1, report.clipped and 1 or 0, report.tau
  end
  return s
end

local function check_finite(parts, step, loss)
  local norm = parts.model:gradient_norm()
  local is_finite = norm == norm and norm < math.huge
  if is_finite and loss == loss and math.abs(loss) < math.huge then return norm end
  local bad = not is_finite and parts.model:find_nonfinite_gradient()
  options.fail("step %d: %s; nothing was updated", step, bad and ("the gradient of %s is not finite"):format(bad)
    or ("the loss is %s"):format(tostring(loss)))
end

local function one_step(self, parts)
  local mb = require "moonbow"
  local step = self:steps_done(parts) + 1
  local started = system.time()
  local s = and_back(parts, false, function()
    mb.set_step(step)
    local loss, tokens = gradient(parts)
    local norm = check_finite(parts, step, loss)
    local found = summary(parts.optimizer:step(parts.clip))
    found.loss, found.norm, found.tokens = loss, norm, tokens
    return found
  end)
  s.step, s.seconds = step, system.time() - started
  self.last = step
  self.history[#self.history + 1] = s
  if #self.history > KEPT then table.remove(self.history, 1) end
  return s
end

-- ----- steps --------------------------------------------------------------------------------------------------

local Steps = {}

function Steps:__tostring()
  local losses = {}
  for i, s in ipairs(self) do losses[i] = s.loss end
  local lines = {}
  local n, first, last = #self, self[1], self[#self]
  lines[1] = n == 1 and ("step %d, loss %.4f"):format(first.step, first.loss)
    or ("steps %d to %d, loss %.4f -> %.4f  %s"):format(first.step, last.step, first.loss, last.loss,
      format.sparkline(M.means(losses, 24)))
  local clipped, matrices, tokens, seconds, top = 0, 0, 0, 0, nil
  for _, s in ipairs(self) do
    clipped, matrices = clipped + s.clipped, matrices + s.matrices
    tokens, seconds = tokens + s.tokens, seconds + s.seconds
    if s.top_sigma and (not top or s.top_sigma > top.top_sigma) then top = s end
  end
  if matrices > 0 then
    lines[#lines + 1] = ("clipped %d of %d (%.1f %%)%s"):format(clipped, matrices, 100 * clipped / matrices,
      top and (", largest σ₁ %.3g of %s"):format(top.top_sigma, format.printable(top.top_name)) or "")
  end
  lines[#lines + 1] = tokens > 0 and ("%s tokens/s, %s a step"):format(format.count(tokens / seconds),
    ("%.3g ms"):format(seconds / n * 1e3)) or ("%.3g ms a step"):format(seconds / n * 1e3)
  if self.was_interrupted then lines[#lines + 1] = ("interrupted after step %d; all of it is kept"):format(last.step) end
  return table.concat(lines, "\n")
end

---At most n numbers: means of equal stretches of a list.
---@param list number[]
---@param n integer
---@return number[]
function M.means(list, n)
  if #list <= n then return list end
  local result = {}
  for k = 1, n do
    local from, to, sum = math.floor((k - 1) * #list / n) + 1, math.floor(k * #list / n), 0
    for i = from, to do sum = sum + list[i] end
    result[k] = sum / (to - from + 1)
  end
  return result
end

local function live_line(self, n)
  local line = live.new { steps = n, plain = self.repl.is_plain, quiet = not self.repl.is_interactive, system = system }
  return line, function(parts, s, k, last)
    line:step {
      step = k, loss = s.loss, lr = parts.optimizer:learning_rate() or 0, grad_norm = s.norm,
      clipped = s.top_sigma and s.clipped or nil, matrices = s.matrices, top_sigma = s.top_sigma, top_name = s.top_name,
      tokens_per_second = s.tokens / s.seconds, eta = (last - k) * s.seconds,
    }
  end
end

---Trains n steps more; Ctrl-C ends after the running one.
---@param n? integer default 1
---@return table steps printable, one record a step
function Training:step(n)
  n = n == nil and 1 or n
  options.value("step", "the number of steps", n, { type = "integer", min = 1 })
  local parts = self:parts("step", "model", "optimizer", "data")
  local done = setmetatable({}, Steps)
  local line, show = live_line(self, n)
  local ok, problem = pcall(evaluate.held, function()
    for k = 1, n do
      done[k] = one_step(self, parts)
      show(parts, done[k], k, n)
      if system.interrupted() ~= 0 then
        done.was_interrupted = k < n
        break
      end
    end
  end)
  line:finish()
  if not ok then error(problem, 0) end
  return done
end

-- ----- opening --------------------------------------------------------------------------------------------------

-- Puts the parts of something to train where the user finds them.
local function publish(self, parts)
  local globals = self.repl.session.globals
  for _, name in ipairs { "model", "optimizer", "clip", "data", "settings" } do
    globals[name], self.made[name] = parts[name], parts[name]
  end
  self.history, self.ahead, self.last = {}, 0, parts.optimizer.updates
  self.seen.model, self.seen.optimizer = parts.model, parts.optimizer
end

-- What settings of train_gpt2.lua describe, of a run in `folder`; without a clipper, and with a note, if its threshold is
-- another script's.
local function made_by(settings, folder)
  local mb, run = require "moonbow", require "moonbow.report.run"
  local data = run.data(settings, folder)
  local model = mb.models[settings.model or "gpt2"] {
    vocab_size = data.vocab_size, block_size = settings.block_size, n_layer = settings.n_layer, n_head = settings.n_head,
    n_embd = settings.n_embd, dropout = settings.dropout, seed = settings.seed, dtype = settings.dtype,
    rounding = settings.rounding,
  }
  local clip, note = run.clip(settings, { own = true })
  return {
    settings = settings, data = data, model = model, clip = clip, optimizer = run.optimizer(settings, model),
  }, note
end

-- The settings of demo(): train_gpt2.lua's own, with a learning rate that stays.
local function demo_settings()
  return {
    preset = "default", tokenizer = "char", model = "gpt2", n_layer = 4, n_head = 4, n_embd = 128, block_size = 64, dropout = 0,
    batch_size = 12, grad_accum = 1, steps = 1500, optimizer = "adamw", lr = 1e-3, min_lr = 1e-3, momentum = 0.9, beta1 = 0.9,
    beta2 = 0.99, weight_decay = 0.1, warmup = 0, schedule = "const", clip = "spectral", clip_on = "grad", threshold = "ema:0.9",
    scope = "matrix", view = "fused", method = "randomized", rank = 8, oversample = 5, power_iters = 1,
    seed = (require("moonbow").random_state()), dtype = "f32", rounding = "nearest",
  }
end

---A small GPT-2 on the project's own text, and what trains it.
function Training:demo()
  local parts = made_by(demo_settings())
  publish(self, parts)
  self.folder, self.log = nil, nil
  self.repl:say(("model, optimizer, clip and data: a GPT-2 of %s weights on the project's own text, %s characters")
    :format(format.count(parts.model:count()), format.count(parts.data.train_tokens)))
  self.repl:say 'try step(50), losses(), spectrum "h.3.attn.c_attn", spectra(), generate "The "'
end

-- The steps of a run's log up to a step.
local function read_log(path, last)
  local json = require "moonbow.io.json"
  local file = io.open(path, "rb")
  if not file then return {} end
  local rows = {}
  for text in file:lines() do
    local ok, record = pcall(json.decode, text)
    if ok and type(record) == "table" and type(record.step) == "number" and record.step <= last
      and type(record.loss) == "number" then
      local row = { step = record.step, loss = record.loss, norm = record.grad_norm, sigma = {}, tau = {} }
      for name, values in pairs(record.clip and record.clip.sigma_tau_clipped or {}) do
        row.sigma[name], row.tau[name] = tonumber(values[1]), tonumber(values[2])
      end
      rows[#rows + 1] = row
    end
  end
  file:close()
  return rows
end

---Opens the newest checkpoint of a run of train_gpt2.lua, or one of them. The folder is only read.
---@param folder string
---@param given table options of the command line: device, threads
function Training:open(folder, given)
  local mb, cli, run = require "moonbow", require "moonbow.cli", require "moonbow.report.run"
  local found = mb.checkpoint.peek(folder)
  local settings = {}
  for name, value in pairs(found.config) do settings[name] = value end
  local missing = saving.missing(settings)
  if missing then
    cli.fail(1, "'%s' is no run of train_gpt2.lua: its configuration has no %s; a script that makes the same model opens it, "
      .. "with mb.checkpoint.load(%q, { model = model, optimizer = optimizer })", found.path, missing, folder)
  end
  settings.device, settings.threads = given.device or "auto", given.threads
  run.device(settings)
  local parts, note = made_by(settings, folder)
  mb.checkpoint.load(folder, { model = parts.model, optimizer = parts.optimizer, clip = parts.clip, data = parts.data })
  publish(self, parts)
  local is_checkpoint = found.path == folder
  self.folder = is_checkpoint and (system.absolute(folder):match "^(.*)/[^/]*$") or folder
  self.log = read_log(self.folder .. "/log.jsonl", found.step)
  self.repl:say(("model, optimizer, clip, data and settings of %s, after step %d of %d"):format(found.path, found.step,
    settings.steps))
  if note then self.repl:say(note .. "; clip is not set here") end
end

-- ----- writing ------------------------------------------------------------------------------------------------

---Saves a checkpoint: where the last one was saved or the run was opened, or into another folder.
---@param folder? string
function Training:save(folder)
  local parts = self:parts("save", "model", "optimizer", "data")
  folder = folder or self.folder
  if not folder then options.fail 'save: there is no run; name a folder: save "runs/mine"' end
  options.value("save", "the folder", folder, { type = "string" })
  local config, notes, clip = saving.config(folder, parts, self.made)
  local has_state = type(clip) == "table" and clip.state_dict
  local path = require("moonbow").checkpoint.save(folder, {
    model = parts.model, optimizer = parts.optimizer, clip = has_state and clip or nil,
    data = type(parts.data) == "table" and parts.data.state_dict and parts.data or nil,
    step = self:steps_done(parts), config = config,
  })
  self.folder = folder
  self.repl:say("saved " .. path)
  for _, note in ipairs(notes) do self.repl:say(note) end
end

-- ----- commands -----------------------------------------------------------------------------------------------

M.rows = {
  { "demo()", "makes a small model, its data, clipper and optimizer" },
  { "open(folder)", "opens a run of train_gpt2.lua after its newest checkpoint; the folder is only read" },
  { "step(n)", "trains n steps; Ctrl-C ends after the running one, and all is kept",
    "It works with the globals model, optimizer, data, and clip where there is one, as they are at the moment." },
  { "save(folder)", "writes a checkpoint, into the folder of the run, or the last one named, unless another is" },
}

---@param repl moonbow.Repl
---@return table<string, function>
function M.commands(repl)
  local training = repl.training
  return {
    demo = function() training:demo() end,
    open = function(folder)
      options.value("open", "the folder", folder, { type = "string" })
      training:open(folder, {})
    end,
    step = function(n) return training:step(n) end,
    save = function(folder) training:save(folder) end,
  }
end

return M
