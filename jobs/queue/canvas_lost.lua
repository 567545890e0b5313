-- canvas_lost.lua: members of open canvases that are at work, though their job is gone from Redis. Writes nothing.
-- KEYS turnstile:canvas:<id> of each
-- RETURNS [canvas id, node, canvas id, node, ...]
-- COST O(nodes)
local OPEN, lost = {running = true, failed = true}, {}
for _, key in ipairs(KEYS) do
  local id = string.match(key, '^turnstile:canvas:(.+)$')
  local states = OPEN[redis.call('HGET', key, 'status')] and redis.call('HGET', key, 'outstanding') ~= '0'
    and redis.call('GET', key .. ':states') or ''
  local at = string.find(states, 's', 1, true)
  while at do
    if redis.call('EXISTS', 'rq:job:' .. id .. '-' .. at - 1) == 0 then
      lost[#lost + 1] = id
      lost[#lost + 1] = at - 1
    end
    at = string.find(states, 's', at + 1, true)
  end
end
return lost
