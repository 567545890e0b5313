--! include push.lua
--! include fence.lua
--! include canvas.lua
-- canvas_redriven.lua: the dead letter of a failed member goes back to its queue.
-- KEYS 1 turnstile:canvas:<id>  2 zset of the guard
-- ARGV 1 node  2 now (s)  3 guard's member
-- RETURNS 1 noted, 0 the guard does not hold, the node has not failed, or there is no such canvas
-- COST O(log n)
local node = tonumber(ARGV[1])
local c = guarded(KEYS[2], ARGV[3]) and canvas_at(KEYS[1], ARGV[2])
if not c or state_of(c, node) ~= 'f' then
  return 0
end
revived(c, node)
mark(c, node, 's')
c.outstanding = c.outstanding + 1
keep(c)
return 1
