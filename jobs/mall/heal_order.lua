--! include push.lua
--! include order.lua
--! include alive.lua
-- heal_order.lua: an open order has something that leads on - its job, or a place in the pick buffer - or gets it.
-- KEYS 1 turnstile:order:<id>
-- ARGV 1 order id  2 now (s)  3 status that the caller has seen  4 job id  5 queue  6 fields
-- RETURNS nil when all is well, else what was done: 'job', 'buffer', 'dead', 'index'
-- COST O(length of the queue)
local id, now, job_id, queue = ARGV[1], ARGV[2], ARGV[4], ARGV[5]
local status = redis.call('HGET', KEYS[1], 'status')
if not status or ENDED[status] then
  redis.call('ZREM', 'turnstile:orders:open', id)
  return 'index'
end
if status ~= ARGV[3] then
  return nil
end
local found = condition(job_id, queue)
if found == 'failed' then
  die(id, job_id, redis.call('HGET', 'rq:job:' .. job_id, 'error') or 'failed under a stock worker', now)
  return 'dead'
end
if found == 'live' then
  return nil
end
if status == 'accepted' or status == 'picking' then
  if redis.call('LPOS', 'turnstile:pick:buffer', id) then
    return nil
  end
  redis.call('RPUSH', 'turnstile:pick:buffer', id)
  return 'buffer'
end
if found == 'missing' then
  create(job_id, ARGV[6])
end
if status == 'scheduled' then
  local due_at = redis.call('HGET', KEYS[1], 'due_at')
  redis.call('HSET', 'rq:job:' .. job_id, 'status', 'scheduled')
  redis.call('ZADD', 'rq:scheduler:scheduled_jobs', due_at, job_id)
else
  redis.call('PERSIST', 'rq:job:' .. job_id)
  redis.call('HDEL', 'rq:job:' .. job_id, 'acked', 'ended_at')
  push(job_id, queue, tonumber(now), false)
end
return 'job'
