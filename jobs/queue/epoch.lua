-- epoch.lua: library that goes in front of every script that a leading scheduler sends: a leader of old, which was frozen and woke
-- up, moves nothing.
-- The epoch is the last of ARGV, and is taken off.
if redis.call('GET', 'turnstile:scheduler:epoch') ~= table.remove(ARGV) then
  return redis.error_reply('STALE another scheduler leads')
end
