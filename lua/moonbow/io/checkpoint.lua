-- SPDX-License-Identifier: MIT
--
-- checkpoint.lua: the whole state of a run in a folder, so that a resumed run equals an uninterrupted one.
--
--   DIR/step_00000300/  model.safetensors model.json optimizer.safetensors ... manifest.json
--
-- Saving builds step_N.tmp, syncs every file, writes manifest.json (sizes, SHA-256, configuration, random
-- state, running number) last, syncs the folder, and renames it. So a folder without ".tmp" was complete
-- when it got its name. Older checkpoints go only after the new one is in place. Loading checks everything
-- before it changes anything, and falls back to the newest checkpoint that is whole. "Newest" is by the
-- running number, not the step: a run that went back to an earlier step saves smaller steps again.
--
-- products.txt, where the run was on cuda, says which algorithms its products took, so that it goes on with the same bits.

local create = require "bindings.create"
local runtime = require "bindings.runtime"
local handle = require "bindings.handle"
local status = require "bindings.status"
local system = require "bindings.system"
local check = require("moonbow.options").check
local json = require "moonbow.io.json"
local safetensors = require "moonbow.io.safetensors"
local state = require "moonbow.io.state"
local writing = require "moonbow.io.writing"

local M = {}

local FORMAT, VERSION = "moonbow checkpoint", 1
-- In the order of loading. Another text may give a model of another size: its own complaint says more.
local PARTS = { "data", "model", "optimizer", "clip" }
local PRODUCTS = "products.txt"
local object = { type = "table" }

-- ----- folders and manifests --------------------------------------------------------------------------

