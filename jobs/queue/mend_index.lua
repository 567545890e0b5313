-- mend_index.lua: something that its index does not name.
-- KEYS 1 the thing  2 its index: a zset, or without a score a set
-- ARGV 1 '1' to add it  2 the entry  3 its score, empty for none  4 a field of the thing, a hash, and 5.. the values with which it
--      belongs there; without them it always does
-- RETURNS 1 it is not named, 0 it is, need not be, or does not exist
-- COST O(log n)
local entry, score = ARGV[2], ARGV[3]
local belongs = not ARGV[4] and redis.call('EXISTS', KEYS[1]) == 1
local value = ARGV[4] and redis.call('HGET', KEYS[1], ARGV[4])
for i = 5, #ARGV do
  belongs = belongs or value == ARGV[i]
end
local named
if score == '' then
  named = redis.call('SISMEMBER', KEYS[2], entry) == 1
else
  named = redis.call('ZSCORE', KEYS[2], entry)
end
if not belongs or named then
  return 0
end
if ARGV[1] == '1' and score == '' then
  redis.call('SADD', KEYS[2], entry)
elseif ARGV[1] == '1' then
  redis.call('ZADD', KEYS[2], score, entry)
end
return 1
