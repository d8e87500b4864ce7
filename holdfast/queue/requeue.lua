-- Moves a delivery to the end of a stream, with its attempt. Answers 0 if another process has done so before.
-- KEYS: stream it was delivered from, stream it goes to. ARGV: group, delivery's entry, order, attempt.
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('XDEL', KEYS[1], ARGV[2])
redis.call('XADD', KEYS[2], '*', 'order', ARGV[3], 'attempt', ARGV[4])
return 1
