-- unreadable.lua: library: a job that cannot be read becomes a dead letter, with what RQ's own tools need to read it. Who asked
-- for that gives it its group (dead_letters.adopt). Needs push.lua.

local function bury(id, queue, reason, now)
  local key, at = 'rq:job:' .. id, iso(now)
  redis.call('HSETNX', key, 'data', '')
  redis.call('HSETNX', key, 'created_at', at)
  redis.call('HSET', key, 'status', 'failed', 'origin', queue, 'ended_at', at, 'error_type', 'Unreadable', 'error', reason,
    'exc_info', reason)
  redis.call('PERSIST', key)
  redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
  redis.call('ZADD', 'rq:failed:' .. queue, '+inf', id)
  count(queue, 'dead', now, 1)
end
