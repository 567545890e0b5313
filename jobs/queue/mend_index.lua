-- mend_index.lua: something that its index does not name.
-- KEYS 1 the thing  2 its index: a zset, or with an empty score a set
-- ARGV 1 the entry  2 its score  3 '1' to add it  4 a field of the thing, a hash, and 5.. the values with which it belongs there;
--      without them it always does
-- RETURNS 1 it is not named, 0 it is, need not be, or does not exist
-- COST O(log n)
local entry, score = ARGV[1], ARGV[2]
local belongs = redis.call('EXISTS', KEYS[1]) == 1
if belongs and ARGV[4] then
  local value = redis.call('HGET', KEYS[1], ARGV[4])
  belongs = false
  for i = 5, #ARGV do
    belongs = belongs or value == ARGV[i]
  end
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
if ARGV[3] == '1' then
  if score == '' then
    redis.call('SADD', KEYS[2], entry)
  else
    redis.call('ZADD', KEYS[2], score, entry)
  end
end
return 1
