--! include push.lua
--! include unique.lua
-- enqueue.lua: creates jobs, each on its queue or held until it is due. One whose id exists stays as it is, and a unique one
-- whose lock another job has is not created.
-- KEYS 1 rq:scheduler:scheduled_jobs  2.. the locks of the unique jobs among them, in their order
-- ARGV 1 now (s)  2.. for each job: id, queue, due_at (s) or empty for at once, how long it is unique (empty for not at all,
--      'done' for until it has ended, or seconds), how many of the next are its hash: field, value, field, value, ...
-- RETURNS for each job 1 created, 0 its id exists already, or the id of the job that has its lock
-- COST O(n), O(n log m) for held ones
local now, next_lock, i = tonumber(ARGV[1]), 2, 2
local answers, created, places, job_keys = {}, {}, {}, {}
while i < #ARGV do
  job_keys[#job_keys + 1] = 'rq:job:' .. ARGV[i]
  i = i + 5 + ARGV[i + 4]
end
local any_known = redis.call('EXISTS', unpack(job_keys)) > 0
i = 2
for n, key in ipairs(job_keys) do
  local id, queue, due_at, lasts, parts = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3], ARGV[i + 4]
  local answer = (created[key] or any_known and redis.call('EXISTS', key) == 1) and 0 or 1
  if lasts ~= '' then
    answer = answer == 1 and lock(KEYS[next_lock], id, lasts, due_at and due_at - now or 0) or answer
    next_lock = next_lock + 1
  end
  if answer == 1 then
    created[key] = true
    redis.call('HSET', key, unpack(ARGV, i + 5, i + 4 + parts))
    if due_at then
      redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
      redis.call('ZADD', KEYS[1], due_at, id)
    else
      places[queue] = places[queue] or {}
      places[queue][#places[queue] + 1] = id
    end
  end
  answers[n] = answer
  i = i + 5 + parts
end
for queue, ids in pairs(places) do
  announce(queue, now, #ids, redis.call('RPUSH', 'rq:queue:' .. queue, unpack(ids)))
end
return answers
