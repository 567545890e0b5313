--! include delayed.lua
-- delayed_page.lua: the jobs that wait for their time after a place, of all sets together: the next due first, equal ones by id.
-- KEYS the sets of delayed jobs
-- ARGV 1 due_at (s)  2 id: the place, '-inf' and nothing for the beginning  3 how many are looked at
-- RETURNS [id, due_at (s), [task, queue, description, failures, owned]; a definition's and a dangling id's are no fields, ...]
-- COST O(k log^2 n + k m log m) for m wanted of k sets, wherever the place is
local due_at, id, wanted = ARGV[1], ARGV[2], tonumber(ARGV[3])

-- As Redis orders members; Lua's own comparison follows the server's locale.
local function later(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then
      return x > y
    end
  end
  return #a > #b
end

-- How many members of the set do not come after the place; the one on which it stands may be gone.
local function passed(set)
  local low = redis.call('ZCOUNT', set, '-inf', '(' .. due_at)
  local high = low + redis.call('ZCOUNT', set, due_at, due_at)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if later(redis.call('ZRANGE', set, middle, middle)[1], id) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

local found = {}
for _, set in ipairs(KEYS) do
  local from = passed(set)
  local part = redis.call('ZRANGE', set, from, from + wanted - 1, 'WITHSCORES')
  for i = 1, #part, 2 do
    found[#found + 1] = {id = part[i], due_at = part[i + 1], at = tonumber(part[i + 1])}
  end
end
table.sort(found, function(a, b)
  return a.at < b.at or a.at == b.at and later(b.id, a.id)
end)
local page = {}
for i = 1, math.min(wanted, #found) do
  local job = found[i]
  local fields = not defines(job.id) and redis.pcall('HMGET', 'rq:job:' .. job.id, 'task', 'origin', 'description', 'failures', 'owned')
  page[#page + 1] = job.id
  page[#page + 1] = job.due_at
  page[#page + 1] = fields and not fields.err and fields or {}
end
return page
