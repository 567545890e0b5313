--! include push.lua
--! include unique.lua
-- finish.lua: acknowledges jobs that succeeded, all of one queue and one worker. The member `job id:execution id` in
-- rq:wip:<q> is the fence, as in fence.lua. What is asked of each job is asked once for all, and job by job only when the
-- answer says that one of them is odd.
-- KEYS 1 rq:wip:<q>  2 rq:finished:<q>  3 rq:worker:<name>  4.. the locks of the unique jobs among them
-- ARGV 1 now (s)  2 queue  3 worker  4.. for each job, at most 1,000: id, execution id, ended_at (text), how long it ran (s),
--      result_ttl (s; 0 keeps nothing, -1 for ever), result (base64 of JSON, empty for none), `crashes` when its hash has
--      that field, which of KEYS is its lock or 0
-- RETURNS for each job 1 acknowledged, 2 had been acknowledged by this execution, 0 lease lost and nothing written
-- COST O(n log m)
local FIELDS = 8
local now, queue, worker = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local members, answers, held, twins, seen = {}, {}, {}, {}, {}
local job_keys, result_keys, odd_streams, dumps = {}, {}, false, {}
local doomed, kept, n_done, worked = {}, {}, 0, 0

for i = 4, #ARGV, FIELDS do
  members[#members + 1] = ARGV[i] .. ':' .. ARGV[i + 1]
end
for n, score in ipairs(redis.call('ZMSCORE', KEYS[1], unpack(members))) do
  local id = ARGV[4 + (n - 1) * FIELDS]
  local first = seen[id]
  if first and members[first] == members[n] then
    twins[n] = first -- told twice in one batch
  elseif score then
    odd_streams = odd_streams or first ~= nil
    held[#held + 1], seen[id] = n, n
    job_keys[#held], result_keys[#held] = 'rq:job:' .. id, 'rq:results:' .. id
  else
    answers[n] = redis.call('HGET', 'rq:job:' .. id, 'acked') == ARGV[5 + (n - 1) * FIELDS] and 2 or 0
  end
end
if #held == 0 then
  return answers
end

-- Of nothing: a script whose first write frees memory is not refused while memory is full. The members leave last, so that
-- whatever breaks this script in the middle leaves jobs that are reclaimed.
redis.call('ZREM', KEYS[1], '')
local any_gone = redis.call('EXISTS', unpack(job_keys)) < #held
odd_streams = redis.call('EXISTS', unpack(result_keys)) > 0 or odd_streams

-- A new stream takes 4 KB for the entries to come, one that was restored what it holds; and equal results share a dump.
-- Beside an earlier result, or when RESTORE is not permitted, the stream just grows.
local function keep(key, result, ttl)
  local ms, dump, added = string.format('%d', math.max(0, ttl) * 1000), dumps[result], false
  local function add()
    redis.call('XADD', key, 'MAXLEN', 10, '*', 'type', 1, 'worker_name', worker,
      unpack(result ~= '' and {'return_value', result} or {}))
    added = true
  end
  if dump == nil and not (odd_streams and redis.call('EXISTS', key) == 1) then
    add()
    dump = redis.pcall('DUMP', key)
    dumps[result] = dump
  end
  local restored
  if type(dump) == 'string' then
    restored = added and redis.pcall('RESTORE', key, ms, dump, 'REPLACE') or redis.pcall('RESTORE', key, ms, dump)
  end
  if restored and not restored.err then
    return
  end
  if not added then
    add()
  end
  if ttl > 0 then
    redis.call('EXPIRE', key, ttl)
  else
    redis.call('PERSIST', key)
  end
end

for k, n in ipairs(held) do
  local i, key = 4 + (n - 1) * FIELDS, job_keys[k]
  local id, ttl, lock_at = ARGV[i], tonumber(ARGV[i + 4]), ARGV[i + 7]
  if any_gone and redis.call('EXISTS', key) == 0 then -- deleted while it ran: not brought back
    answers[n] = 0
  else
    answers[n], n_done, worked = 1, n_done + 1, worked + tonumber(ARGV[i + 3])
    if lock_at ~= '0' then
      unlock(KEYS[tonumber(lock_at)], id)
    end
    if ttl == 0 then
      doomed[#doomed + 1], doomed[#doomed + 2] = key, result_keys[k]
    else
      redis.call('HSET', key, 'status', 'finished', 'ended_at', ARGV[i + 2], 'acked', ARGV[i + 1])
      if ARGV[i + 6] ~= '' then
        redis.call('HDEL', key, ARGV[i + 6])
      end
      if ttl > 0 then
        redis.call('EXPIRE', key, ttl)
      end
      keep(result_keys[k], ARGV[i + 5], ttl)
      kept[#kept + 1], kept[#kept + 2] = ttl > 0 and now + ttl or '+inf', id
    end
  end
  members[k] = members[n]
end

if #doomed > 0 then
  redis.call('DEL', unpack(doomed))
end
forget(KEYS[2], now, 2 * #held)
if #kept > 0 then
  redis.call('ZADD', KEYS[2], unpack(kept))
end
if n_done > 0 then
  count(queue, 'finished', now, n_done)
  if redis.call('EXISTS', KEYS[3]) == 1 then
    redis.call('HINCRBY', KEYS[3], 'successful_job_count', n_done)
    redis.call('HINCRBYFLOAT', KEYS[3], 'total_working_time', string.format('%.6f', worked))
  end
end
redis.call('ZREM', KEYS[1], unpack(members, 1, #held))
for n, first in pairs(twins) do
  answers[n] = answers[first] == 1 and 2 or answers[first]
end
return answers
