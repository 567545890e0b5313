--! include push.lua
-- pick_next.lua: a batch pick job is through: the next one is enqueued while orders wait.
-- KEYS 1 turnstile:pick:job  2 turnstile:pick:buffer
-- ARGV 1 this job's id  2 next job's id  3 queue  4 fields  5 now (s)
-- RETURNS 1 the next job is enqueued, 0 nothing waits or another job is the one that is due
-- COST O(1)
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if redis.call('LLEN', KEYS[2]) == 0 then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
enqueue(ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]))
return 1
