--! include push.lua
--! include order.lua
--! include batch.lua
-- accept.lua: accepts an order in one step: idempotency record, order, indexes, event, and the job that goes on with it.
-- KEYS 1 turnstile:idempotency:<...>  2 rq:scheduler:scheduled_jobs
-- ARGV 1 order id  2 fingerprint of the body  3 answer to repeat (JSON)  4 TTL of the record (s)  5 now (s)
--      6 order fields (JSON array)  7 due_at (s), empty for at once
--      8 job id  9 queue  10 fields of the job: the batch pick job, or with due_at the job that starts the order
-- RETURNS ['accepted'], ['replay', answer], or ['mismatch', order id] for another body under the same key
-- COST O(log n)
local id, now, due_at = ARGV[1], tonumber(ARGV[5]), tonumber(ARGV[7])
local fingerprint, answer, before = unpack(redis.call('HMGET', KEYS[1], 'fingerprint', 'answer', 'order_id'))
if fingerprint then
  if fingerprint == ARGV[2] then
    return {'replay', answer}
  end
  return {'mismatch', before}
end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[2], 'answer', ARGV[3], 'order_id', id)
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('HSET', order_key(id), unpack(cjson.decode(ARGV[6])))
redis.call('ZADD', 'turnstile:orders', now, id)
if due_at then
  redis.call('HSET', order_key(id), 'due_at', ARGV[7])
  move(id, 'scheduled', ARGV[5])
  hold(ARGV[8], ARGV[9], ARGV[10], due_at, KEYS[2])
else
  move(id, 'accepted', ARGV[5])
  redis.call('RPUSH', 'turnstile:pick:buffer', id)
  batch_want('turnstile:pick:job', ARGV[8], ARGV[9], ARGV[10], now)
end
return {'accepted'}
