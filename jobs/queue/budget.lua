-- budget.lua: adds what a worker saw of a task's executions to the window that all workers share.
-- KEYS 1 turnstile:outcomes:<task>
-- ARGV 1 now (s)  2 succeeded  3 failed  4 width of a bucket (s)  5 buckets in the window
-- RETURNS [succeeded, failed] in the window
-- COST O(buckets)
local now, width, buckets = tonumber(ARGV[1]), tonumber(ARGV[4]), tonumber(ARGV[5])
local current = math.floor(now / width)
redis.call('HINCRBY', KEYS[1], 'ok:' .. current, ARGV[2])
redis.call('HINCRBY', KEYS[1], 'failed:' .. current, ARGV[3])
redis.call('EXPIRE', KEYS[1], math.ceil(width * (buckets + 1)))
local ok, failed = 0, 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local what, bucket = string.match(all[i], '^(%a+):(%d+)$')
  if tonumber(bucket) <= current - buckets then
    redis.call('HDEL', KEYS[1], all[i])
  elseif what == 'ok' then
    ok = ok + tonumber(all[i + 1])
  else
    failed = failed + tonumber(all[i + 1])
  end
end
return {ok, failed}
