-- archive.lua: deletes orders that ended long ago and keeps their number, so that the sum of all states stays true.
-- A dead order whose dead letter still waits is kept.
-- KEYS 1 turnstile:orders:status:<status>  2 turnstile:orders  3 turnstile:orders:archived
-- ARGV 1 status  2.. order ids
-- RETURNS how many were deleted
-- COST O(orders)
local deleted = 0
for i = 2, #ARGV do
  local id = ARGV[i]
  local key = 'turnstile:order:' .. id
  if redis.call('ZSCORE', KEYS[1], id) and redis.call('HEXISTS', key, 'dead_job') == 0 then
    redis.call('ZREM', KEYS[1], id)
    redis.call('ZREM', KEYS[2], id)
    redis.call('ZREM', 'turnstile:notices', id)
    redis.call('DEL', key, key .. ':attempts', key .. ':notices')
    redis.call('HINCRBY', KEYS[3], ARGV[1], 1)
    deleted = deleted + 1
  end
end
return deleted
