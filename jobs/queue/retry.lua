--! include push.lua
--! include fence.lua
-- retry.lua: ends a failed attempt that another one follows; the job waits in Redis until it is due.
-- KEYS 1 rq:job:<id>  2 rq:wip:<q>  3 rq:scheduled:<q>  4 rq:worker:<name>
-- ARGV 1 job id  2 execution id  3 queue  4 now (s)  5 due_at (s)  6 failures so far  7 attempts (JSON)
--      8 the delay (s), kept for the next decision
-- RETURNS 1 written, 2 had been written by this execution, 0 lease lost and nothing written
-- COST O(log n)
local id, execution, queue, now, due_at = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local refusal = refused(KEYS[1], KEYS[2], id .. ':' .. execution, execution)
if refusal then
  return refusal
end
redis.call('HSET', KEYS[1], 'failures', ARGV[6], 'attempts', ARGV[7], 'backoff_s', ARGV[8],
  'ended_at', iso(now))
redis.call('HDEL', KEYS[1], 'crashes')
count(queue, 'retried', now, 1)
if redis.call('EXISTS', KEYS[4]) == 1 then
  redis.call('HINCRBY', KEYS[4], 'failed_job_count', 1)
end
if due_at <= now then
  push(id, queue, now, false)
else
  redis.call('HSET', KEYS[1], 'status', 'scheduled')
  redis.call('ZADD', KEYS[3], due_at, id)
end
return 1
