/*
 * rl_layout.h - what every byte of the shared segment means.
 *
 * Rooms:  included by shm/ only; everyone else goes through the other shm/ headers.
 * Shared: every struct here is mapped by processes built at different times.
 *         Any change to a size, offset or meaning bumps RL_ABI_MAJOR.
 *
 *   offset 0         rl_hdr       4096 bytes  who made this and how big it is; frozen
 *   offset 4096      rl_live      4096 bytes  heartbeat, rule generation, journal; agent writes
 *   offset 8192      rl_bank[2]   two copies of the rules, used in turn by generation
 *   offset 73728     rl_fleet     who this host is in its fleet, and the state of its syncs
 *   offset 77824     rl_before[]  what was counted at each rule's index before the rule came
 *   offset 94208     rl_watch     what is published of the promise, and admits that are audited
 *   lists_off        rl_list_entry[2][] two copies of the rules' lists, used as the banks are
 *   members_off      rl_member[]  each attached process's statistics, by rule
 *   tags_off         rl_tags[]    one cache line of 32 16-bit tags per bucket
 *   slots_off        rl_slot[]    32 slots of 256 bytes per bucket
 *   sides_off        rl_side[]    what the sync knows of each slot, 32 bytes
 *   texts_off        rl_text[]    the key of each slot, 64 bytes; cold
 *   dirty_off        words        a bit for each slot that has something to report
 *   holders_off      rl_holders   the processes that hold requests in flight: rl_holder.h
 *   holds_off        rl_hold[]    who holds how many of a key: rl_hold.h, one line each
 *   total_size       what the table has grown by: more tags, slots, sides, texts and dirty bits,
 *                    in this order, for each time; mapped behind those above (rl_extent.h)
 *
 * Every word that more than one process touches is an 8-byte (or smaller) C11 atomic.
 * No locks, pointers, enums, bools or longs: a word here means the same to every build.
 * A hostile or damaged segment may make answers wrong; readers still check every index
 * and bound every loop, so it cannot make them crash or hang.
 */
#ifndef RL_LAYOUT_H
#define RL_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define RL_MAGIC      UINT64_C(0x314745534c455441) /* "ATELSEG1" read as little-endian bytes */
#define RL_ABI_NOW    6u
#define RL_ABI_OLDEST 5u /* of which a new agent carries all over: rl_segment_attach_older() */
#ifdef RL_ABI_AHEAD      /* tests: a release to come, of which all lies elsewhere */
#define RL_ABI_MAJOR (RL_ABI_NOW + 1)
#else
#define RL_ABI_MAJOR RL_ABI_NOW /* a reader of another major refuses the segment */
#endif
#define RL_ABI_MINOR 0u /* a reader of an older minor ignores the new fields */

#define RL_PAGE        4096u
#define RL_RING        24u  /* K: stamps in a slot, hence limits up to 23 are an exact log */
#define RL_LANES       32u  /* slots in a bucket: smaller buckets fill before 90 % load */
#define RL_CHOICES     3u   /* buckets a key may lie in (rl_tags.h); readers look at all of them */
#define RL_EXTENTS_MAX 6u   /* a table and what it has grown by, five times */
#define RL_LANE_WORDS  8u   /* 64-bit words holding a bucket's 32 tags of 16 bits */
#define RL_RULES_MAX   256u /* rules in one bank */
#define RL_NAME_WORDS  8u   /* a rule's name: up to 63 bytes and a NUL, as 64-bit words */
#define RL_MEMBERS_MAX 256u /* processes with statistics of their own; the rest share the first */
#define RL_MEMBERS_MIN 32u  /* of a small table: rl_segment_members() */

#define RL_AUDIT_CELLS 2048u /* admits of audited keys that await the agent; a power of two */

#define RL_LATENCY_BUCKETS 32u   /* bucket b: checks that took 2^b .. 2^(b+1) - 1 ns */
#define RL_LATENCY_ONE_IN  1024u /* checks: the one after is timed; a power of two */

#define RL_BUCKETS_MAX (UINT64_C(1) << 27) /* 4.3 billion slots, 1.4 TiB: far above any host */

#define RL_CHUNK_MIN 64u    /* buckets: their tags are a page of 4 KiB */
#define RL_CHUNK_MAX 16384u /* of 1 MiB */

