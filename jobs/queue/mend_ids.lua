-- mend_ids.lua: a batch's set of ids that differs from the items which wait.
-- KEYS 1 turnstile:batch:<name>  2 turnstile:batch:<name>:ids
-- ARGV 1 '1' to make the set anew from the items
-- RETURNS 1 they differ, 0 not
-- COST O(items)
local ids, n, differ = {}, 0, false
for _, item in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  local id = string.match(item, '^[^ ]+')
  if not ids[id] then
    ids[id], n = true, n + 1
    differ = differ or redis.call('SISMEMBER', KEYS[2], id) == 0
  end
end
if not differ and redis.call('SCARD', KEYS[2]) == n then
  return 0
end
if ARGV[1] == '1' then
  redis.call('DEL', KEYS[2])
  for id in pairs(ids) do
    redis.call('SADD', KEYS[2], id)
  end
end
return 1
