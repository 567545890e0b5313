--! include push.lua
--! include fence.lua
--! include canvas.lua
-- canvas_told.lua: a canvas is told what happened to a member, or that it is cancelled. Told twice it changes nothing more.
-- KEYS 1 turnstile:canvas:<id>  2 zset of the guard
-- ARGV 1 what: 'finished', 'ended' (without a result: the canvas has failed, the others go on), 'redriven', 'lost' (a member
--        without a job gets a new one), or 'cancelled' (nothing more is started; its jobs are its caller's to cancel)
--      2 node; of no meaning when the canvas is cancelled  3 result (JSON), or how the member ended and why  4 now (s)
--      5 guard's member, empty for none
-- RETURNS the status that the canvas had; empty when there is no such canvas, the guard does not hold, or the node is not at work
-- COST O(depth), plus the jobs of one hop; O(n) once for the list of a group's n results
local what, node = ARGV[1], tonumber(ARGV[2])
local c = guarded(KEYS[2], ARGV[5]) and canvas_at(KEYS[1], ARGV[4])
if not c then
  return ''
end
local before, is_open = c.status, c.status == 'running' or c.status == 'failed'
if what == 'cancelled' then
  if is_open then
    close(c, what)
  end
  return before
end
local state = state_of(c, node)
if state ~= 'f' and (state ~= 's' or what == 'redriven')
    or what == 'lost' and not (is_open and redis.call('EXISTS', 'rq:job:' .. c.id .. '-' .. node) == 0) then
  return ''
end
if state == 's' then
  c.outstanding = c.outstanding - 1
else
  revived(c, node)
end
if what == 'ended' then
  failed(c, node, ARGV[3])
elseif what == 'redriven' then
  mark(c, node, 's')
  c.outstanding = c.outstanding + 1
elseif what == 'lost' then
  begin(c, node)
else
  redis.call('HINCRBY', c.key, 'done', 1)
  if is_open then
    complete(c, node, ARGV[3])
  else
    mark(c, node, 'd')
  end
end
refill(c)
return before
