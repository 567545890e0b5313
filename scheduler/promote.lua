--! include push.lua
-- promote.lua: moves due jobs from where they wait to their queues, the longest due first.
-- The first set is rq-scheduler's; what is periodic in it stays and is returned, to be fired.
-- KEYS 1 turnstile:periodic  2 rq:scheduler:scheduled_jobs  3.. rq:scheduled:<q>
-- ARGV 1 now (s)  2 how many at most  3 seconds to put off a job that cannot be moved
--      4.. for each of KEYS 2.., the queue of a job that names none
-- RETURNS [entries looked at, jobs promoted, ids without a job removed, ids of jobs that do not wait any more removed,
--      [definition, fire time, meta, ...], ids promoted whose meta is not JSON, [what cannot be moved, error, ...]]
-- COST O(k + n log m) for k sets and n due
local now, limit, put_off = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local ENDED = {finished = true, failed = true, canceled = true, stopped = true, started = true}
local promoted, dangling, ended, definitions, unreadable, broken = 0, 0, 0, {}, {}, {}

local function note(what, err)
  broken[#broken + 1] = what
  broken[#broken + 1] = type(err) == 'table' and err.err or tostring(err)
end

local function read(meta)
  if not meta or meta == '' then
    return true, nil
  end
  return pcall(cjson.decode, meta)
end

local function says(value)
  return value ~= nil and value ~= cjson.null
end

local function move(entry)
  local id, key = entry.id, KEYS[entry.set]
  local status, origin, front, meta, created =
    unpack(redis.call('HMGET', 'rq:job:' .. id, 'status', 'origin', 'enqueue_at_front', 'meta', 'created_at'))
  local exists = status or origin or created or redis.call('EXISTS', 'rq:job:' .. id) == 1
  if entry.set == 2 then
    local readable, value = read(meta)
    local cron = string.sub(id, 1, 5) == 'cron-' and redis.call('SISMEMBER', KEYS[1], string.sub(id, 6)) == 1
    if cron or (readable and type(value) == 'table' and (says(value.cron_string) or says(value.interval))) then
      definitions[#definitions + 1] = id
      definitions[#definitions + 1] = entry.score
      definitions[#definitions + 1] = meta or ''
      return
    elseif not readable then
      unreadable[#unreadable + 1] = id
    end
  end
  if not exists then
    dangling = dangling + 1
  else
    local queue = origin and origin ~= '' and origin or ARGV[entry.set + 2]
    if ENDED[status] or (status == 'queued' and redis.call('LPOS', 'rq:queue:' .. queue, id)) then
      ended = ended + 1
    else
      push(id, queue, now, front == '1')
      promoted = promoted + 1
    end
  end
  redis.call('ZREM', key, id)
end

local due = {}
for set = 2, #KEYS do
  local found = redis.pcall('ZRANGEBYSCORE', KEYS[set], '-inf', now, 'WITHSCORES', 'LIMIT', 0, limit)
  if found.err then
    note(KEYS[set], found)
  else
    for i = 1, #found, 2 do
      due[#due + 1] = {id = found[i], score = found[i + 1], at = tonumber(found[i + 1]), set = set, rank = i}
    end
  end
end
table.sort(due, function(a, b)
  if a.at ~= b.at then
    return a.at < b.at
  end
  return a.set < b.set or (a.set == b.set and a.rank < b.rank)
end)
local looked = math.min(limit, #due)
for i = 1, looked do
  local ok, err = pcall(move, due[i])
  if not ok then
    -- First, so that a write which Redis refuses altogether (full, read-only) ends the script with that error.
    redis.call('ZADD', KEYS[due[i].set], 'XX', now + put_off, due[i].id)
    note(due[i].id, err)
  end
end
return {looked, promoted, dangling, ended, definitions, unreadable, broken}
