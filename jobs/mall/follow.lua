--! include push.lua
--! include fence.lua
--! include order.lua
-- follow.lua: effect: an order follows the fate of its job.
-- KEYS 1 turnstile:order:<id>  2 guard
-- ARGV 1 what: 'retried' (the attempt failed), 'died', 'redriven' (it goes on at the step that failed), or 'discarded' (it
--      stays dead for good and gives back its stock)  2 order id  3 job id  4 error  5 now (s)  6 guard's member
-- RETURNS 1 written, 0 not
-- COST O(log n + SKUs of the order)
local what, id, job_id, error, now = unpack(ARGV)
if not guarded(KEYS[2], ARGV[6]) then
  return 0
end
if what == 'died' then
  return die(id, job_id, error, now) and 1 or 0
elseif what == 'redriven' then
  return resume(id, job_id, now) and 1 or 0
end
local status, dead_job = unpack(redis.call('HMGET', KEYS[1], 'status', 'dead_job'))
if what == 'discarded' and dead_job == job_id then
  settle_stock(id, 'release')
  redis.call('HDEL', KEYS[1], 'dead_job')
  redis.call('HINCRBY', KEYS[1], 'version', 1)
  return 1
elseif what == 'retried' and status and not ENDED[status] then
  close_attempt(id, now, error)
  touch(id, now)
  return 1
end
return 0
