-- forget_workers.lua: removes registered workers whose hash has expired: they died without a word.
-- KEYS 1 rq:workers  2.. rq:workers:<q>
-- RETURNS the keys of the workers forgotten
-- COST O(entries)
local forgotten, seen = {}, {}
for _, registry in ipairs(KEYS) do
  for _, worker in ipairs(redis.call('SMEMBERS', registry)) do
    if redis.call('EXISTS', worker) == 0 then
      redis.call('SREM', registry, worker)
      if not seen[worker] then
        seen[worker] = true
        forgotten[#forgotten + 1] = worker
      end
    end
  end
end
return forgotten
