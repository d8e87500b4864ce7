-- Counts a question among a client's distinct ones to a model, forgets those asked longer ago than the retention time,
-- and writes their number into the job's record. Answers it.
-- KEYS: asked, job. ARGV: the question's digest, seconds since the epoch, retention in seconds.
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[2] - ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[3])
local number = redis.call('ZCARD', KEYS[1])
redis.call('HSET', KEYS[2], 'questions_asked', number)
return number
