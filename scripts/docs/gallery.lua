-- SPDX-License-Identifier: MIT
--
-- gallery.lua: the plots of docs/gallery.md, made of real runs.
--
--   luajit scripts/docs/gallery.lua            trains five small models in a few minutes, then writes the plots and the page
--   luajit scripts/docs/gallery.lua --page     the page alone
--   luajit scripts/docs/gallery.lua --check    writes nothing: exits with 1 if the page is not what this file says
--
-- Runs go to runs/gallery/ of this checkout; those that are there are used as they are.

local root = (arg and arg[0] or ""):match "^(.*)/scripts/docs/[^/]*$" or "."
package.path = ("%s/lua/?.lua;%s/lua/?/init.lua;%s/?.lua;%s"):format(root, root, root, package.path)

local system = require "bindings.system"

local LIMIT = 60000 -- bytes of a plot

-- Name and options of each run: what its folder is called, and what differs.
local runs = {
  { "spectral-1", "--steps 400 --seed 1" }, { "spectral-2", "--steps 400 --seed 2" },
  { "norm-1", "--steps 400 --clip norm --seed 1" }, { "norm-2", "--steps 400 --clip norm --seed 2" },
  { "short", "--steps 200 --spectra_every 50" },
}
local train = "luajit scripts/train_gpt2.lua --eval_every 50"
local all = "runs/gallery/spectral-1 runs/gallery/spectral-2 runs/gallery/norm-1 runs/gallery/norm-2"
local one = "runs/gallery/short"

local plots = {
  { "loss", all, "Training loss", "Two seeds each of spectral clipping with an EMA threshold and of clipping by the norm of all "
    .. "gradients: the line is the mean of the seeds, smoothed, the band reaches from the lower to the higher." },
  { "val", all, "Validation loss", "The same four runs, evaluated every 50 steps." },
  { "clip", all, "How much is clipped", "The share of matrices that were clipped in a step. Clipping by the norm takes all "
    .. "gradients as one vector: a step is clipped or not." },
  { "sigma", one, "Singular values against their thresholds", "The largest singular value of each matrix before clipping, and "
    .. "tau, what it was held against." },
  { "heat", one, "Layers over time", "The largest singular value of every matrix in every step, as colours." },
  { "events", one, "Clip events", "Which matrix was clipped when." },
  { "spectra", one, "Spectra", "How the singular values of four matrices' gradients are distributed, at "
    .. "five steps of the run. Marks: the largest one, blue, and its threshold, orange." },
  { "norm", all, "Norm of the gradients", "Before clipping." },
}

local function sh(command)
  print("$ " .. command)
  local ok = os.execute(("cd '%s' && %s"):format(root, command))
  if ok ~= true and ok ~= 0 then error("gallery.lua: that failed", 0) end
end

local function plot_command(plot)
  return ("luajit scripts/report.lua %s --plot %s --out docs/gallery/%s.svg"):format(plot[2], plot[1], plot[1])
end

local function read(path)
  local file = io.open(path, "rb")
  local text = file and file:read "*a"
  if file then file:close() end
  return text
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

-- A difference of coordinates that have one digit behind the point, as short as SVG allows: "1.5", "-.3".
local function short(x)
  local text = ("%.1f"):format(x):gsub("%.0$", ""):gsub("^(%-?)0%.", "%1.")
  return text == "-0" and "0" or text
end

-- Places "33.8 44.5L35.7 46.3" or "33.8,44.5 35.7,46.3" as a path of steps: "m33.8 44.5 1.9 1.8".
local function steps(places)
  local parts, x, y = {}, 0, 0
  for to_x, to_y in places:gmatch "(%-?[%d%.]+)[ ,](%-?[%d%.]+)" do
    local text = (short(to_x - x) .. " " .. short(to_y - y)):gsub(" %-", "-")
    parts[#parts + 1] = (#parts == 0 and "m" or text:find "^%-" and "" or " ") .. text
    x, y = to_x, to_y
  end
  return table.concat(parts)
end

-- The same lines in two thirds of the bytes.
local function smaller(svg)
  svg = svg:gsub('<polyline points="([%d%.,%- ]+)"', function(places) return ('<path d="%s"'):format(steps(places)) end)
  return (svg:gsub(' d="M([%d%.%-L ]+)(z?)"', function(places, close) return (' d="%s%s"'):format(steps(places), close) end))
end

local function size_of(path)
  return system.path_kind(path) == "file" and system.path_size(path) or nil
end

local function make()
  system.make_folder(root .. "/docs/gallery")
  for _, run in ipairs(runs) do
    local folder = "runs/gallery/" .. run[1]
    if system.path_kind(root .. "/" .. folder) == "none" then sh(("%s %s --quiet --out %s"):format(train, run[2], folder)) end
  end
  for _, plot in ipairs(plots) do
    sh(plot_command(plot) .. " --quiet")
    local path = ("%s/docs/gallery/%s.svg"):format(root, plot[1])
    write(path, smaller(read(path)))
    local bytes = size_of(path)
    if bytes > LIMIT then error(("gallery.lua: %s.svg has %d bytes, more than %d"):format(plot[1], bytes, LIMIT), 0) end
  end
end

local function page()
  local lines = { "<!-- Written by scripts/docs/gallery.lua: change that, and run it. -->", "", "# Gallery", "",
    "Plots of five runs of `scripts/train_gpt2.lua`: the default model, 0.8 million weights, on the project's",
    "own text. `luajit scripts/docs/gallery.lua` makes all of them anew: it trains, then draws. Under each plot stands the",
    "command that drew it; without `--plot` the same script writes a whole page, with tables and tests.", "",
    "<!-- not run: five runs of half a minute each -->", "```sh" }
  for _, run in ipairs(runs) do lines[#lines + 1] = ("%s %s --out runs/gallery/%s"):format(train, run[2], run[1]) end
  lines[#lines + 1] = "```"
  for _, plot in ipairs(plots) do
    local name, title, text = plot[1], plot[3], plot[4]
    local image = ("![%s](gallery/%s.svg)"):format(title, name)
    for _, line in ipairs { "", "## " .. title, "", text, "", image, "", "<!-- not run: it needs the runs above -->", "```sh",
                            plot_command(plot), "```" } do
      lines[#lines + 1] = line
    end
  end
  return table.concat(lines, "\n") .. "\n"
end

local path, mode = root .. "/docs/gallery.md", arg and arg[1]
if mode == "--check" then
  if read(path) ~= page() then
    print "stale: docs/gallery.md; run luajit scripts/docs/gallery.lua --page"
    os.exit(1, true)
  end
  for _, plot in ipairs(plots) do
    local bytes = size_of(("%s/docs/gallery/%s.svg"):format(root, plot[1]))
    if not bytes or bytes > LIMIT then
      print(("docs/gallery/%s.svg is %s"):format(plot[1], bytes and "too large" or "missing"))
      os.exit(1, true)
    end
  end
else
  if mode ~= "--page" then make() end
  write(path, page())
end
