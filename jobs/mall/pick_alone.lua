--! include push.lua
--! include order.lua
-- pick_alone.lua: an order that failed in a batch leaves it and is picked by a job of its own.
-- KEYS 1 turnstile:order:<id>  2 turnstile:pick:buffer
-- ARGV 1 order id  2 version  3 now (s)  4 error  5 job id  6 queue  7 fields
-- RETURNS 1 written, 0 the order has moved on and nothing was written
-- COST O(length of the buffer)
local status, version = unpack(redis.call('HMGET', KEYS[1], 'status', 'version'))
if status ~= 'picking' or version ~= ARGV[2] then
  return 0
end
redis.call('LREM', KEYS[2], 1, ARGV[1])
close_attempt(ARGV[1], ARGV[3], ARGV[4])
touch(ARGV[1], ARGV[3])
enqueue(ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[3]))
return 1
