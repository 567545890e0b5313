--! include push.lua
--! include delayed.lua
--! include trail.lua
-- delayed_run.lua: moves a job that waits for its time to its queue now, as it would be moved when it is due.
-- KEYS 1 rq:job:<id>  2 rq:scheduler:scheduled_jobs
-- ARGV 1 job id  2 now (s)  3 who
-- RETURNS 'done', or why not: 'unknown', 'periodic' (a definition), 'repeating' (of a stock client: it is no single job), or
--      the status of a job that does not wait (any more)
-- COST O(log n), O(n) in the queue's length for one that says it is queued
local id, now = ARGV[1], tonumber(ARGV[2])
local set, due_at, queue = delayed(id)
if not set then
  return due_at
end
local front, meta = unpack(redis.call('HMGET', KEYS[1], 'enqueue_at_front', 'meta'))
if set == KEYS[2] and meta and (string.find(meta, '"interval":', 1, true) or string.find(meta, '"cron_string":', 1, true)) then
  return 'repeating'
end
push(id, queue, now, front == '1')
redis.call('ZREM', KEYS[2], id)
redis.call('ZREM', 'rq:scheduled:' .. queue, id)
note(ARGV[2], 'run job', ARGV[3], id)
return 'done'
