-- rate_limit.lua: lends a web process tokens of a client's rate limit (GCRA: one number, the time at which all are back).
-- KEYS 1 turnstile:rate_limit:<limit>:<client>
-- ARGV 1 time to earn a token (s)  2 tokens at most  3 tokens wanted  4 tokens spent beyond those lent
-- RETURNS [tokens lent, tokens left, seconds until another one (text), seconds until all are back (text)]
-- COST O(1)
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local full_at = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0)) + tonumber(ARGV[4]) * interval
-- A hair more, since sums of floats fall short of a whole token.
local room = math.max(0, math.floor(burst - (full_at - now) / interval + 0.000001))
local lent = math.min(tonumber(ARGV[3]), room)
full_at = full_at + lent * interval
if full_at > now then
  redis.call('SET', KEYS[1], string.format('%.6f', full_at), 'PX', math.ceil((full_at - now) * 1000))
end
local next_in = math.max(0, full_at - (burst - 1) * interval - now)
return {lent, room - lent, string.format('%.6f', next_in), string.format('%.6f', full_at - now)}
