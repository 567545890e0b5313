-- trail.lua: library for every script that does what an operator asked for: the entry in the audit trail comes with the deed.

local function note(at, what, who, target)
  redis.call('XADD', 'turnstile:audit', 'MAXLEN', '~', 10000, '*', 'at', at, 'what', what, 'who', who, 'target', target)
end
