--! include push.lua
--! include batch.lua
-- ingest.lua: takes events in: the new ones of a batch as sums into the buffer, and a count job if none is due.
-- An event_id is a 64 bit integer in one of many small sets, which Redis keeps in 8 bytes a member; a sensor's seq is a bit.
-- KEYS 1 turnstile:entries  2 turnstile:entries:buffer  3 turnstile:entries:job  4 turnstile:entries:windows
-- ARGV 1 now (s)  2 how long what is noted now is kept (s)  3 window to note it in: until when it is looked into
--      4 count job id  5 queue  6 fields  7 n, how many sums follow
--      8.. n texts `<minute>|<local day>|<open>|<direction>|<gate>`
--      and for each event: place (`e<bucket>` or `s<block>|<sensor>`), number, which of the sums, people
-- RETURNS a string with '1' for each new event and '0' for each duplicate
-- COST O(events * windows), which are two unless the settings have changed
local call, sub = redis.call, string.sub
local kept, window, first = ARGV[2], ARGV[3], 7 + ARGV[7]
local ids, seqs = 'turnstile:seen:e:' .. window .. ':', 'turnstile:seen:s:' .. window .. ':'
local other_ids, other_seqs, listed = {}, {}, false
for _, other in ipairs(call('ZRANGEBYSCORE', KEYS[4], '(' .. ARGV[1], '+inf')) do
  if other == window then
    listed = true
  else
    other_ids[#other_ids + 1], other_seqs[#other_seqs + 1] = 'turnstile:seen:e:' .. other .. ':', 'turnstile:seen:s:' .. other .. ':'
  end
end

local function new_id(bucket, number)
  for i = 1, #other_ids do
    if call('SISMEMBER', other_ids[i] .. bucket, number) == 1 then
      return false
    end
  end
  local key = ids .. bucket
  if call('SADD', key, number) == 0 then
    return false
  end
  if call('SCARD', key) == 1 then
    call('EXPIRE', key, kept)
  end
  return true
end

local function new_seq(block, place)
  for i = 1, #other_seqs do
    if call('GETBIT', other_seqs[i] .. block, place) == 1 then
      return false
    end
  end
  local key = seqs .. block
  local known = call('EXISTS', key)
  if call('SETBIT', key, place, 1) == 1 then
    return false
  end
  if known == 0 then
    call('EXPIRE', key, kept)
  end
  return true
end

local marks, new, events, people = {}, 0, {}, {}
for i = first + 1, #ARGV, 4 do
  local place, number, sum = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local fresh
  if sub(place, 1, 1) == 'e' then
    fresh = new_id(sub(place, 2), number)
  else
    fresh = new_seq(sub(place, 2), number)
  end
  if fresh then
    new = new + 1
    events[sum] = (events[sum] or 0) + 1
    people[sum] = (people[sum] or 0) + ARGV[i + 3]
    marks[#marks + 1] = '1'
  else
    marks[#marks + 1] = '0'
  end
end
if new > 0 then
  if not listed then
    call('ZREMRANGEBYSCORE', KEYS[4], '-inf', ARGV[1])
    call('ZADD', KEYS[4], window, window)
  end
  for i = 1, first - 7 do
    local n = events[tostring(i)]
    if n then
      call('RPUSH', KEYS[2], ARGV[1] .. '|' .. n .. '|' .. people[tostring(i)] .. '|' .. ARGV[7 + i])
    end
  end
  call('HINCRBY', KEYS[1], 'accepted', new)
  batch_want(KEYS[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[1]))
end
return table.concat(marks)
