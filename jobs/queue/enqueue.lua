--! include push.lua
--! include unique.lua
-- enqueue.lua: creates jobs, each on its queue or held until it is due. One whose id exists stays as it is, and a unique one
-- whose lock another job has is not created.
-- KEYS 1 rq:scheduler:scheduled_jobs  2.. the locks of the unique jobs among them, in their order
-- ARGV 1 now (s)  2.. for each job: id, queue, fields (JSON array), due_at (s) or empty for at once,
--      how long it is unique: empty for not at all, 'done' for until it has ended, or seconds
-- RETURNS for each job 1 created, 0 its id exists already, or the id of the job that has its lock
-- COST O(n), O(n log m) for held ones
local now, next_lock = tonumber(ARGV[1]), 2
local enqueued_at = iso(now)
local answers, placed, lengths = {}, {}, {}
for i = 2, #ARGV, 5 do
  local id, queue, fields, due_at, lasts = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3]), ARGV[i + 4]
  local holder
  if lasts ~= '' then
    if redis.call('EXISTS', 'rq:job:' .. id) == 0 then
      holder = lock(KEYS[next_lock], id, lasts, due_at and due_at - now or 0)
    end
    next_lock = next_lock + 1
  end
  if holder then
    answers[#answers + 1] = holder
  elseif due_at then
    answers[#answers + 1] = hold(id, queue, fields, due_at, KEYS[1]) and 1 or 0
  else
    local length = place(id, queue, fields, enqueued_at)
    if length then
      placed[queue], lengths[queue] = (placed[queue] or 0) + 1, length
    end
    answers[#answers + 1] = length and 1 or 0
  end
end
for queue, n in pairs(placed) do
  announce(queue, now, n, lengths[queue])
end
return answers
