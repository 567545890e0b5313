-- push.lua: library for every script that creates a job or puts one on a queue.
--
-- A job travels into a script as two values: its id and a JSON array of RQ's hash fields,
-- [field, value, field, value, ...]. `now` is Unix seconds as a float, in text.

local function iso(now)
  -- RQ's utcformat: 2026-11-21T03:04:05.123456Z, reckoned here because Lua in Redis has no os.date.
  local seconds = math.floor(now)
  local micros = math.floor((now - seconds) * 1000000)
  local days = math.floor(seconds / 86400)
  local rest = seconds % 86400
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year, month, day,
    math.floor(rest / 3600), math.floor(rest % 3600 / 60), rest % 60, micros)
end

local MAX_FORGOTTEN = 100

-- Takes jobs that have expired out of a registry: few at a time, since an idle queue may have left a million; `more` when
-- many are added at once.
local function forget(registry, now, more)
  local old = redis.call('ZRANGEBYSCORE', registry, '-inf', now, 'LIMIT', 0, MAX_FORGOTTEN + (more or 0))
  if #old > 0 then
    redis.call('ZREM', registry, unpack(old))
  end
end

-- The queue whose workers serve this one: `picking.high` and `picking.low` are served by those of `picking`.
local function base(queue)
  return string.match(queue, '^(.+)%.high$') or string.match(queue, '^(.+)%.low$') or queue
end

local function count(queue, field, now, n)
  local key = 'turnstile:stats:' .. queue .. ':' .. math.floor(now / 60)
  if redis.call('HINCRBY', key, field, n) == n then
    redis.call('EXPIRE', key, 600)
  end
  redis.call('HINCRBY', 'turnstile:totals:' .. queue, field, n)
end

local MAX_BELL = 8

-- Makes the queue known, counts n jobs in, and wakes its workers. `length`, where the caller knows it, is that of the
-- queue now: what waited before has made the queue known, and has rung as often as a bell can.
local function announce(queue, now, n, length)
  local before = length and length - n or 0
  if before == 0 then
    redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
  end
  count(queue, 'enqueued', now, n)
  if before < MAX_BELL then
    local bell = 'turnstile:bell:' .. base(queue)
    if redis.call('LPUSH', bell, '1') > MAX_BELL then
      redis.call('LTRIM', bell, 0, MAX_BELL - 1)
    end
  end
end

-- Puts an existing job on its queue; `front` for jobs that come back.
local function push(id, queue, now, front)
  redis.call('HSET', 'rq:job:' .. id, 'status', 'queued', 'origin', queue, 'enqueued_at', iso(now))
  announce(queue, now, 1, redis.call(front and 'LPUSH' or 'RPUSH', 'rq:queue:' .. queue, id))
end

-- Whether a job waits to be claimed: in its queue's list, or held back by the limits of its task.
local function waits(id, queue)
  if redis.call('LPOS', 'rq:queue:' .. queue, id) then
    return true
  end
  local task = redis.call('HGET', 'rq:job:' .. id, 'limited')
  return task and redis.call('LPOS', 'turnstile:held:' .. queue .. ':' .. task, id) and true or false
end

-- Writes a new job's hash, with further fields; false when the id exists already: sent twice is created once.
local function create(id, fields, ...)
  local key = 'rq:job:' .. id
  if redis.call('EXISTS', key) == 1 then
    return false
  end
  local flat = cjson.decode(fields)
  for _, part in ipairs({...}) do
    flat[#flat + 1] = part
  end
  redis.call('HSET', key, unpack(flat))
  return true
end

-- Creates a job that waits in Redis until it is due; false when the id exists already.
local function hold(id, queue, fields, due_at, set)
  if not create(id, fields, 'status', 'scheduled') then
    return false
  end
  redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
  redis.call('ZADD', set, due_at, id)
  return true
end

-- Creates a job and puts it on its queue, which its caller announces; returns the queue's length, or false when the id
-- exists already. `enqueued_at` is now as RQ writes it.
local function place(id, queue, fields, enqueued_at)
  return create(id, fields, 'status', 'queued', 'enqueued_at', enqueued_at)
    and redis.call('RPUSH', 'rq:queue:' .. queue, id)
end

-- Creates a job and puts it on its queue; false when the id exists already.
local function enqueue(id, queue, fields, now)
  local length = place(id, queue, fields, iso(now))
  if not length then
    return false
  end
  announce(queue, now, 1, length)
  return true
end
