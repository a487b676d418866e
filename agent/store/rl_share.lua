-- rl_share.lua - what each host has to show of one key to all the others: the audit's logs. Nothing
-- that decides reads it.
--
-- KEYS    1  {tag}:a:NAME  HASH  row -> its log
-- ARGV    1  row   2  its log   3  how long logs are of use, ms
-- Answer  the logs of all rows, each behind its length
--
-- A log begins with when it was made, us of this server's clock as its host knows it. Those that are
-- older than they are of use go, and those made in the time to come: of before the clock was set back.

if redis.replicate_commands then
	redis.replicate_commands()
end

local MADE, LENGTH = '<I8', '<I4'
local AHEAD_US = 5000000
local key, row, log, keep = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])

if #log < 8 or not keep then
	return redis.error_reply('ERR rl_share: this is no log')
end
local made = struct.unpack(MADE, log)
local rows = redis.pcall('HGETALL', key)
if rows.err then
	redis.call('DEL', key)
	rows = {}
end

local logs = { struct.pack(LENGTH, #log) .. log }
for i = 1, #rows, 2 do
	local other = rows[i + 1]
	local at = #other >= 8 and struct.unpack(MADE, other) or 0
	if rows[i] == row then
		other = nil -- the new one is there already
	elseif at + keep * 1000 < made or at > made + AHEAD_US then
		redis.call('HDEL', key, rows[i])
	else
		logs[#logs + 1] = struct.pack(LENGTH, #other) .. other
	end
end
redis.call('HSET', key, row, log)
redis.call('PEXPIRE', key, string.format('%.0f', keep))
return table.concat(logs)
