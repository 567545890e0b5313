--! include push.lua
--! include unique.lua
--! include unreadable.lua
-- foreign.lua: one fire of a periodic job that a client of rq-scheduler registered: a fresh job, copied from its definition, on
-- its queue, and the next fire time. Both what the definition says and its fire time are compared, so that each time runs once,
-- and a client that registers it anew at this moment is not overwritten. One whose times cannot be read becomes a dead letter.
-- KEYS 1 rq:job:<definition>  2 rq:scheduler:scheduled_jobs
-- ARGV 1 definition  2 now (s)  3 the fire time (s)  4 its meta as it was read
--      5 the next fire time (s), empty when its times cannot be read  6 id of the run, or why they cannot
--      7 its meta from now on, empty when this is the last run: the definition goes  8 the run's meta
--      9 seconds to keep the result of a run that would keep it forever
-- RETURNS 'fired', 'skipped' (its last run has not ended), 'late' (another time, or another definition), 'cancelled' or
--      'unreadable'
-- COST O(log n)
local definition, now, id = ARGV[1], tonumber(ARGV[2]), ARGV[6]
local status, queue, meta, last, result_ttl =
  unpack(redis.call('HMGET', KEYS[1], 'status', 'origin', 'meta', 'last_job_id', 'result_ttl'))
if tonumber(redis.call('ZSCORE', KEYS[2], definition) or 0) ~= tonumber(ARGV[3]) or meta ~= ARGV[4] then
  return 'late'
end
if status == 'canceled' then
  redis.call('ZREM', KEYS[2], definition)
  return 'cancelled'
end
queue = queue or 'default'
if ARGV[5] == '' then
  bury(definition, queue, ARGV[6], now)
  redis.call('ZREM', KEYS[2], definition)
  return 'unreadable'
end
redis.call('LLEN', 'rq:queue:' .. queue) -- a queue that is no list ends it here, before anything is written
local ended = not (last and UNFINISHED[redis.pcall('HGET', 'rq:job:' .. last, 'status')])
redis.call('ZADD', KEYS[2], ARGV[5], definition)
-- Under a stock scheduler the definition itself ran, and may have been given an expiry.
redis.call('PERSIST', KEYS[1])
if not ended then
  return 'skipped'
end
while redis.call('EXISTS', 'rq:job:' .. id) == 1 do
  id = id .. '-again' -- a client set the time back; or a job of the table has the same name
end
local run = 'rq:job:' .. id
redis.call('HSET', run, unpack(redis.call('HGETALL', KEYS[1])))
redis.call('HDEL', run, 'last_job_id', 'started_at', 'ended_at', 'worker_name', 'last_heartbeat', 'exc_info', 'failures', 'crashes',
  'attempts', 'acked')
redis.call('HSET', run, 'created_at', iso(now), 'meta', ARGV[8])
if (tonumber(result_ttl) or 0) < 0 then
  redis.call('HSET', run, 'result_ttl', ARGV[9])
end
push(id, queue, now, redis.call('HGET', run, 'enqueue_at_front') == '1')
if ARGV[7] == '' then
  redis.call('ZREM', KEYS[2], definition)
  redis.call('DEL', KEYS[1])
else
  redis.call('HSET', KEYS[1], 'status', 'scheduled', 'meta', ARGV[7], 'last_job_id', id)
end
return 'fired'
