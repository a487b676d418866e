/*
 * claim.pml - the claim of a slot for a new key: shm/rl_claim.c.
 *
 * Goal:   one key never has two open slots, whoever is stopped or killed between any two
 *         steps; and a claimant that was stopped or killed holds up nobody (LONE).
 * Method: claimants of one key on SLOTS slots that may all lie in either of its buckets. The
 *         agent takes back what was given up, or is in its eyes (a CLAIM or TENT that only
 *         stood still for a second), and frees open slots; other keys take free ones.
 *         LONE: at some moment everybody stops for good but the last claimant, that starts
 *         then; it must come to an open slot in three tries, unless no slot is free.
 *
 * RUN CLAIMANTS=2 MOVES=0
 * RUN LONE CLAIMANTS=2 MOVES=0 TRIES=1
 * PROOF CLAIMANTS=3 MOVES=0 TRIES=1
 * BUG withdraw_self   the lower one wins, the loser gives up its own, nobody finishes another's
 * BUG no_second_look  the lowest is opened after one look
 * BUG no_withdraw     ... and the higher ones are left as they are
 * BUG acq_rel         tags and heads are acquire and release, not seq_cst
 * BUG own_only        (LONE CLAIMANTS=2) nobody finishes another's claim
 */
#ifndef CLAIMANTS
#define CLAIMANTS 3
#endif
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef TRIES
#define TRIES 2
#endif
#ifndef MOVES
#define MOVES 0 /* of the agent and of other keys */
#endif

#define THREADS (CLAIMANTS + 1)
#define WORLD   CLAIMANTS
#define LOCS    (3 * SLOTS)
#define DEPTH   6
#define HEAD(s) (s)
#define TAG(s)  (SLOTS + (s))
#define ID(s)   (2 * SLOTS + (s))

#if defined(acq_rel)
#define get(loc, ret)                        load(me, loc, ACQ, ret)
#define put(loc, new)                        store(me, loc, REL, new)
#define swap(loc, wanted, new, ok, seen_)    cas(me, loc, ACQ_REL, ACQ, wanted, new, ok, seen_)
#else
#define SC_LOCS (2 * SLOTS)
#define get(loc, ret)                        seq_load(me, loc, ret)
#define put(loc, new)                        seq_store(me, loc, new)
#define swap(loc, wanted, new, ok, seen_)    seq_cas(me, loc, wanted, new, ok, seen_)
#endif

#include "weak.pml"

/* A head word, [ n | kind ]. */
#define FREE    0
#define CLAIM   1
#define TENT    2
#define SPOILED 3
#define WIPE    4
#define OPEN    5
#define OTHER   6 /* anything of another key's */
#define kind(head)   ((head) & 7)
#define as(head, to) ((head) - kind(head) + (to))
#define NEXT 8 /* n + 1 */

/* A tag, an identity. */
#define NONE   0
#define OURS   1
#define THEIRS 2

bool frozen;

/* look(): one pass over the tags, and the heads and identities behind the right ones. */
inline look()
{
	d_step { open = false; s = 0; seen[0] = 0; seen[1] = 0; lowest = SLOTS }
	do
	:: s < SLOTS ->
		get(TAG(s), word);
		if
		:: word == OURS ->
			get(HEAD(s), word);          /* look_at() */
			if
			:: kind(word) == OPEN || kind(word) == TENT ->
				load(me, ID(s), RLX, id);       /* same_id() */
				d_step {
					if
					:: id == OURS && kind(word) == OPEN -> open = true
					:: id == OURS && kind(word) == TENT ->
						seen[s] = word;
						if
						:: lowest == SLOTS -> lowest = s
						:: else
						fi
					:: else
					fi
				}
			:: else
			fi
		:: else
		fi;
		s++
	:: else -> d_step { word = 0; id = 0; s = 0 }; break
	od
}

/* withdraw(): slots from s on, as they were seen; good: none had changed. */
inline withdraw_from(first)
{
	d_step { s = first; good = true }
	do
	:: s < SLOTS && good ->
		if
		:: seen[s] != 0 ->
			swap(HEAD(s), seen[s], as(seen[s], SPOILED), good, word)
		:: else
		fi;
		s++
	:: else -> d_step { word = 0; s = 0 }; break
	od
}

/* propose_at(): take a free slot, fill it in, publish it as tentative. */
inline propose_at(where)
{
	get(HEAD(where), word);                         /* propose_in() */
	if
	:: kind(word) == FREE ->
		free = true;                                    /* *ret_tried */
		mine = as(word, CLAIM) + NEXT;
		swap(HEAD(where), word, mine, good, word);
		if
		:: good ->
			cas(me, ID(where), RLX, RLX, NONE, OURS, good, id); /* fill_word() */
			if
			:: good || id == OURS ->
				swap(TAG(where), NONE, OURS, good, word) /* set_tag() */
			:: else
			fi;
			become = (good -> as(mine, TENT) : as(mine, SPOILED));
			swap(HEAD(where), mine, become, good, word)
		:: else
		fi
	:: else
	fi;
	d_step { word = 0; id = 0; mine = 0; become = 0; good = false }
}

