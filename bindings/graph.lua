-- SPDX-License-Identifier: MIT
--
-- graph.lua: the work of some calls, captured once and launched again as a whole (mb_graph_begin in moonbow.h).
--
--   begin(device, sharing) -> graph       until finish() work is noted, not done; `sharing`: a graph whose memory it may use
--   graph:finish()                        an error of it, or of a call before it, leaves a graph that can only be released
--   graph:release()                       gives up a capture that has not ended
--   graph:sites() -> n                    runs of fused programs, and steps of clipping by norms, so far
--   graph:set_numbers(site, program, numbers, n_sets)   of run `site`, from 1, for the next launch; the program's key too
--   graph:set_tau(site, plan)             of such a step, the plan's tau as it is now, for the next launch
--   graph:fits() -> boolean               whether the gradients that count as zero are those of the capture
--   graph:launch()
--   graph:lend(on)                        tensors are made in the graph's memory, from now on or no more
--   grad_mode() -> boolean                whether calls are recorded for backward
--   mark(number, on), marks() -> text     leaves that had a gradient and want none now, models that evaluate: their numbers

local ffi = require "ffi"
local handle = require "bindings.handle"
local load = require "bindings.load"

local C = load.C
local act_once = handle.act_once

local M = {}

---@class moonbow.GraphHandle
local Graph = {}
Graph.__index = Graph

local out = ffi.new "mb_graph *[1]"

---@param device integer as types.device gives it
---@param sharing? moonbow.GraphHandle
---@return moonbow.GraphHandle
function M.begin(device, sharing)
  act_once("mb_graph_begin", out, device, sharing and sharing.handle or nil)
  return setmetatable({ handle = ffi.gc(out[0], C.mb_graph_release) }, Graph)
end

function Graph:finish() act_once("mb_graph_end", self.handle) end
function Graph:launch() act_once("mb_graph_launch", self.handle) end
function Graph:lend(on) act_once("mb_graph_lend", on and self.handle or nil) end
function Graph:fits() return C.mb_graph_fits(self.handle) ~= 0 end
function Graph:sites() return tonumber(C.mb_graph_sites(self.handle)) end

function Graph:release()
  C.mb_graph_release(ffi.gc(self.handle, nil))
  self.handle = nil
end

---@param site integer
---@param program moonbow.Program
---@param numbers number[]
---@param n_sets integer of the run
function Graph:set_numbers(site, program, numbers, n_sets)
  act_once("mb_graph_set_numbers", self.handle, site - 1, program.handle, program:numbers_of(numbers), #numbers / n_sets)
end

---@param site integer
---@param plan moonbow.SpectralPlan
function Graph:set_tau(site, plan) act_once("mb_graph_set_tau", self.handle, site - 1, plan.plan) end

local marked, text_of_marked = {}, ""

---Notes that something is not as it usually is, or is again: what a graph captured before has not seen.
---@param number integer of a leaf that wants no gradient now, mb_tensor_id; below 0 of a model that evaluates. None is used twice
---@param on boolean
function M.mark(number, on) marked[number], text_of_marked = on or nil, nil end

---Differs where other leaves or models are marked.
---@return string
function M.marks()
  if not text_of_marked then
    local list = {}
    for number in pairs(marked) do list[#list + 1] = number end
    table.sort(list)
    text_of_marked = table.concat(list, " ")
  end
  return text_of_marked
end

---@return boolean
function M.grad_mode()
  local mode = C.mb_grad_mode(1)
  C.mb_grad_mode(mode)
  return mode ~= 0
end

return M
