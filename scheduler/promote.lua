--! include push.lua
-- promote.lua: moves due jobs from where they wait to their queues, in each set the longest due first.
-- The first set is rq-scheduler's; the definitions of periodic jobs in it stay and are returned, to be fired.
-- KEYS 1 turnstile:periodic  2 rq:scheduler:scheduled_jobs  3.. rq:scheduled:<q>
-- ARGV 1 now (s)  2 how many at most  3 seconds to put off a job that cannot be moved
--      4.. for each of KEYS 2.., the queue of a job that names none
-- RETURNS [entries looked at, jobs promoted, [definition, fire time, ...], ids of stock clients' periodic jobs,
--      [id that cannot be moved, error, ...]]
-- COST O(k + n log m) for k sets and n due
local now, limit, put_off = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local ENDED = {finished = true, failed = true, canceled = true, stopped = true, started = true}
local looked, promoted, definitions, once, broken = 0, 0, {}, {}, {}

local function move(set, id, score)
  local key = 'rq:job:' .. id
  if set == 2 and string.sub(id, 1, 5) == 'cron-' and redis.call('SISMEMBER', KEYS[1], string.sub(id, 6)) == 1 then
    definitions[#definitions + 1] = id
    definitions[#definitions + 1] = score
    return
  end
  local status, origin, front, meta = unpack(redis.call('HMGET', key, 'status', 'origin', 'enqueue_at_front', 'meta'))
  local queue = origin or ARGV[set + 2]
  if redis.call('EXISTS', key) == 1 and not ENDED[status] and not (status == 'queued' and waits(id, queue)) then
    push(id, queue, now, front == '1')
    promoted = promoted + 1
    if set == 2 and meta and (string.find(meta, '"interval":', 1, true) or string.find(meta, '"cron_string":', 1, true)) then
      once[#once + 1] = id
    end
  end
  redis.call('ZREM', KEYS[set], id)
end

for set = 2, #KEYS do
  local due = redis.call('ZRANGEBYSCORE', KEYS[set], '-inf', now, 'WITHSCORES', 'LIMIT', 0, limit - looked)
  for i = 1, #due, 2 do
    local ok, err = pcall(move, set, due[i], due[i + 1])
    if not ok then
      -- First, so that a write which Redis refuses altogether (full, read-only) ends the script with that error.
      redis.call('ZADD', KEYS[set], 'XX', now + put_off, due[i])
      broken[#broken + 1] = due[i]
      broken[#broken + 1] = type(err) == 'table' and err.err or tostring(err)
    end
    looked = looked + 1
  end
end
return {looked, promoted, definitions, once, broken}
