--! include push.lua
-- fire.lua: one run of a periodic job: a fresh job, copied from the definition, on its queue, and the next fire time.
-- The fire time is compared, so that each one runs once, however many schedulers ask and whichever reply is lost.
-- A run that has not ended yet is not overlapped: the fire is skipped and counted.
-- KEYS 1 rq:job:<definition>  2 rq:job:<run>  3 hash that keeps the record of the runs  4 rq:scheduler:scheduled_jobs
-- ARGV 1 definition  2 id of the run  3 the fire time (s), empty for a run out of turn  4 now (s)
--      5 the next fire time (s), empty when the run is the last one: the definition is deleted
--      6 meta of the run (JSON), empty for none  7 meta of the definition from now on (JSON), empty to keep it
-- RETURNS 'fired', 'skipped', 'late' (that fire time is past) or 'unknown' (no definition)
-- COST O(log n)
local RESULT_TTL = 86400 -- for definitions whose results are kept for ever: nobody would delete them
local UNFINISHED = {created = true, queued = true, started = true, scheduled = true, deferred = true}
local definition, id, now = ARGV[1], ARGV[2], tonumber(ARGV[4])
if ARGV[3] ~= '' then
  local score = redis.call('ZSCORE', KEYS[4], definition)
  if not score or tonumber(score) ~= tonumber(ARGV[3]) then
    return 'late'
  end
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 'unknown'
end
local last = redis.call('HGET', KEYS[3], 'last_job_id')
local done = redis.call('EXISTS', KEYS[2]) == 1
local overlaps = last and last ~= id and UNFINISHED[redis.call('HGET', 'rq:job:' .. last, 'status')]
local ends = ARGV[3] ~= '' and ARGV[5] == '' and not overlaps
if ARGV[3] ~= '' and not ends then
  redis.call('ZADD', KEYS[4], ARGV[5] ~= '' and ARGV[5] or now + 1, definition)
  redis.call('PERSIST', KEYS[1])
end
if overlaps then
  if ARGV[3] ~= '' then
    redis.call('HINCRBY', KEYS[3], 'skipped', 1)
  end
  return 'skipped'
end
if not done then
  redis.call('HSET', KEYS[2], unpack(redis.call('HGETALL', KEYS[1])))
  redis.call('HDEL', KEYS[2], 'meta', 'started_at', 'ended_at', 'last_heartbeat', 'worker_name', 'exc_info', 'result',
    'failures', 'crashes', 'attempts', 'acked', 'died_at', 'group', 'error_type', 'error', 'redrives',
    'last_fire_at', 'last_job_id', 'runs', 'skipped')
  redis.call('HSET', KEYS[2], 'created_at', iso(now))
  if ARGV[6] ~= '' then
    redis.call('HSET', KEYS[2], 'meta', ARGV[6])
  end
  if redis.call('HGET', KEYS[2], 'result_ttl') == '-1' then
    redis.call('HSET', KEYS[2], 'result_ttl', RESULT_TTL)
  end
  local queue, at_front = unpack(redis.call('HMGET', KEYS[2], 'origin', 'enqueue_at_front'))
  push(id, queue or 'default', now, at_front == '1')
  if ARGV[7] ~= '' then
    redis.call('HSET', KEYS[1], 'meta', ARGV[7])
  end
  redis.call('HSET', KEYS[3], 'last_fire_at', ARGV[3] ~= '' and ARGV[3] or ARGV[4], 'last_job_id', id)
  redis.call('HINCRBY', KEYS[3], 'runs', 1)
end
if ends then
  redis.call('ZREM', KEYS[4], definition)
  redis.call('DEL', KEYS[1])
end
return (done and ARGV[3] ~= '') and 'late' or 'fired'
