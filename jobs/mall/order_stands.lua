--! include push.lua
--! include order.lua
--! include alive.lua
-- order_stands.lua: whether an open order has nothing that leads on: no job, and no place in the pick buffer. Writes nothing.
-- KEYS 1 turnstile:order:<id>  2 turnstile:pick:buffer
-- ARGV 1 order id  2 job id  3 queue, both for the status that comes next  4 that status
-- RETURNS 1 it stands still, 0 it goes on, has ended or has another status
-- COST O(n) in the lengths of the job's queue and of the buffer
local status = redis.call('HGET', KEYS[1], 'status')
if status ~= ARGV[4] or ENDED[status] or condition(ARGV[2], ARGV[3]) == 'live' then
  return 0
end
return redis.call('LPOS', KEYS[2], ARGV[1]) and 0 or 1
