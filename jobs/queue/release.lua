--! include push.lua
--! include fence.lua
-- release.lua: a worker hands a claimed job back unfinished; no attempt is burned.
-- It is the next to be claimed, or with due_at waits in Redis until then and is counted as deferred.
-- KEYS 1 rq:job:<id>  2 rq:wip:<q>  3 rq:scheduled:<q>
-- ARGV 1 job id  2 execution id  3 queue  4 now (s)  5 due_at (s), empty for at once
-- RETURNS 1 handed back, 2 had been ended by this execution, 0 lease lost and nothing written
-- COST O(log n)
local id, execution, queue, now = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local refusal = refused(KEYS[1], KEYS[2], id .. ':' .. execution, execution)
if refusal then
  return refusal
end
redis.call('HDEL', KEYS[1], 'started_at', 'worker_name')
if ARGV[5] == '' then
  push(id, queue, now, true)
else
  redis.call('HSET', KEYS[1], 'status', 'scheduled')
  redis.call('HINCRBY', KEYS[1], 'deferred', 1)
  redis.call('ZADD', KEYS[3], ARGV[5], id)
  count(queue, 'deferred', now, 1)
end
return 1
