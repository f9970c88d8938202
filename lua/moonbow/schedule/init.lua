-- SPDX-License-Identifier: MIT
--
-- init.lua: schedules by name. Each is a file of this folder, loaded when it is first named.
--
-- A schedule is any function of the step, and any number of an optimizer or threshold may be one. The first
-- update is step 1. The built-in ones are callable tables that print what they are: with `warmup` steps of
-- linear rise the peak is reached at step = warmup, and the final value at step = steps, where it stays.

local folder = require "moonbow.folder"

return folder.table_of("mb.schedule", "moonbow.schedule", function(value) return type(value) == "function" end)