-- Steps, suffixes ("", ".tmp", ".old") and names of what looks like a checkpoint in `dir`.
local function entries_of(dir)
  local list = {}
  for _, name in ipairs(system.list(dir)) do
    local step, suffix = name:match "^step_(%d+)(.*)$"
    if step and (suffix == "" or suffix == ".tmp" or suffix == ".old") then
      list[#list + 1] = { name = name, path = dir .. "/" .. name, step = tonumber(step), suffix = suffix }
    end
  end
  return list
end

local function read_text(path)
  local file, problem = io.open(path, "rb")
  if not file then return nil, problem end
  local text = file:read "*a"
  file:close()
  return text, text == nil and "it cannot be read" or nil
end

-- manifest.json is {"manifest": M, "sha256": H}. H is the hash of M's text, which encoding M again gives back
-- to the byte, as keys are sorted and numbers exact.
local function read_manifest(path)
  local text, problem = read_text(path)
  if not text then return nil, problem end
  local outer
  outer, problem = json.decode(text)
  if not outer then return nil, "it is damaged: " .. problem end
  local manifest = type(outer) == "table" and outer.manifest
  if type(manifest) ~= "table" or manifest.format ~= FORMAT then return nil, "it is of something else" end
  if manifest.version ~= VERSION then
    return nil, ("its format has version %s, this program reads %d"):format(tostring(manifest.version), VERSION)
  end
  if system.sha256((json.encode(manifest))) ~= outer.sha256 then
    return nil, "it is damaged: it has other contents than were written"
  end
  return manifest
end

-- The manifest of a checkpoint's folder if its files have their sizes and, if `hashes`, their contents; else
-- nil and what is wrong.
local function verify(path, hashes)
  if system.path_kind(path .. "/manifest.json") ~= "file" then return nil, "manifest.json is missing" end
  local manifest, problem = read_manifest(path .. "/manifest.json")
  if not manifest then return nil, "manifest.json: " .. problem end
  for name, wanted in pairs(manifest.files) do
    local file = path .. "/" .. name
    if system.path_kind(file) ~= "file" then return nil, name .. " is missing" end
    local bytes = system.path_size(file)
    if bytes ~= wanted.bytes then
      return nil, ("%s has %.0f bytes, %.0f were written"):format(name, bytes, wanted.bytes)
    end
    if hashes and system.sha256_file(file) ~= wanted.sha256 then
      return nil, name .. " has other contents than were written"
    end
  end
  return manifest
end

-- Complete folders with their manifests or problems, newest first. Unreadable ones count as oldest.
local function candidates(dir)
  if system.path_kind(dir .. "/manifest.json") == "file" then -- a checkpoint itself
    return { { name = dir:match "([^/]+)/*$" or dir, path = dir, suffix = "" } }, {}
  end
  local list, unfinished = {}, {}
  for _, entry in ipairs(entries_of(dir)) do
    if entry.suffix == ".tmp" then
      unfinished[#unfinished + 1] = entry
    else
      entry.manifest, entry.problem = verify(entry.path, false)
      entry.number = entry.manifest and entry.manifest.number or -1
      list[#list + 1] = entry
    end
  end
  table.sort(list, function(a, b)
    if a.number ~= b.number then return a.number > b.number end
    return a.step > b.step
  end)
  return list, unfinished
end

-- ----- saving -----------------------------------------------------------------------------------------

-- The state of an object, by the two ways objects have.
local function state_of(part, it)
  if it.state_dict then return it:state_dict() end
  if it.state then return it:state() end
  status.fail("checkpoint.save: %s has neither state_dict() nor state()", part)
end

-- Packed states by part, with weights and optimizer state known to be finite.
local function pack_parts(parts)
  local packed = {}
  for _, part in ipairs(PARTS) do
    if parts[part] then
      local tree, tensors = state.pack(state_of(part, parts[part]))
      if not tree then status.fail("checkpoint.save: %s: %s", part, tensors) end
      if part == "model" or part == "optimizer" then
        local name, element, value = state.find_nonfinite(tensors)
        if name then
          status.fail("checkpoint.save: element %d of '%s' (%s) is %s; nothing was saved, older checkpoints stay",
            element, name, part, json.nonfinite(value))
        end
      end
      packed[part] = { tree = tree, tensors = tensors }
    end
  end
  return packed
end

local function encode(what, value)
  local text, problem = json.encode(value)
  if not text then status.fail("checkpoint.save: %s cannot be written: %s", what, problem) end
  return text
end

-- Writes and syncs one file and enters it into the manifest.
local function add_file(manifest, folder, name, write)
  local path = folder .. "/" .. name
  write(path)
  system.sync(path)
  manifest.files[name] = { bytes = system.path_size(path), sha256 = system.sha256_file(path) }
end

local function write_folder(folder, manifest, packed)
  system.make_folder(folder)
  for part, content in pairs(packed) do
    if next(content.tensors) then
      add_file(manifest, folder, part .. ".safetensors", function(path)
        safetensors.write(path, content.tensors, { format = "pt" })
      end)
    end
    local text = encode(part, content.tree)
    add_file(manifest, folder, part .. ".json", function(path) writing.text(path, text .. "\n") end)
  end
  local choices = runtime.choices "cuda"
  if choices ~= "" then add_file(manifest, folder, PRODUCTS, function(path) writing.text(path, choices) end) end
  local path = folder .. "/manifest.json"
  local text = encode("the manifest", manifest)
  writing.text(path, ('{"manifest":%s,"sha256":"%s"}\n'):format(text, system.sha256(text)))
  system.sync(path)
  system.sync(folder)
end

-- Takes away what crashed saves left: unfinished folders, and replaced ones that were not removed or whose
-- replacement never came.
local function clear_leftovers(dir)
  for _, entry in ipairs(entries_of(dir)) do
    local final = entry.path:gsub("%.old$", "")
    if entry.suffix == ".old" and not verify(final, false) and verify(entry.path, false) then
      if system.path_kind(final) ~= "none" then system.remove(final) end
      system.rename(entry.path, final)
    elseif entry.suffix ~= "" then
      system.remove(entry.path)
    end
  end
end

-- Gives the finished folder its name. What had the name before stays until the new one is in place.
local function put_in_place(dir, aside, final)
  local old = final .. ".old"
  local replaces = system.path_kind(final) ~= "none"
  if replaces then system.rename(final, old) end
  system.rename(aside, final)
  system.sync(dir)
  local manifest, problem = verify(final, false)
  if not manifest then status.fail("checkpoint.save: '%s' was written, but %s", final, problem) end
  if replaces then system.remove(old) end
end

-- Removes all but the newest `keep` checkpoints.
local function rotate(dir, keep)
  if keep == 0 then return end
  local list = candidates(dir)
  for i = keep + 1, #list do system.remove(list[i].path) end
end

---@class moonbow.CheckpointParts what a run is made of
---@field model? table with state(), load_state()
---@field optimizer? table with state_dict(), load_state_dict()
---@field clip? table likewise
---@field data? table likewise
---@field step integer steps done
---@field config? table plain values; load() compares it
---@field keep? integer newest checkpoints that stay; default 2, 0 keeps all

--- Saves a run. After an error, older checkpoints are as they were.
---@param dir string made if it is not there
---@param parts moonbow.CheckpointParts
---@return string path of the new checkpoint
---@usage mb.checkpoint.save("runs/a", { model = model, optimizer = opt, clip = clip, data = data, step = 100 })
function M.save(dir, parts)
  parts = check("mb.checkpoint.save", parts, {
    model = object, optimizer = object, clip = object, data = object, config = { type = "table", default = {} },
    step = { type = "integer", required = true, min = 0 }, keep = { type = "integer", default = 2, min = 0 } })
  local step = parts.step
  local packed = pack_parts(parts)
  local config, problem = state.pack(parts.config)
  if not config then status.fail("checkpoint.save: config: %s", problem) end
  local seed, rng_step, stream = create.rng_get()

  system.make_folder(dir)
  local lock = system.lock(dir .. "/checkpoint.lock")
  local final = ("%s/step_%08d"):format(dir, step)
  local aside = final .. ".tmp"
  local ok, failure = pcall(function()
    clear_leftovers(dir)
    local newest = candidates(dir)[1]
    local manifest = {
      format = FORMAT, version = VERSION, number = (newest and newest.number or 0) + 1, step = step,
      config = config, rng = { seed = seed, step = rng_step, stream = stream },
      written_by = runtime.version, files = {},
    }
    write_folder(aside, manifest, packed)
    put_in_place(dir, aside, final)
    rotate(dir, parts.keep)
  end)
  if not ok then pcall(clear_leftovers, dir) end
  system.unlock(lock)
  if not ok then error(failure, 0) end
  return final
end

-- ----- loading ----------------------------------------------------------------------------------------

local function none_found(dir, list, unfinished)
  if #list > 0 then
    local problems = {}
    for i, entry in ipairs(list) do problems[i] = ("%s: %s"):format(entry.name, entry.problem) end
    status.fail("checkpoint: no checkpoint in '%s' is whole: %s", dir, table.concat(problems, "; "))
  end
  status.fail("checkpoint: there is no checkpoint in '%s'%s", dir,
    #unfinished > 0 and (", only an unfinished one, %s"):format(unfinished[#unfinished].name) or "")
end

-- The newest checkpoint that is whole, with notes on those passed over.
local function find(dir, hashes)
  local kind = system.path_kind(dir)
  if kind == "none" then status.fail("checkpoint: there is no folder '%s'", dir) end
  if kind == "file" then status.fail("checkpoint: '%s' is a file, a folder with checkpoints was expected", dir) end
  local list, unfinished = candidates(dir)
  local found
  for _, entry in ipairs(list) do
    if not entry.problem then entry.manifest, entry.problem = verify(entry.path, hashes) end
    if not entry.problem then
      found = entry
      break
    end
  end
  if not found then none_found(dir, list, unfinished) end
  local notes = {}
  for _, entry in ipairs(list) do
    if entry.problem and (entry.step or 0) >= found.manifest.step then
      notes[#notes + 1] = ("%s is damaged (%s); using %s"):format(entry.name, entry.problem, found.name)
    end
  end
  for _, entry in ipairs(unfinished) do
    notes[#notes + 1] = ("%s is an unfinished save; using %s"):format(entry.name, found.name)
  end
  return found, notes
end

local function shown(value)
  if value == nil then return "not set" end
  return type(value) == "table" and (json.encode((state.pack(value))) or "a table") or tostring(value)
end

-- One line a setting that is not as it was saved, in alphabetical order.
local function differences(saved, wanted)
  local lines = {}
  for key, value in pairs(wanted) do
    if shown(saved[key]) ~= shown(value) then
      lines[#lines + 1] = ("%s is %s there, %s here"):format(key, shown(saved[key]), shown(value))
    end
  end
  table.sort(lines)
  return lines
end

-- Reads one part's state.
local function read_part(found, part)
  local name = part .. ".json"
  local text, problem = read_text(found.path .. "/" .. name)
  local tree, tensors = nil, {}
  if text then tree, problem = json.decode(text) end
  if tree == nil then status.fail("checkpoint: '%s/%s': %s", found.path, name, problem) end
  if found.manifest.files[part .. ".safetensors"] then
    tensors = safetensors.load(("%s/%s.safetensors"):format(found.path, part))
  end
  local value
  value, problem = state.unpack(tree, tensors)
  if problem then status.fail("checkpoint: '%s/%s': %s", found.path, name, problem) end
  return value
end

local function restore(it, value)
  if it.load_state_dict then it:load_state_dict(value) else it:load_state(value) end
end

---@class moonbow.CheckpointFound a checkpoint that was loaded or could be
---@field path string
---@field step integer
---@field config table as it was saved
---@field notes string[] what was passed over, one line each

local function describe(found, notes)
  return { path = found.path, step = found.manifest.step, config = state.unpack(found.manifest.config, {}),
           notes = notes }
end

--- What load() would find, by manifest and sizes alone.
---@param dir string
---@return moonbow.CheckpointFound
function M.peek(dir)
  return describe(find(dir, false))
end

--- The state of one part of the newest checkpoint that is whole, as its state_dict() gave it.
---@param dir string
---@param part "data"|"model"|"optimizer"|"clip"
---@return table
function M.read(dir, part)
  require("moonbow.options").value("mb.checkpoint.read", "the part", part, { choices = PARTS })
  local found = find(dir, true)
  if not found.manifest.files[part .. ".json"] then status.fail("checkpoint: '%s' holds no %s", found.path, part) end
  return read_part(found, part)
end

--- Brings objects, and the generator of random numbers, to the state of the newest checkpoint that is
--- whole. Settings in `config` must be as they were saved; every difference is named.
---@param dir string a run's folder, or one checkpoint's
---@param parts { model?: table, optimizer?: table, clip?: table, data?: table, config?: table }
---@return moonbow.CheckpointFound
---@usage local found = mb.checkpoint.load("runs/a", { model = model, optimizer = opt, clip = clip, data = data })
function M.load(dir, parts)
  parts = check("mb.checkpoint.load", parts, {
    model = object, optimizer = object, clip = object, data = object, config = { type = "table", default = {} } })
  local found, notes = find(dir, true)
  local result = describe(found, notes)
  local different = differences(result.config, parts.config)
  if #different > 0 then
    status.fail("checkpoint: '%s' is of another configuration: %s", found.path, table.concat(different, "; "))
  end
  for _, part in ipairs(PARTS) do
    if parts[part] and not found.manifest.files[part .. ".json"] then
      status.fail("checkpoint: '%s' holds no %s", found.path, part)
    end
  end
  for _, part in ipairs(PARTS) do
    if parts[part] then
      restore(parts[part], read_part(found, part))
      handle.collect() -- what was read is as large as the part: it must go before the next comes
    end
  end
  if found.manifest.files[PRODUCTS] and parts.model and parts.model.device == "cuda" then
    local problem = runtime.set_choices("cuda", (read_text(found.path .. "/" .. PRODUCTS)))
    if problem then notes[#notes + 1] = problem end
  end
  local rng = found.manifest.rng
  create.rng_set(rng.seed, rng.step, rng.stream)
  return result
end

return M
