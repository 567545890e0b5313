--! include dead.lua
-- adopt.lua: makes a dead letter of ours of a job that stands in RQ's FailedJobRegistry alone; an id without a job is removed.
-- KEYS 1 rq:job:<id>  2 rq:failed:<q>
-- ARGV 1 job id  2 died_at (s)  3 group  4 task  5 error type  6 error
-- RETURNS 1 adopted, 0 nothing to adopt (any more)
-- COST O(log n)
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 0
end
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) or redis.call('ZSCORE', 'turnstile:dead', ARGV[1]) then
  return 0
end
enter(unpack(ARGV))
return 1
