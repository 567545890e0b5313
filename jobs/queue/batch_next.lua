--! include push.lua
--! include batch.lua
-- batch_next.lua: a batch job is through: the next one is enqueued while items wait.
-- KEYS 1 the list of items  2 the key that names the job that is due
-- ARGV 1 this job's id  2 next job's id  3 queue  4 fields  5 now (s)
-- RETURNS 1 this job was the one that is due, 0 it was not and nothing was written
-- COST O(1)
if not batch_due(KEYS[2], ARGV[1]) then
  return 0
end
batch_next(KEYS[2], KEYS[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]))
return 1
