--! include push.lua
--! include batch.lua
--! include alive.lua
-- batch_next.lua: a batch job is through, or was lost: the next one is enqueued while items wait. The hash of a lost one goes
-- when its time is over; a stock worker that has it all the same, and stands still, changes nothing with it and deletes it earlier.
-- KEYS 1 the list of items  2 the key that names the job that is due
-- ARGV 1 the id of the job that is through; empty: whichever is due, if it is lost  2 next job's id  3 queue  4 fields  5 now (s)
--      6 seconds to keep a lost job
-- RETURNS when the next one was enqueued, the id of the job whose place it took, or 'none'; else nil
-- COST O(1), for a job that may be lost O(length of the queue)
local due = redis.call('GET', KEYS[2])
if ARGV[1] ~= '' and due ~= ARGV[1] or ARGV[1] == '' and due and condition(due, ARGV[3]) == 'live' then
  return nil
end
local was = ARGV[1] == '' and due and redis.call('HGET', 'rq:job:' .. due, 'status')
if was == 'queued' or was == 'started' or was == 'scheduled' then
  redis.call('HSET', 'rq:job:' .. due, 'status', 'canceled', 'reason', 'lost')
  redis.call('EXPIRE', 'rq:job:' .. due, ARGV[6])
end
batch_next(KEYS[2], KEYS[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]))
return redis.call('EXISTS', KEYS[2]) == 1 and (due or 'none') or nil
