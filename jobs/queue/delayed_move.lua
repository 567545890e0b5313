--! include push.lua
--! include unique.lua
--! include delayed.lua
--! include trail.lua
-- delayed_move.lua: makes a job that waits for its time wait for another one, or moves it to its queue now, as it would be moved
-- when it is due. It expires as much later as it starts, never sooner, and a unique one keeps its lock as long as it waits.
-- KEYS 1 rq:job:<id>  2 rq:scheduler:scheduled_jobs
-- ARGV 1 job id  2 now (s)  3 due_at (s), empty for now  4 what is noted  5 who
-- RETURNS 'done', or why not: 'unknown', 'periodic' (a definition), 'repeating' (of a stock client: it is no single job that
--      could run), 'owned' (it cannot be put off alone), or the status of a job that does not wait (any more)
-- COST O(log n), O(n) in the queue's length for one that says it is queued
local id, now, due_at = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local set, before, queue = delayed(id)
if not set then
  return before
end
local owned, key, expires_at, front, meta =
  unpack(redis.call('HMGET', KEYS[1], 'owned', 'unique', 'expires_at', 'enqueue_at_front', 'meta'))
if not due_at then
  if set == KEYS[2] and repeats(meta) then
    return 'repeating'
  end
  push(id, queue, now, front == '1')
  redis.call('ZREM', KEYS[2], id)
  redis.call('ZREM', 'rq:scheduled:' .. queue, id)
else
  if owned then
    return 'owned'
  end
  redis.call('ZADD', set, ARGV[3], id)
  if expires_at and due_at > tonumber(before) then
    redis.call('HSET', KEYS[1], 'expires_at', string.format('%.17g', expires_at + due_at - before))
  end
  if key then
    lock(key, id, 'done', due_at - now)
  end
end
note(ARGV[2], ARGV[4], ARGV[5], id)
return 'done'
