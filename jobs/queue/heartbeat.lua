--! include push.lua
-- heartbeat.lua: a worker is alive: renews the leases that are still its own by the server's clock, shows the worker to RQ's
-- tools, and tells it what it has to know. Leases come first: nothing that follows can cost one.
-- KEYS 1 rq:worker:<name>  2 rq:workers  3 rq:suspended  4 turnstile:pools
--      then rq:workers:<q> of each queue, rq:queue:<q> of each that is served, rq:wip:<q> of each with leases
-- ARGV 1 lease (s)  2 pool  3 number of queues  4 number of queues served
--      then for each rq:wip the number of its members, and these: `job id:execution id`
--      then fields and values of the worker's hash; an empty value for a field that is to go
-- RETURNS [now (s), members whose lease was lost, enqueued_at of the oldest job that is next in a queue which is not paused or '',
--          the pool's range or '', 1 if suspended]
-- COST O(members * log m + queues)
local CHUNK = 1000 -- Lua's stack bounds what `unpack` gives
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local lease, n_queues, n_served = tonumber(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4])
local lost, at = {}, 5

local function renew(wip, first, last)
  local renewed = {}
  for i, score in ipairs(redis.call('ZMSCORE', wip, unpack(ARGV, first, last))) do
    if score then
      renewed[#renewed + 1] = now + lease
      renewed[#renewed + 1] = ARGV[first + i - 1]
    else
      lost[#lost + 1] = ARGV[first + i - 1]
    end
  end
  if #renewed > 0 then
    redis.call('ZADD', wip, unpack(renewed))
  end
end

redis.pcall('SREM', KEYS[2], '') -- of nothing: no full memory refuses it, nor what follows the first write of a script
for i = 5 + n_queues + n_served, #KEYS do
  local last = at + tonumber(ARGV[at])
  for first = at + 1, last, CHUNK do
    renew(KEYS[i], first, math.min(first + CHUNK - 1, last))
  end
  at = last + 1
end

local set, gone = {'last_heartbeat', iso(now)}, {}
for i = at, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    gone[#gone + 1] = ARGV[i]
  else
    set[#set + 1] = ARGV[i]
    set[#set + 1] = ARGV[i + 1]
  end
end
redis.pcall('HSET', KEYS[1], unpack(set))
if #gone > 0 then
  redis.pcall('HDEL', KEYS[1], unpack(gone))
end
redis.pcall('EXPIRE', KEYS[1], math.ceil(lease * 3))
redis.pcall('SADD', KEYS[2], KEYS[1])
for i = 5, 4 + n_queues do
  redis.pcall('SADD', KEYS[i], KEYS[1])
end

local oldest
for i = 5 + n_queues, 4 + n_queues + n_served do
  local paused = redis.call('EXISTS', 'turnstile:paused:' .. base(string.sub(KEYS[i], 10))) == 1
  local id = not paused and redis.pcall('LINDEX', KEYS[i], 0)
  local since = type(id) == 'string' and redis.pcall('HGET', 'rq:job:' .. id, 'enqueued_at')
  if type(since) == 'string' and (not oldest or since < oldest) then
    oldest = since
  end
end
local range = redis.pcall('HGET', KEYS[4], ARGV[2])
return {string.format('%.6f', now), lost, oldest or '', type(range) == 'string' and range or '', redis.call('EXISTS', KEYS[3])}
