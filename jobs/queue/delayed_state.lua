--! include delayed.lua
-- delayed_state.lua: what waits for its time, counted, and how late the scheduler is with it.
-- KEYS 1 rq:queues  2 turnstile:periodic  3 rq:scheduler:scheduled_jobs
-- RETURNS [seconds by which the earliest due time, of definitions as well, lies behind the server's clock; set, jobs in it, ...]
--      the definitions of periodic jobs are not counted as jobs
-- COST O(k log n + p) for k queues and p periodic jobs
local time = redis.call('TIME')
local lag, counts = 0, {}

local function look(set, besides)
  local first = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')
  lag = math.max(lag, first[2] and time[1] + time[2] / 1000000 - first[2] or 0)
  counts[#counts + 1] = set
  counts[#counts + 1] = redis.call('ZCARD', set) - besides
end

local definitions = 0
for _, name in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  definitions = definitions + (redis.call('ZSCORE', KEYS[3], 'cron-' .. name) and 1 or 0)
end
look(KEYS[3], definitions)
for _, key in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  look('rq:scheduled:' .. string.sub(key, 10), 0)
end
return {string.format('%.6f', lag), unpack(counts)}
