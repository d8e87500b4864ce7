-- Writes an order's tally and hints the certifiers, if its job is open, and acknowledges the delivery in any case.
-- Answers 1 if the tally counts, 0 if there was one or the job has ended.
-- KEYS: job, tallies, orders of the model, hints. ARGV: index, tally, group, delivery's entry, job id.
local state = redis.call('HGET', KEYS[1], 'state')
local counted = 0
if state == 'queued' or state == 'running' then
  counted = redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2])
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', 10000, '*', 'job', ARGV[5])
end
redis.call('XACK', KEYS[3], ARGV[3], ARGV[4])
redis.call('XDEL', KEYS[3], ARGV[4])
return counted
