--! include push.lua
--! include dead.lua
--! include unique.lua
--! include trail.lua
-- redrive.lua: puts a dead letter back on its queue with a fresh budget of attempts; it keeps its history.
-- Effects follow it in the MULTI: their guard is turnstile:dead:redriving, which holds the id only if this went through.
-- KEYS 1 rq:job:<id>  2 rq:failed:<q>  3 rq:results:<id>
--      for one of many also: 4 turnstile:redrive:<r>  5 turnstile:redrive:<r>:letters
-- ARGV 1 job id  2 queue  3 now (s)  4 new data (JSON call), empty to keep the arguments, 'refused' when they do not fit
--      5 who, empty to note nothing  6 '1' when effects follow
-- RETURNS 1 redriven, 0 no dead letter (any more) or not due yet, 2 refused, or the id of the job that holds its unique lock
-- COST O(log n)
local id, queue, now, data, who, record = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], KEYS[4]
local next_at
-- Of nothing: after a write that no full memory refuses, none of those below is refused alone.
redis.call('ZREM', 'turnstile:dead:redriving', '')
if record then
  local state, rate, at = unpack(redis.call('HMGET', record, 'state', 'rate_per_s', 'next_at'))
  if state ~= 'open' then
    return 0
  end
  if rate ~= '' then
    local gap = 1 / tonumber(rate)
    -- After a pause of the scheduler at most one second's worth is made up for.
    local due = math.max(tonumber(at), now - math.max(0, 1 - gap))
    if due > now then
      return 0
    end
    next_at = string.format('%.17g', due + gap)
  end
  -- Another score is another death: somebody else redrove it since this was asked for.
  local died_at = redis.call('ZSCORE', KEYS[5], id)
  redis.call('ZREM', KEYS[5], id)
  if not died_at or died_at ~= redis.call('ZSCORE', 'turnstile:dead', id) then
    return 0
  end
end
if not redis.call('ZSCORE', KEYS[2], id) or redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('ZREM', KEYS[2], id)
  leave(id)
  return 0
end
local key = redis.call('HGET', KEYS[1], 'unique')
local holder = data ~= 'refused' and key and lock(key, id, 'done', 0)
if holder or data == 'refused' then
  if record then
    redis.call('HINCRBY', record, 'refused', 1)
  end
  return holder or 2
end
redis.call('ZREM', KEYS[2], id)
leave(id)
redis.call('HSET', KEYS[1], 'failures', 0, 'retries_left', 3, 'redriven_by', who, 'redriven_at', ARGV[3])
redis.call('HDEL', KEYS[1], 'crashes', 'ended_at', 'started_at', 'expires_at', 'exc_info', 'died_at', 'acked', 'group',
  'error_type', 'error')
redis.call('HINCRBY', KEYS[1], 'redrives', 1)
if data ~= '' then
  redis.call('HSET', KEYS[1], 'data', data)
end
redis.call('PERSIST', KEYS[1])
redis.call('DEL', KEYS[3])
push(id, queue, now, false)
if ARGV[6] == '1' then
  redis.call('ZADD', 'turnstile:dead:redriving', now, id)
end
if record then
  redis.call('HINCRBY', record, 'done', 1)
  if next_at then
    redis.call('HSET', record, 'next_at', next_at)
  end
elseif who ~= '' then
  note(ARGV[3], 'redrive', who, id)
end
return 1
