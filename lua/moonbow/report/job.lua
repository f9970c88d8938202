-- SPDX-License-Identifier: MIT
--
-- job.lua: the books of a training run: when to evaluate, sample and save, the live line, the JSONL log,
-- checkpoints, interruption, and what to say at the end. It makes no step itself.

local mb = require "moonbow"
local cli = require "moonbow.cli"
local folder_lock = require "moonbow.report.folder_lock"
local format = require "moonbow.report.format"
local live = require "moonbow.report.live"
local rescue = require "moonbow.report.rescue"
local routing = require "moonbow.report.routing"
local speed = require "moonbow.report.speed"
local stream = require "moonbow.report.stream"
local json = require "moonbow.io.json"
local utf8 = require "moonbow.io.utf8"

local M = {}
local Job = {}
Job.__index = Job

local SKIPS_IN_A_ROW = 10
-- Singular values of a matrix in a record of spectra: all of them up to where mb.spectrum computes all anyhow.
local ALL_UP_TO, OF_LARGE = 256, 64

local clipped_things = { grad = "gradients", momentum = "momenta", update = "updates" }

local function routes_of(model, clip, optimizer)
  local moved = {}
  for _, route in ipairs(optimizer:routing()) do moved[route.name] = route.optimizer end
  local routes = {}
  for i, p in ipairs(model:parameters()) do
    routes[i] = { name = p.name, shape = p.shape, role = p.role, clipper = clip:describe(p) or "-", optimizer = moved[p.name] }
  end
  return routes
end

-- A folder holds one run: a second one would mix the logs and take away the first one's checkpoints.
local function refuse_used(out)
  for _, name in ipairs(mb.system.list(out)) do
    if name == "log.jsonl" or name:match "^step_%d+" then
      cli.fail(1, "--out %s: the folder holds an earlier run (%s); continue it with --resume %s or choose another folder",
        out, name, out)
    end
  end
end

