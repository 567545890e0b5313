--! include push.lua
--! include unique.lua
--! include launch.lua
-- run_now.lua: a run of a periodic job out of turn; its fire times stay as they are.
-- KEYS 1 rq:job:<definition>  2 turnstile:periodic:<name>  3 turnstile:periodic:<name>:runs  4 turnstile:periodic
-- ARGV 1 name  2 id of the run  3 now (s)
-- RETURNS 'runs', 'overlaps' (the last run has not ended) or 'unknown' (no such periodic job)
-- COST O(1)
if redis.call('SISMEMBER', KEYS[4], ARGV[1]) == 0 or redis.call('EXISTS', KEYS[1]) == 0 then
  return 'unknown'
elseif redis.call('EXISTS', 'rq:job:' .. ARGV[2]) == 1 then
  return 'runs' -- sent twice
elseif blocked(KEYS[1], KEYS[2], ARGV[2]) then
  return 'overlaps'
end
launch(KEYS[1], KEYS[2], KEYS[3], ARGV[2], ARGV[3], tonumber(ARGV[3]))
return 'runs'
