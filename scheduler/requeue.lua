--! include push.lua
-- requeue.lua: puts a queued job that is nowhere - in no list, no set of delayed jobs, with no worker - back on its queue,
-- in front. Looks everywhere itself, so a job that turned up in the meantime stays where it is; it is asked twice, and a job
-- that was enqueued in between is another matter. An id parked in `:intermediate` that leads to no queued job is removed.
-- KEYS 1 rq:job:<id>  2 rq:queue:<q>:intermediate  3 rq:wip:<q>  4.. sets of delayed jobs
-- ARGV 1 job id  2 queue  3 now (s)  4 what the first look returned; empty for that look
-- RETURNS when it was enqueued, if it is nowhere (and '-' if that is not known); else nil: it is somewhere, has ended, is gone
-- COST O(n) in the queue's length and the jobs that run; O(1) for a job that is not queued
local id, since = ARGV[1], ARGV[4]
local status, enqueued_at = unpack(redis.call('HMGET', KEYS[1], 'status', 'enqueued_at'))
if (status or redis.call('EXISTS', KEYS[1]) == 0) and status ~= 'queued' then
  redis.call('LREM', KEYS[2], 0, id)
  return nil
end
for i = 4, #KEYS do
  if redis.call('ZSCORE', KEYS[i], id) then
    return nil
  end
end
for _, member in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  if string.sub(member, 1, #id + 1) == id .. ':' then
    return nil
  end
end
if waits(id, ARGV[2]) then
  return nil
end
enqueued_at = enqueued_at and enqueued_at ~= '' and enqueued_at or '-'
if since == enqueued_at then
  redis.call('LREM', KEYS[2], 0, id)
  push(id, ARGV[2], tonumber(ARGV[3]), true)
end
return enqueued_at
