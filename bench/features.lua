-- POSTs random batches of entities over keep-alive; prints one line of JSON at the end.
-- From the environment: SERVICE, BATCH, ENTITIES, URLPATH, and FIELD, the name the body gives the service.
local service, batch = os.getenv("SERVICE"), tonumber(os.getenv("BATCH"))
local entities, field = tonumber(os.getenv("ENTITIES")), os.getenv("FIELD")
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
math.randomseed(7)
local bodies = {}
for i = 1, 512 do
  local ids = {}
  for j = 1, batch do ids[j] = tostring(math.random(0, entities - 1)) end
  bodies[i] = '{"' .. field .. '":"' .. service .. '","entities":{"entity_id":[' .. table.concat(ids, ",") .. ']}}'
end
local n = 0
request = function()
  n = n % 512 + 1
  return wrk.format("POST", os.getenv("URLPATH"), nil, bodies[n])
end
done = function(s, lat, req)
  local errors = s.errors.connect + s.errors.read + s.errors.write + s.errors.status + s.errors.timeout
  io.write(string.format(
    'JSON {"requests":%d,"per_second":%.1f,"p50_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f,"bytes":%d,"errors":%d}\n',
    s.requests, s.requests / s.duration * 1e6, lat:percentile(50) / 1e3, lat:percentile(99) / 1e3, lat.max / 1e3,
    s.requests > 0 and s.bytes / s.requests or 0, errors))
end
