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
--          {tag}:k:ID  STRING  all of a key: HEAD, leases of up to ROOM rows, up to K groups
--          {tag}:l:ID  HASH    row -> lease (SPILL): of those that found no room there
-- ARGV  1  host id    2  row, "HOST:EPOCH": one life of the host's segment
--       3  the caller in words    4  BATCH    5..  one ITEM for each key
-- Answer  { status, now ms, live rows, other, answers }, answers: an ANSWER per item, in order
--       status  0 applied   1 applied before, nothing changed   -1 an older batch than the last
--               -2 the number of the last batch on another one: two live hosts share a segment's
--               identity;  for -1 and -2 nothing is changed and answers is empty
--       other   who else uses this host id now, in their words, or empty
-- A malformed call is an error and changes nothing. So is a partition of another FORMAT: agents of
-- two releases that store differently would each take the other's records for damaged.

-- Redis 5 and 6 refuse to write after TIME unless effects are replicated; later ones always do.
if redis.replicate_commands then
	redis.replicate_commands()
end

local pack, from_bytes = struct.pack, struct.unpack
local floor, ceil, exp, min, max = math.floor, math.ceil, math.exp, math.min, math.max
local find, sub = string.find, string.sub
local call = redis.call
local keys, args = KEYS, ARGV

-- sequence, nonce, silence after which a host's leases are charged, flags, now or 0
local BATCH, BATCH_SIZE = '<I8c8I4I4I8', 32
local KEEP_TOTALS = 1 -- flag of a batch: count every unit ever reported, for tests
-- tag, L, W ms, T ms, units, age of the last of them ms, credit, demand, waiting, blind, flags
local ITEM, ITEM_SIZE = '<c8I4I8I4I8I8I4I8I4I4I4', 64
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
local ANSWER, ANSWER_SIZE = '<c8I4I4I4I4I4I4', 32
local BLIND, EXHAUSTED = 1, 2 -- flags of an answer

-- ROW_IS, sequence and nonce of a row's last batch, the row's id; its answers follow
local ROW, ROW_SIZE, ROW_IS = '<c4I8c8c8', 28, 'row2'
-- All of a key is one string, HEAD, LEASEs and GROUPs, with what most calls change in front: they
-- write that and leave the rest. Strings are as short as can be, as Redis' Lua hashes every byte
-- of each that it makes.
--
-- FORMAT, leases in the string, groups, leases in the hash, units in the window, leases of all
-- (their sum), demand of all and its time, ms before that of the last look at all leases, of when
-- all was last written and given its time to live, and the newest GROUP
local HEAD, HEAD_SIZE, FORMAT, FORMAT_TEXT = '<BBBI2ddfdffI6I4', 51, 2, '2'
-- id of the row, credit it holds or may still receive, its demand and the time of that
local LEASE, LEASE_SIZE, ROOM = '<c8I4fd', 24, 16
local SPILL, SPILL_SIZE = '<I4fd', 16
-- Time of the last unit in ticks, not before it, and units (above UINT32_MAX the count alone knows).
-- The newest one is in HEAD, the others stand behind the leases, newest first; behind them there
-- may be some that have left the window.
local GROUP, GROUP_SIZE, K = '<I6I4', 10, 32
local TICKS = 16 -- of a millisecond

local EXACT = 2 ^ 53 -- doubles count exactly up to here
local UINT16_MAX, UINT32_MAX = 2 ^ 16 - 1, 2 ^ 32 - 1
local LOOK_MS = 1000 -- at most one look at all leases of a key in this time
local TOUCH_MS = 5000 -- leases that are this old are written again, and live on
local STEP_MS = 2000 -- a clock that is set back by more is believed
local FORGET_MS = 86400000 -- rows silent for longer are removed
local FORGET_CALLS = 16 -- one look for such in so many calls
local KEEP_MS = 86400000 -- a partition that nobody calls is forgotten after this, or twice

local items = #ARGV - 4
if items < 0 or #KEYS ~= 2 + 2 * items or #ARGV[4] ~= BATCH_SIZE then
	return redis.error_reply('ERR rl_sync: keys and arguments do not match')
