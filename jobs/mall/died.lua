--! include fence.lua
--! include order.lua
-- died.lua: effect: the order's job becomes a dead letter, and the order dead.
-- KEYS 1 turnstile:order:<id>  2 guard
-- ARGV 1 order id  2 job id  3 error  4 now (s)  5 guard's member
-- RETURNS 1 written, 0 not
-- COST O(log n)
if not guarded(KEYS[2], ARGV[5]) then
  return 0
end
return die(ARGV[1], ARGV[2], ARGV[3], ARGV[4]) and 1 or 0
