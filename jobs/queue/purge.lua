-- purge.lua: deletes the ready jobs of a queue, held ones too, but none that belongs to a state
-- (an order, a buffer, a canvas).
-- KEYS 1 rq:queue:<q>  2 turnstile:held:<q>
-- ARGV 1 how many at most of the queue, and of each task that holds jobs back
-- RETURNS [purged, kept]
-- COST O(n)
local purged, kept = 0, 0
local function purge(list)
  for _, id in ipairs(redis.call('LRANGE', list, 0, ARGV[1] - 1)) do
    redis.call('LPOP', list)
    local owned, canvas = unpack(redis.call('HMGET', 'rq:job:' .. id, 'owned', 'canvas'))
    if owned or canvas then
      redis.call('RPUSH', list, id)
      kept = kept + 1
    else
      redis.call('DEL', 'rq:job:' .. id, 'rq:results:' .. id)
      purged = purged + 1
    end
  end
end

purge(KEYS[1])
for _, task in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  purge(KEYS[2] .. ':' .. task)
  if redis.call('EXISTS', KEYS[2] .. ':' .. task) == 0 then
    redis.call('ZREM', KEYS[2], task)
  end
end
return {purged, kept}
