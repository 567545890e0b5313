-- progress.lua: writes how far a running job is, unless its lease was lost.
-- KEYS 1 rq:job:<id>  2 rq:wip:<q>
-- ARGV 1 job id:execution id, empty for a stock worker, which holds no fence  2 report (JSON)
-- RETURNS 1 written, 0 lease lost or job gone, and nothing written
-- COST O(1)
if redis.call('EXISTS', KEYS[1]) == 0 or (ARGV[1] ~= '' and not redis.call('ZSCORE', KEYS[2], ARGV[1])) then
  return 0
end
redis.call('HSET', KEYS[1], 'progress', ARGV[2])
return 1
