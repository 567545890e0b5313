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

local function count(queue, field, now, n)
  local key = 'turnstile:stats:' .. queue .. ':' .. math.floor(now / 60)
  redis.call('HINCRBY', key, field, n)
  redis.call('EXPIRE', key, 600)
  redis.call('HINCRBY', 'turnstile:totals:' .. queue, field, n)
end

local function ring(queue)
  local bell = 'turnstile:bell:' .. queue
  redis.call('LPUSH', bell, '1')
  redis.call('LTRIM', bell, 0, 7)
end

-- Puts an existing job on its queue; `front` for jobs that come back.
local function push(id, queue, now, front)
  redis.call('HSET', 'rq:job:' .. id, 'status', 'queued', 'origin', queue, 'enqueued_at', iso(now))
  redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
  redis.call(front and 'LPUSH' or 'RPUSH', 'rq:queue:' .. queue, id)
  count(queue, 'enqueued', now, 1)
  ring(queue)
end

-- Writes a new job's hash; false when the id exists already: sent twice is created once.
local function create(id, fields)
  local key = 'rq:job:' .. id
  if redis.call('EXISTS', key) == 1 then
    return false
  end
  redis.call('HSET', key, unpack(cjson.decode(fields)))
  return true
end

-- Creates a job and puts it on its queue; false when the id exists already.
local function enqueue(id, queue, fields, now)
  if not create(id, fields) then
    return false
  end
  push(id, queue, now, false)
  return true
end
