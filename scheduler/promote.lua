--! include push.lua
--! include delayed.lua
--! include unreadable.lua
-- promote.lua: moves due jobs from where they wait to their queues, the longest due first across all sets: rq-scheduler's, and
-- RQ's rq:scheduled:<q> of every queue that is known. An idle call is one read of each set.
--
-- Periodic jobs in rq-scheduler's set stay there and are returned: somebody else decides what they do at their time.
-- Ids without a job are removed; in RQ's registries after a second, since RQ writes the id before the job. A job that cannot be
-- read, or whose queue is no list, goes to rq:failed:<q> with the reason; a key that is no hash is kept as
-- turnstile:unreadable:<id>, for 30 days.
-- Nothing is written before all is read, and what a full Redis refuses comes first: it refuses the whole batch.
-- KEYS 1 rq:scheduler:scheduled_jobs  2 rq:queues
-- ARGV 1 now (s)  2 how many at most, from each set its share  3 how many periodic jobs more may be in the way
-- RETURNS [jobs promoted, ids removed that have no job, 1 when more is due, the next due time after now (s) or '',
--      [[periodic job, due at, 1 for a definition of the table, 0 for a stock client's], ...], [[unreadable id, queue, reason], ...]]
-- COST O(k + n log(n m)) for k sets and n moved
local now, limit, in_the_way = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local MIN_SHARE, KEEP_S = 16, 30 * 86400
local call = redis.call
local stock, sets, due_sets, next_at = KEYS[1], {KEYS[1]}, {}, math.huge
local fallback = {[stock] = 'default'} -- set -> the queue of a job that names none
for _, key in ipairs(call('SMEMBERS', KEYS[2])) do
  local queue = string.match(key, '^rq:queue:(.+)$')
  if queue then
    sets[#sets + 1] = 'rq:scheduled:' .. queue
    fallback[sets[#sets]] = queue
  end
end
for _, set in ipairs(sets) do
  local score = redis.pcall('ZRANGE', set, 0, 0, 'WITHSCORES')[2] -- one of another type, which the doctor names, stops no other
  if score and tonumber(score) <= now then
    due_sets[#due_sets + 1] = set
  elseif score then
    next_at = math.min(next_at, tonumber(score))
  end
end

-- The first of each due set. Beyond the last one of a set that has more, nobody knows yet what is next.
local due, horizon, more = {}, math.huge, 0
for _, set in ipairs(due_sets) do
  local share = math.max(MIN_SHARE, math.ceil(limit / #due_sets)) + (set == stock and in_the_way or 0)
  local found = call('ZRANGEBYSCORE', set, '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', 0, share)
  for i = 1, #found, 2 do
    due[#due + 1] = {tonumber(found[i + 1]), #due, set, found[i], found[i + 1]}
  end
  if #found == 2 * share then
    horizon, more = math.min(horizon, due[#due][1]), 1
  end
end
if #due_sets > 1 then
  table.sort(due, function(a, b)
    return a[1] < b[1] or a[1] == b[1] and a[2] < b[2]
  end)
end

local seen, removed, put_off, places, order = {}, {}, {}, {}, {}
local promoted, dangling, periodic, broken, unreadable = 0, 0, {}, {}, {}

-- What says that it was enqueued is not enqueued again. It is not looked for in its queue, which takes as long as that is; if it
-- is nowhere, the sweep requeues it.
local function sort_out(id, set, score)
  local key = 'rq:job:' .. id
  if set == stock and defines(id) then
    periodic[#periodic + 1] = {id, score, 1}
    return
  end
  removed[set] = removed[set] or {}
  if seen[id] then
    table.insert(removed[set], id)
    return
  end
  seen[id] = true
  local job = redis.pcall('HMGET', key, 'status', 'origin', 'enqueue_at_front', set == stock and 'meta' or 'status')
  local status, queue, front, meta = job[1], job[2] or fallback[set], job[3] == '1', job[4]
  if job.err then
    broken[#broken + 1] = {id, queue, 'its key held a ' .. call('TYPE', key).ok .. ' instead of a hash', true}
  elseif call('HEXISTS', key, 'data') == 0 then
    if call('EXISTS', key) == 0 then
      -- RQ's times are whole seconds: a fraction says that it was put off before.
      if set ~= stock and not string.find(score, '.', 1, true) then
        table.insert(put_off, {set, id})
        return
      end
      dangling = dangling + 1
    elseif not NOT_DELAYED[status] then
      broken[#broken + 1] = {id, queue, 'it has no data: neither function nor arguments'}
    end
  elseif set == stock and repeats(meta) then
    periodic[#periodic + 1] = {id, score, 0}
    return
  elseif not NOT_DELAYED[status] and not (status == 'queued' and (call('HGET', key, 'enqueued_at') or '') ~= '') then
    local place = places[queue]
    if not place then
      place = {RPUSH = {}, LPUSH = {}}
      places[queue], order[#order + 1] = place, queue
    end
    table.insert(front and place.LPUSH or place.RPUSH, id)
  end
  table.insert(removed[set], id)
end

for _, entry in ipairs(due) do
  if entry[1] > horizon then
    break
  end
  sort_out(entry[4], entry[3], entry[5])
end

local enqueued_at = iso(now)
for _, queue in ipairs(order) do
  local n, length = 0, nil
  for side, ids in pairs(places[queue]) do
    local answer = #ids > 0 and redis.pcall(side, 'rq:queue:' .. queue, unpack(ids))
    if answer and type(answer) == 'table' then
      if not string.find(answer.err, 'WRONGTYPE', 1, true) then
        return answer
      end
      for _, id in ipairs(ids) do
        broken[#broken + 1] = {id, queue, 'rq:queue:' .. queue .. ' is not a list'}
      end
    elseif answer then
      for _, id in ipairs(ids) do
        call('HSET', 'rq:job:' .. id, 'status', 'queued', 'origin', queue, 'enqueued_at', enqueued_at)
      end
      n, length = n + #ids, answer
    end
  end
  if n > 0 then
    announce(queue, now, n, length)
    promoted = promoted + n
  end
end
for _, job in ipairs(broken) do
  local id, queue, reason, is_no_hash = unpack(job)
  if is_no_hash then
    local kept, n = 'turnstile:unreadable:' .. id, 1
    while call('RENAMENX', 'rq:job:' .. id, kept) == 0 do
      n = n + 1
      kept = 'turnstile:unreadable:' .. id .. '-' .. n
    end
    call('EXPIRE', kept, KEEP_S)
  end
  bury(id, queue, reason, now)
  unreadable[#unreadable + 1] = {id, queue, reason}
end
for _, entry in ipairs(put_off) do
  call('ZADD', entry[1], math.floor(now) + 1.5, entry[2])
end
for set, ids in pairs(removed) do
  if #ids > 0 then
    call('ZREM', set, unpack(ids))
  end
end

for _, set in ipairs(more == 0 and due_sets or {}) do
  next_at = math.min(next_at, tonumber(call('ZRANGEBYSCORE', set, '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2] or next_at))
end
return {promoted, dangling, more, next_at < math.huge and string.format('%.17g', next_at) or '', periodic, unreadable}
