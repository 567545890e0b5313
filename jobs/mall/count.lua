--! include push.lua
--! include batch.lua
-- count.lua: applies a slice of the buffer: sums and removal in one step, so each event exactly once whatever dies.
-- KEYS 1 turnstile:entries  2 turnstile:entries:buffer  3 turnstile:entries:job  4 turnstile:footfall:dirty
-- ARGV 1 this job's id  2 how many events at most  3 now (s)  4 how long a local day's sums by gate are kept (s)
--      5 1 when this job hands over to another one if events are left  6 next job's id  7 queue  8 fields
-- RETURNS [events applied, events this job should go on with]
-- COST O(events)
if not batch_due(KEYS[3], ARGV[1]) then
  return {0, 0}
end
local slice = redis.call('LRANGE', KEYS[2], 0, ARGV[2] - 1)
local minutes, gates, dirty = {}, {}, {}
for _, record in ipairs(slice) do
  local day, time, local_day, direction, count, _, gate =
    string.match(record, '^([^|T]+)T([^|]+)|([^|]+)|([^|]+)|([^|]+)|([^|]+)|(.*)$')
  count = tonumber(count)
  local minute_key, minute_field = 'turnstile:footfall:minute:' .. day, time .. '|' .. direction .. '|' .. gate
  local gate_key, gate_field = 'turnstile:gates:' .. local_day, direction .. '|' .. gate
  minutes[minute_key] = minutes[minute_key] or {}
  minutes[minute_key][minute_field] = (minutes[minute_key][minute_field] or 0) + count
  gates[gate_key] = gates[gate_key] or {}
  gates[gate_key][gate_field] = (gates[gate_key][gate_field] or 0) + count
  dirty[day] = true
end
for _, sums in ipairs({minutes, gates}) do
  for key, fields in pairs(sums) do
    for field, people in pairs(fields) do
      redis.call('HINCRBY', key, field, people)
    end
  end
end
for key in pairs(gates) do
  redis.call('EXPIRE', key, ARGV[4])
end
for day in pairs(dirty) do
  redis.call('SADD', KEYS[4], day)
end
if #slice > 0 then
  redis.call('LTRIM', KEYS[2], #slice, -1)
  redis.call('HINCRBY', KEYS[1], 'counted', #slice)
end
local left = redis.call('LLEN', KEYS[2])
if left == 0 or ARGV[5] == '1' then
  batch_next(KEYS[3], KEYS[2], ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[3]))
  left = 0
end
return {#slice, left}
