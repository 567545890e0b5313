-- index_dead.lua: makes our index of dead letters say of some jobs what RQ's failed registries say.
-- A stock worker writes only the registry; RQ's tools delete from it, or let the job expire, without telling us.
-- KEYS 1 turnstile:dead  2.. rq:failed:<q>
-- ARGV 1 now (s)  2.. job ids
-- RETURNS [ids added, ids removed]
-- COST O(n (q + log m))
local added, removed = {}, {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local exists = redis.call('EXISTS', 'rq:job:' .. id) == 1
  local failed = false
  for set = 2, #KEYS do
    if not exists then
      redis.call('ZREM', KEYS[set], id)
    elseif redis.call('ZSCORE', KEYS[set], id) then
      failed = true
    end
  end
  if failed then
    if redis.call('ZADD', KEYS[1], 'NX', ARGV[1], id) == 1 then
      added[#added + 1] = id
    end
  elseif redis.call('ZREM', KEYS[1], id) == 1 then
    removed[#removed + 1] = id
  end
end
return {added, removed}
