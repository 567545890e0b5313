-- register.lua: makes Redis hold a periodic job as the table declares it. Changes nothing when it does already.
-- A fire time that has come but was not fired yet stays, unless the times themselves have changed.
-- KEYS 1 rq:job:<definition>  2 turnstile:periodic:<name>  3 turnstile:periodic  4 rq:scheduler:scheduled_jobs
-- ARGV 1 name  2 definition  3 fields (JSON array)  4 cron  5 time zone  6 the next fire time (s)
-- RETURNS 1 the fire time was set, 0 it stood
-- COST O(log n)
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(cjson.decode(ARGV[3])))
redis.call('HSET', KEYS[1], 'status', 'scheduled')
redis.call('SADD', KEYS[3], ARGV[1])
local cron, zone = unpack(redis.call('HMGET', KEYS[2], 'cron', 'timezone'))
if cron == ARGV[4] and zone == ARGV[5] and redis.call('ZSCORE', KEYS[4], ARGV[2]) then
  return 0
end
redis.call('HSET', KEYS[2], 'cron', ARGV[4], 'timezone', ARGV[5])
redis.call('ZADD', KEYS[4], ARGV[6], ARGV[2])
return 1
