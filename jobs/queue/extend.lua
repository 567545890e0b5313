-- extend.lua: sets the end of leases that are still held; the worker whose child has died ends that of its job at once.
-- Heartbeats renew theirs in heartbeat.lua.
-- KEYS 1 rq:wip:<q>
-- ARGV 1 lease's new end (s)  2.. members `job id:execution id`, at least one
-- RETURNS the members whose lease was lost
-- COST O(n log m)
local lost, ours, leases = {}, {}, {}
for i, score in ipairs(redis.call('ZMSCORE', KEYS[1], unpack(ARGV, 2))) do
  local member = ARGV[i + 1]
  if score then
    ours[#ours + 1] = member
    leases[#leases + 1] = ARGV[1]
    leases[#leases + 1] = member
  else
    lost[#lost + 1] = member
  end
end
if #ours > 0 then
  -- Taken out first: a script whose first write frees memory is not refused while memory is full.
  redis.call('ZREM', KEYS[1], unpack(ours))
  redis.call('ZADD', KEYS[1], unpack(leases))
end
return lost
