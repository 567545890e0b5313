--! include push.lua
-- claim.lua: moves up to n jobs from queues, served in the order given, straight into rq:wip, each with a lease and a fence.
-- At no moment is a job in neither list. Ids that lead to no job are dropped and counted.
--
-- A job of a limited task (its field `limited` names the task) that may not start yet is held back: it waits in
-- turnstile:held:<q>:<task>, first in first out but for jobs that come back, and turnstile:held:<q> says when to look at it
-- again. Held jobs come before those of the queue's list.
-- The rate is a GCRA whose state is the time at which the next start is due when starts are evenly spread; one may come
-- TOLERANCE_S early, so that looks which come late lose no rate. With max_concurrent a claim takes as many jobs of the task as
-- have a slot. A slot whose member has left rq:wip is free: whatever ends, reclaims or loses a job need not know of limits.
-- A claim that was sent long before it runs takes nothing for a worker without a fresh heartbeat, which stands still: it rings
-- for another one.
-- KEYS 1 rq:suspended  then for n queues: n x turnstile:paused:<q>, n x turnstile:held:<q>, n x rq:queue:<q>, n x rq:wip:<q>
--      For limited tasks also turnstile:limits, turnstile:limits:override, turnstile:rate:<task>, turnstile:running:<task>; rq:worker:<name> and turnstile:bell:<q>
-- ARGV 1 now (s), or nothing for the server's own time  2 lease (s)  3 worker  4 how many fields f of a job are wanted  then these, beginning with status, limited,
--      acked and crashes  then one execution id for each job wanted
-- RETURNS [seconds until a held job may start, or '', [value of a field, or nil ... , queue, job id, execution id], ...]
--      the seconds only when fewer jobs were found than wanted and jobs are held
-- COST O(n), and O(held tasks + running jobs of tasks with max_concurrent) when there are such
local TOLERANCE_S, FULL_S, MAX_HELD, FRESH_S = 0.1, 0.05, 200, 1.5
local SECONDS = {s = 1, m = 60, h = 3600}
local STATUS, LIMITED, ACKED, CRASHES = 1, 2, 3, 4
local call = redis.call
local now, worker, n_fields = tonumber(ARGV[1]), ARGV[3], tonumber(ARGV[4])
local stale = false
if not now then
  local time = call('TIME')
  now = time[1] + time[2] / 1000000
  local beat = call('HGET', 'rq:worker:' .. worker, 'last_heartbeat')
  stale = not beat or beat < iso(now - FRESH_S)
