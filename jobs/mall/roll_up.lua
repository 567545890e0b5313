-- roll_up.lua: sums one day's minutes up to hours, as absolute sums; safe to run any number of times.
-- KEYS 1 turnstile:footfall:minute:<day>  2 turnstile:footfall:hour:<day>  3 turnstile:footfall:dirty
-- ARGV 1 day
-- RETURNS the number of minute fields read
-- COST O(minutes of the day x gates x directions)
local minutes = redis.call('HGETALL', KEYS[1])
local hours = {}
for i = 1, #minutes, 2 do
  local hour, rest = string.match(minutes[i], '^(%d+):%d+(|.*)$')
  hours[hour .. rest] = (hours[hour .. rest] or 0) + tonumber(minutes[i + 1])
end
for field, people in pairs(hours) do
  redis.call('HSET', KEYS[2], field, people)
end
redis.call('SREM', KEYS[3], ARGV[1])
return #minutes / 2
