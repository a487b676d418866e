/*
 * rebase.pml - an agent gives a slot new groups under the workers' checks, is killed after
 * each step, and the next one finishes it: shm/rl_rebase.c.
 *
 * Goal:   no admit and no refusal is judged by a mix of the old groups and the new ones;
 *         never more than L admits in a window by the checks' readings, across the re-base;
 *         and no slot is left closed without a journal entry that tells what it held (the
 *         sweep would empty it, and give the key its whole limit again).
 * Method: one slot with a ring of three stamps under L = 2, whose groups of FROM events become
 *         groups of TO. Checks as in admit.pml, but for the skipping. The journal is plain
 *         memory: one agent at a time, and the segment's lock hands on what a dead one wrote.
 *
 * RUN
 * RUN FROM=2 TO=1
 * BUG same_n          the slot opens with the number that it had
 * BUG journal_late    the journal's entry is valid only after the close
 * BUG no_close        the new words are written to the open slot
 * BUG relaxed_open    the new head is stored relaxed
 * BUG relaxed_shape   checks load the shape relaxed
 * BUG relaxed_puts    the new shape and stamps are stored relaxed
 */
#ifndef WORKERS
#define WORKERS 1
#endif
#ifndef CHECKS
#define CHECKS 2
#endif
#ifndef FROM
#define FROM 1
#define TO   2
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#define L       2
#define K       3
#define W       2

#define THREADS (WORKERS + 1)
#define AGENT   WORKERS
#define LOCS    (2 + K)
#define DEPTH   8
#define first_bit(loc) ((loc) * 6) /* 7 writes, and 8 for the last ring cell */
#define HEAD    0
#define SHAPE   1
#define RING(g) (2 + (g) % K)

#if defined(relaxed_shape)
#define SHAPE_ORDER RLX
#else
#define SHAPE_ORDER ACQ
#endif
#if defined(relaxed_puts)
#define PUT_ORDER RLX
#else
#define PUT_ORDER REL
#endif
#if defined(relaxed_open)
#define OPEN_ORDER RLX
#else
#define OPEN_ORDER REL
#endif

#include "weak.pml"

/* A head word, [ n | closed ]. */
#define OPEN(n)    ((n) * 2)
#define CLOSED(n)  ((n) * 2 + 1)
#define n_of(head) ((head) / 2)

#define FIRST  11 /* n at first: its last event was at W, the others long ago */
#define GROUPS 24

byte closed_head;            /* the journal's */
byte admits[2 * W + 1];    /* by clock reading */
byte young_old[GROUPS];      /* the latest reading that a group was stamped with, before */
byte young_new[GROUPS];      /* and after the re-base */
byte opened;                 /* n that the re-base opened the slot with; 0: not yet */
bool late;                   /* a worker stamped after the close by what it read before */

#define expired(stamp) (now >= W + (stamp))
#define is_new(n)      (opened != 0 && (n) >= opened)
#define true_q(n)      (is_new(n) -> TO : FROM)

inline note(group, stamp_)
{
	late = late || (newest(HEAD) == closed_head) || (is_new(n_of(newest(HEAD))) && !is_new(head / 2));
	if
	:: is_new(head / 2) && stamp_ > young_new[group] -> young_new[group] = stamp_
	:: !is_new(head / 2) && stamp_ > young_old[group] -> young_old[group] = stamp_
	:: else
	fi
}

proctype worker(byte me)
{
	byte checks, head, n, q, now, next, oldest, stamp, held;
	bool good;

	do
	:: checks < CHECKS ->
		checks++;
		load(me, HEAD, ACQ, head);             /* rl_table.c: is_at() */
		if
		:: head != OPEN(n_of(head)) -> goto again
		:: else
		fi;
		load(me, SHAPE, SHAPE_ORDER, q);       /* rl_check_steps.h: slot_terms() */
		if
		:: now = W
		:: now = 2 * W /* a window later */
		fi;
		printf("%d at %d\n", me, now);
		d_step { n = n_of(head); next = n / q; oldest = (n - L) / q };
		load(me, RING(next), ACQ, stamp);      /* rl_window.c: try() */
		load(me, RING(oldest), ACQ, held);
		if
		:: !expired(held) ->
			load(me, HEAD, ACQ, n);        /* refuse() */
			if
			:: n != head -> goto again
			:: else
			fi;
			d_step {
				n = n_of(head);
				oldest = (n - L) / true_q(n);
				if
				:: late -> skip /* its stamp may hold one group for up to W, as a kill's does */
				:: !late && is_new(n) -> assert(!expired(young_new[oldest]))
				:: !late && !is_new(n) -> assert(!expired(young_old[oldest]))
				fi
			}
		:: else ->
			do                             /* raise_stamp() */
			:: now <= stamp -> break
			:: else ->
				atomic {
					cas(me, RING(next), REL, RLX, stamp, now, good, stamp);
					if
					:: good -> note(next, now)
					:: else
					fi
				}
				if
				:: good -> break
				:: else
				fi
			od;
			atomic {
				cas(me, HEAD, REL, RLX, head, OPEN(n + 1), good, stamp);
				if
				:: good ->
					assert(q == true_q(n));
					admits[now]++;
					assert(admits[now] <= L)
				:: else
				fi
			}
		fi;
again:		skip;
		d_step { head = 0; n = 0; q = 0; now = 0; next = 0; oldest = 0; stamp = 0; held = 0; good = 0 }
	:: else -> break
	od
}

