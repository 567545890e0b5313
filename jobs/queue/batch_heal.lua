--! include push.lua
--! include batch.lua
--! include alive.lua
-- batch_heal.lua: items that wait have a job that is due to take them, or get one.
-- KEYS 1 the list of items  2 the key that names the job that is due
-- ARGV 1 new job id  2 queue  3 fields  4 now (s)
-- RETURNS the lost job's id when a new one was enqueued, or nil
-- COST O(length of the queue)
local due = redis.call('GET', KEYS[2])
if due and condition(due, ARGV[2]) == 'live' then
  return nil
end
batch_next(KEYS[2], KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]))
return redis.call('EXISTS', KEYS[2]) == 1 and (due or 'none') or nil
