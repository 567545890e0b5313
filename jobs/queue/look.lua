-- look.lua: how many jobs stand, in one look for all who watch them.
-- KEYS none
-- ARGV 1.. job ids
-- RETURNS for each [status, failures, progress, started_at], nil where there is none; no status: no such job
-- COST O(n)
local found = {}
for i, id in ipairs(ARGV) do
  found[i] = redis.call('HMGET', 'rq:job:' .. id, 'status', 'failures', 'progress', 'started_at')
end
return found
