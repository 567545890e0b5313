-- mend_key.lua: a key that nothing needs any more and that does not expire by itself.
-- KEYS 1 the key  2 what needs it: a key that exists, or with ARGV 1 a set that has that member
-- ARGV 1 the member; empty for none  2 '1' to delete the key
-- RETURNS 1 nothing needs it, 0 something does, it expires, or it is not there
-- COST O(1), and what its deletion frees
local needed
if ARGV[1] == '' then
  needed = redis.call('EXISTS', KEYS[2])
else
  needed = redis.call('SISMEMBER', KEYS[2], ARGV[1])
end
if needed == 1 or redis.call('TTL', KEYS[1]) ~= -1 then
  return 0
end
if ARGV[2] == '1' then
  redis.call('UNLINK', KEYS[1])
end
return 1