/* One try of rl_table_claim(); ret_done: it has come to an open slot, or to no free one. */
inline try_once()
{
	look();
	if
	:: open ->
		withdraw_from(0);
		done = true
	:: !open && lowest < SLOTS ->                           /* finish_lowest() */
		d_step { candidate = lowest; candidate_word = seen[lowest]; good = true }
#if defined(withdraw_self) || defined(own_only)
		if
		:: at == candidate -> skip
		:: at < SLOTS && seen[at] != 0 && at != candidate ->
#if defined(withdraw_self)
			swap(HEAD(at), seen[at], as(seen[at], SPOILED), good, word);
#endif
			good = false
		:: else -> good = false                         /* wait for its owner */
		fi;
#elif !defined(no_second_look) && !defined(no_withdraw)
		look();
		good = !open && lowest == candidate && seen[candidate] == candidate_word;
#endif
#if !defined(withdraw_self) && !defined(no_withdraw)
		if
		:: good -> withdraw_from(candidate + 1)
		:: else
		fi;
#endif
		if
		:: good ->
			atomic {
				swap(HEAD(candidate), candidate_word,
				    as(candidate_word, OPEN), done, word);
				assert(kind(newest(HEAD(0))) != OPEN || kind(newest(HEAD(1))) != OPEN)
			}
		:: else
		fi
	:: else ->                                              /* propose() */
		free = false;
		if
		:: true -> at = 0; propose_at(0); if :: !free -> at = 1; propose_at(1) :: else fi
		:: true -> at = 1; propose_at(1); if :: !free -> at = 0; propose_at(0) :: else fi
		fi;
		done = !free                                    /* RL_E_FULL */
	fi;
	d_step { word = 0; candidate = 0; candidate_word = 0; good = false; open = false;
		 seen[0] = 0; seen[1] = 0; lowest = 0; free = false }
}

inline claim(most)
{
	do
	:: tries < most && !done -> try_once(); tries++
	:: else -> break
	od
}

proctype claimant(byte me) provided (!frozen)
{
	byte s, word, id, mine, seen[2], lowest, candidate, candidate_word, tries, at = SLOTS;
	byte become;
	bool open, good, free, done;

	claim(TRIES)
}

#if defined(LONE)
proctype lone(byte me)
{
	byte s, word, id, mine, seen[2], lowest, candidate, candidate_word, tries, at = SLOTS;
	byte become;
	bool open, good, free, done;

	frozen;
	claim(3);
	assert(done)
}
#endif

/* sweep_slot() and rl_table_wipe(), rl_table_free(); and others' keys. */
proctype world(byte me) provided (!frozen)
{
	byte moves, s, head, word;
	bool good;

	do
	:: moves < MOVES ->
		moves++;
		select(s : 0 .. SLOTS - 1);
		get(HEAD(s), head);
		if
		:: kind(head) == FREE ->
			atomic {
				swap(HEAD(s), head, as(head, OTHER) + NEXT, good, head);
				if
				:: good -> swap(TAG(s), NONE, THEIRS, good, word)
				:: else
				fi
			}
		:: else ->
			swap(HEAD(s), head, as(head, WIPE) + NEXT, good, word);
			if
			:: good ->
				get(TAG(s), word);             /* clear_tag() */
				swap(TAG(s), word, NONE, good, word);
				store(me, ID(s), RLX, NONE);              /* zero_words() */
				put(HEAD(s), as(head, FREE) + NEXT)
			:: else
			fi
		fi;
		d_step { s = 0; head = 0; word = 0; good = false }
	:: else -> break
	od
}

init {
	byte i;

	atomic {
		do
		:: i < SLOTS ->
			if
			:: mem[HEAD(i)].value[0] = FREE
			:: mem[HEAD(i)].value[0] = OTHER; mem[TAG(i)].value[0] = THEIRS
			fi;
			i++
		:: else -> break
		od;
		i = 0;
#if defined(LONE)
		run lone(CLAIMANTS - 1);
		do
		:: i < CLAIMANTS - 1 -> run claimant(i); i++
		:: else -> break
		od;
#else
		do
		:: i < CLAIMANTS -> run claimant(i); i++
		:: else -> break
		od;
#endif
		run world(WORLD);
		i = 0
	}
#if defined(LONE)
	frozen = true
#endif
}
