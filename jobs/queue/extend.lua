-- extend.lua: a worker's heartbeat: renews the leases that are still its own.
-- KEYS 1 rq:wip:<q>
-- ARGV 1 lease's new end (s)  2.. members `job id:execution id`
-- RETURNS the members whose lease was lost
-- COST O(n log m)
local lost = {}
for i = 2, #ARGV do
  -- Taken out first: a script whose first write frees memory is not refused while memory is full.
  if redis.call('ZREM', KEYS[1], ARGV[i]) == 1 then
    redis.call('ZADD', KEYS[1], ARGV[1], ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
