--! include push.lua
-- claim.lua: moves up to n jobs from a queue straight into rq:wip, each with a lease and a fence.
-- At no moment is a job in neither list. Ids without a hash are dropped and counted.
-- KEYS 1 rq:queue:<q>  2 rq:wip:<q>  3 turnstile:paused:<q>  4 rq:suspended
-- ARGV 1 queue  2 now (s)  3 lease (s)  4 worker  5.. one execution id for each job wanted
-- RETURNS a list of [job id, execution id, flat job hash]; empty when there is nothing to do
-- COST O(n)
local queue, now, lease, worker = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
if redis.call('EXISTS', KEYS[3], KEYS[4]) > 0 then
  return {}
end
local claimed = {}
local started_at = iso(now)
for i = 5, #ARGV do
  local execution = ARGV[i]
  local id, hash
  repeat
    id = redis.call('LPOP', KEYS[1])
    hash = id and redis.call('HGETALL', 'rq:job:' .. id)
    if id and #hash == 0 then
      count(queue, 'dangling', now, 1)
    end
  until not id or #hash > 0
  if not id then
    break
  end
  redis.call('ZADD', KEYS[2], now + lease, id .. ':' .. execution)
  redis.call('HSET', 'rq:job:' .. id, 'status', 'started', 'started_at', started_at,
    'last_heartbeat', started_at, 'worker_name', worker)
  claimed[#claimed + 1] = {id, execution, hash}
end
return claimed
