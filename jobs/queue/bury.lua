--! include push.lua
--! include fence.lua
--! include unique.lua
--! include dead.lua
-- bury.lua: makes a job a dead letter, in RQ's FailedJobRegistry and in our index, without an expiry.
-- KEYS 1 rq:job:<id>  2 rq:wip:<q>  3 rq:failed:<q>  4 rq:results:<id>  5 rq:worker:<name>
-- ARGV 1 job id  2 execution id, empty for a stock worker, which holds no fence  3 queue  4 now (s)
--      5 failures so far  6 attempts (JSON)  7 traceback  8 traceback (base64 of zlib)  9 group  10 error type
--      11 error  12 worker
-- RETURNS 1 written, 2 had been written by this execution, 0 lease lost and nothing written
-- COST O(log n)
local id, execution, queue, now = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if execution ~= '' then
  local refusal = refused(KEYS[1], KEYS[2], id .. ':' .. execution, execution)
  if refusal then
    return refusal
  end
elseif redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
enter(id, ARGV[4], ARGV[9], redis.call('HGET', KEYS[1], 'task') or id, ARGV[10], ARGV[11])
redis.call('HSET', KEYS[1], 'status', 'failed', 'ended_at', iso(now), 'failures', ARGV[5], 'attempts', ARGV[6],
  'exc_info', ARGV[7])
redis.call('HDEL', KEYS[1], 'crashes')
unlock(redis.call('HGET', KEYS[1], 'unique'), id)
redis.call('PERSIST', KEYS[1])
redis.call('ZADD', KEYS[3], '+inf', id)
redis.call('XADD', KEYS[4], 'MAXLEN', 10, '*', 'type', 2, 'worker_name', ARGV[12], 'exc_string', ARGV[8],
  'execution_id', execution)
redis.call('PERSIST', KEYS[4])
count(queue, 'dead', now, 1)
if redis.call('EXISTS', KEYS[5]) == 1 then
  redis.call('HINCRBY', KEYS[5], 'failed_job_count', 1)
end
return 1
