-- launch.lua: library: a run of a periodic job is a fresh copy of its definition. Needs push.lua and unique.lua.
-- The definition was made at the instant 0, so that its expiry is a duration.

local RUNS_KEPT = 20

-- Whether a run may not begin: the last one has not ended and may not be overlapped, or another job has the lock of a unique
-- task. When it may begin it has the lock. Comes before any write: a queue or runs that are no list end the script here.
local function blocked(definition, record, runs, id)
  local unique, queue = unpack(redis.call('HMGET', definition, 'unique', 'origin'))
  redis.call('LLEN', 'rq:queue:' .. queue)
  redis.call('LLEN', runs)
  local last, overlap = unpack(redis.call('HMGET', record, 'last_job_id', 'overlap'))
  if overlap ~= 'allow' and last and UNFINISHED[redis.call('HGET', 'rq:job:' .. last, 'status')] then
    return true
  end
  return unique and lock(unique, id, 'done', 0) and true or false
end

local function launch(definition, record, runs, id, fire_at, now)
  local key = 'rq:job:' .. id
  redis.call('HSET', key, unpack(redis.call('HGETALL', definition)))
  redis.call('HDEL', key, 'definition')
  redis.call('HSET', key, 'created_at', iso(now))
  local expires_s = redis.call('HGET', key, 'expires_at')
  if expires_s then
    redis.call('HSET', key, 'expires_at', string.format('%.17g', now + expires_s))
  end
  push(id, redis.call('HGET', key, 'origin'), now, false)
  redis.call('HSET', record, 'last_fire_at', fire_at, 'last_job_id', id)
  redis.call('HINCRBY', record, 'runs', 1)
  redis.call('LPUSH', runs, string.format('{"job_id":"%s","fire_at":%s,"outcome":"waiting"}', id, fire_at))
  redis.call('LTRIM', runs, 0, RUNS_KEPT - 1)
end
