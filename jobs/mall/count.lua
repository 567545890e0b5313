--! include push.lua
--! include batch.lua
-- count.lua: applies a slice of the buffer: sums, alerts and removal in one step, so each event exactly once whatever dies.
-- KEYS 1 turnstile:entries  2 turnstile:entries:buffer  3 turnstile:entries:job  4 turnstile:footfall:dirty  5 turnstile:alerts
-- ARGV 1 this job's id  2 how many records at most  3 now (s)  4 how long a local day's sums and alerts are kept (s)
--      5 1 when this job hands over to another one if records are left  6 next job's id  7 queue  8 fields
--      9 the local day  10.. pairs: gate, empty for the whole mall, and its capacity (people)
-- RETURNS [events applied, records this job should go on with, alerts: each kind, gate, people, capacity]
-- COST O(records + gates of the day)
if not batch_due(KEYS[3], ARGV[1]) then
  return {0, 0, {}}
end
local BACK_BELOW = 0.95
local MAX_ALERTS = 1000
local alerts = {}

local function alert(kind, gate, people, capacity)
  redis.call('XADD', KEYS[5], 'MAXLEN', '~', MAX_ALERTS, '*',
    'kind', kind, 'gate', gate, 'at', ARGV[3], 'people', people, 'capacity', capacity)
  redis.call('HINCRBY', KEYS[1], 'alerts', 1)
  alerts[#alerts + 1] = {kind, gate, tostring(people), tostring(capacity)}
end

local function state_key(day)
  return 'turnstile:alerts:' .. day
end

local function keep(key)
  redis.call('EXPIRE', key, ARGV[4])
end

-- The first entry through a gate in an hour in which the mall is closed.
local function closed(day, time, gate, people)
  if redis.call('HSETNX', state_key(day), 'closed|' .. string.sub(time, 1, 2) .. '|' .. gate, '1') == 1 then
    keep(state_key(day))
    alert('closed', gate, people, 0)
  end
end

-- Once above the capacity it must fall some way below it before it is an alert again.
local function watch(day, inside, gate, capacity)
  local people, field = inside[gate] or 0, 'over|' .. gate
  local over = redis.call('HEXISTS', state_key(day), field) == 1
  if not over and people > capacity then
    redis.call('HSET', state_key(day), field, '1')
    keep(state_key(day))
    alert('over', gate, people, capacity)
  elseif over and people <= math.floor(capacity * BACK_BELOW) then
    redis.call('HDEL', state_key(day), field)
    alert('below', gate, people, capacity)
  end
end

local slice = redis.call('LRANGE', KEYS[2], 0, ARGV[2] - 1)
local minutes, gates, dirty, applied = {}, {}, {}, 0
for _, record in ipairs(slice) do
  local _, events, people, day, time, local_day, open, direction, gate =
    string.match(record, '^([^|]+)|(%d+)|(%d+)|([^|T]+)T([^|]+)|([^|]+)|(%d)|([^|]+)|(.*)$')
  local minute_key, minute_field = 'turnstile:footfall:minute:' .. day, time .. '|' .. direction .. '|' .. gate
  local gate_key, gate_field = 'turnstile:gates:' .. local_day, direction .. '|' .. gate
  minutes[minute_key] = minutes[minute_key] or {}
  minutes[minute_key][minute_field] = (minutes[minute_key][minute_field] or 0) + people
  gates[gate_key] = gates[gate_key] or {}
  gates[gate_key][gate_field] = (gates[gate_key][gate_field] or 0) + people
  dirty[day] = true
  applied = applied + events
  if open == '0' and direction == 'in' then
    closed(local_day, time, gate, people)
  end
end
for _, sums in ipairs({minutes, gates}) do
  for key, fields in pairs(sums) do
    for field, people in pairs(fields) do
      redis.call('HINCRBY', key, field, people)
    end
  end
end
for key in pairs(gates) do
  keep(key)
end
for day in pairs(dirty) do
  redis.call('SADD', KEYS[4], day)
end
local today = 'turnstile:gates:' .. ARGV[9]
if #ARGV > 9 and gates[today] then
  local inside, sums = {['']=0}, redis.call('HGETALL', today)
  for i = 1, #sums, 2 do
    local direction, gate = string.match(sums[i], '^(%a+)|(.*)$')
    local people = direction == 'in' and sums[i + 1] or -sums[i + 1]
    inside[''], inside[gate] = inside[''] + people, (inside[gate] or 0) + people
  end
  for i = 10, #ARGV, 2 do
    watch(ARGV[9], inside, ARGV[i], tonumber(ARGV[i + 1]))
  end
end
if #slice > 0 then
  redis.call('LTRIM', KEYS[2], #slice, -1)
  redis.call('HINCRBY', KEYS[1], 'counted', applied)
end
local left = redis.call('LLEN', KEYS[2])
if left == 0 or ARGV[5] == '1' then
  batch_next(KEYS[3], KEYS[2], ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[3]))
  left = 0
end
return {applied, left, alerts}
