-- ghosts.lua: takes out of the next part of one of RQ's registries what leads to no job, and has not done so for a minute: RQ
-- writes some entries before the job that they lead to.
-- KEYS 1 rq:finished:<q>, rq:canceled:<q> or rq:deferred:<q>: scored with the time at which a job is to go, went or came
-- ARGV 1 cursor, 0 to begin  2 how many entries to look at, about  3 now (s)
-- RETURNS [next cursor, 0 at the end; how many were removed]
-- COST O(n log m)
local cursor, entries = unpack(redis.call('ZSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2]))
local removed = 0
for i = 1, #entries, 2 do
  if tonumber(entries[i + 1]) < ARGV[3] - 60 and redis.call('EXISTS', 'rq:job:' .. entries[i]) == 0 then
    removed = removed + redis.call('ZREM', KEYS[1], entries[i])
  end
end
return {cursor, removed}
