-- follow.lua: writes what became of a periodic job's runs. A run that is in the list no longer, or was told before, is left out.
-- KEYS 1 turnstile:periodic:<name>:runs
-- ARGV for each run its entry as it was read, and the new one (JSON)
-- RETURNS how many were written
-- COST O(n m) for n of m runs
local written = 0
for i = 1, #ARGV, 2 do
  local place = redis.call('LPOS', KEYS[1], ARGV[i])
  if place then
    redis.call('LSET', KEYS[1], place, ARGV[i + 1])
    written = written + 1
  end
end
return written
