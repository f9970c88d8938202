-- SPDX-License-Identifier: MIT
--
-- rule.lua: what --threshold says, as text: "0.5", a policy of mb.threshold with its options in their order
-- ("quantile:0.85:100"), or a Lua file that returns a policy. A run's configuration keeps of a file its absolute path and how
-- its SHA-256 begins, "/home/me/slow_peak.lua@1f0c3d5e7a9b2c4d": a run that goes on does so with the policy that it began with.

local cli = require "moonbow.cli"

local M = {}

local DIGITS = 16 -- of the SHA-256

-- The policies that have a name, and the options that follow.
local policies = {
  ema = { "beta" }, quantile = { "q", "window" }, zscore = { "z", "alpha", "warmup" }, autoclip = { "p", "window" },
}

-- What was made of files, and the rules they stand for.
local of_file = setmetatable({}, { __mode = "k" })

-- The library is loaded when it is first needed: that it is not built is an error of the script like others.
local function system() return require "bindings.system" end

local function digest(path) return system().sha256_file(path):sub(1, DIGITS) end

-- The file and the digest of a rule that is one.
local function parts_of_file(rule)
  local path, sha256 = rule:match "^(.*%.lua)@(%x+)$"
  if path then return path, sha256 end
  return rule:match "^.*%.lua$"
end

-- The policy that a file returns.
local function from_file(rule, path, sha256)
  if system().path_kind(path) ~= "file" then cli.fail(2, "--threshold %s: there is no such file", path) end
  local now = digest(path)
  if sha256 and sha256 ~= now then
    cli.fail(1, "--threshold: '%s' has changed since the run began: its SHA-256 began with %s, now with %s", path, sha256, now)
  end
  local chunk, problem = loadfile(path)
  if not chunk then cli.fail(1, "--threshold: %s", problem) end
  local ok, value = pcall(chunk, path)
  if not ok then cli.fail(1, "--threshold: %s", tostring(value)) end
  if value == nil then cli.fail(1, "--threshold %s: the file returns nothing, a policy was expected", path) end
  local policy = require("moonbow.threshold.policy").of("--threshold " .. path, value)
  if type(value) == "function" then policy.text = path:match "[^/]*$" end
  of_file[policy] = rule
  return policy
end

-- What a number as a rule has wrong, or nil.
local function problem_of(rule, number)
  if number <= 0 or number ~= number then return ("%s is not above 0"):format(rule) end
  if number == math.huge then return ("%s is not finite"):format(rule) end
end

---Whether a rule is one at all: a number, or a policy by its name or file.
---@param rule string
function M.is_rule(rule)
  local kind, rest = rule:match "^(%a+)(.*)$"
  return tonumber(rule) ~= nil or parts_of_file(rule) ~= nil or policies[kind] ~= nil and (rest == "" or rest:sub(1, 1) == ":")
end

---The threshold that a rule stands for.
---@param rule string
---@return number|moonbow.Threshold
function M.threshold(rule)
  local mb = require "moonbow"
  local number = tonumber(rule)
  if number then
    local problem = problem_of(rule, number)
    return problem and cli.fail(2, "--threshold: %s", problem) or number
  end
  local path, sha256 = parts_of_file(rule)
  if path then return from_file(rule, path, sha256) end
  if not M.is_rule(rule) then
    cli.fail(2, "--threshold: '%s' is not a number, ema:BETA, quantile:Q:WINDOW, zscore:Z:ALPHA, autoclip:P:WINDOW or the "
      .. "name of a FILE.lua that returns a policy", rule)
  end
  local kind, rest = rule:match "^(%a+)(.*)$"
  local names, given, i = policies[kind], {}, 0
  for text in rest:gmatch ":([^:]*)" do
    i = i + 1
    if not names[i] then cli.fail(2, "--threshold: '%s' has more than %s", rule, table.concat(names, ", ")) end
    if text ~= "" then
      given[names[i]] = tonumber(text) or cli.fail(2, "--threshold: '%s' in '%s' is not a number", text, rule)
    end
  end
  local ok, result = pcall(mb.threshold[kind], given)
  if not ok then cli.fail(2, "--threshold %s: %s", rule, result) end
  return result
end

---A rule as a configuration keeps it: of a file its place and digest.
---@param rule string
---@return string
function M.settled(rule)
  local path, sha256 = parts_of_file(rule)
  if not path or sha256 or system().path_kind(path) ~= "file" then return rule end
  path = system().absolute(path)
  return path .. "@" .. digest(path)
end

---The rule that stands for a threshold, or nil: a function, or a policy with more options than rules have.
---@param threshold number|moonbow.Threshold
---@return string?
function M.of(threshold)
  if of_file[threshold] then return of_file[threshold] end
  local text = tostring(threshold)
  local tau = text:match "^const%((.*)%)$" or text
  if tonumber(tau) then return tau end
  local kind, list = text:match "^(%a+)%((.*)%)$"
  if not policies[kind] then return nil end
  local values = {}
  for value in list:gmatch "[^, ]+" do
    values[#values + 1] = tonumber(value) and value
  end
  local rule = kind .. ":" .. table.concat(values, ":")
  local ok, made = pcall(M.threshold, rule)
  return ok and tostring(made) == text and rule or nil
end

return M
