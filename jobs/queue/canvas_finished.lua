--! include push.lua
--! include fence.lua
--! include canvas.lua
-- canvas_finished.lua: a member has its result; what waits for it is started, or the canvas is finished.
-- KEYS 1 turnstile:canvas:<id>  2 zset of the guard
-- ARGV 1 node  2 result (JSON)  3 now (s)  4 guard's member
-- RETURNS 1 handed over, 0 the guard does not hold, the node was done before, or there is no such canvas
-- COST O(depth), plus the jobs of one hop; O(n) once for the list of a group's n results
local node = tonumber(ARGV[1])
local c = guarded(KEYS[2], ARGV[4]) and canvas_at(KEYS[1], ARGV[3])
local state = c and state_of(c, node)
if state == 's' then
  c.outstanding = c.outstanding - 1
elseif state == 'f' then
  revived(c, node)
else
  return 0
end
redis.call('HINCRBY', KEYS[1], 'done', 1)
if c.status == 'cancelled' then
  mark(c, node, 'd')
else
  complete(c, node, ARGV[2])
end
refill(c)
return 1
