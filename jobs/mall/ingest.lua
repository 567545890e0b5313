--! include push.lua
--! include batch.lua
-- ingest.lua: takes events in: the new ones of a batch as sums into the buffer, and a count job if none is due.
-- An event_id is a 64 bit integer in one of many small sets, which Redis keeps in 8 bytes a member; a sensor's seq is a bit.
-- KEYS 1 turnstile:entries  2 turnstile:entries:buffer  3 turnstile:entries:job
-- ARGV 1 now (s)  2 how long what is noted now is kept (s)  3 window to note it in  4 and 5 other windows to look into
--      6 count job id  7 queue  8 fields  9 n, how many sums follow
--      10.. n texts `<minute>|<local day>|<open>|<direction>|<gate>`
--      and for each event: place (`e<bucket>` or `s<block>|<sensor>`), number, which of the sums, people
-- RETURNS a string with '1' for each new event and '0' for each duplicate
-- COST O(events)
local call, sub = redis.call, string.sub
local kept, first = ARGV[2], 9 + ARGV[9]
local ids = 'turnstile:seen:e:' .. ARGV[3] .. ':'
local ids_before, ids_after = 'turnstile:seen:e:' .. ARGV[4] .. ':', 'turnstile:seen:e:' .. ARGV[5] .. ':'
local seqs = 'turnstile:seen:s:' .. ARGV[3] .. ':'
local seqs_before, seqs_after = 'turnstile:seen:s:' .. ARGV[4] .. ':', 'turnstile:seen:s:' .. ARGV[5] .. ':'
local near = ARGV[4] ~= ARGV[5]

local function new_id(bucket, number)
  if call('SISMEMBER', ids_before .. bucket, number) == 1 or near and call('SISMEMBER', ids_after .. bucket, number) == 1 then
    return false
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
  if call('GETBIT', seqs_before .. block, place) == 1 or near and call('GETBIT', seqs_after .. block, place) == 1 then
    return false
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
  for i = 1, first - 9 do
    local n = events[tostring(i)]
    if n then
      call('RPUSH', KEYS[2], ARGV[1] .. '|' .. n .. '|' .. people[tostring(i)] .. '|' .. ARGV[9 + i])
    end
  end
  call('HINCRBY', KEYS[1], 'accepted', new)
  batch_want(KEYS[3], ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[1]))
end
return table.concat(marks)
