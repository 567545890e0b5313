-- delayed.lua: library: a job that waits for its time, in rq-scheduler's set or in RQ's scheduled registry of its queue.

local NOT_DELAYED = {started = true, finished = true, failed = true, canceled = true, stopped = true}

-- Whether the id is the definition of a periodic job of the table, which stands in rq-scheduler's set and never runs itself.
local function defines(id)
  return string.sub(id, 1, 5) == 'cron-' and redis.call('SISMEMBER', 'turnstile:periodic', string.sub(id, 6)) == 1
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
