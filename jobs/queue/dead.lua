-- dead.lua: library for every script that makes a dead letter or takes one away. turnstile:dead, the zset of each group and
-- the hash of groups change together, so that groups, their sizes and their pages are read without reading the letters.

local function drop(id, group)
  local key = 'turnstile:dead:group:' .. group
  if redis.call('ZREM', key, id) == 1 and redis.call('EXISTS', key) == 0 then
    redis.call('HDEL', 'turnstile:dead:groups', group)
  end
end

-- Takes a letter out. Its group stands in the job's hash; when somebody deleted that, every group is asked.
local function leave(id)
  local was = redis.call('ZREM', 'turnstile:dead', id)
  local group = redis.call('HGET', 'rq:job:' .. id, 'group')
  for _, name in ipairs(group and {group} or was == 1 and redis.call('HKEYS', 'turnstile:dead:groups') or {}) do
    drop(id, name)
  end
end

-- Puts a letter in, and its death into the job's hash. One that was in already (RQ requeued it, it died again) moves.
local function enter(id, died_at, group, task, error_type, error)
  leave(id)
  redis.call('HSET', 'rq:job:' .. id, 'died_at', died_at, 'group', group, 'error_type', error_type, 'error', error)
  redis.call('ZADD', 'turnstile:dead', died_at, id)
  redis.call('ZADD', 'turnstile:dead:group:' .. group, died_at, id)
  redis.call('HSET', 'turnstile:dead:groups', group, task .. '\n' .. error_type .. '\n' .. error)
end
