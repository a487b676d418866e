-- rl_sync.lua - one batch of one host and partition: takes what the host admitted, lends credit.
--
-- Called by EVALSHA on Redis 5..8 and Valkey, atomic as any script. The promise it keeps for every
-- key: a lease is given only while
--
--     units in the window + credit that any host holds or may still receive  <=  L
--
-- so whatever hosts spend without asking was set aside here before. A unit moves from a lease to
-- the window when it is reported, never dated earlier than it was spent. What a host may hold
-- unrecorded ("blind", 0 for strict rules) is what it may exceed L by, and all it may.
--
-- KEYS  1  {tag}:s     HASH  row -> its last batch and the answer;  "@HOST" -> who called last
--                            under this host id;  "now" -> newest time of the partition, ms;
--                            "format" -> FORMAT;  "ends" -> when this and {tag}:h end, ms
--       2  {tag}:h     ZSET  row -> last seen, ms
--       then for each item
--          {tag}:k:ID  STRING  all of a key: HEAD, leases of up to ROOM rows, a ring of groups
--       then for each item, or for none
--          {tag}:l:ID  HASH    row -> lease (SPILL): of those that found no room there
-- ARGV  1  host id    2  row, "HOST:EPOCH": one life of the host's segment
--       3  the caller in words    4  BATCH    5  ITEMs, one behind the other
-- Answer  { status, now ms, live rows, other, answers }, answers: an ANSWER per item, in order
--       status  0 applied   1 applied before, nothing changed   -1 an older batch than the last
--               2 a CHAINED one whose predecessor is not here: the only ANSWER's tag is the number
--               of the last one that is, or 0
--               -2 the number of the last batch on another one: two live hosts share a segment's
--               identity;  for 2, -1 and -2 nothing is changed and answers is empty
--       other   who else uses this host id now, in their words, or empty
-- A malformed call is an error and changes nothing. So is a partition of another FORMAT: agents of
-- two releases that store differently would each take the other's records for damaged.
--
-- The names of the hashes may be left out by a fleet of few hosts, which hardly ever uses them:
-- naming them costs as much as reading the keys. They are then made here, in the same slot.
--
-- HOW IT IS WRITTEN. A key costs some 400 steps of Lua's, of 10 to 15 ns, and a call of any C
-- function as much as eight of them; each byte of a string that is made or read costs about 3 ns, as
-- Redis' Lua hashes it. So what every key goes through stands in one loop, where all is in
-- registers, and what few need stands in functions above it.

-- Redis 5 and 6 refuse to write after TIME unless effects are replicated; later ones always do.
if redis.replicate_commands then
	redis.replicate_commands()
end

local pack, from_bytes = struct.pack, struct.unpack
local ceil, exp, min, max = math.ceil, math.exp, math.min, math.max
local find, sub = string.find, string.sub
local call = redis.call
local keys = KEYS

-- sequence, nonce, silence after which a host's leases are charged, flags, now or 0
local BATCH, BATCH_SIZE = '<I8c8I4I4I8', 32
local KEEP_TOTALS = 1 -- flag of a batch: count every unit ever reported, for tests
local HAS_PIECES = 2 -- ... some items have pieces behind them
local CHAINED = 4 -- ... the one before it was answered
-- terms, tag, units, age of the last of them ms, credit, demand, waiting, flags + 256 * pieces
local ITEM, ITEM_SIZE = '<c20I8I8I8I4I8I4I4', 64
-- L, W ms, T ms, blind: of many items of a batch the same
local TERMS = '<I4I8I4I4'
local PUSH_ONLY = 1 -- flag of an item: take what is reported, grant nothing
-- ... an item with PUSH_ONLY, of a rule without leases: say when what is in the window leaves it
local REPORT = 2
-- ... besides: behind the item's pieces stands one that is none. What was admitted longer ago than
-- its age is forgotten; leases are not
local FORGET = 4
-- Behind an item, when its units were admitted over a longer time (an outage): units of that time,
-- age of the last of them; oldest first, and those that are older than W left out.
local PIECE, PIECE_SIZE = '<I8I8', 16
-- tag, grant, flags, retry ms, units in the window, leases of others, 0. For REPORT retry and the last
-- are the ms until the first and until all units of the window have left it; 0 when there are none.
local ANSWER, ANSWER_SIZE = '<I8I4I4I4I4I4I4', 32
local BLIND, EXHAUSTED = 1, 2 -- flags of an answer

