-- SPDX-License-Identifier: MIT
--
-- process.lua: other processes, by the C library alone and without a shell: starting one, talking with it line by line,
-- waiting for it, ending it. For programs that spread work over processes (lua/moonbow/experiment/pool.lua).
--
--   local child = process.spawn({ "luajit", "script.lua", "--worker" }, { log = "worker.log" })
--   child.channel:send "one line"                  -- false once the other side is gone
--   process.wait_any({ child.channel }, 0.2)       -- until one has something to read, or the time is over
--   local line = child.channel:receive()           -- nil: no whole line yet, or nothing more ever: child.channel.closed
--   local how = child:poll()                       -- nil while it runs; else { code = 0 } or { signal = 9 }
--   child:kill(process.TERM)
--
-- In the child the other end is file descriptor 3: process.inherited_channel(). Its standard input is empty, what it
-- prints and complains of goes to the file `log`. It has a process group of its own, so that Ctrl-C reaches the
-- parent alone, which decides; process.end_with_parent() makes it end when the parent does. Without a log the child
-- shares all that with its parent: terminal, and Ctrl-C.
--
-- Linux: the constants and the sizes of the opaque types below are those of its C libraries (glibc and musl alike).

local ffi = require "ffi"
local status = require "bindings.status"

ffi.cdef [[
typedef struct { int64_t words[64]; } mbi_spawn_actions; /* posix_spawn_file_actions_t: 80 bytes */
typedef struct { int64_t words[128]; } mbi_spawn_attr;    /* posix_spawnattr_t: 336 bytes */
typedef struct { int fd; short events, revents; } mbi_pollfd;
extern char **environ;
int posix_spawnp(int *pid, const char *file, const void *actions, const void *attr, char *const argv[], char *const envp[]);
int posix_spawn_file_actions_init(void *actions);
int posix_spawn_file_actions_destroy(void *actions);
int posix_spawn_file_actions_adddup2(void *actions, int fd, int new_fd);
int posix_spawn_file_actions_addopen(void *actions, int fd, const char *path, int flags, unsigned mode);
int posix_spawnattr_init(void *attr);
int posix_spawnattr_destroy(void *attr);
int posix_spawnattr_setflags(void *attr, short flags);
int waitpid(int pid, int *how, int flags);
int kill(int pid, int signal);
int getppid(void);
int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
int socketpair(int domain, int type, int protocol, int fds[2]);
intptr_t send(int fd, const void *data, size_t bytes, int flags);
intptr_t recv(int fd, void *data, size_t bytes, int flags);
int poll(mbi_pollfd *fds, unsigned long count, int milliseconds);
int close(int fd);
char *strerror(int code);
int sched_getaffinity(int pid, size_t bytes, void *mask);
]]

local C = ffi.C
local EINTR, EAGAIN = 4, 11
local WNOHANG, POLLIN = 1, 1
local AF_UNIX, SOCK_STREAM, SOCK_CLOEXEC = 1, 1, 0x80000
local MSG_NOSIGNAL, MSG_DONTWAIT = 0x4000, 0x40
local O_RDONLY, O_WRONLY, O_CREAT, O_APPEND = 0, 1, 0x40, 0x400
local SETPGROUP = 2
local PDEATHSIG = 1
local CHANNEL = 3 -- file descriptor of the channel in a child

local M = { INT = 2, KILL = 9, TERM = 15 }

local function reason(code) return ffi.string(C.strerror(code or ffi.errno())) end

-- ----- channels -----------------------------------------------------------------------------------------

---@class moonbow.Channel
---@field fd integer
---@field closed boolean the other side has gone, and all it said has been read
local Channel = {}
Channel.__index = Channel

local function channel_of(fd) return setmetatable({ fd = fd, pending = "", closed = false }, Channel) end

