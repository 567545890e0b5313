--! include push.lua
--! include order.lua
--! include alive.lua
-- heal_order.lua: an open order has just one thing that leads on - its job, or a place in the pick buffer - or gets it. Of two it
-- keeps the one that is nearer to its end: a claimed job before one that waits, a job before the buffer.
-- KEYS 1 turnstile:order:<id>
-- ARGV 1 order id  2 now (s)  3 status that the caller has seen  4 job id  5 queue  6 fields
-- RETURNS nil when all is well, else what was done: 'job', 'buffer', 'once' (one of two is gone), 'dead', 'index'
-- COST O(length of the queue)
local id, now, job_id, queue = ARGV[1], ARGV[2], ARGV[4], ARGV[5]
local BUFFER, list = 'turnstile:pick:buffer', 'rq:queue:' .. queue
local status = redis.call('HGET', KEYS[1], 'status')
if not status or ENDED[status] then
  redis.call('ZREM', 'turnstile:orders:open', id)
  return 'index'
end
if status ~= ARGV[3] then
  return nil
end
local found, made = condition(job_id, queue), nil
if found == 'failed' then
  die(id, job_id, redis.call('HGET', 'rq:job:' .. job_id, 'error') or 'failed under a stock worker', now)
  return 'dead'
end
local is_picked = status == 'accepted' or status == 'picking'
if found == 'missing' and is_picked then
  thin(list, job_id, 0)
elseif found == 'missing' then
  local trace = redis.call('HGET', KEYS[1], 'trace')
  create(job_id, ARGV[6], 'status', status == 'scheduled' and status or 'queued', 'enqueued_at', iso(tonumber(now)),
    unpack(trace and {'trace', trace} or {}))
  found, made = condition(job_id, queue), 'job'
end
if found == 'live' then
  local gone = thin(list, job_id, leased(queue, job_id) and 0 or 1) + (is_picked and thin(BUFFER, id, 0) or 0)
  return made or gone > 0 and 'once' or nil
end
if is_picked then
  if redis.call('LPOS', BUFFER, id) then
    return thin(BUFFER, id, 1) > 0 and 'once' or nil
  end
  redis.call('RPUSH', BUFFER, id)
  return 'buffer'
end
if status == 'scheduled' then
  redis.call('HSET', 'rq:job:' .. job_id, 'status', 'scheduled')
  redis.call('ZADD', 'rq:scheduler:scheduled_jobs', redis.call('HGET', KEYS[1], 'due_at'), job_id)
else
  redis.call('PERSIST', 'rq:job:' .. job_id)
  redis.call('HDEL', 'rq:job:' .. job_id, 'acked', 'ended_at')
  push(job_id, queue, tonumber(now), false)
end
return 'job'