#define RL_HOLDERS_MAX 1024u  /* processes that hold requests in flight, less one: 0 is none */
#define RL_HOLD_CELLS  6u     /* of them in one line of a key */
#define RL_HOLDS_MAX   65536u /* lines: keys in flight at once; 1 for 8 slots in small tables */
#define RL_HOLDS_MIN   256u

#define RL_PARTS      16u /* partitions of a fleet's keys, each with a sequence of its own */
#define RL_TEXT_BYTES 64u /* of a key that are kept as they are */

#define RL_CLOCK_OWN   0u /* this machine's */
#define RL_CLOCK_GIVEN 1u /* what the callers of each check say: rl_now.h */

/*
 * Bytes 0..4095. Written before the segment gets its name, never afterwards, but for what it has
 * grown by: rl_segment_grow().
 */
struct rl_hdr {
	uint64_t magic;         /* RL_MAGIC; also catches the other byte order */
	uint32_t abi_major;     /* RL_ABI_MAJOR */
	uint32_t abi_minor;     /* RL_ABI_MINOR */
	uint32_t hdr_size;      /* sizeof(struct rl_hdr) */
	uint32_t live_size;     /* sizeof(struct rl_live) */
	uint32_t bank_size;     /* sizeof(struct rl_bank) */
	uint32_t member_size;   /* sizeof(struct rl_member) */
	uint32_t slot_size;     /* sizeof(struct rl_slot) */
	uint32_t ring_stamps;   /* RL_RING */
	_Atomic uint32_t ready; /* 0 = being built, 1 = usable; pairs[seg_ready] */
	uint32_t clock;         /* RL_CLOCK_* */
	uint64_t bucket_count;  /* of the first extent: RL_CHOICES .. RL_BUCKETS_MAX */
	uint64_t members_off;   /* bytes from the start of the file, 4096-aligned */
	uint64_t tags_off;      /* likewise */
	uint64_t slots_off;     /* likewise */
	uint64_t sides_off;     /* likewise */
	uint64_t texts_off;     /* likewise */
	uint64_t dirty_off;     /* likewise: the summary's words, then the slots' words */
	uint64_t total_size;    /* bytes; the file is at least this long */
	uint64_t hash_key[2];  /* random, made with the segment: keyed identity of rules and keys */
	uint64_t boot_id[2];   /* kernel boot the stamps belong to; 0,0 = not known */
	uint64_t timens_ino;   /* inode of the creator's time namespace; 0 = not known */
	uint64_t tick_ns;      /* resolution of CLOCK_MONOTONIC_COARSE, nanoseconds */
	uint64_t made_real_s;  /* CLOCK_REALTIME seconds at creation, for people */
	uint64_t lists_off;    /* bytes, 4096-aligned */
	uint64_t list_slots;   /* entries of one copy, a power of two: twice what it takes */
	uint64_t member_count; /* RL_MEMBERS_MIN .. RL_MEMBERS_MAX */
	uint64_t holders_off;  /* as lists_off */
	uint64_t holds_off;    /* likewise */
	uint64_t hold_count;   /* follows from bucket_count */
	uint64_t slot_count;   /* of the first extent: bucket_count says the same */
	uint64_t chunk;        /* buckets: the table's arrays are cut there; a power of two */
	_Atomic uint64_t grown; /* extents beyond the first; written last; pairs[grown] */
	_Atomic uint64_t
		extent_end[RL_EXTENTS_MAX - 1]; /* buckets up to the end of each; relaxed */
	uint8_t pad1[3816];                     /* zero; room for minor versions */
};
static_assert(sizeof(struct rl_hdr) == 4096, "shared layout: bump RL_ABI_MAJOR");
static_assert(offsetof(struct rl_hdr, ready) == 40, "shared layout: bump RL_ABI_MAJOR");
static_assert(offsetof(struct rl_hdr, bucket_count) == 48, "shared layout: bump RL_ABI_MAJOR");
static_assert(offsetof(struct rl_hdr, made_real_s) == 160, "shared layout: bump RL_ABI_MAJOR");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a library lock would not cross processes");
static_assert(ATOMIC_INT_LOCK_FREE == 2, "a library lock would not cross processes");

