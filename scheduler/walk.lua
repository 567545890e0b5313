-- walk.lua: the next part of all jobs: which of them say that they wait in a queue. Those that belong to a state (an order, a
-- buffer) are left out, since the reconciler knows more of them; so is what rq-scheduler holds, which was never enqueued.
-- ARGV 1 cursor, 0 to begin  2 how many keys to look at, about
-- RETURNS [next cursor, 0 at the end; job id, queue, job id, queue, ...]
-- COST O(n)
local cursor, keys = unpack(redis.call('SCAN', ARGV[1], 'MATCH', 'rq:job:*', 'COUNT', ARGV[2]))
local queued = {}
for _, key in ipairs(keys) do
  local job = redis.pcall('HMGET', key, 'status', 'enqueued_at', 'owned', 'origin') -- RQ has other keys of this pattern
  if job[1] == 'queued' and job[2] and job[2] ~= '' and not job[3] then
    queued[#queued + 1] = string.sub(key, 8)
    queued[#queued + 1] = job[4] or 'default'
  end
end
return {cursor, queued}
