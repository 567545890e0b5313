-- mend_expiry.lua: a key that has no expiry, though all of its kind have one.
-- KEYS 1 the key
-- ARGV 1 '1' to give it one  2 its expiry (s)
-- RETURNS 1 it has none, 0 it has one, or is not there
-- COST O(1)
if redis.call('TTL', KEYS[1]) ~= -1 then
  return 0
end
if ARGV[1] == '1' then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
return 1
