--! include push.lua
-- requeue.lua: puts a queued job that is in no list back on its queue, in front. Looks everywhere itself, so a job that
-- turned up in the meantime stays where it is.
-- KEYS 1 rq:job:<id>  2 rq:queue:<q>  3 rq:queue:<q>:intermediate  4 rq:wip:<q>  5.. sets of delayed jobs
-- ARGV 1 job id  2 queue  3 now (s)
-- RETURNS 1 requeued, 0 it is somewhere, has ended or does not exist; then its entry in :intermediate is removed too
-- COST O(n) in the queue's length and the jobs that run
local id = ARGV[1]
local status = redis.call('HGET', KEYS[1], 'status')
local found = status ~= 'queued' or redis.call('LPOS', KEYS[2], id)
for i = 5, #KEYS do
  found = found or redis.call('ZSCORE', KEYS[i], id)
end
if not found then
  local prefix = id .. ':'
  for _, member in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
    if string.sub(member, 1, #prefix) == prefix then
      found = true
      break
    end
  end
end
redis.call('LREM', KEYS[3], 0, id)
if found then
  return 0
end
push(id, ARGV[2], tonumber(ARGV[3]), true)
return 1
