-- rl_control.lua - what the whole fleet is told, and what stays of it. Partition 0.
--
-- KEYS    1  {tag}:c   2  {tag}:r
-- ARGV    1  host id   2  row   3  the caller in words   4  the request
-- Answer  bytes

return redis.error_reply('ERR rl_control: no such request')
