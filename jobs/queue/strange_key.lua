-- strange_key.lua: whether a key exists and has none of the types that it may have. Writes nothing: nobody knows what is right.
-- KEYS 1 the key
-- ARGV 1 of no meaning  2.. types
-- RETURNS 1 or 0
-- COST O(1)
local kind = redis.call('TYPE', KEYS[1]).ok
for i = 2, #ARGV do
  if kind == ARGV[i] then
    return 0
  end
end
return kind ~= 'none' and 1 or 0
