-- pause_periodic.lua: pauses a periodic job, or resumes it: then its next fire time is one that lies ahead.
-- KEYS 1 turnstile:periodic  2 turnstile:periodic:<name>
-- ARGV 1 name  2 now (s)  3 '1' to pause, '0' to resume
-- RETURNS 1 done, 0 it was so already, -1 no such periodic job
-- COST O(1)
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 0 then
  return -1
elseif ARGV[3] == '1' then
  return redis.call('HSETNX', KEYS[2], 'paused_at', ARGV[2])
elseif redis.call('HEXISTS', KEYS[2], 'paused_at') == 0 then
  return 0
end
redis.call('HSET', KEYS[2], 'resumed_at', ARGV[2])
return redis.call('HDEL', KEYS[2], 'paused_at')
