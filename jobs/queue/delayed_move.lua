--! include push.lua
--! include unique.lua
--! include delayed.lua
--! include trail.lua
-- delayed_move.lua: makes a job that waits for its time wait for another one. It expires as much later as it starts, never
-- sooner, and a unique one keeps its lock as long as it waits.
-- KEYS 1 rq:job:<id>
-- ARGV 1 job id  2 now (s)  3 due_at (s)  4 what is noted  5 who
-- RETURNS 'done', or why not: 'unknown', 'periodic' (a definition), 'owned', or the status of a job that does not wait (any more)
-- COST O(log n), O(n) in the queue's length for one that says it is queued
local id, due_at = ARGV[1], tonumber(ARGV[3])
local set, before = delayed(id)
if not set then
  return before
end
local owned, key, expires_at = unpack(redis.call('HMGET', KEYS[1], 'owned', 'unique', 'expires_at'))
if owned then
  return 'owned'
end
redis.call('ZADD', set, ARGV[3], id)
if expires_at and due_at > tonumber(before) then
  redis.call('HSET', KEYS[1], 'expires_at', string.format('%.17g', expires_at + due_at - before))
end
if key then
  lock(key, id, 'done', due_at - ARGV[2])
end
note(ARGV[2], ARGV[4], ARGV[5], id)
return 'done'
