--! include push.lua
-- enqueue.lua: creates one job, ready or held until it is due.
-- KEYS 1 rq:scheduler:scheduled_jobs
-- ARGV 1 job id  2 queue  3 fields (JSON array)  4 now (s)  5 due_at (s), empty for at once
-- RETURNS 1 created, 0 the id exists already
-- COST O(log n) when held, O(1) otherwise
local id, queue, fields, now, due_at = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
if not due_at then
  return enqueue(id, queue, fields, now) and 1 or 0
end
if not create(id, fields) then
  return 0
end
redis.call('HSET', 'rq:job:' .. id, 'status', 'scheduled')
redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
redis.call('ZADD', KEYS[1], due_at, id)
return 1
