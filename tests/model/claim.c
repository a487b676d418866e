/*
 * Goal:   the claim protocol of shm/rl_table.h never opens two slots of one key, and a
 *         stopped claimant holds up nobody.
 * Method: random interleavings of single loads and CASes, 2 to 4 claimants of one key on six
 *         slots, two in each of its buckets, one of them nearly stopped, other keys coming and
 *         going. Sequentially consistent, as rl_claim.c's loads and CASes are (seq_cst). A
 *         claimant takes any free slot: which bucket is preferred is no part of the proof. In half
 *         of the runs the last two slots are what the table grows by, at some moment: claimants map
 *         them when they learn of it.
 *
 * usage: claim [BUG=withdraw-self | no-second-look | third-left-out | grown-asked-once] [RUNS=n]
 * The first two bugs are the usual first thoughts, the third is a tempting shortcut: to look at
 * the third bucket only when there is no room before it, as it is only taken then. The fourth asks
 * whether the table has grown only before it takes a slot, not before it opens one. With one
 * planted the model must find two open slots and exits 1.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 6, THIRD = 4, CLAIMANTS_MAX = 4, STEPS = 400 };

/* A head word: one of these, or TENT + nonce. */
enum { FREE, OTHER_KEY, OPEN, SPOILED, TENT = 16 };

enum bug { NO_BUG, WITHDRAW_SELF, NO_SECOND_LOOK, THIRD_LEFT_OUT, GROWN_ASKED_ONCE };

enum step { LOOK, ASK, DECIDE, CLAIM, LOOK_AGAIN, JUDGE, WITHDRAW_HIGHER, FINISH, WITHDRAW_ALL };

struct claimant {
	enum step step;
	int maps;      /* so many slots */
	bool asked;    /* whether there are more */
	int at;        /* slot the next load or CAS touches */
	int mine;      /* slot it is about to claim, or has claimed; -1 = none */
	int lowest;    /* candidate to be opened */
	uint32_t word; /* the candidate's word as first seen */
	uint32_t seen[SLOTS];
};

static uint64_t random_state;
static enum bug bug;

