--! include push.lua
--! include order.lua
--! include alive.lua
-- order_stands.lua: whether an open order has nothing that leads on: no job, and no place in the pick buffer. Writes nothing.
-- KEYS 1 turnstile:order:<id>  2 turnstile:pick:buffer
-- ARGV 1 of no meaning  2 order id
-- RETURNS 1 it stands still, 0 it goes on or has ended
-- COST O(n) in the lengths of its job's queue and of the buffer
local LED_BY = {scheduled = '-start', accepted = '-pick', picking = '-pick', packing = '-pack', delivering = '-deliver'}
local job = LED_BY[redis.call('HGET', KEYS[1], 'status')]
if not job then
  return 0
end
job = ARGV[2] .. job
if condition(job, redis.call('HGET', 'rq:job:' .. job, 'origin') or '') == 'live' then
  return 0
end
return redis.call('LPOS', KEYS[2], ARGV[2]) and 0 or 1
