-- Sends each body of a file once; when they or the time are used up, waits for what was sent and ends.
local ffi = require("ffi")
ffi.cdef [[
  struct bench_moment { long seconds; long nanoseconds; };
  int clock_gettime(int clock, struct bench_moment *moment);
  int getpid(void);
  int kill(int process, int signal);
]]
local MONOTONIC, INTERRUPT = 1, 2
local moment = ffi.new("struct bench_moment")
local connections = tonumber(os.getenv("BENCH_CONNECTIONS"))
local seconds = tonumber(os.getenv("BENCH_SECONDS"))
local head = os.getenv("BENCH_HEAD"):gsub("\\r\\n", "\r\n")
local bodies = io.open(os.getenv("BENCH_BODIES"), "rb")
local feeder, waiting, first, kept, began = nil, 0, nil, false, nil
sent, took = 0, 0

local function now()
  ffi.C.clock_gettime(MONOTONIC, moment)
  return tonumber(moment.seconds) + tonumber(moment.nanoseconds) / 1e9
end

local function following()
  local length = bodies:read("*l")
  if not length then return nil end
  return head .. "Content-Length: " .. length .. "\r\n\r\n" .. bodies:read(tonumber(length))
end

function setup(thread)
  feeder = thread
end

function request()
  if not first then -- wrk asks once to see whether it is a request, and does not send it
    first, kept = following(), true
    return first
  end
  local time = now()
  began = began or time
  local coming
  if kept then
    coming, kept = first, false
  elseif time - began < seconds then
    coming = following()
  end
  if coming then
    sent = sent + 1
    return coming
  end
  waiting = waiting + 1
  if waiting == connections then -- a connection asks only once it has its answer
    took = time - began
    ffi.C.kill(ffi.C.getpid(), INTERRUPT)
  end
  return ""
end

function done(summary)
  local errors = summary.errors
  io.write(string.format('\nBENCH {"requests":%d,"seconds":%.6f,"refused":%d,"lost":%d}\n',
    feeder:get("sent"), feeder:get("took"), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
