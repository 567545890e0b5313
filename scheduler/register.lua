-- register.lua: makes Redis hold a periodic job as the table declares it. A record that cannot be read goes.
-- KEYS 1 rq:job:<definition>  2 turnstile:periodic:<name>  3 turnstile:periodic  4 rq:scheduler:scheduled_jobs
-- ARGV 1 name  2 definition  3 its fields (JSON array)  4 fields of the record (JSON array), the next fire time among them
--      5 the next fire time that the caller has seen there, empty for none  6 when the next fire is due (s)
--      7 '1' when the record cannot be read
-- RETURNS 1 done, 0 it has been fired in between and nothing was done: to be looked at again
-- COST O(log n)
if redis.call('TYPE', KEYS[2]).ok ~= 'hash' then
  redis.call('DEL', KEYS[2])
end
if (redis.call('HGET', KEYS[2], 'next_fire_at') or '') ~= ARGV[5] then
  return 0
elseif ARGV[7] == '1' then
  redis.call('DEL', KEYS[2])
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(cjson.decode(ARGV[3])))
redis.call('HSET', KEYS[2], unpack(cjson.decode(ARGV[4])))
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[4], ARGV[6], ARGV[2])
return 1
