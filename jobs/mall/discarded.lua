--! include fence.lua
--! include order.lua
-- discarded.lua: effect: the order's dead letter is deleted: it stays dead for good and gives back its stock.
-- KEYS 1 turnstile:order:<id>  2 guard
-- ARGV 1 order id  2 job id  3 now (s)  4 guard's member
-- RETURNS 1 written, 0 not
-- COST O(SKUs of the order)
if not guarded(KEYS[2], ARGV[4]) or redis.call('HGET', KEYS[1], 'dead_job') ~= ARGV[2] then
  return 0
end
settle_stock(ARGV[1], 'release')
redis.call('HDEL', KEYS[1], 'dead_job')
redis.call('HINCRBY', KEYS[1], 'version', 1)
return 1
