--! include push.lua
--! include batch.lua
-- ingest.lua: takes events in: each new one into the buffer, and a count job if none is due.
-- KEYS 1 turnstile:entries  2 turnstile:entries:buffer  3 turnstile:entries:job
-- ARGV 1 now (s)  2 TTL of what was seen (s)  3 count job id  4 queue  5 fields
--      6.. pairs: identity (`e<event_id>` or `s<seq>|<sensor>`), record for the buffer
-- RETURNS a string with '1' for each new event and '0' for each duplicate
-- COST O(events)
local SLOTS = 65536
local ttl = ARGV[2]
local marks, new = {}, {}
for i = 6, #ARGV, 2 do
  local identity = ARGV[i]
  local fresh
  if string.sub(identity, 1, 1) == 'e' then
    fresh = redis.call('SET', 'turnstile:seen:' .. identity, '', 'NX', 'EX', ttl) and true or false
  else
    local seq, sensor = string.match(identity, '^s(%d+)|(.*)$')
    seq = tonumber(seq)
    local key = 'turnstile:seen:s' .. math.floor(seq / SLOTS) .. '|' .. sensor
    fresh = redis.call('SETBIT', key, seq % SLOTS, 1) == 0
    redis.call('EXPIRE', key, ttl)
  end
  marks[#marks + 1] = fresh and '1' or '0'
  if fresh then
    new[#new + 1] = ARGV[i + 1]
  end
end
if #new > 0 then
  for start = 1, #new, 5000 do
    redis.call('RPUSH', KEYS[2], unpack(new, start, math.min(start + 4999, #new)))
  end
  redis.call('HINCRBY', KEYS[1], 'accepted', #new)
  batch_want(KEYS[3], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[1]))
end
return table.concat(marks)
