/*
 * weak.pml - memory as C11 promises it, for the models beside it.
 *
 * Spin interleaves steps over one memory that all threads see alike; real machines, and
 * compilers, promise less. So a location here is a history: every write since the start, in
 * the order of the location. A thread may read any of them that it does not know to be
 * overwritten. It learns that by reading: write i of a location tells that those before i
 * are; and by acquiring: a release write hands on all that its writer knew, and who reads it
 * with acquire order knows that too. A read-modify-write reads the newest. A seq_cst read
 * reads nothing older than the newest seq_cst write: seq_load() and seq_cas() are for
 * locations that nobody uses in another order. This is the usual operational form of RC11,
 * with two simplifications:
 *   - A plain store goes behind all writes to its location. (Here, no location gets plain
 *     stores from two threads.)
 *   - No load is put off until after a later store of its thread, as RC11 has it, too.
 *
 * A kill needs no step of its own: a thread that is never scheduled again is a killed one,
 * and spin looks at all such runs. What comes after it (an agent's successor) is in the model.
 *
 * A model defines before this file:
 *   THREADS, LOCS   how many; they are numbered from 0
 *   DEPTH           writes to one location, the first value among them; at most 32 in all
 *   first_bit(loc)  where the bits of loc begin, DEPTH - 1 or fewer, if not that many for each
 *   SC_LOCS         the locations below are used in seq_cst order only: the newest write is
 *                   all that anybody can read of them, and it alone is kept
 */
#ifndef SC_LOCS
#define SC_LOCS 0
#endif
#ifndef first_bit
#define first_bit(loc) (((loc) - SC_LOCS) * (DEPTH - 1))
#endif

#define RLX     0
#define ACQ     1
#define REL     2
#define ACQ_REL 3
#define acquires(order) (((order) & 1) != 0)
#define releases(order) (((order) & 2) != 0)

typedef location {
	byte value[DEPTH];
	int known[DEPTH]; /* by whom acquires it: which writes are overwritten, a bit for each */
	byte last;
};

location mem[LOCS];
int knows[THREADS];
byte at_; /* a write of the location in question; 0 between two steps */

#define newest(loc) mem[loc].value[mem[loc].last]
#define overwritten(me, loc, i) ((knows[me] >> (first_bit(loc) + (i)) & 1) != 0)
#define before(loc, i) (((1 << (i)) - 1) << first_bit(loc))

/* Choose for at_ one of the writes that me may read. */
inline pick(me, loc)
{
	do
	:: at_ < mem[loc].last && overwritten(me, loc, at_) -> at_++
	:: else -> break
	od;
	do
	:: at_ < mem[loc].last -> at_++
	:: break
	od
}

inline read(me, loc, order, ret)
{
	ret = mem[loc].value[at_];
	knows[me] = knows[me] | before(loc, at_) | (acquires(order) -> mem[loc].known[at_] : 0);
	printf("%d reads  %d at [%d], %d behind\n", me, ret, loc, mem[loc].last - at_);
	at_ = 0
}

/* One more write; known: what it hands on besides. */
inline append(me, loc, order, new, inherited)
{
	assert(mem[loc].last < DEPTH - 1); /* DEPTH is too small */
	mem[loc].last++;
	knows[me] = knows[me] | before(loc, mem[loc].last);
	newest(loc) = new;
	mem[loc].known[mem[loc].last] = inherited | before(loc, mem[loc].last) |
					(releases(order) -> knows[me] : 0);
	printf("%d writes %d at [%d]\n", me, newest(loc), loc)
}

/* atomic_load_explicit() */
inline load(me, loc, order, ret)
{
	atomic {
		pick(me, loc);
		read(me, loc, order, ret)
	}
}

/* atomic_store_explicit() */
inline store(me, loc, order, new)
{
	d_step { append(me, loc, order, new, 0) }
}

/*
 * atomic_compare_exchange_strong_explicit(): it fails only if what it read, maybe an old
 * write, is another value. It continues the release sequence of the write it replaces.
 */
inline cas(me, loc, order, fail_order, wanted, new, ret_ok, ret_seen)
{
	atomic {
		pick(me, loc);
		ret_ok = (newest(loc) == (wanted));
		if
		:: mem[loc].value[at_] != (wanted) || !ret_ok ->
			d_step {
				at_ = (mem[loc].value[at_] != (wanted) -> at_ : mem[loc].last);
				ret_ok = false;
				read(me, loc, fail_order, ret_seen)
			}
		:: else ->
			d_step {
				at_ = mem[loc].last;
				read(me, loc, order, ret_seen);
				append(me, loc, order, new, mem[loc].known[mem[loc].last])
			}
		fi
	}
}

/* The same in seq_cst order, of a location below SC_LOCS: only its newest write counts. */
inline seq_load(me, loc, ret)
{
	d_step {
		ret = newest(loc);
		knows[me] = knows[me] | mem[loc].known[0];
		printf("%d reads  %d at [%d]\n", me, ret, loc)
	}
}

inline seq_store(me, loc, new)
{
	d_step {
		newest(loc) = new;
		mem[loc].known[0] = knows[me];
		printf("%d writes %d at [%d]\n", me, newest(loc), loc)
	}
}

inline seq_cas(me, loc, wanted, new, ret_ok, ret_seen)
{
	d_step {
		ret_ok = (newest(loc) == (wanted));
		ret_seen = newest(loc);
		knows[me] = knows[me] | mem[loc].known[0];
		printf("%d reads  %d at [%d]\n", me, ret_seen, loc);
		if
		:: ret_ok ->
			newest(loc) = new;
			mem[loc].known[0] = knows[me];
			printf("%d writes %d at [%d]\n", me, newest(loc), loc)
		:: else
		fi
	}
}
