-- rl_probe.lua - may the agent's user do all that rl_sync.lua does?
--
-- Run when a connection begins, as a script that is stopped half-way by a missing right leaves
-- half of its work behind. Each command is tried in a way that leaves nothing.
--
-- KEYS    1  a name of this fleet that nothing else uses
-- Answer  the commands that are refused, in lower case; "~" for the key; empty when all is well

if redis.replicate_commands then
	redis.replicate_commands()
end

local key, refused, seen = KEYS[1], {}, {}

local function add(name)
	if not seen[name] then
		seen[name] = true
		refused[#refused + 1] = name
	end
end

-- Any other error (a type, no memory) is no matter of rights. The words of Redis 6 and 7, and those
-- of Valkey and later ones.
local function try(name, ...)
	local reply = redis.pcall(name, ...)
	local why = type(reply) == 'table' and reply.err or ''
	if why:find("can't run", 1, true) or why:find('permissions to run', 1, true) then
		add(name:lower())
	elseif why:find("can't access", 1, true) or why:find('permissions to access', 1, true) then
		add('~')
	end
end

try('TIME')
try('SET', key, 'x', 'PX', 1000)
try('PEXPIRE', key, 1000)
try('EXISTS', key)
try('SETRANGE', key, 0, 'y')
try('MGET', key)
try('DEL', key)
try('HSET', key, 'f', 'x')
try('PEXPIRE', key, 1000)
try('HGET', key, 'f')
try('HMGET', key, 'f')
try('HGETALL', key)
try('HDEL', key, 'f')
try('ZADD', key, 1, 'm')
try('PEXPIRE', key, 1000)
try('ZCOUNT', key, 1, 1)
try('ZRANGEBYSCORE', key, 1, 1)
try('ZREM', key, 'm')
try('DEL', key)
return refused
