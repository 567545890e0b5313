--! include push.lua
--! include order.lua
--! include batch.lua
-- accept.lua: accepts orders that came together, each all or nothing: idempotency record, order, indexes, event, and the job
-- that goes on with it. It writes what `move` in order.lua would, but the indexes of all of them at once.
-- KEYS 1 rq:scheduler:scheduled_jobs  2.. turnstile:idempotency:<...>, one an order
-- ARGV 1 now (s)  2 TTL of the records (s)  3 id, 4 queue, 5 fields of the batch pick job  6.. for each order: id, record,
--      due_at (s) or empty for at once, what is told of (`note`) 1 or 0, then id, queue, fields of the job that starts it when it is
--      due, and how many of the next are its hash: field, value, field, value, ...
-- RETURNS for each order 1 accepted, or the record that its key has had before
-- COST O(n log m)
local now, ttl, i = ARGV[1], ARGV[2], 6
local answers, all, ready, listed = {}, {}, {}, {accepted = {}, scheduled = {}}
for n = 2, #KEYS do
  local id, due_at, told, parts = ARGV[i], tonumber(ARGV[i + 2]), ARGV[i + 3], tonumber(ARGV[i + 7])
  if redis.call('SET', KEYS[n], ARGV[i + 1], 'NX', 'EX', ttl) then
    local status = due_at and 'scheduled' or 'accepted'
    redis.call('HSET', order_key(id), 'status', status, 'version', 1, 'updated_at', now, unpack(ARGV, i + 8, i + 7 + parts))
    redis.call('XADD', 'turnstile:events', 'MAXLEN', '~', 10000, '*', 'order', id, 'status', status, 'at', now)
    all[#all + 1], all[#all + 2] = now, id
    local of = listed[status]
    of[#of + 1], of[#of + 2] = now, id
    if due_at then
      hold(ARGV[i + 4], ARGV[i + 5], ARGV[i + 6], due_at, KEYS[1])
    else
      ready[#ready + 1] = id
    end
    if told == '1' then
      note(id, 1, now)
    end
    answers[n - 1] = 1
  else
    answers[n - 1] = redis.call('GET', KEYS[n])
  end
  i = i + 8 + parts
end
if #all > 0 then
  redis.call('ZADD', 'turnstile:orders', unpack(all))
  redis.call('ZADD', 'turnstile:orders:open', unpack(all))
end
for status, of in pairs(listed) do
  if #of > 0 then
    redis.call('ZADD', 'turnstile:orders:status:' .. status, unpack(of))
  end
end
if #ready > 0 then
  redis.call('RPUSH', 'turnstile:pick:buffer', unpack(ready))
  batch_want('turnstile:pick:job', ARGV[3], ARGV[4], ARGV[5], tonumber(now))
end
return answers