--- Sends one line, without a line break in it; waits while the other side is busy.
---@param line string
---@return boolean whether there is another side
function Channel:send(line)
  if self.fd < 0 then return false end
  local text = line .. "\n"
  local data, sent = ffi.cast("const char *", text), 0
  while sent < #text do
    local n = tonumber(C.send(self.fd, data + sent, #text - sent, MSG_NOSIGNAL))
    if n >= 0 then sent = sent + n
    elseif ffi.errno() ~= EINTR then return false end
  end
  return true
end

local chunk = ffi.new "char[65536]"

-- Takes in what there is, or with `waiting` at least something; false when there will be nothing more.
local function fill(self, waiting)
  while true do
    local n = tonumber(C.recv(self.fd, chunk, 65536, waiting and 0 or MSG_DONTWAIT))
    if n > 0 then
      self.pending = self.pending .. ffi.string(chunk, n)
      return true
    end
    local code = ffi.errno()
    if n < 0 and code == EAGAIN then return true end
    if n == 0 or code ~= EINTR then
      self.closed = true
      return false
    end
    if waiting then return true end -- a signal: the caller looks what it was
  end
end

local function take_line(self)
  local line, rest = self.pending:match "^([^\n]*)\n(.*)$"
  if line then self.pending = rest end
  return line
end

--- A line that has come whole, or nil.
---@param waiting? boolean wait for one; nil then means that the other side is gone, or that a signal came
---@return string?
function Channel:receive(waiting)
  local line = take_line(self)
  while not line and not self.closed and self.fd >= 0 do
    local before = #self.pending
    fill(self, waiting)
    line = take_line(self)
    if not line and #self.pending == before then break end
  end
  return line
end

function Channel:close()
  if self.fd >= 0 then C.close(self.fd) end
  self.fd, self.closed = -1, true
end

--- The channel to the parent of a process that spawn() made.
---@return moonbow.Channel
function M.inherited_channel() return channel_of(CHANNEL) end

--- Waits until one of the channels has something to read or has ended, a signal comes, or the time is over.
---@param channels moonbow.Channel[]
---@param seconds number
function M.wait_any(channels, seconds)
  local fds = ffi.new("mbi_pollfd[?]", math.max(1, #channels))
  for i, channel in ipairs(channels) do
    fds[i - 1].fd, fds[i - 1].events = channel.fd, POLLIN
  end
  C.poll(fds, #channels, math.ceil(seconds * 1000))
end

-- ----- children -----------------------------------------------------------------------------------------

---@class moonbow.Process
---@field pid integer
---@field channel moonbow.Channel
---@field log string
local Process = {}
Process.__index = Process

-- argv as C wants it; the second result keeps the strings alive.
local function strings(list)
  local array = ffi.new("const char *[?]", #list + 1)
  for i, text in ipairs(list) do
    if type(text) ~= "string" or text:find "%z" then status.fail("process.spawn: argument %d is no string without a NUL", i) end
    array[i - 1] = text
  end
  return array, list
end

local function attempt(code, what, name)
  if code ~= 0 then status.fail("process.spawn: %s '%s': %s", what, name, reason(code)) end
end

-- Where a child with a log has its input, its output and its complaints.
local function redirect(actions, log)
  local file, problem = io.open(log, "ab") -- for a text that names the file
  if not file then status.fail("process.spawn: the log cannot be written: %s", problem) end
  file:close()
  attempt(C.posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0), "standard input:", "/dev/null")
  attempt(C.posix_spawn_file_actions_addopen(actions, 1, log, O_WRONLY + O_CREAT + O_APPEND, 420), "standard output:", log)
  attempt(C.posix_spawn_file_actions_adddup2(actions, 1, 2), "standard error:", log)
end

--- Starts a program, found in PATH.
---@param argv string[] the program and its arguments
---@param o? { log?: string } file that its output and complaints are appended to
---@return moonbow.Process
function M.spawn(argv, o)
  local log = o and o.log
  local array, kept = strings(argv)
  local ends = ffi.new "int[2]"
  if C.socketpair(AF_UNIX, SOCK_STREAM + SOCK_CLOEXEC, 0, ends) ~= 0 then
    status.fail("process.spawn: no channel: %s", reason())
  end
  local actions, attr, pid = ffi.new "mbi_spawn_actions", ffi.new "mbi_spawn_attr", ffi.new "int[1]"
  C.posix_spawn_file_actions_init(actions)
  C.posix_spawnattr_init(attr)
  if log then C.posix_spawnattr_setflags(attr, SETPGROUP) end -- the group is the child's own by default
  local ok, problem = pcall(function()
    if log then redirect(actions, log) end
    attempt(C.posix_spawn_file_actions_adddup2(actions, ends[1], CHANNEL), "channel of", argv[1])
    attempt(C.posix_spawnp(pid, argv[1], actions, attr, ffi.cast("char *const *", array), C.environ), "cannot start", argv[1])
  end)
  C.posix_spawn_file_actions_destroy(actions)
  C.posix_spawnattr_destroy(attr)
  C.close(ends[1])
  if not ok then
    C.close(ends[0])
    error(problem, 0)
  end
  return setmetatable({ pid = pid[0], channel = channel_of(ends[0]), log = log, argv = kept }, Process)
end

-- From waitpid's number to { code = } or { signal = }.
local function how_it_ended(how)
  local signal = how % 128
  return signal == 0 and { code = math.floor(how / 256) % 256 } or { signal = signal }
end

local function look(self, flags)
  if self.ended then return self.ended end
  local how = ffi.new "int[1]"
  local pid
  repeat pid = C.waitpid(self.pid, how, flags) until pid >= 0 or ffi.errno() ~= EINTR
  if pid == self.pid then self.ended = how_it_ended(how[0])
  elseif pid < 0 then self.ended = { code = -1 } end -- somebody else has waited for it
  return self.ended
end

--- How the process ended, or nil while it runs.
---@return { code?: integer, signal?: integer }?
function Process:poll() return look(self, WNOHANG) end

--- Waits for its end.
---@return { code?: integer, signal?: integer }
function Process:wait() return look(self, 0) end

--- Sends a signal, unless it has ended.
---@param signal integer process.TERM, process.KILL
function Process:kill(signal)
  if not self:poll() then C.kill(self.pid, signal) end
end

--- In a child: end by SIGTERM as soon as the parent ends, however it does.
---@param parent integer process id of the parent
---@return boolean whether the parent is there still
function M.end_with_parent(parent)
  C.prctl(PDEATHSIG, M.TERM, 0, 0, 0)
  return C.getppid() == parent
end

local mask = ffi.new "uint8_t[128]"

--- Cores that this process may use.
---@return integer
function M.cores()
  if C.sched_getaffinity(0, 128, mask) < 0 then return 1 end
  local count = 0
  for i = 0, 127 do
    local bits = mask[i]
    while bits > 0 do bits, count = math.floor(bits / 2), count + bits % 2 end
  end
  return math.max(1, count)
end

return M
