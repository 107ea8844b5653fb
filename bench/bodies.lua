-- POSTs bodies over keep-alive, rows or questions; prints one line of JSON at the end.
-- From the environment: URLPATH; BODIES, a file that lists files of bodies; TYPE, their content type; RATE, how many
-- requests a second this thread sends, 0 for as many as are answered; and IDS: 1 where `@` in a body stands for a number that
-- no other row has, and `#` for the present in microseconds.
local bodies, rate, ids = {}, tonumber(os.getenv("RATE")), os.getenv("IDS") == "1"
for path in io.lines(os.getenv("BODIES")) do
  local file = assert(io.open(path, "rb"))
  bodies[#bodies + 1] = file:read("*a")
  file:close()
end
wrk.method = "POST"
wrk.headers["Content-Type"] = os.getenv("TYPE")
local n, id, due = 0, tonumber(os.getenv("FIRST_ID")), nil
local ffi = require("ffi")
ffi.cdef("struct timeval { long sec; long usec; }; int gettimeofday(struct timeval *, void *);")
local clock = ffi.new("struct timeval")
local micros = function()
  ffi.C.gettimeofday(clock, nil)
  return tonumber(clock.sec) * 1e6 + tonumber(clock.usec)
end
request = function()
  n = n % #bodies + 1
  local body = bodies[n]
  if ids then
    body = body:gsub("@", function() id = id + 1; return tostring(id) end)
    body = body:gsub("#", string.format("%.0f", micros()))
  end
  return wrk.format("POST", os.getenv("URLPATH"), nil, body)
end
if rate > 0 then
  -- Each request has its time; what comes late is made up for, so that waiting for the server does not thin the load.
  delay = function()
    local now = micros()
    due = math.max(due or now, now - 100000)
    local wait = math.max(0, due - now)
    due = due + 1e6 / rate
    return math.floor(wait / 1000)
  end
end
done = function(s, lat, req)
  local errors = s.errors.connect + s.errors.read + s.errors.write + s.errors.status + s.errors.timeout
  io.write(string.format(
    'JSON {"requests":%d,"per_second":%.1f,"p50_ms":%.3f,"p99_ms":%.3f,"p999_ms":%.3f,"p9999_ms":%.3f,"max_ms":%.3f,"errors":%d}\n',
    s.requests, s.requests / s.duration * 1e6, lat:percentile(50) / 1e3, lat:percentile(99) / 1e3,
    lat:percentile(99.9) / 1e3, lat:percentile(99.99) / 1e3, lat.max / 1e3, errors))
end
