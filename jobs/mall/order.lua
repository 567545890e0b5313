-- order.lua: library for every script that changes an order: its status, its indexes, its attempts, its stock.
--
-- Whoever changes an order raises its version; an ending script compares it with the one its begin was told,
-- so that a duplicate or a zombie writes nothing.

local ENDED = {delivered = true, rejected = true, cancelled = true, dead = true}
local STATUS_OF_STEP = {pick = 'picking', pack = 'packing', deliver = 'delivering'}
local KEPT_ATTEMPTS = 100

local function order_key(id)
  return 'turnstile:order:' .. id
end

-- Moves an order to a status, with every index and the event.
local function move(id, to, now)
  local key = order_key(id)
  local from = redis.call('HGET', key, 'status')
  redis.call('HSET', key, 'status', to, 'updated_at', now)
  redis.call('HINCRBY', key, 'version', 1)
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
