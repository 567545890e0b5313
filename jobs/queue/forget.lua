--! include dead.lua
-- forget.lua: takes letters out of our index that RQ's FailedJobRegistry does not hold any more: requeued or deleted with RQ.
-- One that it does hold was missed because RQ deleted its queue's name; the name is restored.
-- KEYS 1 rq:queues
-- ARGV job ids
-- RETURNS how many were taken out
-- COST O(n log m) for n ids
local gone = 0
for _, id in ipairs(ARGV) do
  local queue = redis.call('HGET', 'rq:job:' .. id, 'origin')
  if queue and redis.call('ZSCORE', 'rq:failed:' .. queue, id) then
    redis.call('SADD', KEYS[1], 'rq:queue:' .. queue)
  else
    leave(id)
    gone = gone + 1
  end
end
return gone
