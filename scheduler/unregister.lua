-- unregister.lua: removes a periodic job that is in the table no longer, with its record; a run that was fired goes on.
-- KEYS 1 rq:job:<definition>  2 turnstile:periodic:<name>  3 turnstile:periodic:<name>:runs  4 turnstile:periodic
--      5 rq:scheduler:scheduled_jobs
-- ARGV 1 name  2 definition
-- RETURNS 1 removed, 0 was not there
-- COST O(log n)
redis.call('ZREM', KEYS[5], ARGV[2])
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
return redis.call('SREM', KEYS[4], ARGV[1])
