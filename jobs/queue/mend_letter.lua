-- mend_letter.lua: a letter in our index of dead letters, or in RQ's failed registry, that is not in both and in its group. Writes
-- nothing: forget.lua and adopt.lua mend.
-- KEYS 1 rq:job:<id>  2 turnstile:dead
-- ARGV 1 of no meaning  2 the queue in whose failed registry it should be adopted from; '' for a letter in our index
--      3 a job that ended after this instant (as RQ writes it) is the scheduler's to adopt
-- RETURNS 1 or 0
-- COST O(log n)
local id, queue = string.sub(KEYS[1], 8), ARGV[2]
local died_at = redis.call('ZSCORE', KEYS[2], id)
local status, ended_at, origin, group
if redis.call('TYPE', KEYS[1]).ok == 'hash' then
  status, ended_at, origin, group = unpack(redis.call('HMGET', KEYS[1], 'status', 'ended_at', 'origin', 'group'))
end
origin, group = queue ~= '' and queue or origin or '', group or ''
local failed = redis.call('ZSCORE', 'rq:failed:' .. origin, id)
if queue ~= '' then
  return failed and not died_at and status and not (ended_at and ended_at > ARGV[3]) and 1 or 0
end
return died_at and not (failed and redis.call('ZSCORE', 'turnstile:dead:group:' .. group, id)) and 1 or 0
