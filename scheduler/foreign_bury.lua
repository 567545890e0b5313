--! include push.lua
-- foreign_bury.lua: puts a periodic job of a client of rq-scheduler away whose times cannot be read, with the reason.
-- KEYS 1 rq:job:<definition>  2 rq:scheduler:scheduled_jobs  3 rq:failed:<q>  4 rq:queues
-- ARGV 1 definition  2 queue  3 now (s)  4 the definition's meta as it was read  5 reason
-- RETURNS 1 it is put away, 0 it is gone or has been registered anew
-- COST O(log n)
if redis.call('HGET', KEYS[1], 'meta') ~= ARGV[4] or redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[1], 'status', 'failed', 'origin', ARGV[2], 'ended_at', iso(tonumber(ARGV[3])), 'error_type', 'Unreadable',
  'error', ARGV[5], 'exc_info', ARGV[5])
redis.call('PERSIST', KEYS[1])
redis.call('SADD', KEYS[4], 'rq:queue:' .. ARGV[2])
redis.call('ZADD', KEYS[3], '+inf', ARGV[1])
count(ARGV[2], 'dead', tonumber(ARGV[3]), 1)
return 1
