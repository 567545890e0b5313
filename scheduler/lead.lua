-- lead.lua: takes the leader's lease when it is free, renews it when it is the caller's.
-- It is rq-scheduler's own lock, so that a stock `rqscheduler` process stands aside.
-- KEYS 1 rq:scheduler_lock
-- ARGV 1 token  2 lease (ms)
-- RETURNS 1 the caller leads, 0 another one does
-- COST O(1)
if redis.call('GET', KEYS[1]) == ARGV[1] then
  -- Only moves the expiry: that also works while memory is full, when SET is refused.
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
