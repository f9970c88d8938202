-- SPDX-License-Identifier: MIT
--
-- get.lua: downloads a data set, on request only, and checks it against the SHA-256 that is written here.
--   luajit scripts/data/get.lua shakespeare               into data/shakespeare/input.txt of this checkout
--   luajit scripts/data/get.lua gpt2                      into data/gpt2/vocab.bpe, for the tokenizer of that name
--   luajit scripts/data/get.lua shakespeare --out FILE --url MIRROR
-- A file that is there and right is left alone; nothing half-written stays behind.

local here = (arg[0] or ""):match("^(.*)/[^/]*$") or "."
package.path = ("%s/../../lua/?.lua;%s/../../lua/?/init.lua;%s/../../?.lua;"):format(here, here, here)
  .. package.path

local cli = require "moonbow.cli"

local sets = {
  shakespeare = {
    about = "Tiny Shakespeare, 1.1 MB of plays (github.com/karpathy/char-rnn)",
    url = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    sha256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    file = "data/shakespeare/input.txt",
  },
  gpt2 = {
    about = "vocab.bpe, the merges of GPT-2's tokenizer, 0.5 MB (OpenAI, modified MIT licence)",
    url = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe",
    sha256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    file = "data/gpt2/vocab.bpe",
  },
}

local rows = {
  { "out", nil, "where the file goes [data/NAME/ of this checkout]", kind = "string", value = "FILE" },
  { "url", nil, "another place to fetch it from; the SHA-256 must be the same", kind = "string", value = "URL" },
}

local function names()
  local list = {}
  for name in pairs(sets) do list[#list + 1] = name end
  table.sort(list)
  return list
end

local function help()
  local lines = { "Usage: luajit scripts/data/get.lua NAME [options]", "", "Data sets:" }
  for _, name in ipairs(names()) do lines[#lines + 1] = ("  %-14s%s"):format(name, sets[name].about) end
  return table.concat(lines, "\n") .. "\n\n" .. cli.help("Downloads a data set.", rows):gsub("^[^\n]*\n\n", "")
end

-- The set that the command line names, and its options.
local function wanted()
  local name, rest = nil, {}
  for i, word in ipairs(arg) do
    if i == 1 and word:sub(1, 1) ~= "-" then name = word else rest[#rest + 1] = word end
  end
  local given = cli.parse(rows, rest)
  if given.help then return nil end
  if not name then cli.fail(2, "the name of a data set is missing; there are %s", table.concat(names(), ", ")) end
  if not sets[name] then
    local near = require("moonbow.options").nearest(name, names())
    cli.fail(2, "there is no data set '%s'%s", name, near and ("; did you mean " .. near .. "?")
      or "; there are " .. table.concat(names(), ", "))
  end
  return sets[name], given
end

-- One word of a shell command, whatever it holds.
local function quoted(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

local function succeeds(command)
  local result = os.execute(command)
  return result == 0 or result == true
end

-- The shell command that fetches `url` into `path`, by whichever program is there.
local function fetch_command(url, path)
  if url:sub(1, 1) == "-" then cli.fail(2, "--url: '%s' is no URL", url) end
  if succeeds "command -v curl >/dev/null 2>&1" then
    return ("curl --fail --location --silent --show-error --output %s %s"):format(quoted(path), quoted(url))
  elseif succeeds "command -v wget >/dev/null 2>&1" then
    return ("wget --no-verbose --output-document=%s %s"):format(quoted(path), quoted(url))
  end
  cli.fail(1, "neither curl nor wget is installed; fetch %s yourself", url)
end

local function last_line(path)
  local file, line = io.open(path, "rb"), nil
  if file then
    for l in file:lines() do line = l:match "%S" and l or line end
    file:close()
  end
  return line or "no reason given"
end

local function download(set, url, path)
  local system = require "bindings.system"
  local part = ("%s.%d.part"):format(path, system.process_id())
  local complaint = part .. ".err"
  local command = ("%s 2>%s"):format(fetch_command(url, part), quoted(complaint))
  local ok, problem = pcall(function()
    if not succeeds(command) then cli.fail(1, "cannot download %s: %s", url, last_line(complaint)) end
    local found = system.sha256_file(part)
    if found ~= set.sha256 then
      cli.fail(1, "%s has SHA-256 %s, %s was expected; it was not kept", url, found, set.sha256)
    end
    system.sync(part)
    system.rename(part, path)
  end)
  os.remove(part)
  os.remove(complaint)
  if not ok then error(problem, 0) end
end

cli.main("get", function()
  local set, given = wanted()
  if not set then
    print(help())
    return 0
  end
  local system = require "bindings.system"
  local path = given.out or ("%s/../../%s"):format(here, set.file)
  if system.path_kind(path) == "folder" then cli.fail(1, "--out: '%s' is a folder, a file was expected", path) end
  if system.path_kind(path) == "file" then
    if system.sha256_file(path) ~= set.sha256 then
      cli.fail(1, "'%s' is there with other contents; move it away first", path)
    end
    print(("%s is there already"):format(system.absolute(path)))
    return 0
  end
  system.make_folder(path:match "^(.*)/[^/]*$" or ".")
  download(set, given.url or set.url, path)
  print(("%s: %d bytes"):format(system.absolute(path), system.path_size(path)))
  return 0
end)
