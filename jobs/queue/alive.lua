-- alive.lua: library, after push.lua: does a job exist in a list that leads to its being run? Needs push.lua.

local function leased(queue, id)
  for _, member in ipairs(redis.call('ZRANGE', 'rq:wip:' .. queue, 0, -1)) do
    if string.sub(member, 1, #id + 1) == id .. ':' then
      return true
    end
  end
  return false
end

-- 'live', 'failed' (a dead letter), 'lost' (it has a hash, but nothing leads to it) or 'missing' (no hash).
local function condition(id, queue)
  local key = 'rq:job:' .. id
  local status = redis.call('HGET', key, 'status')
  if not status then
    return 'missing'
  end
  if status == 'failed' and redis.call('ZSCORE', 'rq:failed:' .. queue, id) then
    return 'failed'
  end
  if redis.call('ZSCORE', 'rq:scheduled:' .. queue, id) or redis.call('ZSCORE', 'rq:scheduler:scheduled_jobs', id)
      or leased(queue, id) or redis.call('LPOS', 'rq:queue:' .. queue .. ':intermediate', id) or waits(id, queue) then
    return 'live'
  end
  return 'lost'
end

-- Leaves at most `kept` entries of a member in a list, the first ones; returns how many are gone.
local function thin(list, member, kept)
  local n = #redis.call('LPOS', list, member, 'COUNT', 0)
  return n > kept and redis.call('LREM', list, kept - n, member) or 0
end
