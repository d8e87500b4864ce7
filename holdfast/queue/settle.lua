-- Writes what a job's workers must share, if it is open and none has before. Answers what stands; nothing if it has ended.
-- KEYS: job, settled. ARGV: fields and values in turn.
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'queued' and state ~= 'running' then return {} end
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('HSET', KEYS[2], unpack(ARGV)) end
return redis.call('HGETALL', KEYS[2])
