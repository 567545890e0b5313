--! include push.lua
--! include order.lua
--! include alive.lua
-- heal_notice.lua: the change that an order's receiver is told of has a job, or gets it.
-- KEYS 1 turnstile:order:<id>
-- ARGV 1 order id  2 now (s)
-- RETURNS nil when all is well, else what was done: 'job', 'next' (the job is a dead letter), 'index'
-- COST O(length of the queue)
local id, now = ARGV[1], ARGV[2]
redis.call('ZADD', 'turnstile:notices', 'XX', now, id) -- it is looked at again after all others
local version, notify = unpack(redis.call('HMGET', KEYS[1], 'telling', 'notify'))
if not version or not notify then
  redis.call('HDEL', KEYS[1], 'telling')
  redis.call('ZREM', 'turnstile:notices', id)
  return 'index'
end
local job_id, queue = id .. '-notify-' .. version, string.match(notify, '^%S+')
local found = condition(job_id, queue)
if found == 'live' then
  return nil
elseif found == 'failed' then
  tell_next(id, version, now)
  return 'next'
elseif found == 'lost' then
  redis.call('PERSIST', 'rq:job:' .. job_id)
  redis.call('HDEL', 'rq:job:' .. job_id, 'acked', 'ended_at')
  push(job_id, queue, tonumber(now), false)
else
  tell(id, version, now)
end
return 'job'
