--! include push.lua
-- claim.lua: moves up to n jobs from queues, served in the order given, straight into rq:wip, each with a lease and a fence.
-- At no moment is a job in neither list. Ids that lead to no job are dropped and counted.
--
-- A job of a limited task (its field `limited` names the task) that may not start yet is held back: it waits in
-- turnstile:held:<q>:<task>, first in first out but for jobs that come back, and turnstile:held:<q> says when to look at it
-- again. Held jobs come before those of the queue's list.
-- The rate is a GCRA whose state is the time at which the next start is due when starts are evenly spread; one may come
-- TOLERANCE_S early, so that looks which come late lose no rate. With max_concurrent a claim takes one job of the task: a
-- worker runs what it claims one after the other. A slot whose member has left rq:wip is free: whatever ends, reclaims or
-- loses a job need not know of limits.
-- KEYS 1 rq:suspended  then for n queues: n x turnstile:paused:<q>, n x turnstile:held:<q>, n x rq:queue:<q>, n x rq:wip:<q>
--      For limited tasks also turnstile:limits, turnstile:limits:override, turnstile:rate:<task>, turnstile:running:<task>
-- ARGV 1 now (s)  2 lease (s)  3 worker  4.. one execution id for each job wanted
-- RETURNS [[[queue, job id, execution id, flat job hash], ...], seconds until a held job may start, or '']
--      the seconds only when fewer jobs were found than wanted and jobs are held
-- COST O(n) and, while jobs are held, O(held tasks + running jobs of those at max_concurrent)
local TOLERANCE_S, FULL_S, MAX_HELD = 0.1, 0.05, 200
local SECONDS = {s = 1, m = 60, h = 3600}
local now, lease, worker, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], #ARGV - 3
local n_queues = (#KEYS - 1) / 4
local started_at = iso(now)
local claimed, leases, tasks, held_now = {}, {}, {}, 0

local function limits_of(name)
  local task = tasks[name]
  if not task then
    local text = redis.call('HGET', 'turnstile:limits:override', name) or redis.call('HGET', 'turnstile:limits', name) or ''
    local count, unit, max = string.match(text, '^([%d.]*)/?(%a?):(%d*)$')
    task = {name = name, rate = 'turnstile:rate:' .. name, running = 'turnstile:running:' .. name, max = tonumber(max or '')}
    count = tonumber(count or '')
    if count and count > 0 and SECONDS[unit] then
      task.interval, task.due = SECONDS[unit] / count, tonumber(redis.call('GET', task.rate) or 0)
    end
    tasks[name] = task
  end
  return task
end

local function full(task)
  if redis.call('ZCARD', task.running) < task.max then
    return false
  end
  for _, member in ipairs(redis.call('ZRANGE', task.running, 0, -1)) do
    local queue, execution = string.match(member, '^(.*)|(.*)$')
    if not queue or not redis.call('ZSCORE', 'rq:wip:' .. queue, execution) then
      redis.call('ZREM', task.running, member)
    end
  end
  return redis.call('ZCARD', task.running) >= task.max
end

-- When the task's next job may start: now, or later. A task that was found full is not looked at twice in a call.
local function may_start_at(task)
  if task.max and not task.full_until and (task.taken or full(task)) then
    task.full_until = task.taken and now + 0.001 or now + FULL_S
  end
  return math.max(now, task.full_until or 0, task.interval and task.due - TOLERANCE_S or 0)
end

local function take(i, id, hash, task)
  local execution = ARGV[4 + #claimed]
  local queue, member = string.sub(KEYS[1 + 2 * n_queues + i], 10), id .. ':' .. execution
  redis.call('HSET', 'rq:job:' .. id, 'status', 'started', 'started_at', started_at,
    'last_heartbeat', started_at, 'worker_name', worker)
  leases[#leases + 1] = now + lease
  leases[#leases + 1] = member
  claimed[#claimed + 1] = {queue, id, execution, hash}
  if task and task.max then
    redis.call('ZADD', task.running, now, queue .. '|' .. member)
    task.taken = true
  end
  if task and task.interval then
    task.due = math.max(now, task.due) + task.interval
    redis.call('SET', task.rate, string.format('%.17g', task.due), 'EX', math.ceil(task.due - now) + 60)
  end
end

local function read(i, id)
  local hash = redis.pcall('HGETALL', 'rq:job:' .. id) -- a key that is no hash must not cost the other jobs their place
  if #hash == 0 then
    count(string.sub(KEYS[1 + 2 * n_queues + i], 10), 'dangling', now, 1)
    return nil
  end
  return hash
end

-- The job's task if it is limited, and whether the job was claimed before and came back.
local function limited(hash)
  local task, again
  for field = 1, #hash, 2 do
    local name = hash[field]
    if name == 'limited' then
      task = limits_of(hash[field + 1])
    elseif name == 'acked' or name == 'crashes' then
      again = true
    end
  end
  return task, again
end

local function serve_held(i)
  local held = KEYS[1 + n_queues + i]
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', held, '-inf', now)) do
    if #claimed == wanted then
      return
    end
    local task, list, id = limits_of(name), held .. ':' .. name, true
    while id and #claimed < wanted and may_start_at(task) <= now do
      id = redis.call('LPOP', list)
      local hash = id and read(i, id)
      if hash then
        take(i, id, hash, task)
      end
    end
    redis.call('ZREM', held, name) -- first, since no full memory refuses it, nor what follows it in a script
    if redis.call('EXISTS', list) == 1 then
      redis.call('ZADD', held, may_start_at(task), name)
    end
  end
end

local function serve_list(i)
  local held, ids = KEYS[1 + n_queues + i], nil
  while #claimed < wanted and held_now < MAX_HELD do
    local asked = math.min(wanted - #claimed, MAX_HELD - held_now)
    ids = redis.call('LPOP', KEYS[1 + 2 * n_queues + i], asked) or {}
    for _, id in ipairs(ids) do
      local hash = read(i, id)
      local task, again = limited(hash or {})
      local list = task and held .. ':' .. task.name
      if task and (may_start_at(task) > now or redis.call('EXISTS', list) == 1) then
        redis.call(again and 'LPUSH' or 'RPUSH', list, id)
        redis.call('ZADD', held, 'NX', may_start_at(task), task.name)
        held_now = held_now + 1
      elseif hash then
        take(i, id, hash, task)
      end
    end
    if #ids < asked then
      return
    end
  end
end

local special = redis.call('EXISTS', unpack(KEYS, 1, 1 + 2 * n_queues)) > 0
if special and redis.call('EXISTS', KEYS[1]) == 1 then
  return {claimed, ''}
end
local look_at
for i = 1, n_queues do
  if not special or redis.call('EXISTS', KEYS[1 + i]) == 0 then
    if special then
      serve_held(i)
    end
    serve_list(i)
    if #leases > 0 then
      redis.call('ZADD', KEYS[1 + 3 * n_queues + i], unpack(leases))
      leases = {}
    end
    if #claimed < wanted and (special or held_now > 0) then
      local first = redis.call('ZRANGE', KEYS[1 + n_queues + i], 0, 0, 'WITHSCORES')
      look_at = first[2] and math.min(look_at or math.huge, tonumber(first[2])) or look_at
    end
  end
end
if held_now >= MAX_HELD then
  look_at = now -- the list goes on behind the jobs that were held back
end
return {claimed, #claimed < wanted and look_at and tostring(math.max(0, look_at - now)) or ''}
