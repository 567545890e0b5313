--! include push.lua
--! include unique.lua
-- fire.lua: one run of a periodic job: a fresh job, copied from the definition, on its queue, and the next fire time.
-- The fire time is compared, so that each one runs once, however many schedulers ask and whichever reply is lost.
-- A run that has not ended yet, or another job with the lock of a unique one, is not overlapped: the fire is skipped and
-- counted. The definition was made at the instant 0, so that its expiry is a duration.
-- KEYS 1 rq:job:<definition>  2 rq:job:<run>  3 turnstile:periodic:<name>  4 rq:scheduler:scheduled_jobs
-- ARGV 1 definition  2 id of the run  3 now (s)  4 the fire time (s), empty for a run out of turn  5 the next fire time (s)
-- RETURNS 'fired', 'skipped', 'late' (that fire time is past) or 'unknown' (no definition)
-- COST O(log n)
local definition, id, now, fire_at = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if fire_at and tonumber(redis.call('ZSCORE', KEYS[4], definition) or 0) ~= fire_at then
  return 'late'
end
local fields = redis.call('HGETALL', KEYS[1])
if #fields == 0 then
  return 'unknown'
end
if fire_at then
  redis.call('ZADD', KEYS[4], ARGV[5], definition)
end
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 'fired' -- sent twice
end
local last = redis.call('HGET', KEYS[3], 'last_job_id')
local key, expires_s = unpack(redis.call('HMGET', KEYS[1], 'unique', 'expires_at'))
if last and UNFINISHED[redis.call('HGET', 'rq:job:' .. last, 'status')] or key and lock(key, id, 'done', 0) then
  if fire_at then
    redis.call('HINCRBY', KEYS[3], 'skipped', 1)
  end
  return 'skipped'
end
redis.call('HSET', KEYS[2], unpack(fields))
redis.call('HSET', KEYS[2], 'created_at', iso(now))
if expires_s then
  redis.call('HSET', KEYS[2], 'expires_at', string.format('%.17g', now + expires_s))
end
push(id, redis.call('HGET', KEYS[2], 'origin'), now, false)
redis.call('HSET', KEYS[3], 'last_fire_at', fire_at and ARGV[4] or ARGV[3], 'last_job_id', id)
redis.call('HINCRBY', KEYS[3], 'runs', 1)
return 'fired'
