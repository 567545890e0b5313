--! include push.lua
--! include fence.lua
-- release.lua: a worker hands a claimed job back unfinished; no attempt is burned, it is the next to be claimed.
-- KEYS 1 rq:job:<id>  2 rq:wip:<q>
-- ARGV 1 job id  2 execution id  3 queue  4 now (s)
-- RETURNS 1 handed back, 2 had been ended by this execution, 0 lease lost and nothing written
-- COST O(log n)
local id, execution, queue, now = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local refusal = refused(KEYS[1], KEYS[2], id .. ':' .. execution, execution)
if refusal then
  return refusal
end
redis.call('HDEL', KEYS[1], 'started_at', 'worker_name')
push(id, queue, now, true)
return 1
