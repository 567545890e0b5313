--! include push.lua
--! include order.lua
-- cancel.lua: cancels an order whose delivery has not begun and gives back its stock.
-- KEYS 1 turnstile:order:<id>  2 turnstile:pick:buffer  3 rq:scheduler:scheduled_jobs
-- ARGV 1 order id  2 now (s)  3 id of the job that would start a delayed order
-- RETURNS 'cancelled' (now or before), or the status that forbids it, or nil for no such order
-- COST O(length of the buffer)
local id = ARGV[1]
local status = redis.call('HGET', KEYS[1], 'status')
if not status or status == 'cancelled' then
  return status
end
if ENDED[status] or status == 'delivering' then
  return status
end
if status == 'scheduled' then
  redis.call('ZREM', KEYS[3], ARGV[3])
  redis.call('DEL', 'rq:job:' .. ARGV[3])
end
redis.call('LREM', KEYS[2], 0, id)
settle_stock(id, 'release')
close_attempt(id, ARGV[2], 'the order was cancelled')
move(id, 'cancelled', ARGV[2])
return 'cancelled'