/*
 * What the agent was doing to one slot when it died: the finished contents of a re-based
 * slot, written before the slot is closed. A new agent writes it again (same bytes, same
 * result) if the slot is still closed for it, and forgets it otherwise. rl_rebase.c.
 */
struct rl_journal {
	/* 0 = empty, 1 = the fields below are whole, 2 = the slot's state word is to be taken
	 * first, and what depends on it to be filled in; pairs[journal] */
	_Atomic uint64_t valid;
	_Atomic uint64_t slot; /* index of the slot; checked against bucket_count on replay */
	_Atomic uint64_t closed_head; /* the head word the slot has while it is being re-based */
	_Atomic uint64_t open_head;   /* the head word that opens it again */
	_Atomic uint64_t shape;       /* new rule:32 | q:32 */
	_Atomic uint64_t window_ns;   /* new window */
	_Atomic uint64_t acked;       /* new rl_side.acked: as far behind the new n as before */
	_Atomic uint64_t ring[RL_RING];
	_Atomic uint64_t state; /* new state word */
	_Atomic uint64_t hint;  /* new hint word */
	_Atomic uint64_t taken; /* valid 2: the state word it had; 0 = not taken yet */
};

/* Bytes 4096..8191. Written by the one agent that holds the segment's lock; read by all. */
struct rl_live {
	/* First line: what a check reads. Changes 10 times a second, so it stays cached. */
	_Atomic uint64_t beat_ns;    /* rl_clock_precise_ns() at the last heartbeat; relaxed */
	_Atomic uint64_t generation; /* of the rules: bank generation & 1 holds; pairs[rules_gen] */
	_Atomic uint64_t wall_ns;    /* CLOCK_REALTIME less rl_clock_precise_ns(); relaxed */
	uint8_t pad0[40];
	/* Second line: what tools read. */
	_Atomic uint64_t beat_real_ns;   /* CLOCK_REALTIME read beside beat_ns; relaxed */
	_Atomic uint64_t agent_pid;      /* of the agent; 0 = stopped cleanly; relaxed */
	_Atomic uint64_t agent_start_ns; /* rl_clock_precise_ns() when it took over; relaxed */
	_Atomic uint64_t sweep_passes;   /* whole passes over the table since creation; relaxed */
	_Atomic uint64_t slots_freed;    /* idle slots given back since creation; relaxed */
	_Atomic uint64_t slots_rebased;  /* since creation; relaxed */
	_Atomic uint64_t slots_reaped;   /* claims left by killed processes, taken back; relaxed */
	_Atomic uint64_t given_ns;      /* RL_CLOCK_GIVEN: the latest moment; relaxed, only grows */
	_Atomic uint64_t off_all;       /* 1: every rule is off; relaxed, the agent's */
	_Atomic uint64_t slots_evicted; /* of damaged words, emptied with a live count; relaxed */
	uint8_t pad1[112];
	struct rl_journal journal;
	uint8_t pad2[3568];
};
static_assert(offsetof(struct rl_live, beat_real_ns) == 64, "shared layout: bump RL_ABI_MAJOR");
static_assert(offsetof(struct rl_live, journal) == 256, "shared layout: bump RL_ABI_MAJOR");
static_assert(sizeof(struct rl_live) == 4096, "shared layout: bump RL_ABI_MAJOR");

/*
 * One rule as workers read it. An index keeps its rule as long as the rule is in force, so
 * a handle (index, id) stays good over reloads. Two lines: the first is all a check needs.
 */
struct rl_rule_rec {
	_Atomic uint64_t id_flags;  /* id:32 (high) | RL_RULE_*:13 | rl_fleet_pack():19; 0 = none */
	_Atomic uint64_t shape;     /* limit:32 (high) | q:32, see rl_window.h */
	_Atomic uint64_t window_ns; /* 10 ms .. 365 days */
	/* shadow:20 (ppm of the keys) | 0:5 | audit:5 (rl_audit.h) | on_full:2 | wait:32, ns: for
	 * credit, who may wait */
	_Atomic uint64_t rest;
	_Atomic uint64_t bucket;  /* burst:32 (high) | delay:32, units; 0 = none given */
	_Atomic uint64_t net4;    /* lengths of networks in its lists: rl_lists.h */
	_Atomic uint64_t net6[2]; /* likewise */
	_Atomic uint64_t name[RL_NAME_WORDS]; /* text, NUL-terminated, for lookup by name */
};
static_assert(sizeof(struct rl_rule_rec) == 128, "shared layout: bump RL_ABI_MAJOR");

