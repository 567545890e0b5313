-- cancelled.lua: library: a job ends without having run: cancelled by somebody, or expired. Needs push.lua and unique.lua.

-- The cancelled job stays for its readers for `keep` seconds; whoever waits for its result is told.
local function cancelled(id, queue, now, keep, reason)
  local key, registry, results = 'rq:job:' .. id, 'rq:canceled:' .. queue, 'rq:results:' .. id
  forget(registry, now)
  redis.call('HSET', key, 'status', 'canceled', 'reason', reason, 'ended_at', iso(now))
  unlock(redis.call('HGET', key, 'unique'), id)
  redis.call('XADD', results, 'MAXLEN', 10, '*', 'type', 3)
  redis.call('EXPIRE', key, keep)
  redis.call('EXPIRE', results, keep)
  redis.call('ZADD', registry, now + keep, id)
end
