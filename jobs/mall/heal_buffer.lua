--! include push.lua
--! include alive.lua
-- heal_buffer.lua: what waits in a buffer has a job that is due to empty it, or gets one.
-- KEYS 1 the buffer  2 the key that names the job that is due
-- ARGV 1 new job id  2 queue  3 fields  4 now (s)
-- RETURNS the lost job's id when a new one was enqueued, or nil
-- COST O(length of the queue)
local due = redis.call('GET', KEYS[2])
if due and condition(due, ARGV[2]) == 'live' then
  return nil
end
if redis.call('LLEN', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[2])
  return nil
end
redis.call('SET', KEYS[2], ARGV[1])
enqueue(ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]))
return due or 'none'
