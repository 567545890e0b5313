-- delayed.lua: library: what waits for its time, in rq-scheduler's set or in RQ's scheduled registry of its queue.

local NOT_DELAYED = {started = true, finished = true, failed = true, canceled = true, stopped = true}

-- Whether the id is the definition of a periodic job of the table, which stands in rq-scheduler's set and never runs itself.
local function defines(id)
  return string.sub(id, 1, 5) == 'cron-' and (redis.call('SISMEMBER', 'turnstile:periodic', string.sub(id, 6)) == 1
    or redis.pcall('HEXISTS', 'rq:job:' .. id, 'definition') == 1)
end

-- Whether a job in rq-scheduler's set is periodic: what rq-scheduler itself asks of its meta. Nothing decoded is written.
local function repeats(meta)
  if not (meta and (string.find(meta, '"interval"', 1, true) or string.find(meta, '"cron_string"', 1, true))) then
    return false
  end
  local ok, said = pcall(cjson.decode, meta)
  for _, name in ipairs(ok and type(said) == 'table' and {'interval', 'cron_string'} or {}) do
    local value = said[name]
    if value and value ~= cjson.null and value ~= 0 and value ~= '' then
      return true
    end
  end
  return false
end

-- The set that the job waits in, when it is due there, and its queue; or nil, and why: 'unknown', 'periodic', or its status.
-- Needs push.lua.
local function delayed(id)
  local key = 'rq:job:' .. id
  if redis.call('TYPE', key).ok ~= 'hash' then
    return nil, 'unknown'
  elseif defines(id) then
    return nil, 'periodic'
  end
  local status, queue = unpack(redis.call('HMGET', key, 'status', 'origin'))
  queue = queue or 'default'
  for _, set in ipairs({'rq:scheduler:scheduled_jobs', 'rq:scheduled:' .. queue}) do
    local due_at = redis.call('ZSCORE', set, id)
    if due_at and not NOT_DELAYED[status] and not (status == 'queued' and waits(id, queue)) then
      return set, due_at, queue
    end
  end
  return nil, status or 'unknown'
end
