--! include push.lua
--! include unique.lua
--! include launch.lua
--! include trail.lua
-- steer_periodic.lua: what an operator does to a periodic job: a run out of turn, which moves no fire time; pause; or resume,
-- after which its next fire time is one that lies ahead. Noted in the audit trail unless it changes nothing.
-- KEYS 1 rq:job:<definition>  2 turnstile:periodic:<name>  3 turnstile:periodic:<name>:runs  4 turnstile:periodic
-- ARGV 1 'run', 'pause' or 'resume'  2 name  3 now (s)  4 who  5 id of the run
-- RETURNS 'done', 'same' (it was so already, or was sent twice), 'overlaps' (the last run has not ended) or 'unknown' (no such
--      periodic job)
-- COST O(1)
local action, name, now, id = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
if redis.call('SISMEMBER', KEYS[4], name) == 0 or action == 'run' and redis.call('EXISTS', KEYS[1]) == 0 then
  return 'unknown'
elseif action == 'run' then
  if redis.call('EXISTS', 'rq:job:' .. id) == 1 then
    return 'same'
  elseif blocked(KEYS[1], KEYS[2], KEYS[3], id) then
    return 'overlaps'
  end
  launch(KEYS[1], KEYS[2], KEYS[3], id, now, tonumber(now))
elseif action == 'pause' then
  if redis.call('HSETNX', KEYS[2], 'paused_at', now) == 0 then
    return 'same'
  end
elseif redis.call('HDEL', KEYS[2], 'paused_at') == 0 then
  return 'same'
else
  redis.call('HSET', KEYS[2], 'resumed_at', now)
end
note(now, action .. ' schedule', ARGV[4], name)
return 'done'
