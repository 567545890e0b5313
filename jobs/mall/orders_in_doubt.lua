-- orders_in_doubt.lua: of open orders, those that are not led on by just one thing, as far as a glance tells: what looks
-- closely, and heals, is heal_order.lua.
-- KEYS 1 rq:scheduler:scheduled_jobs  2.. rq:scheduled:<q> of the steps pick, pack and deliver
-- ARGV for each order: its id, and five digits: how often it stands in the pick buffer, and how often the jobs that start, pick,
--      pack and deliver it wait in the lists of their queues or are claimed (9: so often or more)
-- RETURNS [order id, its status or '', ...]
-- COST O(orders)
local LED_BY = {
  scheduled = {'-start', 2, KEYS[2]},
  accepted = {'-pick', 3, KEYS[2]},
  picking = {'-pick', 3, KEYS[2]},
  packing = {'-pack', 4, KEYS[3]},
  delivering = {'-deliver', 5, KEYS[4]},
}
local doubtful = {}

local function led(id, status, digits)
  local suffix, place, delayed = unpack(LED_BY[status] or {})
  if not suffix then
    return false
  end
  local n, buffered = tonumber(string.sub(digits, place, place)), 0
  if place == 3 then
    buffered = tonumber(string.sub(digits, 1, 1))
  end
  if n + buffered == 0 and (redis.call('ZSCORE', KEYS[1], id .. suffix) or redis.call('ZSCORE', delayed, id .. suffix)) then
    n = 1
  end
  return n + buffered == 1 and (n == 0 or redis.call('EXISTS', 'rq:job:' .. id .. suffix) == 1)
end

for i = 1, #ARGV, 2 do
  local status = redis.call('HGET', 'turnstile:order:' .. ARGV[i], 'status') or ''
  if not led(ARGV[i], status, ARGV[i + 1]) then
    doubtful[#doubtful + 1] = ARGV[i]
    doubtful[#doubtful + 1] = status
  end
end
return doubtful
