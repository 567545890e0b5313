--! include trail.lua
-- redrive_end.lua: ends a redrive of many: done when no letter is left to it, or cancelled with those that are left.
-- KEYS 1 turnstile:redrive:<r>  2 turnstile:redrive:<r>:letters  3 turnstile:redrives
-- ARGV 1 id  2 now (s)  3 done or cancelled  4 who cancels it, empty for done  5 seconds to keep it for its readers
-- RETURNS 1 ended, 0 not open (any more) or not done yet
-- COST O(n) in the letters left
local id, now, state, who, keep = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if redis.call('HGET', KEYS[1], 'state') ~= 'open' or (state == 'done' and redis.call('EXISTS', KEYS[2]) == 1) then
  return 0
end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[1], 'state', state, 'ended_at', now)
redis.call('EXPIRE', KEYS[1], keep)
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', tonumber(now) - tonumber(keep))
redis.call('ZADD', KEYS[3], now, id)
if who ~= '' then
  note(now, 'cancel redrive', who, id)
end
return 1
