--! include trail.lua
-- redrive_open.lua: writes down that many dead letters are to be redriven or discarded, and which: those that are there now.
-- KEYS 1 turnstile:redrive:<r>  2 turnstile:redrive:<r>:letters  3 turnstile:dead or a group of it  4 turnstile:redrives
-- ARGV 1 id  2 now (s)  3 redrive or discard  4 group, empty for all  5 letters a second, empty for no limit
--      6 keyword arguments (JSON), empty to keep them  7 who  8 how many may be open
-- RETURNS how many letters, also when it was open before (the reply was lost); -1 when too many are open
-- COST O(n log n) in the letters
local id, now, action, group = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local known = redis.call('HGET', KEYS[1], 'total')
if known then
  return tonumber(known)
end
if redis.call('ZCOUNT', KEYS[4], '+inf', '+inf') >= tonumber(ARGV[8]) then
  return -1
end
local total = redis.call('ZUNIONSTORE', KEYS[2], 1, KEYS[3])
redis.call('HSET', KEYS[1], 'action', action, 'group', group, 'rate_per_s', ARGV[5], 'kwargs', ARGV[6], 'by', ARGV[7],
  'requested_at', now, 'next_at', now, 'total', total, 'done', 0, 'refused', 0, 'state', 'open')
redis.call('ZADD', KEYS[4], '+inf', id)
note(now, action .. ' group', ARGV[7], group == '' and 'all' or group)
return total