-- The validation loss and the sample that the log holds of a step.
local function logged(self, step)
  local found, start = {}, ('{"step":%d,'):format(step)
  for line in io.lines(self.log_path) do
    local record = line:sub(1, #start) == start and json.decode(line)
    if type(record) == "table" then
      found.val_loss, found.sample = record.val_loss or found.val_loss, record.sample or found.sample
    end
  end
  return found
end

-- What was due after the step that a resumed run begins from, and was interrupted.
local function make_up(self)
  self.step = self.first_step - 1
  local eval, sample = self:is_due "eval", self:is_due "sample"
  local found = (eval or sample) and logged(self, self.step) or {}
  if eval and not found.val_loss then self:evaluate() end
  if sample and not found.sample then self:sample() end
end

---@param parts { settings: table, model: table, data: table, clip: table, optimizer: table }
function M.new(parts)
  local self = setmetatable(parts, Job)
  local s = parts.settings
  self.first_step, self.made = 1, 0
  self.tokens_per_step = s.batch_size * s.block_size * s.grad_accum
  self.clipped, self.matrices, self.saturated, self.skipped, self.skips_in_a_row = 0, 0, 0, 0, 0
  self.objects = { model = parts.model, optimizer = parts.optimizer, clip = parts.clip, data = parts.data }
  self.live = live.new { steps = s.steps, plain = s.plain, quiet = s.quiet, system = mb.system }

  local say = function(line) self.live:say(line) end
  local run = require "moonbow.report.run"
  mb.system.make_folder(s.out)
  self.lock = folder_lock.take(s.out, (s.resume and "--resume " or "--out ") .. s.out)
  if not s.resume then refuse_used(s.out) end
  cli.before_error(function()
    pcall(self.flush, self)
    self.live:finish()
  end)
  cli.complete_errors(function(text) return rescue.after_error(self, text) end)
  if s.resume then
    local found = mb.checkpoint.load(s.resume, self.objects)
    for _, note in ipairs(found.notes) do say("resume  " .. note) end
    self.first_step, self.saved_step, self.last_saved = found.step + 1, found.step, found.path
  end
  for _, line in ipairs(run.headline(s, parts.model, parts.data, s.out)) do say(line) end
  if s.resume then say(("resume  after step %d"):format(self.first_step - 1)) end
  say("")
  say(routing.text(routes_of(parts.model, parts.clip, parts.optimizer)))
  say("")
  self.log_path = s.out .. "/log.jsonl"
  self.logger = mb.jsonl.open(self.log_path, { resume_after = s.resume and self.first_step - 1 or nil })
  if s.tensorboard then
    self.board = require("moonbow.report.board").open(s.out, s.resume and self.first_step - 1 or nil)
  end
  mb.system.interrupt_install()
  if s.resume then make_up(self) end
  self.started = mb.system.time()
  if self.start then self.start:part "log and books" end
  return self
end

-- The first record of what this process adds to the log. A resume that has nothing to add leaves the log as it is.
local function announce(self)
  if self.announced then return end
  self.announced = true
  local data = self.data
  self.logger:write {
    step = self.first_step - 1, config = self.settings, build = mb.build_info(), version = mb.version,
    data = { sha256 = data.sha256, train_tokens = data.train_tokens, val_tokens = data.val_tokens, vocab_size = data.vocab_size },
  }
end

---A part of the step as --graph has it: captured once and replayed, on a device that can. With auto a part that cannot be is
---run as it is, and the run says why.
---@param what string "the update"
---@param fn function
---@return function
function Job:graphed(what, fn)
  if self.settings.graph == "off" or mb.device() == "cpu" then return fn end
  local graphed, said, problem = mb.graph(fn), 0, nil
  self.lender = self.lender or graphed
  local function note(...)
    local n = graphed:graphs()
    if n > said then
      self.live:say(("graphs  %s: %d, from step %d on"):format(what, n, self.step))
    elseif graphed.over then
      problem = graphed.over
      self.live:say(("graphs  %s runs without one from step %d on: %s"):format(what, self.step, problem))
    end
    said = math.max(said, n)
    return ...
  end
  local function finish(arguments, ok, ...)
    if ok then
      self:flush()
      return note(...)
    end
    if self.settings.graph == "on" or not graphed.nothing_done then error((...), 0) end
    problem = tostring((...))
    self.live:say(("graphs  %s runs without one: %s"):format(what, problem))
    return fn(unpack(arguments, 1, arguments.n))
  end
  return function(...)
    if problem then return fn(...) end
    return finish({ n = select("#", ...), ... }, pcall(graphed, ...))
  end
end

---Marks the start of a step: random numbers are keyed by it.
function Job:begin(step)
  announce(self)
  mb.set_step(step)
  self.step, self.made = step, self.made + 1
  self.data_before, self.updates_before = self.data:state_dict(), self.optimizer.updates
  self.step_started = mb.system.time()
end

-- Ends the run as the step before left it, so that all but this step can be had again, unless it is the optimizer's state
-- that is not finite. No older checkpoint goes for it:
-- the trouble may have begun earlier.
local function stop_nonfinite(self, what)
  self:flush()
  self.logger:write { step = self.step, nonfinite = what }
  local last = self.step - 1
  if last > 0 and self.saved_step ~= last and not rescue.keeps_gradients(self.optimizer) then
    self.data:load_state_dict(self.data_before)
    self:save(last, self.settings.keep + 1)
  end
  cli.fail(3, "step %d: %s; nothing was updated, %s", self.step, what,
    self.last_saved and "the last checkpoint is " .. self.last_saved
    or last > 0 and "there is no checkpoint" or "there is no checkpoint as no step was made")
end

---True if loss and gradients are finite. Else stops the run before the update (exit code 3), naming the first bad
---parameter, or, with --on_nonfinite skip, counts the step as skipped and returns false.
function Job:is_finite(loss)
  self.grad_norm = self.model:gradient_norm()
  local finite_norm = self.grad_norm == self.grad_norm and self.grad_norm < math.huge
  local bad = not finite_norm and self.model:find_nonfinite_gradient() or nil
  local finite_loss = loss == loss and math.abs(loss) < math.huge
  if finite_loss and not bad then
    self.skips_in_a_row = 0
    return true
  end
  local what = finite_loss and ("the gradient of %s is not finite"):format(bad)
    or ("the loss is %s%s"):format(tostring(loss), bad and (", the gradient of " .. bad .. " is not finite") or "")
  if self.settings.on_nonfinite == "stop" then stop_nonfinite(self, what) end
  self.skipped, self.skipped_step = self.skipped + 1, self.step
  self.skips_in_a_row = self.skips_in_a_row + 1
  if self.skips_in_a_row > SKIPS_IN_A_ROW then
    stop_nonfinite(self, ("%s, for the %dth step in a row"):format(what, self.skips_in_a_row))
  end
  self:flush()
  self.live:say(("step %d skipped: %s (%d so far)"):format(self.step, what, self.skipped))
  self.logger:write { step = self.step, skipped = what }
  return false
end

-- What the clipper did this step, summed up.
local function clip_summary(report)
  local s = { clipped = 0, matrices = #report, saturated = 0, top_sigma = -math.huge, rows = {} }
  for _, row in ipairs(report) do
    if row.clipped then s.clipped = s.clipped + 1 end
    if row.saturated then s.saturated = s.saturated + 1 end
    if row.sigma > s.top_sigma then s.top_sigma, s.top_name = row.sigma, row.name end
    s.rows[row.name] = { row.sigma, row.tau or false, row.clipped and 1 or 0 }
  end
  return s
end

---Writes the step to the log and the screen; where steps are replayed, when the device has got the next one, so that it need
---not wait for that.
function Job:log(loss, report)
  if self.made == 1 then
    self.saving = true -- an error here says that nothing can be saved
    rescue.check_clip(self.clip)
    self.saving = false
  end
  local now = mb.system.time()
  local seconds = now - self.step_started
  self.seconds = self.seconds and 0.9 * self.seconds + 0.1 * seconds or seconds
  local line = {
    step = self.step, loss = loss, lr = self.optimizer:learning_rate(), grad_norm = self.grad_norm,
    tokens_per_second = self.tokens_per_step / self.seconds, eta = (self.settings.steps - self.step) * self.seconds,
    val_loss = self.val_loss,
  }
  local record = {
    step = self.step, loss = loss, lr = line.lr, grad_norm = self.grad_norm, time_ms = seconds * 1000,
    tokens = self.step * self.tokens_per_step,
  }
  self.loss = loss
  self.pending = { line = line, record = record, report = report, is_first = self.made == 1 }
  if self.made == 1 and self.start then self.start:part "step" end
  if not self.lender then self:flush() end
end

---Writes what log() has put off.
function Job:flush()
  if not self.pending then return end
  local line, record, report, is_first = self.pending.line, self.pending.record, self.pending.report, self.pending.is_first
  self.pending = nil
  if self.settings.clip == "spectral" then
    local s = clip_summary(report)
    line.clipped, line.matrices, line.saturated = s.clipped, s.matrices, s.saturated
    line.top_sigma, line.top_name = s.top_sigma, s.top_name
    self.clipped, self.matrices = self.clipped + s.clipped, self.matrices + s.matrices
    self.saturated = self.saturated + s.saturated
    record.clip = { clipped = s.clipped, matrices = s.matrices, saturated = s.saturated, sigma_tau_clipped = s.rows }
  elseif self.settings.clip == "norm" then
    record.clipped, record.tau = report.clipped, report.tau
    self.clipped, self.matrices = self.clipped + (record.clipped and 1 or 0), self.matrices + 1
  end
  self.logger:write(record)
  if self.board then self.board:step(record, line.tokens_per_second, report) end
  self.live:step(line)
  if is_first and self.start and mb.device() ~= "cpu" then self.live:say("start   " .. self.start:text()) end
  if is_first and self.settings.dtype == "bf16" then
    for note in mb.device_notes():gmatch "[^\n]+" do self.live:say("device  " .. note) end
  end
end

---Is it time for "eval", "sample", "save" or "spectra"? The last step is left to finish; spectra are due at the first one
---too, and at the last, as they must be had within a step.
function Job:is_due(what)
  local every = self.settings[what .. "_every"]
  if what == "spectra" then
    return every > 0 and (self.step == 1 or self.step % every == 0 or self.step == self.settings.steps)
  end
  return every > 0 and self.step % every == 0 and self.step < self.settings.steps
end

-- True once a signal has come; says so, as what the step was about is not made.
local function given_up(self, what)
  if mb.system.interrupted() == 0 then return false end
  self.live:say(("interrupted, step %d goes without its %s; a resumed run makes it"):format(self.step, what))
  return true
end

---Mean validation loss over eval_iters batches, always the same ones; nil if it was interrupted.
---@return number?
function Job:evaluate()
  announce(self)
  self:flush()
  local sum, stopped = 0, false
  local function evaluate()
    for i = 1, self.settings.eval_iters do
      stopped = given_up(self, "validation loss")
      if stopped then break end
      sum = sum + mb.scope(function() return self.model:loss(self.data:batch("val", i)):item() end)
    end
  end
  self.model:eval(function()
    mb.no_grad(function()
      if self.lender then self.lender:lend(evaluate) else evaluate() end
    end)
  end)
  if stopped then return nil end
  self.val_loss = sum / self.settings.eval_iters
  self.best_val = math.min(self.best_val or math.huge, self.val_loss)
  self.logger:write { step = self.step, val_loss = self.val_loss }
  if self.board then self.board:evaluated(self.model, self.step, self.val_loss) end
  if not self.live.rewrites then self.live:say(("step %d: validation loss %.4f"):format(self.step, self.val_loss)) end
  return self.val_loss
end

---Logs the largest singular values of every matrix's gradient, before the step clips it. The step's time leaves it out.
function Job:spectra()
  self:flush()
  local started = mb.system.time()
  local largest, matrices = 0, {}
  for _, p in ipairs(self.model:parameters()) do
    if #p.shape > 1 then largest = math.max(largest, math.min(unpack(p.shape))) end
  end
  for _, row in ipairs(mb.spectrum(self.model, { k = largest <= ALL_UP_TO and ALL_UP_TO or OF_LARGE })) do
    matrices[row.name] = { shape = row.shape, norm = row.norm, exact = row.exact, sigma = row.sigma }
  end
  self.logger:write { step = self.step, spectra = { of = "grad", matrices = matrices } }
  self.step_started = self.step_started + (mb.system.time() - started)
end

---Lets the model write.
---@return boolean whole false if it was interrupted
function Job:sample()
  if self.settings.sample_tokens == 0 then return true end
  if given_up(self, "sample") then return false end
  announce(self)
  self:flush()
  local prompt, begun = self.data:prompt(), false
  self.live:say("----- sample " .. ("-"):rep(50))
  local out = stream.new(function(text)
    if not begun then text = text:gsub("^\n", "") end
    begun = begun or text ~= ""
    self.live:write(text)
  end, true)
  out:write(self.data:decode(prompt))
  local tokens = self.model:generate(prompt, {
    max_tokens = self.settings.sample_tokens, temperature = 0.8, seed = self.settings.seed + self.step,
    on_token = function(id)
      out:write(self.data:decode { id })
      return mb.system.interrupted() ~= 0
    end,
  })
  out:finish()
  self.live:say ""
  if given_up(self, "sample") then return false end
  self.logger:write { step = self.step, sample = utf8.mend(self.data:decode(tokens)) }
  self.live:say(("-"):rep(63))
  return true
end

---Writes a checkpoint unless the newest one is of this step.
---@param step? integer steps done; default: the present one
---@param keep? integer checkpoints that stay; default: as the settings say
function Job:save(step, keep)
  step = step or self.step
  if self.saved_step == step then return end
  self:flush()
  local o = self.objects
  self.saving = true
  self.last_saved = mb.checkpoint.save(self.settings.out, {
    model = o.model, optimizer = o.optimizer, clip = o.clip, data = o.data, step = step,
    config = self.settings, keep = keep or self.settings.keep,
  })
  self.saved_step, self.saving = step, false
end

---True after Ctrl-C, SIGTERM or SIGHUP, once the state has been saved.
function Job:interrupted()
  if mb.system.interrupted() == 0 then return false end
  self:flush()
  self.live:finish()
  if self.saved_step ~= self.step then self.live:say(("interrupted, saving step %d"):format(self.step)) end
  self:save()
  self.live:say(("interrupted after step %d; continue with --resume %s"):format(self.step, self.settings.out))
  self:close()
  return true
end

function Job:close()
  self.logger:close()
  if self.board then self.board:close() end
  mb.system.unlock(self.lock)
end

-- The summary of a run that is done; `seconds` is what the steps took.
local function sum_up(self, seconds)
  local say = function(...) self.live:say((...):format(select(2, ...))) end
  if self.made > 0 then
    say("steps       %d in %s, %s tokens/s", self.made, format.duration(seconds),
      format.count(self.made * self.tokens_per_step / seconds))
    local rate = self.tokens_per_step / (self.seconds or math.huge)
    local flops = speed.flops_of_token(self.model, self.settings)
    local share = self.seconds and speed.share(rate, flops, mb.device_info(), self.settings.dtype)
    if share then say("speed       %s tokens/s at the end, %s", format.count(rate), share) end
  end
  say("loss        %s%.4f validation%s", self.made > 0 and ("%.4f training, "):format(self.loss or 0 / 0) or "",
    self.val_loss, self.best_val < self.val_loss and (" (best %.4f)"):format(self.best_val) or "")
  if self.matrices > 0 and self.settings.clip == "spectral" then
    say("clipping    %d of %d matrix %s clipped (%.1f %%), %d saturated", self.clipped, self.matrices,
      clipped_things[self.settings.clip_on], 100 * self.clipped / self.matrices, self.saturated)
  elseif self.matrices > 0 then
    say("clipping    %d of %d steps clipped by norm (%.1f %%)", self.clipped, self.matrices, 100 * self.clipped / self.matrices)
  end
  if self.skipped > 0 then say("skipped     %d steps with non-finite gradients", self.skipped) end
  local device, host = mb.device(), format.bytes(mb.system.peak_rss())
  if device == "cpu" then
    say("memory      %s at most", host)
  else
    say("memory      %s at most on %s, %s of the host", format.bytes(mb.memory(device).bytes_peak), device, host)
  end
  say("log         %s", self.log_path)
  say("checkpoint  %s", self.last_saved)
end

---The last checkpoint, evaluation and sample, and the summary. Of a run that has all its steps, what was interrupted.
---@return integer exit code
function Job:finish()
  self:flush()
  local seconds = mb.system.time() - self.started
  self.live:finish()
  self:save()
  local found = self.made == 0 and logged(self, self.step) or {}
  if found.val_loss and (found.sample or self.settings.sample_tokens == 0) then
    self.live:say(("nothing to do: the run already has %d steps"):format(self.step))
    self:close()
    return 0
  end
  if found.val_loss then
    self.val_loss = tonumber(found.val_loss) or 0 / 0
    self.best_val = self.val_loss
  end
  if not (found.val_loss or self:evaluate()) or not (found.sample or self:sample()) then
    self:interrupted()
    return 130
  end
  sum_up(self, seconds)
  self:close()
  return 0
end

return M
