--! include fence.lua
--! include order.lua
-- attempt_failed.lua: effect: an attempt failed and its job will be retried.
-- KEYS 1 turnstile:order:<id>  2 guard
-- ARGV 1 order id  2 error  3 now (s)  4 guard's member
-- RETURNS 1 written, 0 not
-- COST O(1)
local status = redis.call('HGET', KEYS[1], 'status')
if not guarded(KEYS[2], ARGV[4]) or not status or ENDED[status] then
  return 0
end
close_attempt(ARGV[1], ARGV[3], ARGV[2])
touch(ARGV[1], ARGV[3])
return 1
