/*
 * takeover.pml - a slot is freed and claimed by another key under a check:
 * rl_table_free() and rl_table_wipe() of shm/rl_table.c, propose_at() of shm/rl_claim.c.
 *
 * Goal:   a worker never admits on a slot that has become another key's, or another life of
 *         its own key's; a claimant that sleeps and wakes late never changes a slot that
 *         meanwhile belongs to another key; a key is not freed while it holds anything.
 * Method: one slot, open for key A at first, with L = 1: two stamps. Worker 0 has key A,
 *         worker 1 key B, and each looks the key up, checks, or claims the slot if it is
 *         free, CHECKS times. The agent frees the slot when it looks idle, and takes back a
 *         claim whenever it sees one (in its eyes it stood still). All agents are one thread:
 *         the segment's lock passes on what a dead one wrote, and any of them does the next
 *         sweep. The clock ticks at any moment.
 *
 * RUN CHECKS=1 FREES=1
 * BUG same_n          a slot's next life begins at the number where the last one ended
 * BUG blind_free      the agent closes an idle slot by a store, not by CAS of the head it judged
 * BUG relaxed_open    the CAS that opens a claimed slot is relaxed
 * BUG relaxed_free    the store that makes the slot free is relaxed
 * BUG relaxed_find    a lookup loads the head relaxed
 * BUG plain_fill      a claimant stores its identity, instead of CAS from zero
 */
#ifndef CHECKS
#define CHECKS 2
#endif
#ifndef FREES
#define FREES 2 /* slots taken back by the agent, at most */
#endif
#define W     2
#ifndef UNTIL
#define UNTIL (2 * W) /* when the clock stops; it starts at W, all stamps expired */
#endif

#define THREADS 3
#define AGENT   2
#define LOCS    4
#define HEAD    0
#define ID      1
#define RING(n) (2 + ((n) & 1))
#define DEPTH   14
#define first_bit(loc) (loc == HEAD -> 0 : 8 + 6 * loc) /* 13 of head, 6 of the others */

#include "weak.pml"

/* A head word, [ n | kind ]; WIPE and TENT need no kind of their own here. */
#define OPEN   0
#define FREE   1
#define CLAIM  2
#define WIPE   3
#define kind(head)   ((head) & 3)
#define as(head, to) ((head) - kind(head) + (to))
#define NEXT   4 /* n + 1 */

#if defined(same_n)
#define NEXT_LIFE 0
#else
#define NEXT_LIFE NEXT
#endif
#if defined(relaxed_open)
#define OPEN_ORDER RLX
#else
#define OPEN_ORDER ACQ_REL
#endif
#if defined(relaxed_free)
#define FREE_ORDER RLX
#else
#define FREE_ORDER REL
#endif
#if defined(relaxed_find)
#define FIND_ORDER RLX
#else
#define FIND_ORDER ACQ
#endif

#define NOBODY 0
#define A      1
#define B      2

byte clock = W;
byte owner = A;  /* whose slot it is, when open */
byte life;       /* counts them */
byte last[3];    /* clock reading of a key's last admit; 0: long ago */

/* rl_window_try() with L = 1 and a ring of two: event n must be W after event n - 1. */
inline check()
{
	now = clock;                                    /* rl_clock_now_ns(), after the head */
	load(me, RING(head / NEXT), ACQ, stamp);
	load(me, RING(head / NEXT - 1), ACQ, held);
	if
	:: now < held + W -> skip                       /* refused */
	:: else ->
		do                                      /* raise_stamp() */
		:: now > stamp ->
			cas(me, RING(head / NEXT), REL, RLX, stamp, now, good, stamp);
			if
			:: good -> break
			:: else
			fi
		:: else -> break
		od;
		atomic {
			cas(me, HEAD, REL, RLX, head, head + NEXT, good, head);
			if
			:: good ->
				assert(owner == key && life == seen_life);
				assert(last[key] == 0 || now >= last[key] + W);
				last[key] = now
			:: else
			fi
		}
	fi
}

/* rl_table_claim(), of the only slot: its TENT and its being the lowest is claim.pml's. */
inline claim()
{
	mine = as(head, CLAIM) + NEXT_LIFE;
	cas(me, HEAD, ACQ_REL, ACQ, head, mine, good, head);
	if
	:: good ->
#if defined(plain_fill)
		store(me, ID, RLX, key);
		id = key;
#else
		cas(me, ID, RLX, RLX, NOBODY, key, good, id); /* fill_word() */
#endif
		if
		:: good || id == key ->
			atomic {
				cas(me, HEAD, OPEN_ORDER, RLX, mine, as(mine, OPEN), good, head);
				if
				:: good -> owner = key; life++
				:: else
				fi
			}
		:: else -> /* spoiled: as good as a CLAIM that stands still */
		fi
	:: else
	fi
}

proctype worker(byte me)
{
	byte checks, key, head, id, now, stamp, held, mine, seen_life;
	bool good;

	key = me + 1;
	do
	:: checks < CHECKS ->
		checks++;
		/* rl_table_find(): is_at(). Of an old head the life is not known: 255. */
		atomic {
			load(me, HEAD, FIND_ORDER, head);
			seen_life = (head == newest(HEAD) -> life : 255)
		}
		if
		:: kind(head) == OPEN ->
			load(me, ID, RLX, id);          /* id_is() */
			if
			:: id == key -> check()
			:: else
			fi
		:: kind(head) == FREE -> claim()
		:: else
		fi;
		skip;
		d_step { head = 0; id = 0; now = 0; stamp = 0; held = 0; mine = 0; good = 0; seen_life = 0 }
	:: else -> break
	od
}

/* rl_table_wipe() from the close on; what is killed in it begins again. */
inline wipe()
{
	store(AGENT, ID, RLX, NOBODY);                  /* zero_words() */
	store(AGENT, RING(0), RLX, 0);
	store(AGENT, RING(1), RLX, 0);
	store(AGENT, HEAD, FREE_ORDER, as(head, FREE) + NEXT_LIFE)
}

proctype agent()
{
	byte head, now, stamp, seen, frees;
	bool good;

	do
	:: frees < FREES ->
		frees++;
		now = clock;                            /* sweep_slice() */
		load(AGENT, HEAD, ACQ, head);           /* sweep_slot() */
		if
		:: kind(head) == OPEN ->
			load(AGENT, RING(0), ACQ, stamp);   /* rl_window_newest() */
			load(AGENT, RING(1), ACQ, seen);
			if
			:: now >= stamp + W && now >= seen + W ->   /* is_idle() */
#if defined(blind_free)
				store(AGENT, HEAD, REL, as(head, WIPE) + NEXT_LIFE);
				good = true;
#else
				cas(AGENT, HEAD, ACQ_REL, RLX, head, as(head, WIPE) + NEXT_LIFE, good, seen);
#endif
				if
				:: good -> assert(last[owner] == 0 || now >= last[owner] + W); wipe()
				:: else
				fi
			:: else
			fi
		:: kind(head) == CLAIM ->               /* visit_unfinished() */
			cas(AGENT, HEAD, ACQ_REL, RLX, head, as(head, WIPE), good, seen);
			if
			:: good -> wipe()
			:: else
			fi
		:: else
		fi;
		skip;
		d_step { head = 0; now = 0; stamp = 0; seen = 0; good = 0 }
	:: else -> break
	od
}

proctype ticks()
{
	do
	:: clock < UNTIL -> clock++
	:: else -> break
	od
}

init {
	atomic {
		mem[HEAD].value[0] = NEXT;
		mem[ID].value[0] = A;
		run worker(0);
		run worker(1);
		run agent();
		run ticks()
	}
}
