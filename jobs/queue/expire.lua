--! include push.lua
--! include fence.lua
--! include unique.lua
--! include cancelled.lua
-- expire.lua: ends a claimed job that came too late to be started: cancelled, with the reason, and counted.
-- KEYS 1 rq:job:<id>  2 rq:wip:<q>
-- ARGV 1 job id  2 execution id  3 queue  4 now (s)  5 seconds to keep the job for its readers  6 reason
-- RETURNS 1 written, 2 had been ended by this execution, 0 lease lost and nothing written
-- COST O(log n)
local id, execution, queue, now = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local refusal = refused(KEYS[1], KEYS[2], id .. ':' .. execution, execution)
if refusal then
  return refusal
end
cancelled(id, queue, now, ARGV[5], ARGV[6])
count(queue, 'expired', now, 1)
return 1
