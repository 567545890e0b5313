--! include dead.lua
-- mend_group.lua: a group of dead letters whose size, name or letters are not what the index of all letters says.
-- KEYS 1 turnstile:dead:group:<group>
-- ARGV 1 '1' to put it right: letters that are not in the index leave, then it is counted  2 group
-- RETURNS 1 it is wrong, 0 not
-- COST O(n log n) in the letters of the group
local group, strangers = ARGV[2], {}
local members = redis.call('ZRANGE', KEYS[1], 0, -1)
for _, id in ipairs(members) do
  if not redis.call('ZSCORE', 'turnstile:dead', id) then
    strangers[#strangers + 1] = id
  end
end
local size, named = tonumber(redis.call('ZSCORE', SIZES, group) or 0), redis.call('HEXISTS', GROUPS, group) == 1
if #strangers == 0 and size == #members and named == (#members > 0) then
  return 0
end
if ARGV[1] == '1' then
  for _, id in ipairs(strangers) do
    redis.call('ZREM', KEYS[1], id)
  end
  local newest = redis.call('ZRANGE', KEYS[1], -1, -1)[1]
  if newest then
    redis.call('ZADD', SIZES, redis.call('ZCARD', KEYS[1]), group)
    local task, error_type, error = unpack(redis.call('HMGET', 'rq:job:' .. newest, 'task', 'error_type', 'error'))
    redis.call('HSETNX', GROUPS, group, (task or newest) .. '\n' .. (error_type or '') .. '\n' .. (error or ''))
  else
    redis.call('ZREM', SIZES, group)
    redis.call('HDEL', GROUPS, group)
  end
end
return 1
