-- breaker.lua: the circuit breaker of one downstream, asked before a call and told its outcome after it.
-- Open while there is a `retry_at` and it lies ahead, half-open once it has come, closed without one. Every call let
-- through is a lease, a field of its own: its report takes the lease away and counts only while there was one. So a
-- report sent twice, one of a call from before the circuit opened and one of an expired probe change nothing.
-- KEYS 1 turnstile:breaker:<name>  2 turnstile:breakers
-- ARGV 1 'ask', 'succeeded', 'failed', 'given_back' or 'reset'  2 name  3 now (s)  4 id of the call; not for a reset:
--      5 failure rate (0..1)  6 fewest calls  7 width of a window's bucket (s)  8 buckets  9 first time open (s)
--      10 longest time open (s)  11 probes  12 lease of a probe (s)
-- RETURNS ask: '' go ahead, or the time (s) at which it is worth asking again; else 1 taken, 0 nothing to take
-- COST O(buckets); O(fields: buckets and calls under way) once a bucket, at changes of state and while half-open
local CALL_S = 3600 -- a call whose process died before it could report is forgotten after this
local KEPT_S = 86400
local key, op, now, lease = KEYS[1], ARGV[1], tonumber(ARGV[3]), 'lease:' .. (ARGV[4] or '')
local min_calls, buckets, probes = tonumber(ARGV[6]), tonumber(ARGV[8]), tonumber(ARGV[11])
local bucket = math.floor(now / (tonumber(ARGV[7]) or 1))

local function forget(unwanted)
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    if unwanted(flat[i], tonumber(flat[i + 1])) then
      redis.call('HDEL', key, flat[i])
    end
  end
end

local function is_lease(field)
  return string.sub(field, 1, 6) == 'lease:'
end

local function number_of_bucket(field)
  return tonumber(string.match(field, '^[cf](%-?%d+)$'))
end

local function field_of(letter, number)
  return letter .. string.format('%.0f', number)
end

local function open()
  local streak = redis.call('HINCRBY', key, 'streak', 1)
  forget(is_lease)
  redis.call('HINCRBY', key, 'opened', 1)
  redis.call('HDEL', key, 'passed')
  redis.call('HSET', key, 'opened_at', now,
    'retry_at', now + math.min(tonumber(ARGV[10]), tonumber(ARGV[9]) * 2 ^ (streak - 1)))
end

local function close()
  redis.call('HDEL', key, 'retry_at', 'streak', 'passed')
  forget(function(field) return is_lease(field) or number_of_bucket(field) end)
end

local function trim()
  if redis.call('HGET', key, 'bucket') ~= field_of('', bucket) then
    forget(function(field, value)
      local number = number_of_bucket(field)
      return number and number <= bucket - buckets or is_lease(field) and value <= now
    end)
    redis.call('HSET', key, 'bucket', field_of('', bucket), 'bucket_s', ARGV[7])
    redis.call('SADD', KEYS[2], ARGV[2])
  end
end

-- Leases a probe, or says when to ask again: when the first of the probes must have ended, and soon enough if it ends early.
local function probe()
  local taken, ask_at = tonumber(redis.call('HGET', key, 'passed') or 0), now + tonumber(ARGV[9])
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    local ends_at = is_lease(flat[i]) and flat[i] ~= lease and tonumber(flat[i + 1])
    if ends_at and ends_at > now then
      taken, ask_at = taken + 1, math.min(ask_at, ends_at)
    end
  end
  if taken < probes then
    redis.call('HSET', key, lease, now + tonumber(ARGV[12]))
    return nil
  end
  return ask_at
end

local function ask()
  trim()
  local retry_at = tonumber(redis.call('HGET', key, 'retry_at'))
  if not retry_at then
    redis.call('HSET', key, lease, now + CALL_S)
  elseif now >= retry_at then
    retry_at = probe()
  end
  if not retry_at then
    return ''
  end
  redis.call('HINCRBY', key, 'refused', 1)
  return string.format('%.17g', retry_at)
end

-- Whether too many of the calls in the window, this one included, have failed.
local function tripped()
  redis.call('HINCRBY', key, field_of('c', bucket), 1)
  redis.call('HINCRBY', key, field_of('f', bucket), op == 'failed' and 1 or 0)
  local calls, failures = 0, 0
  for number = bucket - buckets + 1, bucket do
    local c, f = unpack(redis.call('HMGET', key, field_of('c', number), field_of('f', number)))
    calls, failures = calls + (c or 0), failures + (f or 0)
  end
  return calls >= min_calls and failures >= tonumber(ARGV[5]) * calls
end

local function report()
  local ends_at = tonumber(redis.call('HGET', key, lease))
  redis.call('HDEL', key, lease)
  if not ends_at or ends_at <= now then
    return 0
  elseif op == 'given_back' then
    return 1
  end
  trim()
  redis.call('HINCRBY', key, 'calls', 1)
  redis.call('HINCRBY', key, 'failures', op == 'failed' and 1 or 0)
  local probing = redis.call('HEXISTS', key, 'retry_at') == 1
  if probing and op == 'failed' or not probing and tripped() then
    open()
  elseif probing and redis.call('HINCRBY', key, 'passed', 1) >= probes then
    close()
  end
  return 1
end

redis.call('HDEL', key, '') -- of nothing: a script whose first write is no growth goes on in a full memory
local answer
if op == 'ask' then
  answer = ask()
elseif op == 'reset' then
  answer = redis.call('SISMEMBER', KEYS[2], ARGV[2])
  close()
else
  answer = report()
end
redis.call('EXPIRE', key, KEPT_S)
return answer
