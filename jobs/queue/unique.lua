-- unique.lua: library: the lock of a unique job, a string that holds the id of the job that has it.
--
-- A lock whose job has ended, or is gone, is free: whatever ended it (a stock worker, a deletion) may have left the lock.

local UNIQUE_DAYS = 30 -- bounds the life of a lock that nobody frees and of a job that nobody runs
local UNFINISHED = {created = true, queued = true, started = true, scheduled = true, deferred = true}

-- Takes the lock for a job that starts in `ahead` seconds; returns the id of the job that has it instead.
-- `lasts` is 'done' or seconds.
local function lock(key, id, lasts, ahead)
  local holder = redis.call('GET', key)
  if holder and (lasts ~= 'done' or holder ~= id and UNFINISHED[redis.call('HGET', 'rq:job:' .. holder, 'status')]) then
    return holder
  end
  local ttl = lasts == 'done' and math.ceil(math.max(0, ahead) + UNIQUE_DAYS * 86400) * 1000 or math.ceil(lasts * 1000)
  redis.call('SET', key, id, 'PX', string.format('%d', ttl))
  return nil
end

-- Frees the lock, if it is the job's own and lasts until the job has ended.
local function unlock(key, id)
  if key and redis.call('GET', key) == id then
    redis.call('DEL', key)
  end
end
