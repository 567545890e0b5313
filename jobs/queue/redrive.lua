--! include push.lua
-- redrive.lua: puts a dead letter back on its queue with a fresh budget of attempts; it keeps its history.
-- KEYS 1 rq:job:<id>  2 rq:failed:<q>  3 rq:results:<id>  4 turnstile:dead
-- ARGV 1 job id  2 queue  3 now (s)  4 new data (JSON call), empty to keep the arguments
--      5 due_at (s): later than now, it waits until then
-- RETURNS 1 redriven, 0 not a dead letter (any more)
-- COST O(log n)
local id, queue, now = ARGV[1], ARGV[2], tonumber(ARGV[3])
local dead = redis.call('ZREM', KEYS[2], id)
redis.call('ZREM', KEYS[4], id)
if dead == 0 or redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[1], 'failures', 0, 'retries_left', 3)
redis.call('HDEL', KEYS[1], 'crashes', 'ended_at', 'started_at', 'exc_info', 'died_at', 'acked')
redis.call('HINCRBY', KEYS[1], 'redrives', 1)
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[1], 'data', ARGV[4])
end
redis.call('PERSIST', KEYS[1])
redis.call('DEL', KEYS[3])
if tonumber(ARGV[5]) > now then
  redis.call('HSET', KEYS[1], 'status', 'scheduled')
  redis.call('ZADD', 'rq:scheduled:' .. queue, ARGV[5], id)
else
  push(id, queue, now, false)
end
return 1
