--! include dead.lua
-- forget.lua: makes our index of some letters true. What RQ's FailedJobRegistry does not hold any more, requeued or deleted with
-- RQ, leaves it; what it does hold, but somebody damaged its group, enters again.
-- KEYS 1 rq:queues, in which RQ may have deleted the name of a queue with letters
-- ARGV job ids
-- RETURNS how many were taken out
-- COST O(n log m) for n ids; O(g) in the groups for one whose job was deleted
local gone = 0
for _, id in ipairs(ARGV) do
  local key, queue, died_at, group, task, error_type, error = 'rq:job:' .. id, nil, nil, nil, nil, nil, nil
  if redis.call('TYPE', key).ok == 'hash' then
    queue, died_at, group, task, error_type, error =
      unpack(redis.call('HMGET', key, 'origin', 'died_at', 'group', 'task', 'error_type', 'error'))
  end
  if not queue or not redis.call('ZSCORE', 'rq:failed:' .. queue, id) then
    leave(id)
    if queue then -- the next death is another one
      redis.call('HDEL', key, 'died_at', 'group', 'error_type', 'error')
    end
    gone = gone + 1
  else
    redis.call('SADD', KEYS[1], 'rq:queue:' .. queue)
    if not (died_at and group and error_type and error) then
      leave(id) -- to be adopted
    elseif not (redis.call('ZSCORE', 'turnstile:dead:group:' .. group, id) and redis.call('ZSCORE', SIZES, group)
      and redis.call('HEXISTS', GROUPS, group) == 1) then
      enter(id, died_at, group, task or id, error_type, error)
    end
  end
end
return gone
