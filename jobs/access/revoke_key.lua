--! include trail.lua
-- revoke_key.lua: deletes a key. The web processes notice when they read the keys that they know again.
-- KEYS 1 turnstile:api-keys  2 turnstile:api-keys:used  3 turnstile:audit
-- ARGV 1 id  2 now (s)  3 who
-- RETURNS 1 deleted, 0 there is none
-- COST O(1)
redis.call('HDEL', KEYS[2], ARGV[1])
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then
  return 0
end
note(ARGV[2], 'revoke key', ARGV[3], ARGV[1])
return 1
