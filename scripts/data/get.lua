-- SPDX-License-Identifier: MIT
--
-- get.lua: downloads a data set, on request only, and checks it against the SHA-256 that is written here; token files, against
-- the number of tokens in their headers.
--   luajit scripts/data/get.lua shakespeare               into data/shakespeare/input.txt of this checkout
--   luajit scripts/data/get.lua gpt2                      into data/gpt2/vocab.bpe, for the tokenizer of that name
--   luajit scripts/data/get.lua fineweb --files 20        into data/fineweb/: two thousand million tokens, 4 GB
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
  fineweb = {
    about = "FineWeb's 10 thousand million tokens of GPT-2, 200 MB a file, --files of 103 (huggingface.co, ODC-By)",
    url = "https://huggingface.co/datasets/kjj0/fineweb10B-gpt2/resolve/main",
    folder = "data/fineweb",
  },
}

local rows = {
  { "out", nil, "where the file goes, or the files of fineweb [data/NAME/ of this checkout]", kind = "string", value = "PATH" },
  { "url", nil, "another place to fetch it from; the contents must be the same", kind = "string", value = "URL" },
  { "files", 1, "files of fineweb for training; one for validation comes with them", kind = "integer", min = 1, max = 103 },
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

-- What is wrong with a file of one SHA-256, or nil.
local function problem_of_hash(set, path)
  local found = require("bindings.system").sha256_file(path)
  if found ~= set.sha256 then return ("has SHA-256 %s, %s was expected"):format(found, set.sha256) end
end

local function int32(text, at)
  local a, b, c, d = text:byte(at, at + 3)
  return a + 256 * (b + 256 * (c + 256 * d))
end

-- What is wrong with a token file of llm.c: a header of 256 int32, of which the third counts the tokens, then 16 bits a token.
local function problem_of_tokens(_, path)
  local file = assert(io.open(path, "rb"))
  local header = file:read(12) or ""
  file:close()
  if #header < 12 or int32(header, 1) ~= 20240520 or int32(header, 5) ~= 1 then return "is no token file of GPT-2" end
  local expected, bytes = 1024 + 2 * int32(header, 9), require("bindings.system").path_size(path)
  if bytes ~= expected then return ("has %d bytes, its header says %d"):format(bytes, expected) end
end

local function download(set, url, path, problem_of)
  local system = require "bindings.system"
  local part = ("%s.%d.part"):format(path, system.process_id())
  local complaint = part .. ".err"
  local command = ("%s 2>%s"):format(fetch_command(url, part), quoted(complaint))
  local ok, problem = pcall(function()
    if not succeeds(command) then cli.fail(1, "cannot download %s: %s", url, last_line(complaint)) end
    local wrong = problem_of(set, part)
    if wrong then cli.fail(1, "%s %s; it was not kept", url, wrong) end
    system.sync(part)
    system.rename(part, path)
  end)
  os.remove(part)
  os.remove(complaint)
  if not ok then error(problem, 0) end
end

-- Fetches one file, unless it is there.
local function fetch(set, url, path, problem_of)
  local system = require "bindings.system"
  if system.path_kind(path) == "folder" then cli.fail(1, "--out: '%s' is a folder, a file was expected", path) end
  if system.path_kind(path) == "file" then
    if problem_of(set, path) then cli.fail(1, "'%s' is there with other contents; move it away first", path) end
    print(("%s is there already"):format(system.absolute(path)))
    return
  end
  system.make_folder(path:match "^(.*)/[^/]*$" or ".")
  download(set, url, path, problem_of)
  print(("%s: %d bytes"):format(system.absolute(path), system.path_size(path)))
end

cli.main("get", function()
  local set, given = wanted()
  if not set then
    print(help())
    return 0
  end
  local url = given.url or set.url
  if set.file then
    if given.files then cli.fail(2, "--files is for fineweb, which has several") end
    fetch(set, url, given.out or ("%s/../../%s"):format(here, set.file), problem_of_hash)
    return 0
  end
  local folder, list = given.out or ("%s/../../%s"):format(here, set.folder), { "fineweb_val_000000.bin" }
  for i = 1, given.files or 1 do list[i + 1] = ("fineweb_train_%06d.bin"):format(i) end
  for _, name in ipairs(list) do fetch(set, url .. "/" .. name, folder .. "/" .. name, problem_of_tokens) end
  return 0
end)
