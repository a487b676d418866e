/*
 * rules.pml - the rule swap: shm/rl_rules.c.
 *
 * Goal:   a check never acts on a torn rule, one put together from two generations, nor on
 *         one of another generation than the one it looked up, nor does it take a rule for
 *         gone that is in every generation; though it may be stopped over several
 *         publishes, and an agent may die in the middle of one.
 * Method: two banks with a rule of two words in each; the words of generation g are g + 1
 *         (0 = none, as clear_rec() leaves it). One reader; agents that publish and die.
 *
 * RUN
 * BUG no_reread       the generation is not read again after the words
 * BUG relaxed_gen     the new generation is stored relaxed
 * BUG relaxed_words   the words are loaded relaxed
 * BUG relaxed_puts    the words are stored relaxed
 */
#define THREADS 2
#define LOCS    5
#ifndef DEPTH
#define DEPTH   6
#endif

#define GEN        0
#define WORD(g, w) (1 + ((g) & 1) * 2 + (w))

#define READER 0
#define AGENT  1

#ifndef PUBLISHES
#define PUBLISHES 2
#endif
#ifndef DEATHS
#define DEATHS 1
#endif

#if defined(relaxed_gen)
#define GEN_ORDER RLX
#else
#define GEN_ORDER REL
#endif
#if defined(relaxed_words)
#define WORD_ORDER RLX
#else
#define WORD_ORDER ACQ
#endif
#if defined(relaxed_puts)
#define PUT_ORDER RLX
#else
#define PUT_ORDER REL
#endif

#include "weak.pml"

/* rl_rules_read(), one try: the next one starts like the first, only later. */
proctype reader()
{
	byte before, first, second, after;

	load(READER, GEN, ACQ, before);                        /* generation_of() */
	load(READER, WORD(before, 0), WORD_ORDER, first);      /* read_rec(): take() */
	load(READER, WORD(before, 1), WORD_ORDER, second);
#if !defined(no_reread)
	load(READER, GEN, ACQ, after);                         /* read_once() */
	if
	:: after != before -> goto busy                        /* RL_E_BUSY */
	:: else
	fi;
#endif
	assert(first == second && first == before + 1);
busy:	skip
}

/*
 * rl_rules_publish(), by one agent after the other. The segment's lock passes from a dead
 * agent to the next one, and with it, through the kernel, all that the dead one wrote: the
 * next is the same thread here.
 */
proctype agent()
{
	byte last, deaths;

	do
	:: last < PUBLISHES ->
again:
		store(AGENT, WORD(last + 1, 0), PUT_ORDER, 0);        /* clear_rec() */
		store(AGENT, WORD(last + 1, 1), PUT_ORDER, 0);
		if
		:: deaths < DEATHS -> deaths++; goto again
		:: true
		fi;
		store(AGENT, WORD(last + 1, 0), PUT_ORDER, last + 2); /* write_rec() */
		if
		:: deaths < DEATHS -> deaths++; goto again
		:: true
		fi;
		store(AGENT, WORD(last + 1, 1), PUT_ORDER, last + 2);
		if
		:: deaths < DEATHS -> deaths++; goto again
		:: true
		fi;
		store(AGENT, GEN, GEN_ORDER, last + 1);               /* the linearisation point */
		last++
	:: else -> break
	od
}

init {
	atomic {
		mem[WORD(0, 0)].value[0] = 1;
		mem[WORD(0, 1)].value[0] = 1;
		run reader();
		run agent()
	}
}
