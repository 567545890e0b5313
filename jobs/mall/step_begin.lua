--! include push.lua
--! include order.lua
-- step_begin.lua: an attempt at a step of one order begins.
-- An order that is dead because of this very job goes on: somebody requeued the job with RQ's own tools.
-- KEYS 1 turnstile:order:<id>
-- ARGV 1 order id  2 step  3 job id  4 attempt  5 now (s)  6 worker
-- RETURNS [version, flat order hash], or [0, status] when the order is not at this step and nothing was written
-- COST O(fields)
local id = ARGV[1]
resume(id, ARGV[3], ARGV[5])
local status, step = unpack(redis.call('HMGET', KEYS[1], 'status', 'step'))
if step ~= ARGV[2] or status ~= STATUS_OF_STEP[step] then
  return {0, status or 'unknown'}
end
open_attempt(id, ARGV[2], ARGV[4], ARGV[5], ARGV[6])
local version = touch(id, ARGV[5])
return {version, redis.call('HGETALL', KEYS[1])}