-- ROW_IS, sequence and nonce of a row's last batch, the row's id, when it was last noted in {tag}:h
-- (ticks) and how many rows were live then; its answers follow
local ROW, ROW_SIZE, ROW_IS = '<c4I8c8c8I6I4', 38, 'row3'
-- All of a key is one string: HEAD, LEASEs, and places for GROUPs that are used in turn (a ring).
-- What most calls change stands in front: they write from FRONT_AT to the caller's lease and leave
-- the rest. A group that ends is written to its place; one that leaves is not written at all.
--
-- FORMAT, leases in the string (SPILLED more when there are some in the hash), places of the ring;
-- then FRONT: place of the oldest group, groups (the newest is in HEAD, the others in the ring), the
-- second of the last look at all leases, units in the window, leases of all (their sum), demand of
-- all and its time, and the newest GROUP
local HEAD, HEAD_SIZE, FORMAT, FORMAT_TEXT = '<BBBBBBI6I6fI6I6I4', 38, 3, '3'
local FRONT, FRONT_AT = '<BBBI6I6fI6I6I4', '3'
local FRONT_LEASE = FRONT .. 'c0I4fI6' -- ... leases before the caller's, and HELD of that
-- credit that a row holds or may still receive, its demand and the time of that, the row's id
local LEASE, LEASE_SIZE, ROOM, SPILLED = '<I4fI6c8', 22, 16, 32
local HELD, ID_AT = '<I4fI6', 14 -- of a lease: what its row changes, and where its id is
local SPILL, SPILL_SIZE = '<I4fI6', 14
-- Time of the last unit in ticks, not before it, and units (above UINT32_MAX the count alone knows).
local GROUP, GROUP_SIZE, K = '<I6I4', 10, 32
local RINGS = { 0, 3, 7, 15, 31 } -- places that a ring may have
local TICKS = 16 -- of a millisecond

local EXACT = 2 ^ 53 -- doubles count exactly up to here
local UINT32_MAX = 2 ^ 32 - 1
local TOUCH_MS = 5000 -- what is written first in each such time of the clock lives on
local NEVER = 255 -- no second of a look
local SEEN_MS = 100 -- a row is noted as seen at most once in this
local STEP_MS = 2000 -- a clock that is set back by more is believed
local FORGET_MS = 86400000 -- rows silent for longer are removed
local FORGET_CALLS = 16 -- one look for such in so many calls
local KEEP_MS = 86400000 -- a partition that nobody calls is forgotten after this, or twice

local host, row, words = ARGV[1], ARGV[2], ARGV[3]
if #ARGV ~= 5 or #ARGV[4] ~= BATCH_SIZE then
	return redis.error_reply('ERR rl_sync: keys and arguments do not match')
end
local seq, nonce, lease_ms, batch_flags, now = from_bytes(BATCH, ARGV[4])
local has_pieces = batch_flags % 4 >= HAS_PIECES
local items = #ARGV[5] / ITEM_SIZE
if has_pieces then
	local at = 0
	items = 0
	while at + ITEM_SIZE <= #ARGV[5] do
		local flags = from_bytes('<I4', ARGV[5], at + ITEM_SIZE - 3)
		at = at + ITEM_SIZE + (flags - flags % 256) / 256 * PIECE_SIZE
		items = items + 1
	end
	items = at == #ARGV[5] and items or 0.5
