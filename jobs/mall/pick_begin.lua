--! include push.lua
--! include order.lua
--! include batch.lua
-- pick_begin.lua: the batch pick job takes a look at the next orders; they stay in the buffer until each is picked.
-- KEYS 1 turnstile:pick:job  2 turnstile:pick:buffer
-- ARGV 1 this job's id  2 how many orders at most  3 now (s)  4 worker  5 attempt
-- RETURNS a list of [order id, version, lines (JSON), trace], or nil when another job is the one that is due
-- COST O(n log m)
if not batch_due(KEYS[1], ARGV[1]) then
  return nil
end
local batch = {}
for _, id in ipairs(redis.call('LRANGE', KEYS[2], 0, ARGV[2] - 1)) do
  local status, lines, trace = unpack(redis.call('HMGET', order_key(id), 'status', 'lines', 'trace'))
  if status == 'accepted' or status == 'picking' then
    if status == 'accepted' then
      move(id, 'picking', ARGV[3])
    end
    open_attempt(id, 'pick', ARGV[5], ARGV[3], ARGV[4])
    batch[#batch + 1] = {id, touch(id, ARGV[3]), lines, trace or ''}
  else
    redis.call('LREM', KEYS[2], 1, id)
  end
end
return batch
