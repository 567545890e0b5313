--! include push.lua
--! include order.lua
-- pick_end.lua: picks one order: reserves its stock, or rejects it, and hands it on to packing.
-- A SKU that was never put is not tracked and always available.
-- KEYS 1 turnstile:order:<id>  2 turnstile:pick:buffer
-- ARGV 1 order id  2 version  3 now (s)  4 quantities by SKU (JSON object)  5 pack job id  6 queue  7 fields
-- RETURNS 'packing', 'rejected', or 'stale' when the order has moved on and nothing was written
-- COST O(SKUs of the order + length of the buffer)
local id, now = ARGV[1], ARGV[3]
local status, version = unpack(redis.call('HMGET', KEYS[1], 'status', 'version'))
if status ~= 'picking' or version ~= ARGV[2] then
  return 'stale'
end
local tracked, short = {}, {}
for sku, quantity in pairs(cjson.decode(ARGV[4])) do
  local on_hand, reserved = unpack(redis.call('HMGET', 'turnstile:stock:' .. sku, 'on_hand', 'reserved'))
  if on_hand then
    if tonumber(on_hand) - tonumber(reserved or 0) < quantity then
      short[#short + 1] = sku
    end
    tracked[sku] = quantity
  end
end
redis.call('LREM', KEYS[2], 1, id)
if #short > 0 then
  table.sort(short)
  local reason = 'out of stock: ' .. table.concat(short, ', ')
  close_attempt(id, now, nil)
  redis.call('HSET', KEYS[1], 'reason', reason)
  move(id, 'rejected', now)
  return 'rejected'
end
for sku, quantity in pairs(tracked) do
  redis.call('HINCRBY', 'turnstile:stock:' .. sku, 'reserved', quantity)
end
if next(tracked) then
  redis.call('HSET', KEYS[1], 'reserved', cjson.encode(tracked))
end
close_attempt(id, now, nil)
redis.call('HSET', KEYS[1], 'step', 'pack')
move(id, 'packing', now)
enqueue(ARGV[5], ARGV[6], ARGV[7], tonumber(now))
return 'packing'
