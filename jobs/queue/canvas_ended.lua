--! include push.lua
--! include fence.lua
--! include canvas.lua
-- canvas_ended.lua: a member ended without a result. The canvas has failed, the others go on.
-- KEYS 1 turnstile:canvas:<id>  2 zset of the guard
-- ARGV 1 node  2 how it ended and why  3 now (s)  4 guard's member
-- RETURNS 1 noted, 0 the guard does not hold, the node is not at work, or there is no such canvas
-- COST O(log n), plus the jobs of one hop
local node = tonumber(ARGV[1])
local c = guarded(KEYS[2], ARGV[4]) and canvas_at(KEYS[1], ARGV[3])
local state = c and state_of(c, node)
if state == 'f' then
  redis.call('HSET', KEYS[1] .. ':results', node, ARGV[2])
elseif state == 's' then
  c.outstanding = c.outstanding - 1
  failed(c, node, ARGV[2])
  refill(c)
else
  return 0
end
return 1
