-- A peer of figure-peers: a count in nginx's shared dictionary, as lua-resty-limit-traffic's count
-- limiter keeps it. Each key's first increment sets it to 1 and starts its 60 s.
--
-- Standard input: the number of keys, the keys, the number of turns, the keys' numbers in the order
-- of use; then a number of calls for each round, answered by the ns that the round took.
local ffi = require("ffi")

ffi.cdef("typedef struct { long sec, nsec; } peer_time; int clock_gettime(int id, peer_time *at);")

local at = ffi.new("peer_time")

local function now_ns()
    ffi.C.clock_gettime(1, at)
    return tonumber(at.sec) * 1e9 + tonumber(at.nsec)
end

local function read_list(convert)
    local list = {}
    for i = 1, tonumber(io.read("*l")) do
        list[i] = convert(io.read("*l"))
    end
    return list
end

local counts = ngx.shared.counts
local limit, window_s = 1e9, 60

local function round(keys, order, calls)
    local allowed, turns = 0, #order
    local start = now_ns()

    for i = 0, calls - 1 do
        local count = counts:incr(keys[order[i % turns + 1]], 1, 0, window_s)
        if count and count <= limit then
            allowed = allowed + 1
        end
    end
    return now_ns() - start, allowed
end

local keys = read_list(tostring)
local order = read_list(function(line) return tonumber(line) + 1 end)

for line in io.lines() do
    local spent, allowed = round(keys, order, tonumber(line))
    if allowed ~= tonumber(line) then
        break
    end
    io.write(string.format("%d\n", spent))
    io.flush()
end
os.exit(0)
