-- lead.lua: takes the leader's lease when it is free, renews it when it is the caller's.
-- rq-scheduler's own lock is held along with it, so that a stock `rqscheduler` process stands aside.
-- KEYS 1 turnstile:leader  2 rq:scheduler_lock
-- ARGV 1 token  2 lease (ms)
-- RETURNS 1 the caller leads, 0 another one does
-- COST O(1)
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
-- A renewal only moves the expiry: that also works while memory is full, when SET is refused.
if not holder or redis.call('PEXPIRE', KEYS[1], ARGV[2]) == 0 then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
local stock = redis.call('GET', KEYS[2])
if stock == ARGV[1] then
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
elseif not stock then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
end
return 1
