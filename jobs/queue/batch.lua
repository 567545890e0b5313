-- batch.lua: library, after push.lua: a list of items and the job that is due to empty it. The due key names that job.
-- The first item enqueues it; what comes while it waits or runs piles up and is taken together; at its end it hands over.

-- Makes sure that a job is due. With `linger` (s) a new one is held for so long, so that more items come together.
local function batch_want(due_key, job_id, queue, fields, now, linger)
  if redis.call('EXISTS', due_key) == 1 then
    return
  end
  redis.call('SET', due_key, job_id)
  if (linger or 0) > 0 then
    hold(job_id, queue, fields, now + linger, 'rq:scheduled:' .. queue)
  else
    enqueue(job_id, queue, fields, now)
  end
end

-- Whether it is this job that is due. Any other one - a duplicate, a zombie, one that was redriven - must change nothing.
local function batch_due(due_key, job_id)
  return redis.call('GET', due_key) == job_id
end

-- The job that is due is through: the next one takes its place while items wait.
local function batch_next(due_key, items, job_id, queue, fields, now, linger)
  redis.call('DEL', due_key)
  if redis.call('LLEN', items) > 0 then
    batch_want(due_key, job_id, queue, fields, now, linger)
  end
end
