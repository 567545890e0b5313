-- register.lua: makes Redis hold a periodic job as the table declares it. Changes nothing when it does already.
-- A fire time that has come but was not fired yet stays, unless the times themselves have changed.
-- KEYS 1 rq:job:<definition>  2 turnstile:periodic:<name>  3 turnstile:periodic  4 rq:scheduler:scheduled_jobs
-- ARGV 1 name  2 definition  3 fields (JSON array)  4 the times, as declared  5 the next fire time (s)
-- RETURNS 1 the fire time was set, 0 it stood
-- COST O(log n)
local created_at = redis.call('HGET', KEYS[1], 'created_at')
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(cjson.decode(ARGV[3])))
if created_at then
  redis.call('HSET', KEYS[1], 'created_at', created_at)
end
redis.call('SADD', KEYS[3], ARGV[1])
if redis.call('HGET', KEYS[2], 'times') == ARGV[4] and redis.call('ZSCORE', KEYS[4], ARGV[2]) then
  return 0
end
redis.call('HSET', KEYS[2], 'times', ARGV[4])
redis.call('ZADD', KEYS[4], ARGV[5], ARGV[2])
return 1
