-- purge.lua: deletes the ready jobs of a queue, but none that belongs to a state (an order, a buffer).
-- KEYS 1 rq:queue:<q>
-- ARGV 1 how many at most
-- RETURNS [purged, kept, still unseen]
-- COST O(n)
local ids = redis.call('LRANGE', KEYS[1], 0, ARGV[1] - 1)
local purged, kept = 0, 0
for _, id in ipairs(ids) do
  redis.call('LPOP', KEYS[1])
  if redis.call('HEXISTS', 'rq:job:' .. id, 'owned') == 1 then
    redis.call('RPUSH', KEYS[1], id)
    kept = kept + 1
  else
    redis.call('DEL', 'rq:job:' .. id, 'rq:results:' .. id)
    purged = purged + 1
  end
end
return {purged, kept, redis.call('LLEN', KEYS[1]) - kept}
