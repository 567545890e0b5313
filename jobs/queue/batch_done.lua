--! include push.lua
--! include batch.lua
-- batch_done.lua: writes the outcome of every item of a batch: it waits no more, and its result is kept as that of a job,
-- or it goes on as a job of its own. Then the next batch job takes this one's place while items wait.
-- KEYS 1 turnstile:batch:<name>  2 turnstile:batch:<name>:ids  3 turnstile:batch:<name>:job
-- ARGV 1 this job's id  2 now (s)  3 items that are a full batch  4 how long a job is held for more to come (s)
--      5 next job's id  6 queue  7 fields  8 how long results are kept (s; -1: for ever)  9 worker
--      10.. for each item: its id, its entry, then of its job: id, queue, fields (JSON array; empty: done, nothing is kept),
--      due_at (s; empty: done), result (base64 of JSON; empty for none)
-- RETURNS how many items were written; 0 when this job is not due
-- COST O(n log m)
if not batch_due(KEYS[3], ARGV[1]) then
  return 0
end
local now, ttl, written = tonumber(ARGV[2]), tonumber(ARGV[8]), 0

local function keep(id, queue, fields, result)
  if create(id, fields, 'status', 'finished', 'ended_at', iso(now), 'worker_name', ARGV[9]) then
    local results = 'rq:results:' .. id
    redis.call('XADD', results, '*', 'type', 1, 'worker_name', ARGV[9], unpack(result ~= '' and {'return_value', result} or {}))
    if ttl > 0 then
      redis.call('EXPIRE', 'rq:job:' .. id, ttl)
      redis.call('EXPIRE', results, ttl)
    end
    redis.call('ZADD', 'rq:finished:' .. queue, ttl > 0 and now + ttl or '+inf', id)
  end
end

for i = 10, #ARGV, 7 do
  local item, entry, id, queue, fields, due_at, result = unpack(ARGV, i, i + 6)
  if redis.call('LREM', KEYS[1], 1, entry) == 1 then
    redis.call('SREM', KEYS[2], item)
    written = written + 1
    if due_at ~= '' and tonumber(due_at) > now then
      hold(id, queue, fields, due_at, 'rq:scheduled:' .. queue)
    elseif due_at ~= '' then
      enqueue(id, queue, fields, now)
    elseif fields ~= '' then
      keep(id, queue, fields, result)
    end
  end
end
local linger = redis.call('LLEN', KEYS[1]) < tonumber(ARGV[3]) and tonumber(ARGV[4]) or 0
batch_next(KEYS[3], KEYS[1], ARGV[5], ARGV[6], ARGV[7], now, linger)
return written
