--! include push.lua
--! include unique.lua
--! include launch.lua
-- run_waiting.lua: runs the first fire that waits for the end of a periodic job's last run, when that has ended.
-- KEYS 1 rq:job:<definition>  2 turnstile:periodic:<name>  3 turnstile:periodic:<name>:runs
-- ARGV 1 definition  2 now (s)
-- RETURNS 1 it runs, 0 none does
-- COST O(1)
local waiting, paused_at = unpack(redis.call('HMGET', KEYS[2], 'waiting', 'paused_at'))
local at, rest = string.match(waiting or '', '^(%d+) ?(.*)$')
local id = ARGV[1] .. '-' .. (at or '')
if not at or paused_at or redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local ran = redis.call('EXISTS', 'rq:job:' .. id) == 1 -- before the record, which is older, was restored
if not ran and blocked(KEYS[1], KEYS[2], KEYS[3], id) then
  return 0
end
redis.call('HSET', KEYS[2], 'waiting', rest)
if not ran then
  launch(KEYS[1], KEYS[2], KEYS[3], id, at, tonumber(ARGV[2]))
end
if rest == '' then
  redis.call('HDEL', KEYS[2], 'waiting')
end
return ran and 0 or 1
