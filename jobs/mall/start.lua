--! include push.lua
--! include order.lua
--! include batch.lua
-- start.lua: a delayed order's time has come: it joins the pick buffer.
-- KEYS 1 turnstile:order:<id>
-- ARGV 1 order id  2 now (s)  3 pick job id  4 queue  5 fields
-- RETURNS 1 started, 0 it is not waiting (any more)
-- COST O(log n)
if redis.call('HGET', KEYS[1], 'status') ~= 'scheduled' then
  return 0
end
move(ARGV[1], 'accepted', ARGV[2])
redis.call('RPUSH', 'turnstile:pick:buffer', ARGV[1])
batch_want('turnstile:pick:job', ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[2]))
return 1
