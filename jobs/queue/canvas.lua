-- canvas.lua: library for every script that moves a canvas; push.lua comes first.
--
-- A canvas is a tree: jobs, `s` nodes (one child after the other), `p` nodes (all children, their results a list). The nodes are
-- numbered breadth first from 0, so the children of one stand side by side. A node is a text in <canvas>:nodes:
--   j <parent> <template> <takes its input: 1 or 0> <length of args> <args><kwargs>      s|p <parent> <first child> <children>
-- Its state is a byte in <canvas>:states: NUL waits, o open, s started, d done, f failed. What is to be started waits as ranges
-- `first:last` on the stack <canvas>:todo, so that no hop is long: it starts a bounded number of jobs while few are outstanding.
-- Arguments and results are text to be joined and never decoded.

local WINDOW, PER_HOP, BYTES_LIKE_A_JOB, BLOCK = 500, 100, 20000, 100
local PARTS = {'', ':nodes', ':states', ':results', ':failed'}

-- The canvas for the length of one script; nil when there is none (any more).
local function canvas_at(key, now)
  local status, outstanding = unpack(redis.call('HMGET', key, 'status', 'outstanding'))
  if not status then
    return nil
  end
  return {key = key, id = string.match(key, '^turnstile:canvas:(.+)$'), now = tonumber(now), status = status,
    outstanding = tonumber(outstanding), stack = {}, placed = {}, known = {}, inputs = {}, templates = {}}
end

local function state_of(c, node)
  return redis.call('GETRANGE', c.key .. ':states', node, node)
end

local function mark(c, node, state)
  redis.call('SETRANGE', c.key .. ':states', node, state)
end

local function become(c, status)
  c.status = status
  redis.call('HSET', c.key, 'status', status)
end

-- Leaves the index of open canvases; everything is kept for its readers and then expires.
local function close(c, status)
  become(c, status)
  redis.call('HSET', c.key, 'ended_at', c.now)
  redis.call('DEL', c.key .. ':todo')
  redis.call('ZREM', 'turnstile:canvases:open', c.id)
  local ttl = redis.call('HGET', c.key, 'result_ttl')
  for _, part in ipairs(PARTS) do
    redis.call('EXPIRE', c.key .. part, ttl)
  end
end

local function record(c, node)
  local found = c.known[node]
  if not found then
    local text = redis.call('HGET', c.key .. ':nodes', node)
    local kind, parent, a, b, tail = string.match(text, '^(%a) (%-?%d+) (%d+) (%d+) ?(.*)$')
    found = {kind = kind, parent = tonumber(parent), a = tonumber(a), b = tonumber(b), tail = tail}
    if kind ~= 'j' then
      c.known[node] = found
    end
  end
  return found
end

-- What a node is given: in an `s` the result of the sibling before it, elsewhere what its parent is given; '' for nothing.
local function input(c, node, parent)
  if parent < 0 then
    return ''
  end
  local up = record(c, parent)
  if up.kind == 's' and node > up.a then
    return redis.call('HGET', c.key .. ':results', node - 1)
  end
  if not c.inputs[parent] then
    c.inputs[parent] = input(c, parent, up.parent)
  end
  return c.inputs[parent]
end

local function failed(c, node, error)
  mark(c, node, 'f')
  redis.call('HINCRBY', c.key, 'failed', 1)
  if c.status == 'cancelled' then
    return  -- its keys have their expiry; one made now would stay for ever
  end
  redis.call('ZADD', c.key .. ':failed', c.now, node)
  redis.call('HSET', c.key .. ':results', node, error)
  if c.status == 'running' then
    become(c, 'failed')
  end
end

-- A failed node goes on: started again, or done after all.
local function revived(c, node)
  redis.call('ZREM', c.key .. ':failed', node)
  redis.call('HDEL', c.key .. ':results', node)
  if redis.call('HINCRBY', c.key, 'failed', -1) == 0 and c.status == 'failed' then
    become(c, 'running')
  end
end

