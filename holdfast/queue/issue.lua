-- Hands an order out, unless its index was issued before or its job has ended. Answers 1 if it was handed out.
-- KEYS: job, plan, orders of the model. ARGV: index, order.
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'queued' and state ~= 'running' then return 0 end
if redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'state', 'running')
redis.call('XADD', KEYS[3], '*', 'order', ARGV[2], 'attempt', 1)
return 1
