--! include push.lua
--! include fence.lua
--! include unique.lua
-- finish.lua: acknowledges a job that succeeded.
-- KEYS 1 rq:job:<id>  2 rq:wip:<q>  3 rq:finished:<q>  4 rq:results:<id>  5 rq:worker:<name>
--      6 the lock of a unique job, or nothing
-- ARGV 1 job id  2 execution id  3 queue  4 now (s)  5 result_ttl (s)  6 result (base64 of JSON), empty for none
--      7 worker  8 started_at (s)
-- RETURNS 1 acknowledged, 2 had been acknowledged by this execution, 0 lease lost and nothing written
-- COST O(log n)
local id, execution, queue, now, ttl = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local refusal = refused(KEYS[1], KEYS[2], id .. ':' .. execution, execution)
if refusal then
  return refusal
end
unlock(KEYS[6], id)
count(queue, 'finished', now, 1)
if redis.call('EXISTS', KEYS[5]) == 1 then
  redis.call('HINCRBY', KEYS[5], 'successful_job_count', 1)
  redis.call('HINCRBYFLOAT', KEYS[5], 'total_working_time', now - tonumber(ARGV[8]))
end
forget(KEYS[3], now)
if ttl == 0 then
  redis.call('DEL', KEYS[1], KEYS[4])
  return 1
end
redis.call('HSET', KEYS[1], 'status', 'finished', 'ended_at', iso(now))
redis.call('HDEL', KEYS[1], 'crashes')
local result = {'type', 1, 'worker_name', ARGV[7], 'execution_id', execution,
  'execution_started_at', ARGV[8], 'execution_ended_at', ARGV[4]}
if ARGV[6] ~= '' then
  result[#result + 1] = 'return_value'
  result[#result + 1] = ARGV[6]
end
redis.call('XADD', KEYS[4], 'MAXLEN', 10, '*', unpack(result))
-- A new stream takes 4 KB for the entries to come; one that was restored takes what it holds. Refused by an ACL: so be it.
redis.pcall('RESTORE', KEYS[4], 0, redis.call('DUMP', KEYS[4]), 'REPLACE')
if ttl > 0 then
  redis.call('EXPIRE', KEYS[1], ttl)
  redis.call('EXPIRE', KEYS[4], ttl)
  redis.call('ZADD', KEYS[3], now + ttl, id)
else
  redis.call('ZADD', KEYS[3], '+inf', id)
end
return 1
