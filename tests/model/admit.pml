/*
 * admit.pml - the sliding window's admit: rl_window_try() of shm/rl_window.c.
 *
 * Goal:   by the clock readings of the checks there are never more than L admits in any
 *         (t - W, t], whoever is stopped or killed between any two steps, and whatever the
 *         order of the clock readings; and a refusal is for the group of event n - L.
 * Method: one slot with a ring of K stamps, L = (K - 1) * Q. The clock of a check is any
 *         number of W .. NOW_MAX, later than, earlier than, equal to another's: the proof in
 *         rl_window.h asks for no order. All stamps are expired at first (0). Numbers may be
 *         skipped to the next group's start whenever that group's stamp is older than now,
 *         which is more often than worth_skipping() does.
 *
 * RUN CHECKS=2
 * RUN WORKERS=3 CHECKS=1
 * RUN Q=2 CHECKS=2
 * PROOF CHECKS=3
 * PROOF Q=2 CHECKS=3
 * BUG stamp_late      the stamp is raised after the count
 * BUG relaxed_head    the head is loaded relaxed
 * BUG relaxed_count   the CAS that counts is relaxed
 * BUG no_reread       a refusal does not read the head again
 * BUG relaxed_ring    the stamps are loaded relaxed
 * BUG relaxed_raise   the stamps are raised relaxed
 */
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef CHECKS
#define CHECKS 2 /* by each worker */
#endif
#ifndef Q
#define Q 1
#endif
#ifndef L
#define L (2 * Q)
#endif
#define W       2
#ifndef NOW_MAX
#define NOW_MAX 4
#endif

#define K (L / Q + 1)

#define THREADS WORKERS
#define LOCS    (1 + K)
#ifndef DEPTH
#define DEPTH   8
#endif
#define HEAD    0
#define RING(g) (1 + (g) % K)
#define FIRST   (K * Q) /* n of a fresh slot */
#define GROUPS  (K + 1 + WORKERS * CHECKS)

#if defined(relaxed_head)
#define HEAD_ORDER RLX
#else
#define HEAD_ORDER ACQ
#endif
#if defined(relaxed_count)
#define COUNT_ORDER RLX
#else
#define COUNT_ORDER REL
#endif
#if defined(relaxed_ring)
#define RING_ORDER RLX
#else
#define RING_ORDER ACQ
#endif
#if defined(relaxed_raise)
#define RAISE_ORDER RLX
#else
#define RAISE_ORDER REL
#endif

#include "weak.pml"

byte admits[NOW_MAX + 1];        /* by clock reading */
byte youngest[GROUPS]; /* the latest reading that a group was stamped with */

#define within(t)   (admits[t] + admits[t - 1]) /* the window (t - W, t], W = 2 */
#define expired(stamp) (now >= W + stamp)

/* Before or instead of the count: raise_stamp(). */
inline raise()
{
	do
	:: now <= stamp -> break
	:: else ->
		atomic {
			cas(me, RING(next), RAISE_ORDER, RLX, stamp, now, good, stamp);
			if
			:: good && now > youngest[next] -> youngest[next] = now
			:: else
			fi
		}
		if
		:: good -> break
		:: else
		fi
	od
}

proctype worker(byte me)
{
	byte checks, head, n, now, next, oldest, stamp, held;
	bool good;

	do
	:: checks < CHECKS ->
		checks++;
		load(me, HEAD, HEAD_ORDER, head);      /* rl_table.c: is_at() */
		select(now : W .. NOW_MAX);            /* rl_check.c: rl_clock_now_ns(), after it */
		printf("%d at %d\n", me, now);
		n = head;
		next = n / Q;                          /* place_of() */
		load(me, RING(next), RING_ORDER, stamp); /* try(): newest_stamp */
		if
		:: n % Q != 0 && now > stamp ->        /* worth_skipping() */
			next++;
			n = next * Q;
			load(me, RING(next), RING_ORDER, stamp)
		:: true
		fi;
		oldest = (n - L) / Q;                  /* back() */
		load(me, RING(oldest), RING_ORDER, held); /* blocked() */
		if
		:: !expired(held) ->
#if !defined(no_reread)
			load(me, HEAD, ACQ, n);        /* refuse() */
			if
			:: n != head -> goto again     /* RL_TRY_AGAIN */
			:: else
			fi;
#endif
			/* The refusal is right. With Q > 1 a skip that is not counted yet may have
			 * stamped this cell: refused then are clocks older than the skipper's. */
			assert(Q > 1 || !expired(youngest[oldest]))
		:: else ->
#if !defined(stamp_late)
			raise();                       /* killed here: counted as held, not admitted */
#endif
			atomic {
				cas(me, HEAD, COUNT_ORDER, RLX, head, n + 1, good, head);
				if
				:: good ->             /* admitted: the linearisation point */
					admits[now]++;
					assert(within(now) <= L);
					assert(now == NOW_MAX || within(now + 1) <= L)
				:: else
				fi
			}
#if defined(stamp_late)
			if
			:: good -> raise()
			:: else
			fi
#endif
		fi;
again:		skip;
		d_step { head = 0; n = 0; now = 0; next = 0; oldest = 0; stamp = 0; held = 0; good = 0 }
	:: else -> break
	od
}

init {
	byte i;

	atomic {
		mem[HEAD].value[0] = FIRST;
		do
		:: i < WORKERS -> run worker(i); i++
		:: else -> break
		od
	}
}
