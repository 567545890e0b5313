--! include push.lua
-- reclaim.lua: takes back jobs whose lease ran out: their worker died or stood still.
-- Each goes to the front of its queue with one crash more, which is no attempt. One that has crashed too often stays
-- where it is and is returned, so that it is buried together with the state it belongs to.
-- A worker of ours, whose executions have a dash in their names, has many jobs in its hands and one of them takes it along. So a
-- job that the next crash would quarantine is a suspect, and is charged with it only if it had begun: suspect.lua.
-- KEYS 1 rq:wip:<q>
-- ARGV 1 queue  2 now (s)  3 how many at most  4 crashes in a row that are too many
-- RETURNS [reclaimed job ids, members to bury, number of ghosts removed: their jobs have ended, wait or are gone]
-- COST O(n log m); LPOS over the queue only for a stock worker's job that never started, and fewer members then
local queue, now, limit, max_crashes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local MAX_SEARCHED = 500000 -- entries of the queue, about ten milliseconds
local reclaimed, poison, ghosts, searched = {}, {}, 0, 0

-- Whether a job that is to be tried again later will be: RQ says so before it writes when, and may die in between.
local function put_off(id)
  return redis.call('ZSCORE', 'rq:scheduled:' .. queue, id) or redis.call('ZSCORE', 'rq:scheduler:scheduled_jobs', id)
end

for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, limit)) do
  local id = string.match(member, '^([^:]+)') or member
  local job_key = 'rq:job:' .. id
  local status = redis.pcall('HGET', job_key, 'status') -- a key that is no hash is no job, and must not cost the others theirs
  if status == 'queued' then
    searched = searched + redis.call('LLEN', 'rq:queue:' .. queue)
  end
  if searched > MAX_SEARCHED and #reclaimed + #poison + ghosts > 0 then
    break
  end
  if status == 'started' or status == 'queued' and not waits(id, queue) or status == 'scheduled' and not put_off(id) then
    local crashes = tonumber(redis.call('HGET', job_key, 'crashes') or 0)
    local execution = string.match(member, ':(.*)$') or ''
    if crashes < max_crashes - 1 or not string.find(execution, '-', 1, true) or redis.call('HGET', job_key, 'begun') == execution then
      crashes = crashes + 1
    end
    if crashes >= max_crashes then
      poison[#poison + 1] = member
    else
      redis.call('ZREM', KEYS[1], member)
      redis.call('LREM', 'rq:queue:' .. queue .. ':intermediate', 1, id)
      redis.call('HSET', job_key, 'crashes', crashes)
      push(id, queue, now, true)
      count(queue, 'reclaimed', now, 1)
      reclaimed[#reclaimed + 1] = id
    end
  else
    redis.call('ZREM', KEYS[1], member)
    ghosts = ghosts + 1
  end
end
return {reclaimed, poison, ghosts}
