--! include push.lua
--! include unique.lua
--! include launch.lua
-- fire.lua: the runs that a fire time of a periodic job brings, and the next fire time. The fire time is compared, so that
-- each one counts once, however many schedulers ask and whichever reply is lost. What may not overlap the run before waits, as
-- far as the job lets it, or is skipped and counted.
-- KEYS 1 rq:job:<definition>  2 turnstile:periodic:<name>  3 turnstile:periodic:<name>:runs  4 rq:scheduler:scheduled_jobs
-- ARGV 1 definition  2 now (s)  3 the fire time (s)  4 the next one (s)  5 when that is due (s)  6 how many were missed
--      7 how many may wait for the end of the last run  8.. the fire times of the runs (s)
-- RETURNS [what became of the fire time, runs, skipped, waiting]; the first is '', or why nothing was done: 'late' (it is past),
--      'paused', 'unknown' (no definition)
-- COST O(n log m) for n runs
local definition, now, runs_at = ARGV[1], tonumber(ARGV[2]), {unpack(ARGV, 8)}
local next_at, paused_at, waits = unpack(redis.call('HMGET', KEYS[2], 'next_fire_at', 'paused_at', 'waiting'))
if tonumber(next_at) ~= tonumber(ARGV[3]) then
  return {'late', 0, 0, 0}
elseif #runs_at > 0 and paused_at then
  return {'paused', 0, 0, 0}
elseif #runs_at > 0 and redis.call('EXISTS', KEYS[1]) == 0 then
  return {'unknown', 0, 0, 0}
end
local line, known, fired, skipped, waiting = {}, {}, 0, 0, 0
for at in string.gmatch(waits or '', '%d+') do
  line[#line + 1], known[at] = at, true
end
for _, at in ipairs(runs_at) do
  local id = definition .. '-' .. at
  -- A record that was restored may be older than its last runs.
  if not known[at] and redis.call('EXISTS', 'rq:job:' .. id) == 0 then
    if #line == 0 and not blocked(KEYS[1], KEYS[2], KEYS[3], id) then
      launch(KEYS[1], KEYS[2], KEYS[3], id, at, now)
      fired = fired + 1
    elseif #line < tonumber(ARGV[7]) then
      line[#line + 1] = at
      waiting = waiting + 1
    else
      skipped = skipped + 1
    end
  end
end
if waiting > 0 then
  redis.call('HSET', KEYS[2], 'waiting', table.concat(line, ' '))
end
redis.call('ZADD', KEYS[4], ARGV[5], definition)
redis.call('HSET', KEYS[2], 'next_fire_at', ARGV[4])
redis.call('HINCRBY', KEYS[2], 'missed', ARGV[6])
redis.call('HINCRBY', KEYS[2], 'skipped', skipped)
return {'', fired, skipped, waiting}
