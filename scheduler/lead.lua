-- lead.lua: takes the leader's lease when it is free, renews it when it is the caller's, and notes what the leader has done.
-- The lease is rq-scheduler's own lock, so that a stock `rqscheduler` process stands aside. The epoch changes whenever the lease
-- changes hands; also when Redis has come back without its last writes, so that no two leaders ever have the same.
-- KEYS 1 rq:scheduler_lock  2 turnstile:scheduler:epoch  3 turnstile:scheduler
-- ARGV 1 token  2 lease (ms)  3 the caller's epoch, empty if it has none  4 name  5 pid  6.. counter, how many more, ...
-- RETURNS ['', ms until the lease of the one that leads runs out] or [the caller's epoch `<number>:<token>`, lease (ms)]
-- COST O(1)
local holder, known = redis.call('GET', KEYS[1]), ARGV[3]
if holder and holder ~= ARGV[1] then
  return {'', redis.call('PTTL', KEYS[1])}
end
-- First, also where there is no lease: only moves an expiry, which no full memory refuses, nor then what follows.
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local epoch = redis.call('GET', KEYS[2]) or ''
if not holder then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
if not holder or epoch ~= known then
  local number = math.max(tonumber(string.match(epoch, '^%d+') or 0), tonumber(string.match(known, '^%d+') or 0)) + 1
  epoch = string.format('%d:%s', number, ARGV[1])
  redis.call('SET', KEYS[2], epoch)
end
local seconds, micros = unpack(redis.call('TIME'))
redis.call('HSET', KEYS[3], 'heartbeat_at', string.format('%d.%06d', seconds, micros), 'name', ARGV[4], 'pid', ARGV[5],
  'epoch', string.match(epoch, '^%d+'))
for i = 6, #ARGV, 2 do
  redis.call('HINCRBY', KEYS[3], ARGV[i], ARGV[i + 1])
end
return {epoch, tonumber(ARGV[2])}
