--! include push.lua
--! include canvas.lua
-- canvas_restart.lua: gives a member whose job is gone from Redis a new one.
-- KEYS 1 turnstile:canvas:<id>
-- ARGV 1 node  2 now (s)
-- RETURNS 1 started again, 0 it has a job, it is not at work, or the canvas is over
-- COST O(depth)
local node = tonumber(ARGV[1])
local c = canvas_at(KEYS[1], ARGV[2])
local state = c and (c.status == 'running' or c.status == 'failed') and state_of(c, node)
if (state ~= 's' and state ~= 'f') or redis.call('EXISTS', 'rq:job:' .. c.id .. '-' .. node) == 1 then
  return 0
end
if state == 's' then
  c.outstanding = c.outstanding - 1
else
  revived(c, node)
end
begin(c, node)
keep(c)
return 1
