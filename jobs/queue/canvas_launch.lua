--! include push.lua
--! include canvas.lua
-- canvas_launch.lua: makes a canvas of nodes that lie ready, and starts it.
-- KEYS 1 turnstile:canvas:<id>  2 the nodes that were laid ready, under a key of this launch
-- ARGV 1 now (s)  2 nodes  3 jobs among them  4 seconds to keep the canvas after its end  5 nodes and templates together
-- RETURNS 1 launched, 0 there is a canvas of this id already, 2 what was laid has expired, at least in part
-- COST O(1), plus the jobs of one hop
local laid = redis.call('HLEN', KEYS[2])
if redis.call('EXISTS', KEYS[1]) == 1 or laid ~= tonumber(ARGV[5]) then
  redis.call('UNLINK', KEYS[2])
  return redis.call('EXISTS', KEYS[1]) == 1 and 0 or 2
end
redis.call('RENAME', KEYS[2], KEYS[1] .. ':nodes')
redis.call('PERSIST', KEYS[1] .. ':nodes')
redis.call('HSET', KEYS[1], 'status', 'running', 'created_at', ARGV[1], 'nodes', ARGV[2], 'total', ARGV[3], 'done', 0,
  'failed', 0, 'outstanding', 0, 'result_ttl', ARGV[4])
redis.call('SETRANGE', KEYS[1] .. ':states', ARGV[2] - 1, '\0')
local c = canvas_at(KEYS[1], ARGV[1])
c.stack = {{0, 0}}
refill(c)
return 1
