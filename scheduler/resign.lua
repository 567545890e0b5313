-- resign.lua: gives the leader's lease back, if it is the caller's.
-- KEYS 1 rq:scheduler_lock
-- ARGV 1 token
-- RETURNS 1 given back, 0 another one has it, or nobody
-- COST O(1)
return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0