/* The journal (rl_layout.h: struct rl_journal), but for closed_head. */
bool valid;
byte open_head, image[K];

/* rl_rebase_plan(): every new group has the youngest stamp of the old ones of its events and
 * of all older ones. ring: by cells of the old groups. */
inline plan()
{
	d_step {
		n = n_of(head);
#if defined(same_n)
		open_head = head;
#else
		open_head = OPEN(((n + FROM) / TO + 2) * TO); /* rl_rebase_next_n() */
#endif
		g = 0; stamp = 0;
		do /* from the oldest old group that the ring has, and the oldest new group */
		:: g < K ->
			i = (n - 1) - (K - 1 - g) * TO;        /* the youngest event of new group g */
			old = (n - 1) / FROM - (K - 1);
			do
			:: old <= i / FROM ->
				stamp = (ring[old % K] > stamp -> ring[old % K] : stamp);
				old++
			:: else -> break
			od;
			image[(n_of(open_head) / TO - K + g) % K] = stamp;
			g++
		:: else -> break
		od;
		g = 0; stamp = 0; i = 0; old = 0
	}
}

#define MAY_DIE if :: deaths < DEATHS -> deaths++; goto recover :: true fi

/* rl_rebase_apply(), killed between any two of its stores. */
inline apply()
{
	store(AGENT, SHAPE, PUT_ORDER, TO);
	MAY_DIE;
	atomic {
		store(AGENT, RING(0), PUT_ORDER, image[0]);
		store(AGENT, RING(1), PUT_ORDER, image[1])
	};
	MAY_DIE;
	store(AGENT, RING(2), PUT_ORDER, image[2]);
	MAY_DIE;
	atomic {
		store(AGENT, HEAD, OPEN_ORDER, open_head);
		opened = n_of(open_head);
		/* What its groups hold from now on. */
		g = 0;
		do
		:: g < K ->
			young_new[opened / TO - K + g] = image[(opened / TO - K + g) % K];
			g++
		:: else -> break
		od;
		g = 0
	}
	MAY_DIE;
	valid = false                                  /* rl_rebase_drop() */
}

/* One agent after the other; all are one thread here. */
proctype agent()
{
	byte deaths, head, n, q, g, i, old, stamp, ring[K];
	bool good;

	/* rl_rebase_slot() */
	load(AGENT, HEAD, ACQ, head);
	atomic {
		load(AGENT, RING(0), ACQ, ring[0]);    /* read_groups() */
		load(AGENT, RING(1), ACQ, ring[1]);
		load(AGENT, RING(2), ACQ, ring[2])
	};
	plan();
	closed_head = CLOSED(n_of(head));              /* rl_rebase_write() */
	MAY_DIE;
#if !defined(journal_late)
	valid = true;
#endif
	MAY_DIE;
#if !defined(no_close)
	cas(AGENT, HEAD, ACQ_REL, RLX, head, closed_head, good, n); /* rl_rebase_close() */
#else
	good = true;
#endif
	MAY_DIE;
#if defined(journal_late)
	valid = good;
#endif
	if
	:: good -> apply()
	:: else -> valid = false
	fi;
	goto done;

recover: /* rl_rebase_recover(), by the next agent */
	load(AGENT, HEAD, ACQ, head);
	if
	:: valid && head == closed_head -> apply()
	:: else -> valid = false
	fi;
	load(AGENT, HEAD, ACQ, head);
	assert(head == OPEN(n_of(head)));              /* sweep_slot(): else visit_damaged() */
done:	skip
}

init {
	byte i;

	atomic {
		mem[HEAD].value[0] = OPEN(FIRST);
		mem[SHAPE].value[0] = FROM;
		mem[RING((FIRST - 1) / FROM)].value[0] = W;
		young_old[(FIRST - 1) / FROM] = W;
		admits[W] = 1;
		do
		:: i < WORKERS -> run worker(i); i++
		:: else -> break
		od;
		run agent();
		i = 0
	}
}
