-- mend_entry.lua: an entry of an index that leads to nothing.
-- KEYS 1 the index: list, set or zset  2.. the keys to any of which it may lead
-- ARGV 1 the entry  2 the member that KEYS 2, a zset, must have; empty: the keys need only exist  3 '1' to remove it
-- RETURNS 1 it leads to nothing, 0 it leads somewhere or is not there
-- COST O(n) in the length of a list, else O(log n)
local FIND = {list = 'LPOS', set = 'SISMEMBER', zset = 'ZSCORE'}
local index, entry = KEYS[1], ARGV[1]
local kind = redis.call('TYPE', index).ok
local found = FIND[kind] and redis.call(FIND[kind], index, entry)
if not found or kind == 'set' and found == 0 then
  return 0
end
for i = 2, #KEYS do
  if ARGV[2] == '' and redis.call('EXISTS', KEYS[i]) == 1 or ARGV[2] ~= '' and redis.call('ZSCORE', KEYS[i], ARGV[2]) then
    return 0
  end
end
if ARGV[3] == '1' then
  if kind == 'list' then
    redis.call('LREM', index, 0, entry)
  else
    redis.call(kind == 'set' and 'SREM' or 'ZREM', index, entry)
  end
end
return 1