/* A key, or a network, that a rule treats in its own way; see rl_lists.h. id[0] = 0: none. */
struct rl_list_entry {
	_Atomic uint64_t id[2];  /* keyed hash of the rule and the key or network */
	_Atomic uint64_t terms;  /* limit:32 (high) | burst:32 */
	_Atomic uint64_t window; /* verdict:8 | window:56, ns */
};
static_assert(sizeof(struct rl_list_entry) == 32, "shared layout: bump RL_ABI_MAJOR");

struct rl_bank {
	struct rl_rule_rec rule[RL_RULES_MAX];
};
static_assert(sizeof(struct rl_bank) == 32768, "shared layout: bump RL_ABI_MAJOR");

/*
 * One partition of the fleet's keys: its sequence of calls to Redis. The agent writes, workers
 * read the first two words. A call is known by (host, epoch, seq, nonce); what it held is in
 * the slots' rl_side.infl, so a new agent can send it again as it was. seq is raised last.
 */
struct rl_part {
	_Atomic uint64_t
		lease_until_ns;       /* precise clock: credit may be spent until then; relaxed */
	_Atomic uint64_t silent_ns;   /* since when a call is unanswered; 0 = none is; relaxed */
	_Atomic uint64_t seq;         /* of the call under way or to come; starts at 1 */
	_Atomic uint64_t nonce;       /* random, drawn before anything of the call is recorded */
	_Atomic uint64_t sent_ns;     /* precise clock: when this seq was first sent; 0 = not yet */
	_Atomic uint64_t answered_ns; /* precise clock: when an answer last came; relaxed, as pad */
	_Atomic uint64_t node; /* 1 + which of rl_fleet.node has it; 0 = not known; relaxed */
	uint8_t pad[8];
};
static_assert(sizeof(struct rl_part) == 64, "shared layout: bump RL_ABI_MAJOR");

#define RL_NODE_WORDS 12u /* of a server's address */

#define RL_REDIS_NONE 0u /* no Redis is configured */
#define RL_REDIS_UP   1u
#define RL_REDIS_DOWN 2u

/* This host in its fleet. Written by the agent, but for bell. */
struct rl_fleet {
	/* First line: what a check reads. */
	_Atomic uint64_t
		stale_after_ns;       /* an older unanswered call makes the answer stale; relaxed */
	_Atomic uint64_t hosts;       /* live hosts of the fleet; 0: never told; relaxed */
	_Atomic uint64_t interval_ns; /* 0: by each rule's window; relaxed */
	uint8_t pad0[40];
	/* Second line: a worker that runs short rings. */
	_Atomic uint32_t bell;   /* raised by each ring: the agent's futex; pairs[bell] */
	_Atomic uint32_t asleep; /* 1 = somebody must be woken; pairs[bell] */
	uint8_t pad1[56];
	/* The rest: for the agent itself and for tools. All relaxed. */
	_Atomic uint64_t host[RL_NAME_WORDS];  /* host id, text; made once, or as configured */
	_Atomic uint64_t fleet[RL_NAME_WORDS]; /* the fleet's name, text */
	_Atomic uint64_t epoch;                /* this life of the segment, below 2^53 */
	_Atomic uint64_t redis;                /* RL_REDIS_* */
	_Atomic uint64_t redis_since_ns;       /* precise clock: since when it is that */
	_Atomic uint64_t syncs;                /* calls answered, since creation as all below */
	_Atomic uint64_t resends;              /* calls sent again after a loss */
	_Atomic uint64_t keys_synced;          /* items of answered calls */
	_Atomic uint64_t granted;              /* units of credit received */
	_Atomic uint64_t returned;             /* units of credit given back unspent */
	_Atomic uint64_t dropped;              /* units never reported: their window had passed */
	_Atomic uint64_t clashes;              /* times another host used this identity */
	_Atomic uint64_t round_trip_ns;        /* of the last call */
	_Atomic uint64_t other_seen_ns; /* precise clock: another host uses our id; 0 = none */
	_Atomic uint64_t other[32];     /* which, text */
	uint8_t pad2[32];
	struct rl_part part[RL_PARTS];
	/* What was ordered, by whoever commands: agent/orders/. All relaxed, for tools. */
	_Atomic uint64_t orders;         /* that stand, of this host and of the fleet */
	_Atomic uint64_t orders_version; /* of the fleet's; 0 = none was ever given */
	_Atomic uint64_t orders_hosts;   /* live hosts that go by them */
	_Atomic uint64_t orders_live;    /* live hosts */
	_Atomic uint64_t rules_version;  /* of the pushed rules in force here; 0 = the file's */
	_Atomic uint64_t rules_wanted;   /* of those the fleet is to have; 0 = each its file's */
	_Atomic uint64_t rules_hosts;    /* live hosts that go by them */
	_Atomic uint64_t nodes;    /* servers that have the counts, of node[]; 0 = not known */
	_Atomic uint64_t nodes_up; /* of those: bits */
	_Atomic uint64_t node[RL_PARTS][RL_NODE_WORDS]; /* where each is: text */
	_Atomic uint64_t slowed; /* keys are told less often: rl_slowed_far(); 0 = not */
	uint8_t pad3[624];
	_Atomic uint64_t
		store[24]; /* what has the fleet's counts, and where: text; 0 = never told */
};
static_assert(offsetof(struct rl_fleet, bell) == 64, "shared layout: bump RL_ABI_MAJOR");
static_assert(offsetof(struct rl_fleet, part) % 64 == 0, "shared layout: bump RL_ABI_MAJOR");
static_assert(sizeof(struct rl_fleet) == 4096, "shared layout: bump RL_ABI_MAJOR");

