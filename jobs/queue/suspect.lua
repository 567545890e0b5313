-- suspect.lua: a job that has crashed almost too often begins again: a crash now is charged to it.
-- KEYS 1 rq:job:<id>  2 rq:wip:<q>
-- ARGV 1 job id  2 execution id
-- RETURNS 1 noted, 0 the lease is lost
-- COST O(1)
redis.call('ZREM', KEYS[2], '') -- of nothing: no full memory refuses it, nor what follows the first write of a script
if not redis.call('ZSCORE', KEYS[2], ARGV[1] .. ':' .. ARGV[2]) or redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[1], 'begun', ARGV[2])
return 1
