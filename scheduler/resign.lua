-- resign.lua: gives up the leader's lease and rq-scheduler's lock, each only if it is the caller's.
-- KEYS 1 turnstile:leader  2 rq:scheduler_lock
-- ARGV 1 token
-- RETURNS 1 resigned, 0 was not leading
-- COST O(1)
local led = 0
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then
    redis.call('DEL', key)
    led = 1
  end
end
return led
