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
--                            under this host id;  "now" -> newest time of the partition, ms
--       2  {tag}:h     ZSET  row -> last seen, ms
--       then for each item
--          {tag}:k:ID  STRING  the log of a key (HEAD, then up to K groups, oldest first)
--          {tag}:l:ID  HASH    row -> lease (LEASE); only while somebody holds or asks
-- ARGV  1  host id    2  row, "HOST:EPOCH": one life of the host's segment
--       3  the caller in words    4  BATCH    5..  one ITEM for each key
-- Answer  { status, now ms, live rows, other, answers }, answers: an ANSWER per item, in order
--       status  0 applied   1 applied before, nothing changed   -1 an older batch than the last
--               -2 the number of the last batch on another one: two live hosts share a segment's
--               identity;  for -1 and -2 nothing is changed and answers is empty
--       other   who else uses this host id now, in their words, or empty
-- A malformed call is an error and changes nothing.

-- Redis 5 and 6 refuse to write after TIME unless effects are replicated; later ones always do.
if redis.replicate_commands then
	redis.replicate_commands()
end

local pack, from_bytes = struct.pack, struct.unpack
local floor, ceil, exp, min, max = math.floor, math.ceil, math.exp, math.min, math.max
local call = redis.call

-- sequence, nonce, silence after which a host's leases are charged, flags, now or 0
local BATCH, BATCH_SIZE = '<I8c8I4I4I8', 32
local KEEP_TOTALS = 1 -- flag of a batch: count every unit ever reported, for tests
-- tag, L, W ms, T ms, units, age of the last of them ms, credit, demand, waiting, blind, flags
local ITEM, ITEM_SIZE = '<c8I4I8I4I8I8I4I8I4I4I4', 64
local PUSH_ONLY = 1 -- flag of an item: take what is reported, grant nothing
-- ... an item with PUSH_ONLY, of a rule without leases: say when what is in the window leaves it
local REPORT = 2
-- Behind an item, when its units were admitted over a longer time (an outage): units of that time,
-- age of the last of them; oldest first, and those that are older than W left out.
local PIECE, PIECE_SIZE = '<I8I8', 16
-- tag, grant, flags, retry ms, units in the window, leases of others, 0. For REPORT retry and the last
-- are the ms until the first and until all units of the window have left it; 0 when there are none.
local ANSWER, ANSWER_SIZE = '<c8I4I4I4I4I4I4', 32
local BLIND, EXHAUSTED = 1, 2 -- flags of an answer

-- sequence and nonce of a row's last batch; its answers follow
local ROW, ROW_SIZE = '<I8c8', 16
-- units in the window, leases of all, demand of all and its time, last look at all leases,
-- last time the leases were given a time to live
local HEAD, HEAD_SIZE = '<dddddd', 48
-- time of the last unit, units
local GROUP, GROUP_SIZE, K = '<dd', 16, 32
-- credit the row holds or may still receive, its demand and the time of that
local LEASE, LEASE_SIZE = '<ddd', 24

local EXACT = 2 ^ 53 -- doubles count exactly up to here
local UINT32_MAX = 2 ^ 32 - 1
local LOOK_MS = 1000 -- at most one look at all leases of a key in this time
local TOUCH_MS = 5000 -- times to live are renewed when they are this old
local STEP_MS = 2000 -- a clock that is set back by more is believed
local FORGET_MS = 86400000 -- rows silent for longer are removed

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

local state = readable(redis.pcall('HMGET', KEYS[1], row, '@' .. host, 'now'), KEYS[1])
	or { false, false, false }
local last, holder = state[1], state[2]

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
local last_seq, last_nonce
if last and #last >= ROW_SIZE and (#last - ROW_SIZE) % ANSWER_SIZE == 0 then
	last_seq, last_nonce = from_bytes(ROW, last)
end
if not last_seq or last_seq >= EXACT then
	last = false
end

-- Two live hosts with one id write "@HOST" in turns, and each finds the other's row there. After a
-- reboot only the new row calls: it is unknown at its first call, and its own at all later ones.
local other = ''
if holder then
	local cut = holder:find('\0', 1, true)
	if last and cut and holder:sub(1, cut - 1) ~= row then
		other = holder:sub(cut + 1)
	end
end

local live_rows -- rows seen within lease_ms, this one too: read once
local function live()
	live_rows = live_rows or call('ZCOUNT', KEYS[2], stamp(now - lease_ms), '+inf')
	return live_rows
end

local function answer(status, answers)
	return { status, now, live(), other, answers }
end

