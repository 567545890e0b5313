-- pick_job.lua: library: the batch job that empties the pick buffer.
--
-- turnstile:pick:job names the one that is due. The first order enqueues it, later ones pile up behind it.

local function want_pick_job(job_id, queue, fields, now)
  if redis.call('EXISTS', 'turnstile:pick:job') == 0 then
    redis.call('SET', 'turnstile:pick:job', job_id)
    enqueue(job_id, queue, fields, now)
  end
end
