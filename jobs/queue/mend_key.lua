-- mend_key.lua: a key that nothing needs any more and that does not expire by itself.
-- KEYS 1 the key  2 what needs it: a key that exists, or with ARGV 2 a set that has that member
-- ARGV 1 '1' to delete the key  2 the member
-- RETURNS 1 nothing needs it, 0 something does, it expires, or it is not there
-- COST O(1), and what its deletion frees
local needed = ARGV[2] and redis.call('SISMEMBER', KEYS[2], ARGV[2]) or not ARGV[2] and redis.call('EXISTS', KEYS[2])
if needed == 1 or redis.call('TTL', KEYS[1]) ~= -1 then
  return 0
end
if ARGV[1] == '1' then
  redis.call('UNLINK', KEYS[1])
end
return 1
