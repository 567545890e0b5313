--! include fence.lua
--! include order.lua
-- redriven.lua: effect: the order's dead letter goes back to its queue; the order goes on at the step that failed.
-- KEYS 1 turnstile:order:<id>  2 guard
-- ARGV 1 order id  2 job id  3 now (s)  4 guard's member
-- RETURNS 1 written, 0 not
-- COST O(log n)
if not guarded(KEYS[2], ARGV[4]) then
  return 0
end
return resume(ARGV[1], ARGV[2], ARGV[3]) and 1 or 0
