-- SPDX-License-Identifier: MIT
--
-- saver.lua: a process that saves checkpoints, to be killed, starved or denied by checkpoint_spec.lua.
--   luajit tests/fault/saver.lua DIR FIRST COUNT ELEMENTS
-- saves steps FIRST .. FIRST + COUNT - 1; every element of the state equals its step. Says each step
-- that is saved, or why one is not.

local mb = require "moonbow"

local M = {}

--- Objects whose state is that of a step.
function M.objects(step, elements)
  local function holder(value)
    return { value = value, state_dict = function(self) return self.value end,
             load_state_dict = function(self, s) self.value = s end }
  end
  return {
    model = holder { w = mb.full({ elements }, step), b = mb.full({ 2, 3 }, step, { dtype = "f64" }) },
    optimizer = holder { step = step, m = { w = mb.full({ elements }, step) } },
    clip = holder { history = { step, step, math.huge }, names = { a = step } },
    data = holder { position = step },
  }
end

--- Saves a step's objects.
function M.save(dir, step, elements, keep)
  local parts = M.objects(step, elements)
  parts.step, parts.keep, parts.config = step, keep, { elements = elements }
  require("bindings.create").rng_set(7, step, 0)
  return mb.checkpoint.save(dir, parts)
end

--- Loads what is in `dir` and checks that all of it is of one step; returns that step and the notes.
function M.load(dir)
  local parts = M.objects(0, 1)
  local found = mb.checkpoint.load(dir, parts)
  local step = found.step
  local function check(value, what)
    assert(value == step, ("%s is of step %s, the checkpoint is of %d"):format(what, tostring(value), step))
  end
  local model = parts.model.value
  for name, t in pairs { w = model.w, b = model.b, m = parts.optimizer.value.m.w } do
    check(t:min():item(), name)
    check(t:max():item(), name)
  end
  assert(model.w.numel == found.config.elements)
  check(parts.optimizer.value.step, "optimizer")
  check(parts.clip.value.history[2], "clip")
  check(parts.clip.value.names.a, "clip")
  check(parts.data.value.position, "data")
  check(select(2, require("bindings.create").rng_get()), "the generator")
  return step, found.notes
end

if arg and arg[0] and arg[0]:find "saver%.lua$" then
  local dir, first, count, elements = arg[1], tonumber(arg[2]), tonumber(arg[3]), tonumber(arg[4])
  mb.system.interrupt_install()
  for step = first, first + count - 1 do
    local ok, problem = pcall(M.save, dir, step, elements)
    io.write(ok and "saved " .. step or "failed " .. tostring(problem), "\n")
    io.flush()
  end
end

return M
