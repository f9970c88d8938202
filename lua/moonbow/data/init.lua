-- SPDX-License-Identifier: MIT
--
-- init.lua: mb.data, what models are trained on.
--
--   mb.data.text { path = "input.txt", block_size = 64, batch_size = 12 }   batches of a text
--   mb.data.corpus()                                                        the project's own text, a string

return {
  text = require("moonbow.data.text").new,
  corpus = require("moonbow.data.corpus").read,
}
