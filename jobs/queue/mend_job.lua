--! include push.lua
--! include alive.lua
-- mend_job.lua: a job's hash to which nothing leads, though its status says that something does.
-- Names it, and puts it right when asked: what waited or ran goes to the front of its queue, since it may be somebody's work;
-- what ended gets its place in RQ's registry or an expiry. A delayed job of nobody's stays as it is: RQ and rq-scheduler cancel one
-- by taking it out of its set. Only what cannot be run is deleted: a hash without a call, and the definition of a periodic job that is not
-- registered any more, which was made at the instant 0.
-- KEYS 1 rq:job:<id>  2 turnstile:periodic
-- ARGV 1 '1' to put it right  2 seconds to keep an ended job
-- RETURNS 'job-lost', 'job-undated', 'job-unlisted', 'job-for-ever', 'job-fragment', 'definition-left', or '' for a job that is where
--      it should be
-- COST O(n) in the length of its queue and the jobs that run, for one that waits or runs
local WAITS = {queued = true, started = true, scheduled = true}
local key, id, act = KEYS[1], string.sub(KEYS[1], 8), ARGV[1] == '1'
if redis.call('TYPE', key).ok ~= 'hash' then
  return ''
end
local status, queue, created_at, canvas, owned = unpack(redis.call('HMGET', key, 'status', 'origin', 'created_at', 'canvas', 'owned'))
queue = queue or 'default'
local for_ever = redis.call('TTL', key) == -1
if redis.call('HEXISTS', key, 'data') == 0 then
  if not for_ever or waits(id, queue) or condition(id, queue) == 'live' then
    return ''
  end
  if act then
    redis.call('DEL', key)
  end
  return 'job-fragment'
end
if WAITS[status] then
  local periodic = string.match(id, '^cron%-(.+)$')
  if condition(id, queue) ~= 'lost' or periodic and redis.call('SISMEMBER', KEYS[2], periodic) == 1 then
    return ''
  end
  local is_definition = status == 'scheduled' and periodic and string.sub(created_at or '', 1, 10) == '1970-01-01'
  if is_definition or status == 'scheduled' and not (canvas or owned) then
    if act and is_definition then
      redis.call('DEL', key)
    end
    return is_definition and 'definition-left' or 'job-undated'
  end
  if act then
    local time = redis.call('TIME')
    redis.call('HDEL', key, 'started_at', 'worker_name')
    push(id, queue, time[1] + time[2] / 1000000, true)
  end
  return 'job-lost'
end
local failed, deferred = 'rq:failed:' .. queue, 'rq:deferred:' .. queue
local registry = ({failed = failed, stopped = failed, deferred = deferred, finished = 'rq:finished:' .. queue,
  canceled = 'rq:canceled:' .. queue})[status]
if not registry or not for_ever then
  return ''
end
local listed = redis.call('ZSCORE', registry, id)
if registry == failed or registry == deferred then
  if listed then
    return ''
  end
  if act then
    redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
    redis.call('ZADD', registry, '+inf', id)
  end
  return 'job-unlisted'
end
if listed == 'inf' then
  return ''
end
if act then
  redis.call('EXPIRE', key, ARGV[2])
end
return 'job-for-ever'