/* What was counted under the rule of one index. A check moves one of the first three. */
struct rl_counts {
	_Atomic uint64_t allowed;  /* cost units admitted; all counters: fetch_add, relaxed */
	_Atomic uint64_t limited;  /* checks refused */
	_Atomic uint64_t errors;   /* checks answered with an error */
	_Atomic uint64_t shadowed; /* checks of limited that passed, as the rule only looks on */
	_Atomic uint64_t near;     /* admits that left less than a tenth of the limit */
	_Atomic uint64_t pooled;   /* checks without a slot, answered as on_full says */
	_Atomic uint64_t refunded; /* cost units of allowed that were given back */
	_Atomic uint64_t spare;    /* zero */
};
static_assert(sizeof(struct rl_counts) == 64, "shared layout: bump RL_ABI_MAJOR");

/*
 * The rule whose numbers those of an index are, and what all members had counted there before it
 * came: those numbers are never set back. The agent writes, when it puts rules in force.
 */
struct rl_before {
	_Atomic uint64_t id; /* of the rule; 0: none, or being written; pairs[before_id] */
	_Atomic uint64_t allowed, limited, errors, shadowed, near, pooled,
		refunded; /* pairs[before_word] */
};
static_assert(sizeof(struct rl_before) == 64, "shared layout: bump RL_ABI_MAJOR");

/*
 * How one rule's promise stands, by its index: numbers for people, published by the agent. Relaxed,
 * all: each stands for itself, and made_ns of rl_watch says of when the first ones are.
 */
struct rl_watch_rule {
	_Atomic uint64_t id;        /* the rule whose numbers these are; 0: of none */
	_Atomic uint64_t keys;      /* slots it has, as of the last pass of the sweep */
	_Atomic uint64_t active;    /* of them, that are being synced */
	_Atomic uint64_t credit;    /* units this host may still admit without asking */
	_Atomic uint64_t untold;    /* units admitted that the store does not know of */
	_Atomic uint64_t untold_ns; /* how long, at most, the oldest of them; age at made_ns */
	_Atomic uint64_t
		stale_ns; /* since the oldest last answer to one that waits for one; likewise */
	_Atomic uint64_t bound;     /* in force then: rl_bound.h; units, UINT64_MAX: none */
	_Atomic uint64_t bound_by;  /* enum rl_bound_by */
	_Atomic uint64_t spare0[7]; /* zero */
	/* The audit, rl_audit.h. */
	_Atomic uint64_t audited;    /* keys whose admits are being kept */
	_Atomic uint64_t admits;     /* units of them seen, since the segment was made */
	_Atomic uint64_t windows;    /* windows judged on this host: one for each admit */
	_Atomic uint64_t fleet;      /* windows judged over all hosts */
	_Atomic uint64_t excess;     /* the most units above its limit that a window had */
	_Atomic uint64_t excess_ppm; /* the most, in parts of the limit */
	_Atomic uint64_t lately;     /* as excess, of the last minute or so */
	_Atomic uint64_t lately_ppm; /* as excess_ppm */
};
static_assert(sizeof(struct rl_watch_rule) == 192, "shared layout: bump RL_ABI_MAJOR");

