--! include trail.lua
-- create_key.lua: keeps a new key unless its client has enough of that kind. The client's expired ones are deleted, and notes of
-- use that outlived their key. Called again with the same id it changes nothing.
-- KEYS 1 turnstile:api-keys  2 turnstile:api-keys:used  3 turnstile:audit
-- ARGV 1 id  2 record (JSON of Key)  3 now (s)  4 most active keys of one kind  5 who
-- RETURNS 1 kept, 0 the client has enough
-- COST O(keys of all clients)
local new, now, active, all = cjson.decode(ARGV[2]), tonumber(ARGV[3]), 0, {}
local flat = redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do
  local id, is_read, key = flat[i], pcall(cjson.decode, flat[i + 1])
  if id == ARGV[1] then
    return 1
  end
  all[id] = true
  if is_read and key.client == new.client and key.kind == new.kind then
    if key.expires_at and key.expires_at <= now then
      redis.call('HDEL', KEYS[1], id)
      all[id] = nil
    else
      active = active + 1
    end
  end
end
for _, id in ipairs(redis.call('HKEYS', KEYS[2])) do
  if not all[id] then
    redis.call('HDEL', KEYS[2], id)
  end
end
if active >= tonumber(ARGV[4]) then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
note(ARGV[3], 'make ' .. new.kind, ARGV[5], new.client .. ' ' .. ARGV[1])
return 1