end
local lease_ends = now + ARGV[2]
local fields, before, wanted = {unpack(ARGV, 5, 4 + n_fields)}, 4 + n_fields, #ARGV - 4 - n_fields
local n_queues = (#KEYS - 1) / 4
local started_at = iso(now)
local found, n_claimed, leases, tasks, held_now = {''}, 0, {}, {}, 0
local queue, held_key, list_key -- the one that is being served

local function limits_of(name)
  local task = tasks[name]
  if not task then
    local text = call('HGET', 'turnstile:limits:override', name) or call('HGET', 'turnstile:limits', name) or ''
    local count, unit, max = string.match(text, '^([%d.]*)/?(%a?):(%d*)$')
    task = {name = name, rate = 'turnstile:rate:' .. name, running = 'turnstile:running:' .. name, max = tonumber(max or '')}
    count = tonumber(count or '')
    if count and count > 0 and SECONDS[unit] then
      task.interval, task.due = SECONDS[unit] / count, tonumber(call('GET', task.rate) or 0)
    end
    tasks[name] = task
  end
  return task
end

-- How many more jobs of the task may run now. Asked before the first of them is taken: that one is in no rq:wip yet.
local function free_slots(task)
  local running = call('ZCARD', task.running)
  if running > 0 and task.max - running < wanted - n_claimed then
    for _, slot in ipairs(call('ZRANGE', task.running, 0, -1)) do
      local name, member = string.match(slot, '^(.*)|(.*)$')
      if not name or not call('ZSCORE', 'rq:wip:' .. name, member) then
        call('ZREM', task.running, slot)
        running = running - 1
      end
    end
  end
  return task.max - running
end

-- When the task's next job may start: now, or later.
local function may_start_at(task)
  task.free = task.free or task.max and free_slots(task)
  return math.max(now, task.max and task.free <= 0 and now + FULL_S or 0, task.interval and task.due - TOLERANCE_S or 0)
end

-- `job` is what `read` gave, and becomes its part of the answer.
local function take(id, job, task)
  n_claimed = n_claimed + 1
  local execution = ARGV[before + n_claimed]
  local member = id .. ':' .. execution
  call('HSET', 'rq:job:' .. id, 'status', 'started', 'started_at', started_at, 'last_heartbeat', started_at,
    'worker_name', worker)
  leases[2 * n_claimed - 1], leases[2 * n_claimed] = lease_ends, member
  job[n_fields + 1], job[n_fields + 2], job[n_fields + 3] = queue, id, execution
  found[n_claimed + 1] = job
  if task and task.max then
    call('ZADD', task.running, now, queue .. '|' .. member)
    task.free = task.free - 1
  end
  if task and task.interval then
    task.due = math.max(now, task.due) + task.interval
    call('SET', task.rate, string.format('%.17g', task.due), 'EX', math.ceil(task.due - now) + 60)
  end
end

-- The wanted fields of a job; nil for what is none. A key that is no hash must not cost the other jobs their place.
local function read(id)
  local key = 'rq:job:' .. id
  local job = redis.pcall('HMGET', key, unpack(fields))
  if job[STATUS] or not job.err and call('EXISTS', key) == 1 then
    return job
  end
  count(queue, 'dangling', now, 1)
  return nil
end

local function serve_held()
  for _, name in ipairs(call('ZRANGEBYSCORE', held_key, '-inf', now)) do
    if n_claimed == wanted then
      return
    end
    local task, list, id = limits_of(name), held_key .. ':' .. name, true
    while id and n_claimed < wanted and may_start_at(task) <= now do
      id = call('LPOP', list)
      local job = id and read(id)
      if job then
        take(id, job, task)
      end
    end
    call('ZREM', held_key, name) -- first, since no full memory refuses it, nor what follows it in a script
    if call('EXISTS', list) == 1 then
      call('ZADD', held_key, may_start_at(task), name)
    end
  end
end

-- Holds the job back, if its task may not start it now or others of it wait already.
local function hold(id, job, task)
  local list, start_at = held_key .. ':' .. task.name, may_start_at(task)
  if start_at <= now and call('EXISTS', list) == 0 then
    return false
  end
  call((job[ACKED] or job[CRASHES]) and 'LPUSH' or 'RPUSH', list, id)
  call('ZADD', held_key, 'NX', start_at, task.name)
  held_now = held_now + 1
  return true
end

local function serve_list()
  while n_claimed < wanted and held_now < MAX_HELD do
    local asked = math.min(wanted - n_claimed, MAX_HELD - held_now)
    local ids = call('LPOP', list_key, asked) or {}
    for _, id in ipairs(ids) do
      local job = read(id)
      local task = job and job[LIMITED] and limits_of(job[LIMITED])
      if job and not (task and hold(id, job, task)) then
        take(id, job, task)
      end
    end
    if #ids < asked then
      return
    end
  end
end

local special = call('EXISTS', unpack(KEYS, 1, 1 + 2 * n_queues)) > 0
if special and call('EXISTS', KEYS[1]) == 1 then
  return found
end
if stale then
  for i = 1, n_queues do
    local bell = 'turnstile:bell:' .. base(string.sub(KEYS[1 + 2 * n_queues + i], 10))
    call('LPUSH', bell, '1')
    call('LTRIM', bell, 0, MAX_BELL - 1)
  end
  return found
end
local look_at
for i = 1, n_queues do
  if not special or call('EXISTS', KEYS[1 + i]) == 0 then
    held_key, list_key = KEYS[1 + n_queues + i], KEYS[1 + 2 * n_queues + i]
    queue = string.sub(list_key, 10)
    local leased = n_claimed
    if special then
      serve_held()
    end
    serve_list()
    if n_claimed > leased then
      call('ZADD', KEYS[1 + 3 * n_queues + i], unpack(leases, 2 * leased + 1, 2 * n_claimed))
    end
    if n_claimed < wanted and (special or held_now > 0) then
      local first = call('ZRANGE', held_key, 0, 0, 'WITHSCORES')
      look_at = first[2] and math.min(look_at or math.huge, tonumber(first[2])) or look_at
    end
  end
end
if held_now >= MAX_HELD then
  look_at = now -- the list goes on behind the jobs that were held back
end
if n_claimed < wanted and look_at then
  found[1] = tostring(math.max(0, look_at - now))
end
return found
