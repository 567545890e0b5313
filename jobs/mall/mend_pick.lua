-- mend_pick.lua: a place in the pick buffer of an order that does not wait to be picked.
-- KEYS 1 turnstile:order:<id>  2 turnstile:pick:buffer
-- ARGV 1 '1' to give it up  2 order id
-- RETURNS 1 it does not wait, 0 it does, or has no place there
-- COST O(length of the buffer)
local status = redis.call('HGET', KEYS[1], 'status')
if status == 'accepted' or status == 'picking' or not redis.call('LPOS', KEYS[2], ARGV[2]) then
  return 0
end
if ARGV[1] == '1' then
  redis.call('LREM', KEYS[2], 0, ARGV[2])
end
return 1