local function seen()
	if readable(redis.pcall('ZADD', KEYS[2], stamp(now), row), KEYS[2]) == false then
		call('ZADD', KEYS[2], stamp(now), row)
	end
end

if last then
	if seq < last_seq then
		return answer(-1, '')
	end
	if seq == last_seq then
		if nonce ~= last_nonce then
			-- A copied segment: one row for two hosts, told apart by the words alone.
			if holder and other == '' and holder ~= row .. '\0' .. words then
				other = holder:match('%z(.*)$') or ''
			end
			return answer(-2, '')
		end
		seen()
		return answer(1, last:sub(ROW_SIZE + 1))
	end
end

-- The first write. Every reason why Redis may refuse one (memory, disk, replicas, a replica itself)
-- shows here, while nothing is changed; after it none of the writes below is refused.
seen()

-- Groups with units more at te, in two pieces that the caller joins. te is raised to the newest
-- group's time: the log is in order, and a unit may be dated later than it was spent, never
-- earlier. A group is closed when it has its share of L, so that few units leave the window late.
-- And after a pause, or what was spent before it would leave with what comes after it: at each
-- start of a flood a part of a group would be of no use to anybody for W. That only in the upper
-- half of L (count is what is in the window), where it matters, and while enough groups are left
-- for the rest of L. The last of K takes all there is.
local function add(groups, te, units, count, L, W)
	if #groups == 0 then
		return '', pack(GROUP, te, units)
	end
	local t, n = from_bytes(GROUP, groups, #groups - GROUP_SIZE + 1)
	local share, left = ceil(L / (K - 2)), K - #groups / GROUP_SIZE
	local pause = te - t > W / K and count >= L / 2 and left > max(ceil((L - count) / share), 0)
	if te > t and left > 0 and (n >= share or pause) then
		return groups, pack(GROUP, te, units)
	end
	return groups:sub(1, #groups - GROUP_SIZE), pack(GROUP, max(te, t), n + units)
end

-- The same for units of before the newest group: they join the first group that leaves no earlier
-- than they must, or get one of their own where that one leaves much later.
local function put_in(groups, te, units, count, L, W)
	for at = 1, #groups, GROUP_SIZE do
		local t, n = from_bytes(GROUP, groups, at)
		if t >= te then
			local before, rest = groups:sub(1, at - 1), groups:sub(at)
			if t - te > W / K and #groups < K * GROUP_SIZE then
				return before .. pack(GROUP, te, units) .. rest
			end
			return before .. pack(GROUP, t, n + units) .. rest:sub(GROUP_SIZE + 1)
		end
	end
	local before, last_group = add(groups, te, units, count, L, W)
	return before .. last_group
end

-- Time until the window has room for a unit. More than the first group may have to leave, when
-- an outage let hosts go above L.
local function ms_to_room(groups, count, L, W)
	for at = 1, #groups, GROUP_SIZE do
		local t, n = from_bytes(GROUP, groups, at)
		count = count - n
		if L - count >= 1 then
			return t + W - now
		end
	end
	return W
end

-- A log whose writer was ahead of us (the partition's time was lost with {tag}:s): its groups are
-- dated now, the latest they can be. Else they would stay longer by as much as it was ahead.
local function dated_back(log)
	local parts = { log:sub(1, HEAD_SIZE) }
	for at = HEAD_SIZE + 1, #log, GROUP_SIZE do
		local t, n = from_bytes(GROUP, log, at)
		parts[#parts + 1] = pack(GROUP, min(t, now), n)
	end
	return table.concat(parts)
end

local function sane(number) -- false for NaN, too
	return number >= 0 and number < EXACT
end

-- The groups that are in the window, those before them dropped, and the fields of HEAD. Nothing
-- (and an empty log) when there is no log that can be read.
local function load(log, W)
	local size = log and #log or 0
	if size < HEAD_SIZE or size > HEAD_SIZE + K * GROUP_SIZE
	    or (size - HEAD_SIZE) % GROUP_SIZE ~= 0 then
		return nil, 0, 0, 0, now, now - LOOK_MS, now - TOUCH_MS
	end
	local count, out, demand, at, looked, touched = from_bytes(HEAD, log)
	local ahead = at > now
	if ahead then
		log, at, looked, touched = dated_back(log), now, now - LOOK_MS, now - TOUCH_MS
	end
	local from = HEAD_SIZE + 1
	while from < size do
		local t, n = from_bytes(GROUP, log, from)
		if t > now - W then
			break
		end
		count = count - n
		from = from + GROUP_SIZE
	end
	if not (sane(count) and sane(out) and sane(demand)) then
		return nil, 0, 0, 0, now, now - LOOK_MS, now - TOUCH_MS
	end
	if from > size then
		count = 0
	end
	return log:sub(from), count, out, demand, at, looked, touched, ahead or from > HEAD_SIZE + 1
end

-- Credit the row holds or may still receive, its demand and the time of that; or nothing.
local function lease_of(field)
	if field and #field == LEASE_SIZE then
		local held, demand, at = from_bytes(LEASE, field)
		if sane(held) and sane(demand) then
			return held, demand, at
		end
	end
end

local awake -- rows seen within lease_ms: read once, when the first key looks at all its leases
local function is_awake(name)
	if not awake then
		awake = {}
		local rows = call('ZRANGEBYSCORE', KEYS[2], stamp(now - lease_ms), '+inf')
		for _, seen_row in ipairs(rows) do
			awake[seen_row] = true
		end
	end
	return awake[name]
end

-- What others hold of a key, by their leases. With charge, those of silent rows are deleted and
-- their sum returned second: nobody knows when such a host spent them, so they count from now. So
-- are those that were not restated for W and the same silence: a live host restates what it holds
-- once in W at least, and one whose rule was taken away never does.
local function held_by_others(key, charge, W)
	local all = readable(redis.pcall('HGETALL', key), key) or {}
	local held, silent = 0, 0
	for i = 1, #all, 2 do
		if all[i] ~= row then
			local lease = lease_of(all[i + 1]) or 0
			local at = select(3, lease_of(all[i + 1])) or 0
			if charge and (not is_awake(all[i]) or at < now - W - lease_ms) then
				silent = silent + lease
				call('HDEL', key, all[i])
			else
				held = held + lease
			end
		end
	end
	return held, silent
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
	local want = max(min(need, (live() > 1 and 0.5 or 1) * part * (L - count)) - credit, 0)
	local grant = floor(want)
	if coin < want - grant then
		grant = grant + 1
	end
	if waiting > credit then
		-- Whoever waits takes it at once: nothing of that is held without use.
		grant = max(grant, waiting - credit)
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
	    or (grant < asked - 0.5 and own >= 3 and live() > 1 and (room < 1 or L - count < L * T / W))
end

local function add_total(log_key, units)
	local cut = log_key:find('}:k:', 1, true)
	if cut then
		local key = log_key:sub(1, cut) .. ':t:' .. log_key:sub(cut + 4)
		redis.pcall('INCRBY', key, text(units))
	end
end

-- Both keys live on for 2 W and the silence that costs a host its leases (10 s at least) after
-- they were last used: until then a host may spend what it was lent, and that stays in the window
-- for W. The other W is for a clock of Redis that steps, as it and not the time of the partition
-- decides when keys end. TOUCH_MS is added because they are not renewed each time.
local px_W, px
local function time_to_live(W)
	if W ~= px_W then
		px_W, px = W, text(2 * W + max(lease_ms, 10000) + TOUCH_MS)
	end
	return px
end

-- Time until the first of the groups leaves, and the last; ms, not below 1.
local function leaving(groups, tail, W)
	local first = from_bytes(GROUP, groups ~= '' and groups or tail)
	local newest = tail ~= '' and tail or groups
	local last_of = from_bytes(GROUP, newest, #newest - GROUP_SIZE + 1)
	return max(ceil(first + W - now), 1), max(ceil(last_of + W - now), 1)
end

-- All of one key: what the host reports is taken, what it may spend from now on is returned.
local function sync(i, log)
	local tag, L, W, T, units, age, credit, asked, waiting, blind, flags =
		from_bytes(ITEM, ARGV[4 + i])
	local log_key, lease_key = KEYS[1 + 2 * i], KEYS[2 + 2 * i]
	local groups, count, out, demand, at, looked, touched, changed = load(log, W)
	local stored = groups
	groups = groups or ''

	-- What the host admitted counts, above L too: it has happened. What is older than the
	-- window by the host's own word (and ages are never too old) is over.
	local tail = ''
	if units > 0 then
		if #ARGV[4 + i] > ITEM_SIZE then
			for at = ITEM_SIZE + 1, #ARGV[4 + i], PIECE_SIZE do
				local n, old = from_bytes(PIECE, ARGV[4 + i], at)
				if n > 0 and old < W then
					groups = put_in(groups, now - old, n, count, L, W)
					count, changed = count + n, true
				end
			end
		elseif age < W then
			groups, tail = add(groups, now - age, units, count, L, W)
			count = count + units
		end
		if batch_flags % 2 == KEEP_TOTALS then
			add_total(log_key, units)
		end
	end

	-- The caller's lease, and what the others hold. Without the log their sum is lost; when all
	-- leases had their time to live it is over. A rule without leases has none to be read.
	local leases = flags < REPORT or out > 0
	local field = leases and readable(redis.pcall('HGET', lease_key, row), lease_key)
	local mine, own, own_at = lease_of(field)
	local others
	if not leases then
		others = 0
	elseif not stored or (field and not mine) then
		others = held_by_others(lease_key, false, W)
	elseif not field and out > 0 and call('EXISTS', lease_key) == 0 then
		others = 0
	else
		others = max(out - (mine or 0), 0)
	end

	-- Demand fades with 3 T: slow enough to be smooth, fast enough to follow a moving client.
	local tau = 3 * max(T, 1)
	demand = demand * exp((at - now) / tau) + asked
	own = mine and own * exp(min(own_at - now, 0) / tau) + asked or asked

	local grant, flag, retry, held = 0, 0, 0, credit
	if flags % 2 ~= PUSH_ONLY then
		local part = demand > 0 and min(own / demand, 1) or 1
		-- Fractions are rounded at random, by the golden ratio: alike for the same batch.
		local coin = (seq % 65536 * 40503 + i * 2531) % 65536 / 65536
		local need, room
		grant, need, room = wish(L, count, others, credit, waiting, blind, part, own, coin)
		if room and need > credit and (grant > room or room < 1) and others > 0
		    and now - looked >= LOOK_MS then
			-- Too little: see what the leases are. Those of dead hosts make no room
			-- yet: they become units that leave in W, and nobody waits for them then.
			local silent
			others, silent = held_by_others(lease_key, true, W)
			if silent > 0 then
				groups, tail = add(groups .. tail, now, silent, count, L, W)
				count = count + silent
			end
			looked, changed = now, true
			grant, need, room =
				wish(L, count, others, credit, waiting, blind, part, own, coin)
		end
		if not room then
			flag, held = BLIND, 0
		else
			grant = max(min(grant, floor(room)), 0)
			held = credit + grant
			room = room - grant
			if is_short(L, W, T, count, room, need - credit, grant, credit, waiting, own) then
				-- Leases may be back within T; a full window says when it has room.
				flag = EXHAUSTED
				retry = L - count >= 1 and min(0.9 * T, W / 64)
				    or ms_to_room(groups .. tail, count, L, W)
				retry = max(ceil(retry), 1)
			end
		end
	end

	-- A row keeps a field while it holds something, or asks for so much that its part matters.
	local keep = held > 0 or (flag ~= BLIND and flags < REPORT and own >= 1)
	local renew = held > 0 and (now - touched >= TOUCH_MS or now - (own_at or now) >= TOUCH_MS)
	local moved = held ~= (mine or 0) or asked > 0 or keep ~= (field and true)
	if changed or moved or renew or tail ~= '' then
		renew = keep and (renew or not field)
		if keep and (moved or renew) then
			call('HSET', lease_key, row, pack(LEASE, held, own, now))
		elseif field and not keep then
			call('HDEL', lease_key, row)
		end
		if renew then
			call('PEXPIRE', lease_key, time_to_live(W))
			touched = now
		end
		if keep or others > 0 or groups ~= '' or tail ~= '' then
			local head = pack(HEAD, count, others + held, demand, now, looked, touched)
			call('SET', log_key, head .. groups .. tail, 'PX', time_to_live(W))
		elseif stored then
			call('DEL', log_key)
		end
	end
	local ends = 0
	if flags >= REPORT and #groups + #tail > 0 then
		retry, ends = leaving(groups, tail, W)
	end
	return pack(ANSWER, tag, grant, flag, min(retry, UINT32_MAX), min(count, UINT32_MAX),
		min(others, UINT32_MAX), min(ends, UINT32_MAX))
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

local answers = {}
if items > 0 then
	-- All logs in one call, which is cheaper. A key of another type reads as absent.
	local logs = call('MGET', unpack(log_keys))
	for i = 1, items do
		answers[i] = sync(i, logs[i])
	end
end
answers = table.concat(answers)
local batch = pack(ROW, seq, nonce) .. answers
if holder == row .. '\0' .. words then
	call('HSET', KEYS[1], row, batch, 'now', stamp(now))
else
	call('HSET', KEYS[1], row, batch, 'now', stamp(now), '@' .. host, row .. '\0' .. words)
end
forget()
return answer(0, answers)
