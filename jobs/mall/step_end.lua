--! include push.lua
--! include order.lua
-- step_end.lua: a step of one order succeeded: new state, and the job of the next step.
-- KEYS 1 turnstile:order:<id>
-- ARGV 1 order id  2 version  3 now (s)  4 new status  5 next step, empty for none  6 further fields (JSON array)
--      7 'consume' uses up the reserved stock, empty leaves it  8 next job id, empty for none  9 queue  10 fields
-- RETURNS 1 written, 0 the order has moved on and nothing was written
-- COST O(log n)
local BEFORE = {delivering = 'packing', delivered = 'delivering'}
local id, now = ARGV[1], ARGV[3]
local status, version = unpack(redis.call('HMGET', KEYS[1], 'status', 'version'))
-- The version alone does not tell: in a Redis that has come back older, an earlier step may reach it a second time.
if status ~= BEFORE[ARGV[4]] or version ~= ARGV[2] then
  return 0
end
local fields = cjson.decode(ARGV[6])
if #fields > 0 then
  redis.call('HSET', KEYS[1], unpack(fields))
end
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[1], 'step', ARGV[5])
end
if ARGV[7] == 'consume' then
  settle_stock(id, 'consume')
end
close_attempt(id, now, nil)
move(id, ARGV[4], now)
if ARGV[8] ~= '' then
  enqueue(ARGV[8], ARGV[9], ARGV[10], tonumber(now))
end
return 1
