--! include push.lua
--! include fence.lua
--! include order.lua
-- told.lua: a change of an order was told to its receiver, or will not be; the next one's turn. Also the effect of the job's end.
-- KEYS 1 turnstile:order:<id>  2 turnstile:order:<id>:notices  3 guard, of an effect
-- ARGV 1 what: 'told', 'died' (kept for a redrive), 'discarded', or 'refused' (the receiver wants no more of this order)
--      2 order id  3 version of the change  4 now (s)  5 guard's member, of an effect
-- RETURNS 1 written, 0 not
-- COST O(log n)
local what, id, version, now = unpack(ARGV)
if KEYS[3] and not guarded(KEYS[3], ARGV[5]) then
  return 0
end
if what == 'refused' then
  redis.call('DEL', KEYS[2])
  redis.call('HDEL', KEYS[1], 'notify', 'telling')
  redis.call('ZREM', 'turnstile:notices', id)
elseif what ~= 'died' then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], version, version)
end
tell_next(id, version, now)
return 1