static uint32_t below(uint32_t bound)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)((random_state * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % bound;
}

static uint32_t slot[SLOTS], nonce;
static bool grown;

static bool swap(int i, uint32_t from, uint32_t to)
{
	if (slot[i] != from)
		return false;
	slot[i] = to;
	return true;
}

static int count_open(void)
{
	int open = 0;

	for (int i = 0; i < SLOTS; i++)
		open += slot[i] == OPEN;
	return open;
}

static int first_seen(const struct claimant *c, bool (*is)(uint32_t))
{
	for (int i = 0; i < SLOTS; i++)
		if (is(c->seen[i]))
			return i;
	return -1;
}

static bool is_open(uint32_t word)
{
	return word == OPEN;
}

static bool is_tent(uint32_t word)
{
	return word >= TENT;
}

static void go(struct claimant *c, enum step step)
{
	c->step = step;
	c->at = 0;
}

/* Has the table grown? Then with all of it, from the start. */
static void ask(struct claimant *c, enum step next)
{
	bool more = grown && c->maps < SLOTS && !(bug == GROWN_ASKED_ONCE && c->asked);

	c->asked = true;
	if (more)
		c->maps = SLOTS;
	c->step = more ? LOOK : next;
	c->at = 0;
}

static int count_free(const struct claimant *c, int slots)
{
	int free_slots = 0;

	for (int i = 0; i < slots; i++)
		free_slots += c->seen[i] == FREE;
	return free_slots;
}

/* One load of a look at all slots; when done, the next step. */
static void load_one(struct claimant *c, enum step next)
{
	c->seen[c->at] = slot[c->at];
	if (++c->at == THIRD && bug == THIRD_LEFT_OUT && count_free(c, THIRD) > 0)
		while (c->at < SLOTS)
			c->seen[c->at++] = OTHER_KEY; /* the bug: not read, so nothing of ours */
	if (c->at >= c->maps) {
		while (c->at < SLOTS)
			c->seen[c->at++] = OTHER_KEY; /* not mapped */
		c->step = next;
		c->at = 0;
	}
}

static void pick_free(struct claimant *c)
{
	int free_slots = count_free(c, SLOTS), pick;

	if (free_slots == 0) {
		go(c, LOOK);
		return;
	}
	pick = (int)below((uint32_t)free_slots);
	for (int i = 0; i < SLOTS; i++)
		if (c->seen[i] == FREE && pick-- == 0)
			c->mine = i;
	go(c, CLAIM);
}

static void decide(struct claimant *c)
{
	int lowest = first_seen(c, is_tent);

	if (first_seen(c, is_open) >= 0) {
		go(c, WITHDRAW_ALL);
	} else if (lowest < 0) {
		pick_free(c);
	} else if (bug == WITHDRAW_SELF && c->mine >= 0 && is_tent(c->seen[c->mine]) &&
		   lowest != c->mine) {
		swap(c->mine, c->seen[c->mine], SPOILED); /* the bug: the higher one gives way */
		c->mine = -1;
		go(c, LOOK);
	} else if (bug == WITHDRAW_SELF && (c->mine < 0 || lowest != c->mine)) {
		go(c, LOOK); /* the bug: nobody finishes another's */
	} else {
		c->lowest = lowest;
		c->word = c->seen[lowest];
		go(c, bug == WITHDRAW_SELF || bug == NO_SECOND_LOOK ? FINISH : LOOK_AGAIN);
	}
}

static void judge(struct claimant *c)
{
	bool bad = first_seen(c, is_open) >= 0 || first_seen(c, is_tent) != c->lowest ||
		   c->seen[c->lowest] != c->word;

	go(c, bad ? LOOK : WITHDRAW_HIGHER);
}

static void withdraw_higher(struct claimant *c)
{
	int i = c->at;

	if (i != c->lowest && is_tent(c->seen[i]) && !swap(i, c->seen[i], SPOILED)) {
		go(c, LOOK);
		return;
	}
	if (++c->at == SLOTS)
		go(c, FINISH);
}

static void take_step(struct claimant *c)
{
	switch (c->step) {
	case LOOK:
		load_one(c, ASK);
		break;
	case ASK:
		ask(c, DECIDE);
		break;
	case DECIDE:
		decide(c);
		break;
	case CLAIM:
		if (!swap(c->mine, FREE, TENT + ++nonce))
			c->mine = -1;
		go(c, LOOK);
		break;
	case LOOK_AGAIN:
		load_one(c, JUDGE);
		break;
	case JUDGE:
		judge(c);
		break;
	case WITHDRAW_HIGHER:
		withdraw_higher(c);
		break;
	case FINISH:
		swap(c->lowest, c->word, OPEN);
		go(c, LOOK);
		break;
	case WITHDRAW_ALL:
		for (int i = 0; i < SLOTS; i++)
			if (is_tent(c->seen[i]))
				swap(i, c->seen[i], SPOILED);
		go(c, LOOK);
	}
}

/* Other keys come and go; the agent wipes what was given up. */
static void others_move(void)
{
	int i = (int)below(grown ? SLOTS : THIRD);

	grown = grown || below(40) == 0;
	if (slot[i] == FREE)
		slot[i] = OTHER_KEY;
	else if (slot[i] == OTHER_KEY || slot[i] == SPOILED)
		slot[i] = FREE;
}

/* Returns the largest number of slots open at once. */
static int run(void)
{
	struct claimant claimant[CLAIMANTS_MAX] = {0};
	uint32_t claimants = 2 + below(3);
	int most = 0;

	nonce = 0;
	grown = below(2) == 0;
	for (int i = 0; i < SLOTS; i++)
		slot[i] = below(3) != 0 && (grown || i < THIRD) ? OTHER_KEY : FREE;
	for (uint32_t i = 0; i < claimants; i++) {
		claimant[i].mine = -1;
		claimant[i].maps = grown ? SLOTS : THIRD;
		go(&claimant[i], LOOK);
	}
	for (int s = 0; s < STEPS; s++) {
		uint32_t who = below(claimants);

		if (below(3) == 0)
			others_move();
		if (who == 0 && below(30) != 0)
			continue; /* the first claimant is nearly stopped */
		take_step(&claimant[who]);
		if (count_open() > most)
			most = count_open();
	}
	return most;
}

int main(int argc, char **argv)
{
	long runs = 400000, two = 0, none = 0;

	random_state = 7;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "BUG=withdraw-self") == 0)
			bug = WITHDRAW_SELF;
		else if (strcmp(argv[i], "BUG=no-second-look") == 0)
			bug = NO_SECOND_LOOK;
		else if (strcmp(argv[i], "BUG=third-left-out") == 0)
			bug = THIRD_LEFT_OUT;
		else if (strcmp(argv[i], "BUG=grown-asked-once") == 0)
			bug = GROWN_ASKED_ONCE;
		else if (strncmp(argv[i], "RUNS=", 5) == 0)
			runs = atol(argv[i] + 5);
		else
			return fprintf(stderr, "claim: unknown argument %s\n", argv[i]), 2;
	}
	for (long r = 0; r < runs; r++) {
		int most = run();

		two += most > 1;
		none += most == 0;
	}
	printf("%ld runs: two slots open in %ld, none opened in %ld\n", runs, two, none);
	return two > 0 || none > runs / 100 ? 1 : 0;
}
