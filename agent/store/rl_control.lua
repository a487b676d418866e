-- rl_control.lua - what the whole fleet is told: two documents that agents swap for others, and
-- which agent has taken which. Partition 0.
--
-- What is in a document is the agents' own matter (agent/orders/doc.h). A document has a tip, TIP_SIZE
-- bytes that are new with each swap: who knows the tip knows the text. A swap names the tip that is
-- to be there, so of two agents that change one document at once the second is told, and what it
-- sends twice is done once.
--
-- KEYS    1  {tag}:c  HASH  "0", "1" -> text of a document: orders, rules;  "t0", "t1" -> its tip
--         2  {tag}:r  HASH  row -> the two tips it goes by
--         3  {tag}:h  ZSET  row -> last seen, ms: rl_sync.lua's
-- ARGV    1  host id   2  row   3  the caller in words   4  ASK, and for a swap SWAP and the text
-- Answer  ANSWER and the texts that the caller does not know, in bytes
-- Anything else in KEYS[1] is an error, which changes nothing.

if redis.replicate_commands then
	redis.replicate_commands()
end

-- silence after which a row is dead, ms; flags; tips that the caller knows, and those it goes by
local ASK, ASK_SIZE = '<I4I4c16c16c16c16', 72
local COUNT, REPORT, SWAP_0, SWAP_1 = 1, 2, 4, 8 -- flags, each alone in its bit
-- the tip that is to be there, and the new one
local SWAP, SWAP_SIZE = '<c16c16', 32
-- now ms; 1 the swap is done (or was), 2 it is not, 0 none was asked; live rows, and how many of them
-- go by each document as it is; tips; bytes of the texts that follow
local ANSWER = '<I8I4I4I4I4c16c16I4I4'
local TIP_SIZE, NO_TIP = 16, ('0'):rep(16)
local TEXT_MAX = 1048576
local KEEP_MS = '60000' -- reports of a fleet that is gone

local call = redis.call
local ask = ARGV[4]
if #ask < ASK_SIZE then
	return redis.error_reply('ERR rl_control: the request is too short')
end
local silence, flags, known_0, known_1, has_0, has_1 = struct.unpack(ASK, ask)
local known = { known_0, known_1 }

local function has(flag)
	return flags % (2 * flag) >= flag
end

local function refuse(what)
	return redis.error_reply('RLCONTROL ' .. KEYS[1] .. ' holds ' .. what
		.. ': something else wrote there; DEL it, and the agents write what they have')
end

local kept = redis.pcall('HMGET', KEYS[1], 't0', 't1')
if kept.err then
	if kept.err:find('WRONGTYPE', 1, true) then
		return refuse('no hash')
	end
	return kept
end
local tip = { kept[1] or NO_TIP, kept[2] or NO_TIP }
if #tip[1] ~= TIP_SIZE or #tip[2] ~= TIP_SIZE then
	return refuse('a tip that is none')
end

local swapped = 0
local which = has(SWAP_0) and 1 or has(SWAP_1) and 2
if which then
	if #ask < ASK_SIZE + SWAP_SIZE or #ask > ASK_SIZE + SWAP_SIZE + TEXT_MAX then
		return redis.error_reply('ERR rl_control: the swap has a wrong length')
	end
	local expected, new = struct.unpack(SWAP, ask, ASK_SIZE + 1)
	if tip[which] == expected then
		call('HSET', KEYS[1], which - 1, ask:sub(ASK_SIZE + SWAP_SIZE + 1), 't' .. which - 1, new)
		tip[which], known[which] = new, new
	end
	swapped = tip[which] == new and 1 or 2
end

local text = { '', '' }
for i = 1, 2 do
	if tip[i] ~= known[i] and tip[i] ~= NO_TIP then
		text[i] = call('HGET', KEYS[1], i - 1) or ''
		if #text[i] > TEXT_MAX then
			return refuse('a text of ' .. #text[i] .. ' bytes')
		end
	end
end

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local row = ARGV[2]
if has(REPORT) then
	if type(redis.pcall('HSET', KEYS[2], row, has_0 .. has_1)) == 'table' then
		call('DEL', KEYS[2]) -- of another type
		call('HSET', KEYS[2], row, has_0 .. has_1)
	end
	call('PEXPIRE', KEYS[2], KEEP_MS)
end

-- A row of a host that is gone may stand beside those that live until its silence is over.
local live, with = 0, { 0, 0 }
local function count()
	local reports, told = redis.pcall('HGETALL', KEYS[2]), {}
	for i = 1, #reports, 2 do
		told[reports[i]] = reports[i + 1]
	end
	told[row] = has_0 .. has_1
	local rows = redis.pcall('ZRANGEBYSCORE', KEYS[3], now - silence, '+inf')
	local counted = {}
	rows[#rows + 1] = row
	for _, name in ipairs(rows) do
		local tips = not counted[name] and told[name] or ''
		live = live + (counted[name] and 0 or 1)
		with[1] = with[1] + (tips:sub(1, TIP_SIZE) == tip[1] and 1 or 0)
		with[2] = with[2] + (tips:sub(TIP_SIZE + 1) == tip[2] and 1 or 0)
		counted[name] = true
	end
	for name in pairs(told) do
		if not counted[name] then
			call('HDEL', KEYS[2], name)
		end
	end
end
if has(COUNT) then
	count()
end

return struct.pack(ANSWER, now, swapped, live, with[1], with[2], tip[1], tip[2], #text[1], #text[2])
	.. text[1] .. text[2]
