--! include unique.lua
-- mend_lock.lua: the lock of a unique job that has ended. One that was asked for by the time stays until that is over.
-- KEYS 1 turnstile:unique:<digest>
-- ARGV 1 '1' to free it
-- RETURNS 1 its job has ended, 0 not, or it is free
-- COST O(1)
local holder = redis.call('GET', KEYS[1])
local status, key = unpack(holder and redis.call('HMGET', 'rq:job:' .. holder, 'status', 'unique') or {})
if not status or key ~= KEYS[1] or UNFINISHED[status] then
  return 0
end
if ARGV[1] == '1' then
  unlock(KEYS[1], holder)
end
return 1
