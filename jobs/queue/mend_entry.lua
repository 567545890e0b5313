-- mend_entry.lua: an entry of an index that leads to nothing.
-- KEYS 1 the index: list, set or zset  2.. the keys to any of which it may lead
-- ARGV 1 '1' to remove it  2 the entry  3 the member that KEYS 2, a zset, must have; left out: the keys need only exist
-- RETURNS 1 it leads to nothing, 0 it leads somewhere or is not there
-- COST O(n) in the length of a list, else O(log n)
local FIND = {list = 'LPOS', set = 'SISMEMBER', zset = 'ZSCORE'}
local index, entry, member = KEYS[1], ARGV[2], ARGV[3]
local kind = redis.call('TYPE', index).ok
local found = FIND[kind] and redis.call(FIND[kind], index, entry)
if not found or kind == 'set' and found == 0 then
  return 0
end
for i = 2, #KEYS do
  if not member and redis.call('EXISTS', KEYS[i]) == 1 or member and redis.call('ZSCORE', KEYS[i], member) then
    return 0
  end
end
if ARGV[1] == '1' then
  if kind == 'list' then
    redis.call('LREM', index, 0, entry)
  else
    redis.call(kind == 'set' and 'SREM' or 'ZREM', index, entry)
  end
end
return 1
