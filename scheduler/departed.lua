-- departed.lua: takes workers whose hash has expired out of a set of workers; they died without a word.
-- KEYS 1 rq:workers:<q>, or rq:workers itself  2 rq:workers
-- RETURNS how many
-- COST O(n)
local departed = 0
for _, worker in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if redis.call('EXISTS', worker) == 0 then
    redis.call('SREM', KEYS[1], worker)
    redis.call('SREM', KEYS[2], worker)
    departed = departed + 1
  end
end
return departed