/* One admit of an audited key: rl_audit.h. Relaxed, all: each word says whose it is. */
struct rl_audit_cell {
	_Atomic uint64_t word[4];
};

struct rl_watch {
	/* First line: raised by each worker that admits an audited key. */
	_Atomic uint64_t put; /* cells ever taken to be written; fetch_add, relaxed */
	uint8_t pad0[56];
	/* The rest is the agent's. Relaxed, as above. */
	_Atomic uint64_t taken;      /* cells ever read */
	_Atomic uint64_t missed;     /* of them, without an admit: overwritten, or never written */
	_Atomic uint64_t unkept;     /* admits of audited keys for which there was no room */
	_Atomic uint64_t made_ns;    /* precise clock: when the rules' first numbers were made */
	_Atomic uint64_t skew_ns;    /* the store's clock less CLOCK_REALTIME, two's complement */
	_Atomic uint64_t skew_by_ns; /* and by how much that may be wrong */
	_Atomic uint64_t skew_at_ns; /* precise clock: of when; 0: not known */
	_Atomic uint64_t steps;      /* times that the store's clock has stepped */
	_Atomic uint64_t step_ns;    /* by how much the last time, two's complement */
	_Atomic uint64_t step_at_ns; /* precise clock: and when */
	uint8_t pad1[3952];
	struct rl_watch_rule rule[RL_RULES_MAX]; /* by index */
	struct rl_audit_cell cell[RL_AUDIT_CELLS];
};
static_assert(offsetof(struct rl_watch, rule) == RL_PAGE, "shared layout: bump RL_ABI_MAJOR");
static_assert(sizeof(struct rl_watch) == 29 * RL_PAGE, "shared layout: bump RL_ABI_MAJOR");

/*
 * One process's statistics, in lines that (nearly always) only this process writes. The
 * numbers only grow, also when they go to another process, so the sum over all members
 * is the host's total whoever lives or dies.
 */
struct rl_member {
	_Atomic uint64_t owner;  /* pid, 0 = free; CAS, relaxed: publishes no other memory */
	_Atomic uint64_t errors; /* checks answered with an error after the table was asked */
	_Atomic uint64_t full;   /* checks of new keys for which no slot was free */
	_Atomic uint64_t mended; /* stamps ahead of the clock, set back */
	_Atomic uint64_t claims; /* slots claimed for new keys */
	uint8_t pad[24];
	_Atomic uint64_t latency[RL_LATENCY_BUCKETS]; /* checks that were timed */
	struct rl_counts rule[RL_RULES_MAX];          /* by index */
};
static_assert(offsetof(struct rl_member, rule) == 320, "shared layout: bump RL_ABI_MAJOR");
static_assert(sizeof(struct rl_member) == 16704, "shared layout: bump RL_ABI_MAJOR");

/* The tags of one bucket, four to a word, lane 0 in the lowest bits. 0 = no tag. */
struct rl_tags {
	_Atomic uint64_t word[RL_LANE_WORDS];
};
static_assert(sizeof(struct rl_tags) == 64, "shared layout: bump RL_ABI_MAJOR");

/*
 * One key under one rule. The head word (rl_word.h) decides everything; the rest belongs to
 * it: a worker reads head first and CASes that same value last, and whoever changes the
 * rest closes head first and opens it with another count, so no CAS begun before succeeds.
 *
 * A free slot is all zero but for head, its side and text too. Claimants fill id, shape,
 * window, hint, state, side and text with CAS-from-zero, so a claimant that was stopped and wakes
 * late can never overwrite what a later owner wrote (rl_table.h, guarantee C).
 */
