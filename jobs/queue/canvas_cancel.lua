--! include push.lua
--! include canvas.lua
-- canvas_cancel.lua: nothing more of a canvas is started. Its jobs that were are its caller's to cancel.
-- KEYS 1 turnstile:canvas:<id>
-- ARGV 1 now (s)
-- RETURNS the status that the canvas had before; empty when there is none
-- COST O(1)
local c = canvas_at(KEYS[1], ARGV[1])
if not c then
  return ''
end
local before = c.status
if before == 'running' or before == 'failed' then
  close(c, 'cancelled')
end
return before