end
local log_keys, item_of = {}, {}
for i = 1, items do
	local key = KEYS[1 + 2 * i]
	if #ARGV[4 + i] < ITEM_SIZE or (#ARGV[4 + i] - ITEM_SIZE) % PIECE_SIZE ~= 0 then
		return redis.error_reply('ERR rl_sync: item ' .. i .. ' has a wrong length')
	elseif item_of[key] then
		return redis.error_reply('ERR rl_sync: item ' .. i .. ' has the key of another')
	end
	log_keys[i], item_of[key] = key, i
end
local host, row, words = ARGV[1], ARGV[2], ARGV[3]
if row:sub(1, #host + 1) ~= host .. ':' then
	return redis.error_reply('ERR rl_sync: the row is not one of this host')
end
local seq, nonce, lease_ms, batch_flags, now = from_bytes(BATCH, ARGV[4])

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
local mark, last_seq, last_nonce, id
if last and #last >= ROW_SIZE and (#last - ROW_SIZE) % ANSWER_SIZE == 0 then
	mark, last_seq, last_nonce, id = from_bytes(ROW, last)
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
	return call('ZCOUNT', KEYS[2], text(now - lease_ms), '+inf')
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

-- The first write. Every reason why Redis may refuse one (memory, disk, replicas, a replica itself)
-- shows here, while nothing is changed; after it none of the writes below is refused.
seen()
local live_rows = live() -- this one too

-- The newest group of so many (t, n) with units more at te, and whether a new one has begun. te is
-- raised to the group's time: the log is in order, and a unit may be dated later than it was
-- spent, never earlier.
-- A group is closed when it has its share of L, so that few units leave the window late.
-- And after a pause, or what was spent before it would leave with what comes after it: at each
-- start of a flood a part of a group would be of no use to anybody for W. That only in the upper
-- half of L (count is what is in the window), where it matters, and while enough groups are left
-- for the rest of L. The last of K takes all there is.
local function add(t, n, groups, te, units, count, L, W)
	if groups == 0 then
		return te, units, true
	elseif te <= t then
		return t, n + units, false
	end
	local share, left = ceil(L / (K - 2)), K - groups
	local pause = te - t > W / K * TICKS
		and count >= L / 2 and left > max(ceil((L - count) / share), 0)
	if left > 0 and (n >= share or pause) then
		return te, units, true
	end
	return te, n + units, false
end

-- The groups but the newest one, of so many in all.
local function behind_newest(text, from, groups)
	return groups > 1 and sub(text, from, from - 1 + (groups - 1) * GROUP_SIZE) or ''
end

local function group(t, n)
	return pack(GROUP, t, min(n, UINT32_MAX))
end

-- The same for units of before the newest group: they join the first group that leaves no earlier
-- than they must, or get one of their own where that one leaves much later. older are the groups
-- behind the newest one: all of them anew, and how many there are now.
local function put_in(t, n, groups, older, te, units, count, L, W)
	if groups == 0 or te > t then
		local newest, sum, begun = add(t, n, groups, te, units, count, L, W)
		if not begun then
			return newest, sum, groups, older
		end
		return newest, sum, groups + 1, groups > 0 and group(t, n) .. older or ''
	end
	local index, t_at, n_at = 0, t, n -- 0 is the newest
	while index < groups - 1 do
		local t_next, n_next = from_bytes(GROUP, older, index * GROUP_SIZE + 1)
		if t_next < te then
			break
		end
		index, t_at, n_at = index + 1, t_next, n_next
	end
	local size = index * GROUP_SIZE -- of older, up to that group and with it
	if t_at - te > W / K * TICKS and groups < K then
		return t, n, groups + 1, sub(older, 1, size) .. group(te, units) .. sub(older, size + 1)
	elseif index == 0 then
		return t, n + units, groups, older
	end
	return t, n, groups, sub(older, 1, size - GROUP_SIZE) .. group(t_at, n_at + units)
		.. sub(older, size + 1)
end

-- Time until the window has room for a unit. More than the first group may have to leave, when
-- an outage let hosts go above L.
local function ms_to_room(t, older, groups_at, groups, count, L, W)
	for at = groups_at + (groups - 2) * GROUP_SIZE, groups_at, -GROUP_SIZE do
		local t_at, n = from_bytes(GROUP, older, at)
		count = count - n
		if L - count >= 1 then
			return t_at / TICKS + W - now
		end
	end
	return groups > 0 and t / TICKS + W - now or W
end

-- Groups whose writer was ahead of us (the partition's time was lost with {tag}:s) are dated now,
-- the latest they can be. Else they would stay longer by as much as it was ahead.
local function dated_back(older, latest)
	local parts = {}
	for at = 1, #older, GROUP_SIZE do
		local t, n = from_bytes(GROUP, older, at)
		parts[#parts + 1] = pack(GROUP, min(t, latest), n)
	end
	return table.concat(parts)
end

local function sane(number) -- false for NaN, too
	return number >= 0 and number < EXACT
end

-- Where the caller's lease is in the string, if it is there.
local function find_lease(log, upto)
	local at = find(log, id, HEAD_SIZE + 1, true)
	while at and at <= upto do
		if (at - HEAD_SIZE - 1) % LEASE_SIZE == 0 then
			return at
		end
		at = find(log, id, at + 1, true)
	end
end

-- The leases in the string, the caller's left out.
local function others_in(log, mine_at, groups_at)
	if not mine_at then
		return sub(log, HEAD_SIZE + 1, groups_at - 1)
	end
	local behind = sub(log, mine_at + LEASE_SIZE, groups_at - 1)
	return mine_at == HEAD_SIZE + 1 and behind or sub(log, HEAD_SIZE + 1, mine_at - 1) .. behind
end

-- A lease from the hash, or nothing.
local function spilled_lease(field)
	if field and #field == SPILL_SIZE then
		local held, demand, at = from_bytes(SPILL, field)
		if sane(demand) and sane(at) then
			return held, demand, at
		end
	end
end

local awake -- rows seen within lease_ms and their ids: read once, when the first key needs them
local function is_awake(name)
	if not awake then
		awake = {}
		local rows = call('ZRANGEBYSCORE', KEYS[2], stamp(now - lease_ms), '+inf')
		for _, seen_row in ipairs(rows) do
			awake[seen_row], awake[id_of(seen_row)] = true, true
		end
	end
	return awake[name]
end

-- A look at what others hold of a key: leases is those in the string, without the caller's. Those
-- of silent rows are taken away: nobody knows when such a host spent them, so they count from now.
-- So are those that were not restated for W and the same silence: a live host restates what it
-- holds once in W at least, and one whose rule was taken away never does. Returns the leases that
-- are left, their sum, the sum of the others, and how many are left in the hash.
local function look(leases, spilled, key, W)
	local left, held, silent, oldest = {}, 0, 0, now - W - lease_ms
	for at = 1, #leases, LEASE_SIZE do
		local name, credit, demand, time = from_bytes(LEASE, leases, at)
		if is_awake(name) and time >= oldest then
			held = held + credit
			left[#left + 1] = leases:sub(at, at + LEASE_SIZE - 1)
		elseif sane(demand) then
			silent = silent + credit
		end
	end
	if spilled > 0 then
		local all = readable(redis.pcall('HGETALL', key), key) or {}
		spilled = #all / 2
		for i = 1, #all, 2 do
			local credit, _, time = spilled_lease(all[i + 1])
			if all[i] ~= row and (not is_awake(all[i]) or (time or 0) < oldest) then
				silent = silent + (credit or 0)
				spilled = spilled - call('HDEL', key, all[i])
			elseif all[i] ~= row then
				held = held + (credit or 0)
			end
		end
	end
	return table.concat(left), held, silent, spilled
end

-- What the host should get: the grant before it is cut to the room, what it needs, and the room.
-- No room is returned for a blind grant, which takes none.
local function wish(L, count, others, credit, waiting, blind, part, mine, coin)
	-- Half as much again as it will ask for in T (demand fades with 3 T, so that is a third of
	-- it); nothing when that is less than one.
	local need = mine >= 3 and 0.5 * mine or 0
	local cold = count + others < 0.6 * L
	if cold then
		need = 2 * need
	end
	if need < waiting then
		need = waiting
	end
	if blind > 0 and cold and need <= blind and credit <= blind then
		return blind - credit, need
	end
	-- Half of the fair part: the rest is for those who call next, if there are any.
	local room = L - count - others - credit
	local want = (live_rows > 1 and 0.5 or 1) * part * (L - count)
	want = (need < want and need or want) - credit
	local grant = want > 0 and floor(want) or 0
	if coin < want - grant then
		grant = grant + 1
	end
	if grant < waiting - credit then
		-- Whoever waits takes it at once: nothing of that is held without use.
		grant = waiting - credit
	end
	return grant, need, room
end

-- Is the host to deny for a while, instead of asking again at once? When it has not one unit (or
-- too few for who asks: a request of a larger cost), or
-- was cut short of what a steady demand needs with nothing to hope for within T. Never when it
-- asked for nothing: it would deny whoever comes next.
local function is_short(L, W, T, count, room, asked, grant, credit, waiting, own)
	if asked <= 0 then
		return false
	end
	return (grant < 1 and (credit < 1 or credit < waiting))
	    or (grant < asked - 0.5 and own >= 3 and live_rows > 1 and (room < 1 or L - count < L * T / W))
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
-- decides when keys end. TOUCH_MS is added because not every call writes.
local px_W, px
local px_most = 0 -- of all keys of this call
local function time_to_live(W)
	if W ~= px_W then
		local ms = 2 * W + max(lease_ms, 10000) + TOUCH_MS
		px_W, px, px_most = W, text(ms), max(px_most, ms)
	end
	return px
end

-- The caller's lease into the hash: returns how many more there are.
local function spill(key, held, own, W)
	local new = call('HSET', key, row, pack(SPILL, held, own, now))
	call('PEXPIRE', key, time_to_live(W))
	return new
end

-- Time until the oldest of the groups leaves, and the newest; ms, not below 1. There is one.
local function leaving(t, older, old_from, groups, W)
	local first = t
	if groups > 1 then
		first = from_bytes(GROUP, older, old_from + (groups - 2) * GROUP_SIZE)
	end
	return max(ceil(first / TICKS + W - now), 1), max(ceil(t / TICKS + W - now), 1)
end

-- All of one key: what the host reports is taken, what it may spend from now on is returned.
local function sync(i, log)
	local words, log_key = args[4 + i], keys[1 + 2 * i]
	local tag, L, W, T, units, age, credit, asked, waiting, blind, flags = from_bytes(ITEM, words)
	local begin = now - W
	if flags >= FORGET and #words > ITEM_SIZE then
		local _, forgotten = from_bytes(PIECE, words, #words - PIECE_SIZE + 1)
		words, flags, begin = sub(words, 1, -PIECE_SIZE - 1), flags - FORGET, max(begin, now - forgotten)
	end

	-- One that cannot be read is taken for none.
	local format, rows, groups, spilled, count, out, demand, at, looked, touched, t, n
	local groups_at, stored = HEAD_SIZE + 1, false
	if log and #log >= HEAD_SIZE then
		format, rows, groups, spilled, count, out, demand, at, looked, touched, t, n =
			from_bytes(HEAD, log)
		groups_at = groups_at + rows * LEASE_SIZE
		stored = format == FORMAT and groups <= K
			and #log >= groups_at - 1 + (groups - 1) * GROUP_SIZE
			and count >= 0 and count < EXACT and out >= 0 and out < EXACT
			and demand >= 0 and demand < EXACT and at >= 0 and at < EXACT
			and looked >= 0 and touched >= 0
	end
	local changed, anew = false, false -- to be written; all of it
	local older = log -- has the groups but the newest from groups_at on
	if not stored then
		log, older, rows, groups, spilled, groups_at = '', '', 0, 0, 0, 1
		count, out, demand, at, looked, touched, t, n, anew = 0, 0, 0, now, LOOK_MS, 0, 0, 0, true
	elseif at > now then
		local latest = ceil(now * TICKS)
		older = dated_back(behind_newest(log, groups_at, groups), latest)
		t, at, looked, changed, anew = min(t, latest), now, LOOK_MS, true, true
	end
	local old_from = older == log and groups_at or 1
	looked = looked + now - at
	touched = touched + now - at

	-- What has left the window.
	begin = begin * TICKS
	while groups > 0 do
		local t_at, n_at = t, n
		if groups > 1 then
			t_at, n_at = from_bytes(GROUP, older, old_from + (groups - 2) * GROUP_SIZE)
		end
		if t_at > begin then
			break
		end
		count, groups, changed = count - n_at, groups - 1, true
	end
	if groups == 0 or count < 0 then
		count = 0
	end

	-- The caller's lease, and what the others hold.
	local mine_at = rows > 0 and find_lease(log, groups_at - LEASE_SIZE)
	local mine, own, own_at, in_hash, _
	if mine_at then
		_, mine, own, own_at = from_bytes(LEASE, log, mine_at)
		if not (sane(own) and sane(own_at)) then
			own, own_at = 0, now
		end
	elseif spilled > 0 then
		local lease_key = keys[2 + 2 * i]
		local field = readable(redis.pcall('HGET', lease_key, row), lease_key)
		in_hash = field and true
		mine, own, own_at = spilled_lease(field)
		if not field and call('EXISTS', lease_key) == 0 then
			-- Its leases had their time to live.
			spilled, out = 0, 0
			for lease = HEAD_SIZE + 1, groups_at - 1, LEASE_SIZE do
				local _, some, wanted = from_bytes(LEASE, log, lease)
				out = out + (sane(wanted) and some or 0)
			end
		end
	end
	local others = out - (mine or 0)
	if others < 0 then
		others = 0
	end

	-- What the host admitted counts, above L too: it has happened. What is older than the
	-- window by the host's own word (and ages are never too old) is over.
	if units > 0 then
		if #words > ITEM_SIZE then
			older = behind_newest(older, old_from, groups)
			old_from, anew = 1, true
			for piece = ITEM_SIZE + 1, #words, PIECE_SIZE do
				local some, old = from_bytes(PIECE, words, piece)
				if some > 0 and old < W then
					t, n, groups, older = put_in(t, n, groups, older,
						max(ceil((now - old) * TICKS), 0), some, count, L, W)
					count, changed = count + some, true
				end
			end
		elseif age < W then
			local newest, sum, begun =
				add(t, n, groups, max(ceil((now - age) * TICKS), 0), units, count, L, W)
			if begun then
				if groups > 0 then
					older = group(t, n) .. behind_newest(older, old_from, groups)
					old_from, anew = 1, true
				end
				groups = groups + 1
			end
			t, n, count, changed = newest, sum, count + units, true
		end
		if batch_flags % 2 == KEEP_TOTALS then
			add_total(log_key, units)
		end
	end

	-- Demand fades with 3 T: slow enough to be smooth, fast enough to follow a moving client.
	local tau = T > 1 and 3 * T or 3
	demand = demand > 0 and demand * exp((at - now) / tau) + asked or asked
	if mine then
		own = own_at < now and own * exp((own_at - now) / tau) + asked or own + asked
	else
		own = asked
	end

	local grant, flag, retry, held = 0, 0, 0, credit
	local leases -- of others in the string, when they are not as they were
	if flags % 2 ~= PUSH_ONLY then
		local part = own < demand and own / demand or 1
		-- Fractions are rounded at random, by the golden ratio: alike for the same batch.
		local coin = (seq % 65536 * 40503 + i * 2531) % 65536 / 65536
		local need, room
		grant, need, room = wish(L, count, others, credit, waiting, blind, part, own, coin)
		if room and need > credit and (grant > room or room < 1) and others > 0
		    and looked >= LOOK_MS then
			-- Too little: see what the leases are. Those of dead hosts make no room
			-- yet: they become units that leave in W, and nobody waits for them then.
			local silent
			leases, others, silent, spilled =
				look(others_in(log, mine_at, groups_at), spilled, keys[2 + 2 * i], W)
			if silent > 0 then
				older = behind_newest(older, old_from, groups)
				t, n, groups, older = put_in(t, n, groups, older, ceil(now * TICKS),
					silent, count, L, W)
				old_from, count = 1, count + silent
			end
			looked, changed, anew = 0, true, true
			grant, need, room =
				wish(L, count, others, credit, waiting, blind, part, own, coin)
		end
		if not room then
			flag, held = BLIND, 0
		else
			if grant > room then
				grant = room >= 1 and floor(room) or 0
			end
			held = credit + grant
			room = room - grant
			if is_short(L, W, T, count, room, need - credit, grant, credit, waiting, own) then
				-- Leases may be back within T; a full window says when it has room.
				flag = EXHAUSTED
				retry = L - count >= 1 and min(0.9 * T, W / 64)
				    or ms_to_room(t, older, old_from, groups, count, L, W)
				retry = max(ceil(retry), 1)
			end
		end
	end

	-- A row keeps a lease while it holds something, or asks for so much that its part matters.
	local keep = held > 0 or (flag ~= BLIND and flags < REPORT and own >= 1)
	local old = held > 0 and (touched >= TOUCH_MS or now - (own_at or now) >= TOUCH_MS)
	local had = mine_at and true or false
	if changed or old or asked > 0 or held ~= (mine or 0) or keep ~= (had or in_hash or false) then
		if anew or touched >= TOUCH_MS or in_hash or keep ~= had or groups == 0 then
			leases = leases or others_in(log, mine_at, groups_at)
			rows, mine = #leases / LEASE_SIZE, ''
			if keep and rows < ROOM then
				rows, mine = rows + 1, pack(LEASE, id, held, own, now)
			elseif keep then
				spilled = spilled + spill(keys[2 + 2 * i], held, own, W)
			end
			if in_hash and (mine ~= '' or not keep) then
				spilled = max(spilled - call('HDEL', keys[2 + 2 * i], row), 0)
			end
			if rows > 0 or spilled > 0 or groups > 0 then
				call('SET', log_key, pack(HEAD, FORMAT, rows, groups, min(spilled, UINT16_MAX), count,
						others + held, demand, now, looked, 0, t, min(n, UINT32_MAX))
					.. mine .. leases
					.. behind_newest(older, old_from, groups),
					'PX', time_to_live(W))
			elseif stored then
				call('DEL', log_key)
			end
		else
			local head = pack(HEAD, FORMAT, rows, groups, spilled, count, others + held,
				demand, now, looked, touched, t, min(n, UINT32_MAX))
			if mine_at then
				head = head .. sub(log, HEAD_SIZE + 1, mine_at - 1)
					.. pack(LEASE, id, held, own, now)
			end
			call('SETRANGE', log_key, '0', head)
		end
	end
	local ends = 0
	if flags >= REPORT and groups > 0 then
		retry, ends = leaving(t, older, old_from, groups, W)
	end
	return pack(ANSWER, tag, grant, flag, retry < UINT32_MAX and retry or UINT32_MAX,
		count < UINT32_MAX and count or UINT32_MAX,
		others < UINT32_MAX and others or UINT32_MAX, ends < UINT32_MAX and ends or UINT32_MAX)
end

-- Rows of hosts that are gone for good, a few at a time.
local function forget()
	local before = '(' .. stamp(now - FORGET_MS)
	for _, gone in ipairs(call('ZRANGEBYSCORE', KEYS[2], '-inf', before, 'LIMIT', 0, 2)) do
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
local function keep()
	local ends, need = tonumber(state[5] or '') or 0, max(KEEP_MS, px_most)
	if sane(ends) and ends - now >= need then
		return
	end
	call('HSET', KEYS[1], 'ends', stamp(now + 2 * need))
	call('PEXPIRE', KEYS[1], text(2 * need))
	call('PEXPIRE', KEYS[2], text(2 * need))
end

local answers = {}
if items > 0 then
	-- All logs in one call, which is cheaper. A key of another type reads as absent.
	local logs = call('MGET', unpack(log_keys))
	for i = 1, items do
		answers[i] = sync(i, logs[i])
	end
end
answers = table.concat(answers)
local batch = pack(ROW, ROW_IS, seq, nonce, id) .. answers
if holder == row .. '\0' .. words and state[4] then
	call('HSET', KEYS[1], row, batch, 'now', now_text)
else
	call('HSET', KEYS[1], row, batch, 'now', now_text, '@' .. host, row .. '\0' .. words,
		'format', FORMAT_TEXT)
end
keep()
if seq % FORGET_CALLS == 0 then
	forget()
end
return { 0, now, live_rows, other, answers }
