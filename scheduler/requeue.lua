--! include push.lua
-- requeue.lua: puts a queued job that is nowhere - in no list, no set of delayed jobs, with no worker - back on its queue,
-- in front. Looks everywhere itself, so a job that turned up in the meantime stays where it is.
-- KEYS 1 rq:job:<id>  2 rq:queue:<q>:intermediate  3 rq:wip:<q>  4.. sets of delayed jobs
-- ARGV 1 job id  2 queue  3 now (s)  4 '1' to requeue it, '0' to look only
-- RETURNS 1 it is nowhere, 0 it is somewhere, has ended or does not exist
-- COST O(n) in the queue's length and the jobs that run
local id, act = ARGV[1], ARGV[4] == '1'
local found = redis.call('HGET', KEYS[1], 'status') ~= 'queued' or waits(id, ARGV[2])
for i = 4, #KEYS do
  found = found or redis.call('ZSCORE', KEYS[i], id)
end
for _, member in ipairs(found and {} or redis.call('ZRANGE', KEYS[3], 0, -1)) do
  found = found or string.sub(member, 1, #id + 1) == id .. ':'
end
if found then
  return 0
end
if act then
  redis.call('LREM', KEYS[2], 0, id)
  push(id, ARGV[2], tonumber(ARGV[3]), true)
end
return 1
