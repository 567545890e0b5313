-- fence.lua: library for every script that ends or moves a claimed job.
--
-- The member `job id:execution id` in rq:wip:<queue> is the fence: whoever removes it may write.

-- Takes the fence. nil: taken, go on. 2: this execution has ended the job before (its reply was lost).
-- 0: the lease was lost, somebody else has the job; write nothing.
local function refused(job_key, wip, member, execution)
  if redis.call('ZREM', wip, member) == 1 then
    if redis.call('EXISTS', job_key) == 0 then
      return 0
    end
    redis.call('HSET', job_key, 'acked', execution)
    return nil
  end
  return redis.call('HGET', job_key, 'acked') == execution and 2 or 0
end

-- The guard of an effect: empty member, or one that must still be in its zset while its job exists.
-- The job's own write follows in the same MULTI and begins with a ZREM, which no full memory refuses; nor may it
-- refuse the effect alone, hence the ZREM here, of nothing.
local function guarded(zset, member)
  redis.call('ZREM', zset, '')
  return member == '' or (redis.call('ZSCORE', zset, member) ~= false
    and redis.call('EXISTS', 'rq:job:' .. string.match(member, '^[^:]+')) == 1)
end