end
if items % 1 ~= 0 or (#keys ~= 2 + items and #keys ~= 2 + 2 * items) then
	return redis.error_reply('ERR rl_sync: keys and arguments do not match')
end
local is_named = {}
for i = 3, 2 + items do
	if is_named[keys[i]] then
		return redis.error_reply('ERR rl_sync: item ' .. i - 2 .. ' has the key of another')
	end
	is_named[keys[i]] = true
end
if row:sub(1, #host + 1) ~= host .. ':' then
	return redis.error_reply('ERR rl_sync: the row is not one of this host')
end
local function text(number)
	return string.format('%.0f', number)
end

local function stamp(ms) -- exact, whole or not
	return string.format('%.17g', ms)
end

-- What a read returned; a key of another type than ours is removed, as it would stop us for ever.
local function readable(reply, key)
	if type(reply) ~= 'table' or not reply.err then
		return reply
	end
	if not reply.err:find('WRONGTYPE', 1, true) then
		error(reply.err)
	end
	call('DEL', key)
	return false
end

local state = readable(redis.pcall('HMGET', KEYS[1], row, '@' .. host, 'now', 'format', 'ends'), KEYS[1])
	or { false, false, false, false, false }
local last, holder = state[1], state[2]
if state[4] ~= FORMAT_TEXT and (state[4] or state[3]) then
	return redis.error_reply('RLFORMAT ' .. KEYS[1] .. ' holds format ' .. (state[4] or '1')
		.. ' and this agent writes ' .. FORMAT_TEXT .. ': the agents of a fleet must be of '
		.. 'releases with one format; else give the new ones a fleet name of their own')
end

-- The time of the partition never goes back: after a step back of this machine, or a failover to
-- one that is behind, groups wait for the clock instead of leaving early. It is not cut to whole
-- milliseconds, as that would date a unit of age 0 before it was spent.
if now == 0 then
	local time = call('TIME')
	now = time[1] * 1000 + time[2] / 1000
end
-- Further behind than that is a clock that was ahead and has been set right (or a failover from one
-- that was): the partition goes on with this one's time, or no key would admit anything until it has
-- caught up. What is dated later is then dated now (dated_back): it stays for W, not for good.
local newest = tonumber(state[3] or '')
if newest and newest > now and newest < now + STEP_MS then
	now = newest
end

-- An unreadable row is a row never seen: any sequence is a first one, as after a loss of data.
local mark, last_seq, last_nonce, id, seen_at, live_rows
if last and #last >= ROW_SIZE and (#last - ROW_SIZE) % ANSWER_SIZE == 0 then
	mark, last_seq, last_nonce, id, seen_at, live_rows = from_bytes(ROW, last)
end
if mark ~= ROW_IS or last_seq >= EXACT then
	last = false
end

-- Eight bytes that stand for a row. As many hosts as there can be have no two alike.
local function id_of(name)
	local hex = redis.sha1hex(name)
	return pack('<I4I4', tonumber(hex:sub(1, 8), 16), tonumber(hex:sub(9, 16), 16))
end
id = last and id or id_of(row)

-- Two live hosts with one id write "@HOST" in turns, and each finds the other's row there. After a
-- reboot only the new row calls: it is unknown at its first call, and its own at all later ones.
local other = ''
if holder then
	local cut = holder:find('\0', 1, true)
	if last and cut and holder:sub(1, cut - 1) ~= row then
		other = holder:sub(cut + 1)
	end
end

local function live() -- rows seen within lease_ms
	return readable(redis.pcall('ZCOUNT', KEYS[2], text(now - lease_ms), '+inf'), KEYS[2]) or 0
end

local now_text = stamp(now)
local function seen()
	if readable(redis.pcall('ZADD', KEYS[2], now_text, row), KEYS[2]) == false then
		call('ZADD', KEYS[2], now_text, row)
	end
end

if last then
	if seq < last_seq then
		return { -1, now, live(), other, '' }
	end
	if seq == last_seq then
		if nonce ~= last_nonce then
			-- A copied segment: one row for two hosts, told apart by the words alone.
			if holder and other == '' and holder ~= row .. '\0' .. words then
				other = holder:match('%z(.*)$') or ''
			end
			return { -2, now, live(), other, '' }
		end
		seen()
		return { 1, now, live(), other, last:sub(ROW_SIZE + 1) }
	end
end

-- What the caller has been answered is not here: a replica has been promoted that had not got it, or a
-- server has come back with what it had saved, or with nothing. The caller is to know before anybody
-- is lent what is missing here.
local before = last and last_seq or 0
if batch_flags % (2 * CHAINED) >= CHAINED and seq ~= before + 1 then
	return { 2, now, live(), other, pack(ANSWER, before, 0, 0, 0, 0, 0, 0) }
end

-- Whatever is the first write, every reason why Redis may refuse one (memory, disk, replicas, a
-- replica itself) shows there, while nothing is changed; after it none is refused.
local ticks = now * TICKS
local latest = ceil(ticks) -- the time of units of age 0
ticks = ticks - ticks % 1
if not last or ticks < seen_at or ticks - seen_at >= SEEN_MS * TICKS then
	seen()
	seen_at, live_rows = ticks, live() -- this one too
end

-- The terms of the item at hand and what follows from them, until an item has others.
local known, L, W, T, blind
local begin, share, pause, patience, tau, scarce

local function learn(terms)
	known = terms
	L, W, T, blind = from_bytes(TERMS, terms)
	begin = (now - W) * TICKS -- what is not later has left the window
	share = ceil(L / (K - 2)) -- of a group
	pause = W / K * TICKS
	patience = min(0.9 * T, W / 64) -- until others' leases may be back
	tau = (T > 1 and 3 * T or 3) * TICKS
	scarce = L * T / W
end

-- A unit joins the newest group; te is raised to the group's time: the log is in order, and a
-- unit may be dated later than it was spent, never earlier. The group is closed when it has its
-- share of L, so that few units leave the window late.
-- And after a pause, or what was spent before it would leave with what comes after it: at each
-- start of a flood a part of a group would be of no use to anybody for W. That only in the upper
-- half of L (count is what is in the window), where it matters, and while enough groups are left
-- for the rest of L. The last of K takes all there is.
-- n is what the newest one has; it has its share, or the pause is over.
local function may_close(n, groups, count)
	return groups < K
	    and (n >= share or (count >= L / 2 and K - groups > max(ceil((L - count) / share), 0)))
end

-- The groups but the newest one, oldest first: time and units of each.
local function older_groups(log, ring_at, ring, oldest, groups)
	local list = {}
	for i = 0, groups - 2 do
		list[2 * i + 1], list[2 * i + 2] =
			from_bytes(GROUP, log, ring_at + (oldest + i) % ring * GROUP_SIZE)
	end
	return list
end

-- Units into a log whose groups but the newest one are in a list. Those of before the newest
-- group join the first group that leaves no earlier than they must, or get one of their own where
-- that one leaves much later. Returns the newest group and how many there are.
local function put_in(list, t, n, groups, te, units, count)
	if groups == 0 then
		return te, units, 1
	elseif te > t then
		if (n < share and te - t <= pause) or not may_close(n, groups, count) then
			return te, n + units, groups
		end
		list[#list + 1] = t
		list[#list + 1] = n
		return te, units, groups + 1
	end
	local at, t_at = #list + 1, t -- of list; behind its end: the newest
	while at > 1 and list[at - 2] >= te do
		at, t_at = at - 2, list[at - 2]
	end
	if t_at - te > pause and groups < K then
		table.insert(list, at, units)
		table.insert(list, at, te)
		return t, n, groups + 1
	elseif at > #list then
		return t, n + units, groups
	end
	list[at + 1] = list[at + 1] + units
	return t, n, groups
end

-- Time until the window has room for a unit. More than the first group may have to leave, when
-- an outage let hosts go above L.
local function ms_to_room(list, t, groups, count)
	for at = 1, #list, 2 do
		count = count - list[at + 1]
		if L - count >= 1 then
			return list[at] / TICKS + W - now
		end
	end
	return groups > 0 and t / TICKS + W - now or W
end

-- The older groups as they are written, and how many places that takes: as they stand in a ring,
-- or in a list.
local function ring_of(log, ring_at, ring, oldest, count, list)
	local text
	if list then
		local part = {}
		for at = 1, #list, 2 do
			part[#part + 1] = pack(GROUP, list[at], min(list[at + 1], UINT32_MAX))
		end
		text, count = table.concat(part), #part
	else
		local first = min(count, ring - oldest) -- as many up to the ring's end
		local from = ring_at + oldest * GROUP_SIZE
		text = sub(log, from, from + first * GROUP_SIZE - 1)
			.. sub(log, ring_at, ring_at + (count - first) * GROUP_SIZE - 1)
	end
	for _, places in ipairs(RINGS) do
		if places >= count then
			return text .. string.rep('\0', (places - count) * GROUP_SIZE), places
		end
	end
end

local function sane(number) -- false for NaN, too
	return number >= 0 and number < EXACT
end

-- Where the caller's lease is in the string, if it is there.
local function find_lease(log, upto)
	local at = find(log, id, HEAD_SIZE + 1 + ID_AT, true)
	while at and at < upto do
		if (at - ID_AT - HEAD_SIZE - 1) % LEASE_SIZE == 0 then
			return at - ID_AT
		end
		at = find(log, id, at + 1, true)
	end
end

-- The leases in the string, the caller's left out.
local function others_in(log, mine_at, ring_at)
	if not mine_at then
		return sub(log, HEAD_SIZE + 1, ring_at - 1)
	end
	return sub(log, HEAD_SIZE + 1, mine_at - 1) .. sub(log, mine_at + LEASE_SIZE, ring_at - 1)
end

-- The name of the hash beside a key's string.
local function lease_key(i)
	if keys[2 + items + i] then
		return keys[2 + items + i]
	end
	local cut = keys[2 + i]:find('}:k:', 1, true) or 0
	return keys[2 + i]:sub(1, cut) .. ':l:' .. keys[2 + i]:sub(cut + 4)
end

-- A lease from the hash, or nothing.
local function spilled_lease(field)
	if field and #field == SPILL_SIZE then
		local held, demand, at = from_bytes(SPILL, field)
		if sane(demand) then
			return held, demand, at
		end
	end
end

-- The caller's lease in the hash (nothing when it is not there), and whether the hash is.
local function spilled_of_row(key)
	local field = readable(redis.pcall('HGET', key, row), key)
	if field then
		return true, true, spilled_lease(field)
	end
	return false, call('EXISTS', key) == 1
end

-- What the leases in the string hold together.
local function held_in(log, ring_at)
	local sum = 0
	for at = HEAD_SIZE + 1, ring_at - 1, LEASE_SIZE do
		sum = sum + from_bytes('<I4', log, at)
	end
	return sum
end

local awake -- rows seen within lease_ms and their ids: read once, when the first key needs them
local function is_awake(name)
	if not awake then
		awake = {}
		local rows = redis.pcall('ZRANGEBYSCORE', KEYS[2], stamp(now - lease_ms), '+inf')
		for _, seen_row in ipairs(readable(rows, KEYS[2]) or {}) do
			awake[seen_row], awake[id_of(seen_row)] = true, true
		end
	end
	return awake[name]
end

-- A look at what others hold of a key: leases is those in the string, without the caller's. Those
-- of silent rows are taken away: nobody knows when such a host spent them, so they count from now.
-- So are those that were not restated for W and the same silence: a live host restates what it
-- holds once in W at least, and one whose rule was taken away never does. Returns the leases that
-- are left, their sum, the sum of the others, and whether some are left in the hash.
local function look(leases, spilled, i)
	local left, held, silent, oldest = {}, 0, 0, (now - W - lease_ms) * TICKS
	for at = 1, #leases, LEASE_SIZE do
		local credit, demand, time, name = from_bytes(LEASE, leases, at)
		if is_awake(name) and time >= oldest then
			held = held + credit
			left[#left + 1] = sub(leases, at, at + LEASE_SIZE - 1)
		elseif sane(demand) then
			silent = silent + credit
		end
	end
	if spilled then
		local key = lease_key(i)
		local all = readable(redis.pcall('HGETALL', key), key) or {}
		spilled = #all / 2
		for at = 1, #all, 2 do
			local credit, _, time = spilled_lease(all[at + 1])
			if all[at] ~= row and (not is_awake(all[at]) or (time or 0) < oldest) then
				silent = silent + (credit or 0)
				spilled = spilled - call('HDEL', key, all[at])
			elseif all[at] ~= row then
				held = held + (credit or 0)
			end
		end
		spilled = spilled > 0
	end
	return table.concat(left), held, silent, spilled
end

local function add_total(log_key, units)
	local cut = log_key:find('}:k:', 1, true)
	if cut then
		local key = log_key:sub(1, cut) .. ':t:' .. log_key:sub(cut + 4)
		redis.pcall('INCRBY', key, text(units))
	end
end

-- All lives on for 2 W and the silence that costs a host its leases (10 s at least) after it was
-- last written: until then a host may spend what it was lent, and that stays in the window
-- for W. The other W is for a clock of Redis that steps, as it and not the time of the partition
-- decides when keys end. TOUCH_MS is added because not every call gives it time anew.
local px_W, px
local px_most = 0 -- of all keys of this call
local function time_to_live()
	if W ~= px_W then
		local ms = 2 * W + max(lease_ms, 10000) + TOUCH_MS
		px_W, px, px_most = W, text(ms), max(px_most, ms)
	end
	return px
end

-- The caller's lease into the hash.
local function spill(i, held, own)
	local key, lease = lease_key(i), pack(SPILL, held, own, ticks)
	if readable(redis.pcall('HSET', key, row, lease), key) == false then
		call('HSET', key, row, lease)
	end
	call('PEXPIRE', key, time_to_live())
end

-- Rows of hosts that are gone for good, a few at a time.
local function forget()
	local before = '(' .. stamp(now - FORGET_MS)
	local rows = redis.pcall('ZRANGEBYSCORE', KEYS[2], '-inf', before, 'LIMIT', 0, 2)
	for _, gone in ipairs(readable(rows, KEYS[2]) or {}) do
		local id = '@' .. (gone:match('^(.*):') or '')
		local named = call('HGET', KEYS[1], id)
		if named and named:sub(1, #gone + 1) == gone .. '\0' then
			call('HDEL', KEYS[1], id)
		end
		call('HDEL', KEYS[1], gone)
		call('ZREM', KEYS[2], gone)
	end
end

-- A fleet that is gone leaves nothing for ever. What is known of a partition outlives its keys, or
-- other releases would not be told that they hold another format; and the rows, which are removed
-- after a day. It is given its time anew when half of it is over, so once in a day, or in W.
local function keep_partition()
	local ends, need = tonumber(state[5] or '') or 0, max(KEEP_MS, px_most)
	if sane(ends) and ends - now >= need then
		return
	end
	call('HSET', KEYS[1], 'ends', stamp(now + 2 * need))
	call('PEXPIRE', KEYS[1], text(2 * need))
	call('PEXPIRE', KEYS[2], text(2 * need))
end

local touched = ticks - ticks % (TOUCH_MS * TICKS) -- what is older is given its time anew
local second = (now - now % 1000) / 1000 % 250
local coin_of_batch = seq % 65536 * 40503
local part_of_room = live_rows > 1 and 0.5 or 1 -- of the fair part: the rest is for who calls next
local part_near = live_rows > 1 and 0.8 or 1 -- the same near the limit

-- All of one key after the other: what the host reports is taken, what it may spend from now on is
-- answered. All logs in one call, which is cheaper. A key of another type reads as absent.
local answers = {}
local logs = items > 0 and call('MGET', unpack(keys, 3, 2 + items))
local item_at = 1
for i = 1, items do
	local terms, tag, units, age, credit, asked, waiting, flags
	terms, tag, units, age, credit, asked, waiting, flags, item_at =
		from_bytes(ITEM, ARGV[5], item_at)
	if terms ~= known then
		learn(terms)
	end
	local pieces, pieces_at, since = 0, item_at, begin
	if flags > 255 then
		pieces = has_pieces and (flags - flags % 256) / 256 or 0
		flags = flags % 256
		item_at = item_at + pieces * PIECE_SIZE
		if flags >= FORGET and pieces > 0 then
			local _, forgotten = from_bytes(PIECE, ARGV[5], item_at - PIECE_SIZE)
			pieces, flags, since = pieces - 1, flags - FORGET, max(begin, (now - forgotten) * TICKS)
		end
	end

	-- One that cannot be read is taken for none.
	local log, stored, spilled = logs[i], false, false
	local format, rows, ring, oldest, groups, looked, count, out, demand, at, t, n
	local ring_at = HEAD_SIZE + 1
	if log and #log >= HEAD_SIZE then
		format, rows, ring, oldest, groups, looked, count, out, demand, at, t, n =
			from_bytes(HEAD, log)
		if rows >= SPILLED then
			rows, spilled = rows - SPILLED, true
		end
		ring_at = ring_at + rows * LEASE_SIZE
		stored = format == FORMAT and #log == ring_at - 1 + ring * GROUP_SIZE
			and ring < K and groups <= ring + 1 and (oldest < ring or oldest == 0)
			and demand >= 0 and demand < EXACT
	end
	local changed, anew = false, false -- to be written; all of it
	local list -- the older groups, when they are not as they are in the ring
	if not stored then
		log, ring_at, rows, ring, oldest, groups, looked = '', 1, 0, 0, 0, 0, NEVER
		count, out, demand, at, t, n, anew, spilled = 0, 0, 0, ticks, 0, 0, true, false
	elseif at > ticks or t > at + 1 then
		-- Whoever wrote it was ahead of us (the partition's time was lost with {tag}:s), or it is
		-- damaged: nobody dates a unit later than the record. All is dated now, the latest it can
		-- be. Else it would stay longer by as much as that.
		list = older_groups(log, ring_at, ring, oldest, groups)
		for k = 1, #list, 2 do
			list[k] = min(list[k], latest)
		end
		t, at, looked, changed, anew = min(t, latest), ticks, NEVER, true, true
	end

	-- What has left the window. After it: time and units of the oldest group.
	local t_at, n_at = t, n
	while groups > 0 do
		if groups == 1 then
			t_at, n_at = t, n
		elseif list then
			t_at, n_at = list[1], list[2]
		else
			t_at, n_at = from_bytes(GROUP, log, ring_at + oldest * GROUP_SIZE)
		end
		if t_at > since then
			if t_at > t then -- damaged, as they are in order: it would stay, and all behind it
				list = list or older_groups(log, ring_at, ring, oldest, groups)
				for k = 1, #list, 2 do
					list[k] = min(list[k], t)
				end
				t_at, changed, anew = list[1], true, true
			end
			break
		end
		count, groups, changed = count - n_at, groups - 1, true
		if list then
			table.remove(list, 1)
			table.remove(list, 1)
		elseif oldest < ring - 1 then
			oldest = oldest + 1
		else
			oldest = 0
		end
	end
	if groups == 0 or count < 0 then
		count = 0
	end

	-- The caller's lease, and what the others hold.
	local mine_at, in_hash = nil, false
	local mine, own, own_at = 0, 0, ticks
	if rows > 0 then
		mine_at = find(log, id, HEAD_SIZE + 1 + ID_AT, true)
		if mine_at then
			mine_at = mine_at - ID_AT
			if mine_at >= ring_at or (mine_at - HEAD_SIZE - 1) % LEASE_SIZE ~= 0 then
				mine_at = find_lease(log, ring_at)
			end
		end
	end
	if mine_at then
		mine, own, own_at = from_bytes(HELD, log, mine_at)
		if not (own >= 0 and own < EXACT) then
			own = 0
		end
	elseif spilled then
		local held, wanted, time
		in_hash, spilled, held, wanted, time = spilled_of_row(lease_key(i))
		if held then
			mine, own, own_at = held, wanted, time
		elseif not spilled then
			out = held_in(log, ring_at) -- the others had their time to live
		end
	end
	local others = out > mine and out - mine or 0

	-- What the host admitted counts, above L too: it has happened. What is older than the
	-- window by the host's own word (and ages are never too old) is over.
	local closed_t, closed_n -- a group that has just ended, and has its place in the ring
	if units > 0 then
		if pieces > 0 then
			list = list or older_groups(log, ring_at, ring, oldest, groups)
			for piece = pieces_at, pieces_at + (pieces - 1) * PIECE_SIZE, PIECE_SIZE do
				local some, old = from_bytes(PIECE, ARGV[5], piece)
				if some > 0 and old < W then
					t, n, groups = put_in(list, t, n, groups,
						max(latest - old * TICKS, 0), some, count)
					count, changed, anew = count + some, true, true
				end
			end
			t_at = list[1] or t
		elseif age < W then
			local te = latest - age * TICKS
			if groups == 0 then
				t, n, groups = te > 0 and te or 0, units, 1
				t_at, n_at = t, n
			elseif te <= t then
				n = n + units
			elseif (n < share and te - t <= pause) or not may_close(n, groups, count) then
				t, n = te, n + units
			else
				if list or groups > ring then
					list = list or older_groups(log, ring_at, ring, oldest, groups)
					list[#list + 1] = t
					list[#list + 1] = n
					anew = true
				else
					closed_t, closed_n = t, n
				end
				t, n, groups = te, units, groups + 1
			end
			count, changed = count + units, true
		end
		if batch_flags % 2 == KEEP_TOTALS then
			add_total(keys[2 + i], units)
		end
	end

	-- Demand fades with 3 T: slow enough to be smooth, fast enough to follow a moving client.
	if demand > 0 then
		demand = demand * exp((at - ticks) / tau) + asked
	else
		demand = asked
	end
	if own > 0 and own_at < ticks then
		own = own * exp((own_at - ticks) / tau) + asked
	else
		own = own + asked
	end

	local grant, flag, retry, held = 0, 0, 0, credit
	local left -- leases of others in the string, when they are not as they were
	if flags % 2 ~= PUSH_ONLY then
		local need, room
		repeat
			-- Half as much again as it will ask for in T (demand fades with 3 T, so that is a
			-- third of it); nothing when that is less than one.
			local again = false
			need = own >= 3 and 0.5 * own or 0
			if count + others < 0.6 * L then
				need = 2 * need
				if need < waiting then
					need = waiting
				end
				if blind > 0 and need <= blind and credit <= blind then
					grant, flag, held = blind - credit, BLIND, 0 -- takes no room
					break
				end
			elseif need < waiting then
				need = waiting
			end
			-- Half of the fair part: the rest is for those who call next, if there are any.
			-- Near the limit there is little to give but what leaves the window just now, and
			-- what is kept back is of no use to anybody: more of it, and all to who is nearly alone.
			room = L - count - others - credit
			local want = L - count
			if want > L / 8 then
				want = part_of_room * want
			elseif own < 0.9 * demand then
				want = part_near * want
			end
			if own < demand then
				want = want * (own / demand)
			end
			want = (need < want and need or want) - credit
			grant = 0
			if want > 0 then
				grant = want - want % 1
				-- Fractions are rounded at random, by the golden ratio: alike for the same batch.
				if (coin_of_batch + i * 2531) % 65536 < (want - grant) * 65536 then
					grant = grant + 1
				end
			end
			if grant < waiting - credit then
				-- Whoever waits takes it at once: nothing of that is held without use.
				grant = waiting - credit
			end
			if need > credit and (grant > room or room < 1) and others > 0 and looked ~= second then
				-- Too little: see what the leases are. Those of dead hosts make no room yet: they
				-- become units that leave in W, and nobody waits for them then.
				local silent
				left, others, silent, spilled =
					look(others_in(log, mine_at, ring_at), spilled, i)
				if silent > 0 then
					list = list or older_groups(log, ring_at, ring, oldest,
						closed_t and groups - 1 or groups)
					if closed_t then
						list[#list + 1] = closed_t
						list[#list + 1] = closed_n
						closed_t = nil
					end
					t, n, groups = put_in(list, t, n, groups, latest, silent, count)
					t_at, count = list[1] or t, count + silent
				end
				looked, changed, anew, again = second, true, true, true
			end
		until not again
		if room then
			if grant > room then
				grant = room >= 1 and room or 0
			end
			held = credit + grant
			room = room - grant
			-- Is the host to deny for a while, instead of asking again at once? When it has not one
			-- unit (or too few for who asks: a request of a larger cost), or was cut short of what
			-- a steady demand needs with nothing to hope for within T. Never when it asked for
			-- nothing: it would deny whoever comes next.
			if need > credit and ((grant < 1 and (credit < 1 or credit < waiting))
			    or (held < need - 0.5 and own >= 3 and live_rows > 1
			    and (room < 1 or L - count < scarce))) then
				-- Leases may be back within T; a full window says when it has room.
				flag = EXHAUSTED
				if L - count >= 1 then
					retry = patience
				elseif not list and groups > 1 and L - count + n_at >= 1 then
					retry = t_at / TICKS + W - now
				else
					local all = list or older_groups(log, ring_at, ring, oldest,
						closed_t and groups - 1 or groups)
					if closed_t then
						all[#all + 1] = closed_t
						all[#all + 1] = closed_n
					end
					retry = ms_to_room(all, t, groups, count)
				end
				retry = retry > 1 and ceil(retry) or 1
			end
		end
	end

	-- A row keeps a lease while it holds something, or asks for so much that its part matters.
	local keep = held > 0 or (flag ~= BLIND and flags < REPORT and own >= 1)
	local had = mine_at and true or false
	if changed or asked > 0 or held ~= mine or keep ~= (had or in_hash) or (held > 0 and own_at < touched) then
		if n > UINT32_MAX then
			n = UINT32_MAX
		end
		if anew or keep ~= had or at < touched or in_hash or groups == 0 then
			local behind, others_text, mine_text = '', left, ''
			others_text = left or (rows > 0 and others_in(log, mine_at, ring_at) or '')
			rows = #others_text / LEASE_SIZE
			if groups > 1 then
				if closed_t then
					list = older_groups(log, ring_at, ring, oldest, groups - 1)
					list[#list + 1] = closed_t
					list[#list + 1] = closed_n
				end
				behind, ring = ring_of(log, ring_at, ring, oldest, groups - 1, list)
			else
				ring = 0
			end
			if keep and rows < ROOM then
				rows, mine_text = rows + 1, pack(LEASE, held, own, ticks, id)
			elseif keep then
				spill(i, held, own)
				spilled = true
			end
			if in_hash and (mine_text ~= '' or not keep) then
				call('HDEL', lease_key(i), row)
				spilled = call('EXISTS', lease_key(i)) == 1
			end
			if rows > 0 or spilled or groups > 0 then
				call('SET', keys[2 + i], pack(HEAD, FORMAT, spilled and rows + SPILLED or rows, ring,
						0, groups, looked, count, others + held, demand, ticks, t, n)
					.. mine_text .. others_text .. behind,
					'PX', time_to_live())
			elseif stored then
				call('DEL', keys[2 + i])
			end
		else
			if closed_t then
				call('SETRANGE', keys[2 + i],
					ring_at - 1 + (oldest + groups - 2) % ring * GROUP_SIZE,
					pack(GROUP, closed_t, min(closed_n, UINT32_MAX)))
			end
			if mine_at then
				call('SETRANGE', keys[2 + i], FRONT_AT, pack(FRONT_LEASE, oldest, groups, looked,
					count, others + held, demand, ticks, t, n,
					sub(log, HEAD_SIZE + 1, mine_at - 1), held, own, ticks))
			else
				call('SETRANGE', keys[2 + i], FRONT_AT, pack(FRONT, oldest, groups, looked,
					count, others + held, demand, ticks, t, n))
			end
		end
	end
	local ends = 0
	if flags >= REPORT and groups > 0 then
		-- Time until the oldest of the groups leaves, and the newest.
		retry = max(ceil((groups > 1 and t_at or t) / TICKS + W - now), 1)
		ends = max(ceil(t / TICKS + W - now), 1)
	end
	if count > UINT32_MAX or others > UINT32_MAX or retry > UINT32_MAX or ends > UINT32_MAX then
		count, others = min(count, UINT32_MAX), min(others, UINT32_MAX)
		retry, ends = min(retry, UINT32_MAX), min(ends, UINT32_MAX)
	end
	answers[i] = pack(ANSWER, tag, grant, flag, retry, count, others, ends)
end

answers = table.concat(answers)
local batch = pack(ROW, ROW_IS, seq, nonce, id, seen_at, live_rows) .. answers
if holder == row .. '\0' .. words and state[4] then
	call('HSET', KEYS[1], row, batch, 'now', now_text)
else
	call('HSET', KEYS[1], row, batch, 'now', now_text, '@' .. host, row .. '\0' .. words,
		'format', FORMAT_TEXT)
end
keep_partition()
if seq % FORGET_CALLS == 0 then
	forget()
end
return { 0, now, live_rows, other, answers }
