--! include push.lua
--! include unique.lua
--! include cancelled.lua
--! include delayed.lua
-- cancel.lua: takes a job that has not started out of wherever it waits.
-- KEYS 1 rq:job:<id>  2 rq:scheduler:scheduled_jobs
-- ARGV 1 job id  2 now (s)  3 seconds to keep the cancelled job for its readers
-- RETURNS 'cancelled', or why not: 'unknown', 'owned', 'periodic' (the definition of a periodic job), or the status that forbids it
-- COST O(n) in the queue's length
local id = ARGV[1]
local status, queue, owned, limited = unpack(redis.call('HMGET', KEYS[1], 'status', 'origin', 'owned', 'limited'))
if not status then
  return 'unknown'
end
if owned then
  return 'owned'
end
if defines(id) then
  return 'periodic'
end
if status ~= 'queued' and status ~= 'scheduled' then
  return status
end
redis.call('LREM', 'rq:queue:' .. queue, 0, id)
local held = 'turnstile:held:' .. queue
if limited and redis.call('LREM', held .. ':' .. limited, 0, id) > 0 and redis.call('EXISTS', held .. ':' .. limited) == 0 then
  redis.call('ZREM', held, limited)
end
redis.call('ZREM', 'rq:scheduled:' .. queue, id)
redis.call('ZREM', KEYS[2], id)
cancelled(id, queue, tonumber(ARGV[2]), ARGV[3], 'cancelled')
return 'cancelled'
