--! include dead.lua
--! include trail.lua
-- discard.lua: deletes a dead letter with everything that hangs on it. Its effects stand before it in the MULTI, guarded
-- by rq:failed:<q>: it may refuse nothing that they do not.
-- KEYS 1 rq:job:<id>  2 rq:failed:<q>  3 rq:results:<id>
--      for one of many also: 4 turnstile:redrive:<r>  5 turnstile:redrive:<r>:letters
-- ARGV 1 job id  2 now (s)  3 who, empty to note nothing
-- RETURNS 1 discarded, 0 not a dead letter (any more)
-- COST O(log n)
local id, record = ARGV[1], KEYS[4]
if record then
  redis.call('ZREM', KEYS[5], id)
end
local was = redis.call('ZREM', KEYS[2], id)
leave(id)
if was == 0 then
  return 0
end
redis.call('DEL', KEYS[1], KEYS[3])
if record then
  redis.call('HINCRBY', record, 'done', 1)
elseif ARGV[3] ~= '' then
  note(ARGV[2], 'discard', ARGV[3], id)
end
return 1
