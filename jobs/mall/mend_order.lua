--! include order.lua
-- mend_order.lua: the indexes of an order that do not say what its hash says.
-- KEYS 1 turnstile:order:<id>  2 turnstile:orders  3 turnstile:orders:open  4.. turnstile:orders:status:<status> of every status
-- ARGV 1 '1' to make them say it  2 order id
-- RETURNS 'order-fragment' (a hash without status and lines, which is deleted), 'order-gone' (an index leads to no order),
--      'order-unlisted' (the index of all orders lacks it), 'order-index' (its status, or whether it is open), '' when all is well
-- COST O(log n)
local id, act = ARGV[2], ARGV[1] == '1'
local status, created_at, updated_at = unpack(redis.call('HMGET', KEYS[1], 'status', 'created_at', 'updated_at'))
local own = status and 'turnstile:orders:status:' .. status
local listed, open, wrong = redis.call('ZSCORE', KEYS[2], id), redis.call('ZSCORE', KEYS[3], id), false
for i = 4, #KEYS do
  local is_here = redis.call('ZSCORE', KEYS[i], id) and true or false
  local belongs = KEYS[i] == own
  if is_here ~= belongs then
    wrong = true
    if act and belongs then
      redis.call('ZADD', KEYS[i], updated_at, id)
    elseif act then
      redis.call('ZREM', KEYS[i], id)
    end
  end
end
if not status and redis.call('EXISTS', KEYS[1]) == 1 and redis.call('HEXISTS', KEYS[1], 'lines') == 0 then
  if act then
    redis.call('DEL', KEYS[1])
  end
  return 'order-fragment'
elseif not status then
  if act then
    redis.call('ZREM', KEYS[2], id)
    redis.call('ZREM', KEYS[3], id)
  end
  return (listed or open or wrong) and 'order-gone' or ''
end
local is_open = not ENDED[status]
if act and not listed then
  redis.call('ZADD', KEYS[2], created_at, id)
end
if act and is_open and not open then
  redis.call('ZADD', KEYS[3], updated_at, id)
elseif act and open and not is_open then
  redis.call('ZREM', KEYS[3], id)
end
if not listed then
  return 'order-unlisted'
end
return (wrong or is_open ~= (open and true or false)) and 'order-index' or ''