struct rl_slot {
	_Atomic uint64_t head;      /* count, closed, grant, credit; pairs[slot_head] */
	_Atomic uint64_t id[2];     /* keyed hash of (rule, key), never 0; relaxed, under head */
	_Atomic uint64_t shape;     /* rule:32 (high) | algorithm:5 | q:27; pairs[slot_shape] */
	_Atomic uint64_t window_ns; /* the window it was made for: says its clock; under head */
	_Atomic uint64_t hint;  /* partition, low water, when to ask again: rl_side.h; relaxed. Of
				 * a slot that counts in its state: by what scale, rl_count.h */
	_Atomic uint64_t state; /* another algorithm's: rl_algorithm.h; pairs[slot_state]. Of a
				 * shared rule GCRA's theoretical arrival time, ns: relaxed. Of a
				 * local sliding window what was said of it: rl_mark.h */
	_Atomic uint32_t asked; /* units asked for without credit: rl_shared.c; relaxed */
	_Atomic uint32_t turn;  /* futex: raised after each answer of Redis; pairs[slot_turn] */
	_Atomic uint64_t ring[RL_RING]; /* ns of the last event of each group; pairs[ring_stamp] */
};
static_assert(sizeof(struct rl_slot) == 256, "shared layout: bump RL_ABI_MAJOR");
static_assert(offsetof(struct rl_slot, ring) == 64, "shared layout: bump RL_ABI_MAJOR");

/*
 * What the sync knows of a slot; the first three words are the agent's alone once the slot
 * is open.
 *
 * infl, while valid, is what the call under way says of this slot: it mirrors head
 * [ n:42 | valid:1 | grant:1 | credit:20 ]. The grant in the answer is applied iff head's
 * grant bit is not yet infl's, in the CAS that makes it so; then acked, then infl = 0. A kill
 * between any two of these leaves a state from which the same call, sent again, ends the same.
 */
struct rl_side {
	_Atomic uint64_t infl;    /* 0 = nothing under way; relaxed, one writer */
	_Atomic uint64_t acked;   /* [ n:42 | tracked:1 | text:21 ], see rl_side.h; relaxed */
	_Atomic uint64_t total;   /* [ when:32 | units:32 ], see rl_side.h; relaxed. Of a local
				   * rule until when the key is blocked: rl_mark.h */
	_Atomic uint32_t refused; /* units refused since the last call, for the demand; relaxed */
	_Atomic uint16_t debt;    /* units admitted without credit since the last answer; relaxed */
	_Atomic uint16_t waiters; /* callers in a futex wait for credit, or killed in it; relaxed */
};
static_assert(sizeof(struct rl_side) == 32, "shared layout: bump RL_ABI_MAJOR");

/* Who holds requests in flight: rl_holder.h. */
struct rl_holders {
	_Atomic uint64_t file;       /* [ made:16 | inode:48 ] of "<path>.alive"; 0 = never made */
	_Atomic uint64_t file_dev;   /* its device; written before file; pairs[alive_file] */
	_Atomic uint64_t given_back; /* units of dead processes, since creation; relaxed */
	uint8_t pad0[40];
	_Atomic uint64_t
		word[RL_HOLDERS_MAX]; /* [ state:4 | made:16 | life:12 | pid:32 ]; seq_cst */
	uint8_t pad1[4032];
};
static_assert(sizeof(struct rl_holders) == 3 * RL_PAGE, "shared layout: bump RL_ABI_MAJOR");

/* One line of who holds how many of a key: rl_hold.h. All seq_cst. */
struct rl_hold {
	_Atomic uint64_t owner; /* [ 1:1 | slot:32 | life:9 | holder:10 | its life:12 ]; 0 = free */
	_Atomic uint64_t next;  /* [ era:20 | era of it:20 | 1 + index of the next line:24 ] */
	_Atomic uint64_t cell[RL_HOLD_CELLS]; /* [ holder:12 | life:12 | asked:20 | held:20 ] */
};
static_assert(sizeof(struct rl_hold) == 64, "shared layout: bump RL_ABI_MAJOR");

/* The key, verbatim up to 64 bytes; of a longer one 32 bytes and its SHA-256: rl_side.h. */
struct rl_text {
	_Atomic uint64_t word[RL_TEXT_BYTES / 8]; /* relaxed, under head */
};
static_assert(sizeof(struct rl_text) == 64, "shared layout: bump RL_ABI_MAJOR");

#endif
