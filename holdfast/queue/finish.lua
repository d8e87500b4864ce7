-- Ends an open job: its outcome in its record and its events, its input, plan and settled values gone, the rest kept
-- for the retention time. Answers 0 if it had ended already.
-- KEYS: job, input, plan, tallies, events, active jobs, settled.
-- ARGV: job id, outcome, time, field, its value, retention in seconds, data of the last event.
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'queued' and state ~= 'running' then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'finished_at', ARGV[3], ARGV[4], ARGV[5])
redis.call('DEL', KEYS[2], KEYS[3], KEYS[7])
redis.call('SREM', KEYS[6], ARGV[1])
redis.call('XADD', KEYS[5], 'MAXLEN', '~', 1000, '*', 'event', ARGV[2], 'data', ARGV[7])
for _, key in ipairs({KEYS[1], KEYS[4], KEYS[5]}) do redis.call('EXPIRE', key, ARGV[6]) end
return 1
