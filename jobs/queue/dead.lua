-- dead.lua: library for every script that makes a dead letter or takes one away. turnstile:dead, the zset of each group, the
-- hash of groups and their sizes change together, so that groups and pages are read without reading the letters.

local GROUPS, SIZES = 'turnstile:dead:groups', 'turnstile:dead:sizes'

local function drop(id, group)
  local key = 'turnstile:dead:group:' .. group
  if redis.call('ZREM', key, id) == 0 then
    return
  end
  local size = redis.call('ZCARD', key)
  if size == 0 then
    redis.call('HDEL', GROUPS, group)
    redis.call('ZREM', SIZES, group)
  else
    redis.call('ZADD', SIZES, size, group)
  end
end

-- Takes a letter out. Its group stands in the job's hash; when somebody deleted that, every group is asked.
local function leave(id)
  local was = redis.call('ZREM', 'turnstile:dead', id)
  local group = redis.pcall('HGET', 'rq:job:' .. id, 'group')
  for _, name in ipairs(type(group) == 'string' and {group} or was == 1 and redis.call('HKEYS', GROUPS) or {}) do
    drop(id, name)
  end
end

-- Puts a letter in, and its death into the job's hash. One that was in already (RQ requeued it, it died again) moves.
local function enter(id, died_at, group, task, error_type, error)
  local key = 'turnstile:dead:group:' .. group
  leave(id)
  redis.call('HSET', 'rq:job:' .. id, 'died_at', died_at, 'group', group, 'error_type', error_type, 'error', error)
  redis.call('ZADD', 'turnstile:dead', died_at, id)
  redis.call('ZADD', key, died_at, id)
  redis.call('HSET', GROUPS, group, task .. '\n' .. error_type .. '\n' .. error)
  redis.call('ZADD', SIZES, redis.call('ZCARD', key), group)
end
