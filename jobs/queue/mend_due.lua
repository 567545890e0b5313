--! include push.lua
--! include alive.lua
-- mend_due.lua: items that wait for a job which nothing leads to, or for none at all.
-- KEYS 1 the key that names the job that is due  2 the list of items
-- ARGV 1 '1' to forget a job that is gone, so that the next item makes another one
-- RETURNS 1 nothing comes for the items, 0 all is well
-- COST O(n) in the length of the job's queue and the jobs that run
local due = redis.call('GET', KEYS[1])
if not due then
  return redis.call('LLEN', KEYS[2]) > 0 and 1 or 0
end
local found = condition(due, redis.call('HGET', 'rq:job:' .. due, 'origin') or '')
if found == 'live' then
  return 0
end
if ARGV[1] == '1' and found == 'missing' then
  redis.call('DEL', KEYS[1])
end
return 1
