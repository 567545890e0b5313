-- stock_put.lua: sets what is on hand of a SKU, never below what open orders have reserved.
-- KEYS 1 turnstile:stock:<sku>
-- ARGV 1 on_hand
-- RETURNS [1 written or 0 refused, reserved]
-- COST O(1)
local reserved = tonumber(redis.call('HGET', KEYS[1], 'reserved') or 0)
if tonumber(ARGV[1]) < reserved then
  return {0, reserved}
end
redis.call('HSET', KEYS[1], 'on_hand', ARGV[1])
return {1, reserved}
