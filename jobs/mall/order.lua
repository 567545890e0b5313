-- order.lua: library for every script that changes an order: its status, its indexes, its attempts, its stock, its notices.
--
-- Whoever changes an order raises its version; an ending script compares it with the one its begin was told,
-- so that a duplicate or a zombie writes nothing.

local ENDED = {delivered = true, rejected = true, cancelled = true, dead = true}
local STATUS_OF_STEP = {pick = 'picking', pack = 'packing', deliver = 'delivering'}
local KEPT_ATTEMPTS = 100

local function order_key(id)
  return 'turnstile:order:' .. id
end

-- Has a job tell the receiver at the order's `notify_url` of one change. The order's field `notify` is that job's queue and,
-- behind a space, its fields.
local function tell(id, version, now)
  local queue, fields = string.match(redis.call('HGET', order_key(id), 'notify'), '^(%S+) (.+)$')
  redis.call('HSET', order_key(id), 'telling', version)
  redis.call('ZADD', 'turnstile:notices', now, id)
  local job_id = id .. '-notify-' .. version
  if enqueue(job_id, queue, fields, tonumber(now)) then
    redis.call('HSET', 'rq:job:' .. job_id, 'created_at', iso(tonumber(now)))
  end
end

-- After a change that was told, or never will be, the next one; one that was redriven has none, the others have gone on.
local function tell_next(id, version, now)
  local key = order_key(id)
  if redis.call('HGET', key, 'telling') ~= version then
    return
  end
  local following = redis.call('ZRANGEBYSCORE', key .. ':notices', '(' .. version, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if following[2] then
    tell(id, following[2], now)
  else
    redis.call('HDEL', key, 'telling')
    redis.call('ZREM', 'turnstile:notices', id)
  end
end

-- Keeps the order as it is now, to be told of; the receiver hears one change after the other.
local function note(id, version, now, telling)
  local key, notice = order_key(id), {tostring(version)}
  for i, value in ipairs({'status', 'step', 'updated_at', 'tracking_number', 'reason', 'due_at'}) do
    notice[i + 1] = redis.call('HGET', key, value) or ''
  end
  notice[#notice + 1] = '[' .. table.concat(redis.call('LRANGE', key .. ':attempts', 0, -1), ',') .. ']'
  redis.call('ZADD', key .. ':notices', version, cjson.encode(notice))
  if not telling then
    tell(id, tostring(version), now)
  end
end

-- Moves an order to a status, with every index and the event. Needs push.lua.
local function move(id, to, now)
  local key = order_key(id)
  local from, notify, telling = unpack(redis.call('HMGET', key, 'status', 'notify', 'telling'))
  redis.call('HSET', key, 'status', to, 'updated_at', now)
  local version = redis.call('HINCRBY', key, 'version', 1)
  if from then
    redis.call('ZREM', 'turnstile:orders:status:' .. from, id)
  end
  redis.call('ZADD', 'turnstile:orders:status:' .. to, now, id)
  if ENDED[to] then
    redis.call('ZREM', 'turnstile:orders:open', id)
  else
    redis.call('ZADD', 'turnstile:orders:open', now, id)
  end
  redis.call('XADD', 'turnstile:events', 'MAXLEN', '~', 10000, '*', 'order', id, 'status', to, 'at', now)
  if notify then
    note(id, version, now, telling)
  end
end

-- Notes a change that moves nothing.
local function touch(id, now)
  redis.call('HSET', order_key(id), 'updated_at', now)
  redis.call('ZADD', 'turnstile:orders:open', 'XX', now, id)
  return redis.call('HINCRBY', order_key(id), 'version', 1)
end

local function close_attempt(id, now, error)
  local key = order_key(id) .. ':attempts'
  local last = redis.call('LINDEX', key, -1)
  local attempt = last and cjson.decode(last)
  if attempt and not attempt.ended_at then
    attempt.ended_at = tonumber(now)
    attempt.error = error
    redis.call('LSET', key, -1, cjson.encode(attempt))
  end
end

-- Opens an attempt; one that is still open belonged to a worker that is gone.
local function open_attempt(id, step, attempt, now, worker)
  close_attempt(id, now, 'the worker was lost')
  local key = order_key(id) .. ':attempts'
  redis.call('RPUSH', key, cjson.encode({step = step, attempt = tonumber(attempt), started_at = tonumber(now), worker = worker}))
  redis.call('LTRIM', key, -KEPT_ATTEMPTS, -1)
end

-- Gives back ('release') or uses up ('consume') what the order has reserved.
local function settle_stock(id, how)
  local reserved = redis.call('HGET', order_key(id), 'reserved')
  if not reserved then
    return
  end
  for sku, quantity in pairs(cjson.decode(reserved)) do
    redis.call('HINCRBY', 'turnstile:stock:' .. sku, 'reserved', -quantity)
    if how == 'consume' then
      redis.call('HINCRBY', 'turnstile:stock:' .. sku, 'on_hand', -quantity)
    end
  end
  redis.call('HDEL', order_key(id), 'reserved')
end

-- The order ends as dead with its job; `false` when it has ended already.
local function die(id, job_id, error, now)
  local status = redis.call('HGET', order_key(id), 'status')
  if not status or ENDED[status] then
    return false
  end
  close_attempt(id, now, error)
  redis.call('LREM', 'turnstile:pick:buffer', 0, id)
  redis.call('HSET', order_key(id), 'reason', error, 'dead_job', job_id)
  move(id, 'dead', now)
  return true
end

-- The order of a redriven dead letter goes on at the step that failed.
local function resume(id, job_id, now)
  local status, dead_job, step = unpack(redis.call('HMGET', order_key(id), 'status', 'dead_job', 'step'))
  if status ~= 'dead' or dead_job ~= job_id then
    return false
  end
  redis.call('HDEL', order_key(id), 'reason', 'dead_job')
  move(id, STATUS_OF_STEP[step], now)
  return true
end
