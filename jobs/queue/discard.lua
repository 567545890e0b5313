-- discard.lua: deletes a dead letter with everything that hangs on it.
-- KEYS 1 rq:job:<id>  2 rq:failed:<q>  3 rq:results:<id>  4 turnstile:dead
-- ARGV 1 job id
-- RETURNS 1 discarded, 0 not a dead letter (any more)
-- COST O(log n)
redis.call('ZREM', KEYS[4], ARGV[1])
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then
  return 0
end
redis.call('DEL', KEYS[1], KEYS[3])
return 1