-- Creates the job of a node and puts it on its queue. Returns the bytes of its call.
local function start_job(c, node, job)
  local template = c.templates[job.a]
  if not template then
    local head, queue, expires_s, fields = unpack(cjson.decode(redis.call('HGET', c.key .. ':nodes', 't' .. job.a)))
    template = {head = head, queue = queue, expires_s = tonumber(expires_s), fields = fields}
    c.templates[job.a] = template
  end
  local length, text = string.match(job.tail, '^(%d+) (.*)$')
  local args, kwargs = string.sub(text, 1, length), string.sub(text, length + 1)
  local given = job.b == 1 and input(c, node, job.parent) or ''
  local comma = given ~= '' and args ~= '' and ',' or ''
  local data = template.head .. given .. comma .. args .. '],' .. kwargs .. ']'
  local id = c.id .. '-' .. node
  local extra = {'data', data, 'canvas', c.id .. ':' .. node, 'status', 'queued', 'enqueued_at', iso(c.now)}
  if template.expires_s then
    extra[#extra + 1] = 'expires_at'
    extra[#extra + 1] = c.now + template.expires_s
  end
  if create(id, template.fields, unpack(extra)) then
    redis.call('RPUSH', 'rq:queue:' .. template.queue, id)
    c.placed[template.queue] = (c.placed[template.queue] or 0) + 1
    c.outstanding = c.outstanding + 1
  else
    failed(c, node, 'a job with the id ' .. id .. ' was there before')
  end
  return #data
end

-- Takes texts of the canvas' results away and joins them.
local function joined(c, fields, open, shut)
  local parts = redis.call('HMGET', c.key .. ':results', unpack(fields))
  redis.call('HDEL', c.key .. ':results', unpack(fields))
  if open then  -- put on before the joining: a list may be long
    parts[1] = open .. parts[1]
    parts[#parts] = parts[#parts] .. shut
  end
  return table.concat(parts, ',')
end

-- A child of the `p` node `parent` has its result. Blocks of children are joined as each becomes complete, whatever the order,
-- so that no script meets all of them one by one. Returns the list once it is whole.
local function gathered(c, parent, up, node, result)
  redis.call('HSET', c.key .. ':results', node, result)
  local block = math.floor((node - up.a) / BLOCK)
  local first = up.a + block * BLOCK
  local last = math.min(first + BLOCK, up.a + up.b) - 1
  local counter = 'left:' .. parent .. ':' .. block
  if redis.call('HINCRBY', c.key, counter, 1) <= last - first then
    return nil
  end
  redis.call('HDEL', c.key, counter)
  local fields = {}
  for child = first, last do
    fields[#fields + 1] = child
  end
  redis.call('HSET', c.key .. ':results', parent .. ':' .. block, joined(c, fields))
  if redis.call('HINCRBY', c.key, 'left:' .. parent, -1) > 0 then
    return nil
  end
  redis.call('HDEL', c.key, 'left:' .. parent)
  local blocks = {}
  for number = 0, math.floor((up.b - 1) / BLOCK) do
    blocks[#blocks + 1] = parent .. ':' .. number
  end
  return joined(c, blocks, '[', ']')
end

-- A node is done: its result goes up the tree as far as it completes nodes, to the next child or to the canvas itself.
local function complete(c, node, result)
  while true do
    mark(c, node, 'd')
    if node == 0 then
      redis.call('HSET', c.key .. ':results', 0, result)
      return close(c, 'finished')
    end
    local parent = record(c, node).parent
    local up = record(c, parent)
    if up.kind == 's' then
      if node > up.a then
        redis.call('HDEL', c.key .. ':results', node - 1)
      end
      if node < up.a + up.b - 1 then
        redis.call('HSET', c.key .. ':results', node, result)
        c.stack[#c.stack + 1] = {node + 1, node + 1}
        return
      end
    else
      result = gathered(c, parent, up, node, result)
      if not result then
        return
      end
    end
    node = parent
  end
end

local function begin(c, node)
  local found = record(c, node)
  mark(c, node, found.kind == 'j' and 's' or 'o')
  if found.kind == 'j' then
    return start_job(c, node, found)
  elseif found.kind == 'p' and found.b == 0 then
    complete(c, node, '[]')
  else
    local last = found.a
    if found.kind == 'p' then
      redis.call('HSET', c.key, 'left:' .. node, math.ceil(found.b / BLOCK))
      last = found.a + found.b - 1
    end
    c.stack[#c.stack + 1] = {found.a, last}
  end
  return 0
end

-- Tells the queues about the jobs that were put on them, and keeps what this script has changed of the canvas.
local function keep(c)
  for queue, n in pairs(c.placed) do
    announce(queue, c.now, n)
  end
  redis.call('HSET', c.key, 'outstanding', c.outstanding)
  if c.status == 'running' or c.status == 'failed' then
    redis.call('ZADD', 'turnstile:canvases:open', c.now, c.id)
  end
end

-- Starts what waits, while few jobs are outstanding and at most so many. With none outstanding it goes on until one is,
-- for nobody would come back for the rest.
local function refill(c)
  local budget = PER_HOP
  while c.status ~= 'finished' and c.status ~= 'cancelled' and c.outstanding < WINDOW and (budget > 0 or c.outstanding == 0) do
    local range = table.remove(c.stack)
    if not range then
      local text = redis.call('LPOP', c.key .. ':todo')
      if not text then
        break
      end
      local first, last = string.match(text, '^(%d+):(%d+)$')
      range = {tonumber(first), tonumber(last)}
    end
    if range[1] < range[2] then
      c.stack[#c.stack + 1] = {range[1] + 1, range[2]}
    end
    budget = budget - 1 - begin(c, range[1]) / BYTES_LIKE_A_JOB
  end
  for _, range in ipairs(c.stack) do
    redis.call('LPUSH', c.key .. ':todo', range[1] .. ':' .. range[2])
  end
  keep(c)
end
