--! include push.lua
--! include batch.lua
-- batch_add.lua: adds items to a batch, each once, and a job if none is due. A job that is held for more to come is released
-- when a batch is full.
-- KEYS 1 turnstile:batch:<name>  2 turnstile:batch:<name>:ids  3 turnstile:batch:<name>:job
-- ARGV 1 now (s)  2 items that are a full batch  3 how long a job is held for more to come (s)  4 job id  5 queue  6 fields
--      7.. for each item: its id, the id of its job, the entry: id, space, JSON
-- RETURNS how many were new: neither waiting nor known as a job
-- COST O(items)
local now, full, new = tonumber(ARGV[1]), tonumber(ARGV[2]), 0
for i = 7, #ARGV, 3 do
  if redis.call('EXISTS', 'rq:job:' .. ARGV[i + 1]) == 0 and redis.call('SADD', KEYS[2], ARGV[i]) == 1 then
    redis.call('RPUSH', KEYS[1], ARGV[i + 2])
    new = new + 1
  end
end
local waiting = redis.call('LLEN', KEYS[1])
if new > 0 then
  batch_want(KEYS[3], ARGV[4], ARGV[5], ARGV[6], now, tonumber(ARGV[3]))
end
if waiting >= full and waiting - new < full then
  local due = redis.call('GET', KEYS[3])
  if redis.call('ZREM', 'rq:scheduled:' .. ARGV[5], due) == 1 then
    push(due, ARGV[5], now, false)
  end
end
return new
