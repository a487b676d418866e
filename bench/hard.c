#include "bench/hard.h"

#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "shm/rl_error.h"

static bool one_in(struct hand *hand, uint32_t n)
{
	return (bench_random(&hand->seed) >> 32) % n == 0;
}

static bool percent_of(struct hand *hand, uint32_t percent)
{
	return (bench_random(&hand->seed) >> 32) % 100 < percent;
}

/* A refusal proves nothing but which limit was in force; where room is short few are kept. */
static void note(struct hand *hand, const struct deed *deed)
{
	hand->refused += deed->units == 0;
	if (hand->fixed && deed->units == 0 && (!one_in(hand, 64) || hand->count > hand->room / 2))
		return;
	if (hand->count == hand->room && !hand->fixed) {
		hand->room = hand->room == 0 ? 256 : hand->room * 2;
		hand->deed = realloc(hand->deed, hand->room * sizeof(*hand->deed));
	}
	if (hand->deed == NULL || hand->count == hand->room)
		bench_die("no memory for the records");
	hand->deed[hand->count++] = *deed;
}

static void give_back(struct rl_seg *seg, struct rl_member *member, const struct hard *hard,
		      struct hand *hand)
{
	uint64_t at_ns = bench_now_ns();

	hand->pending = false;
	if (rl_check_refund(seg, member, hard->rule, &hand->ticket) == 0) {
		hand->kept++;
		return;
	}
	hand->given_back++;
	hand->deed[hand->of].refund_ns = at_ns;
}

/*
 * A busy slot (its closer lost its processor) and a cost that is above the limit of the moment
 * are refusals here.
 */
static bool admitted(struct hand *hand, int got)
{
	if (got < 0 && got != RL_E_BUSY && got != RL_E_COST)
		bench_die("a check could not decide");
	hand->busy += got == RL_E_BUSY;
	return got == 1;
}

static void spend_one(struct rl_seg *seg, struct rl_member *member, const struct hard *hard,
		      struct hand *hand, uint32_t cost, struct deed *deed)
{
	struct rl_answer answer;
	int got = rl_check_spend(seg, member, hard->rule, &hard->key, sizeof(hard->key), cost, 0,
				 &answer);

	deed->units = admitted(hand, got) ? cost : 0;
	deed->now_ns[0] = answer.now_ns;
	deed->limit[0] = answer.limit;
	if (deed->units > 0 && !hand->pending && percent_of(hand, hard->refund_percent)) {
		hand->ticket = answer.ticket;
		hand->of = hand->count;
		hand->pending = true;
	}
}

/* As rl_check_parts() when what it saw has changed before it spends. */
static int spend_blindly(struct rl_seg *seg, struct rl_member *member, struct hand *hand,
			 struct rl_check_part part[2])
{
	for (int i = 0; i < 2; i++) {
		part[i].got = rl_check_spend_key(seg, member, part[i].handle, &part[i].key,
						 part[i].cost, 0, part[i].answer);
		if (part[i].got == 1)
			continue;
		if (i == 1 && rl_check_refund(seg, member, part[0].handle, &part[0].answer->ticket))
			hand->rolled_back++;
		return part[i].got;
	}
	return 1;
}

static void spend_both(struct rl_seg *seg, struct rl_member *member, const struct hard *hard,
		       struct hand *hand, uint32_t cost, struct deed *deed)
{
	struct rl_answer answer[2] = {0};
	struct rl_check_part part[2] = {
		{.handle = hard->rule, .cost = cost, .answer = &answer[0]},
		{.handle = hard->second_rule, .cost = cost, .answer = &answer[1]}};
	int got;

	for (int i = 0; i < 2; i++)
		rl_check_hash(&seg->view, part[i].handle, &hard->key, sizeof(hard->key),
			      &part[i].key);
	got = one_in(hand, 2) ? rl_check_parts(seg, member, part, 2)
			      : spend_blindly(seg, member, hand, part);
	deed->units = admitted(hand, got) ? cost : 0;
	for (int i = 0; i < 2; i++) {
		deed->now_ns[i] = answer[i].now_ns;
		deed->limit[i] = answer[i].limit;
	}
}

void hard_send(struct rl_seg *seg, struct rl_member *member, struct hard *hard, uint32_t number)
{
	struct hand *hand = &hard->hand[number];
	struct deed deed = {.refund_ns = UINT64_MAX};
	uint32_t cost = 1 + (uint32_t)(bench_random(&hand->seed) >> 32) % hard->cost_most;

	if (cost > hard->cost_limit)
		cost = hard->cost_limit;
	if (hand->pending && one_in(hand, 3))
		give_back(seg, member, hard, hand);
	deed.begin_ns = bench_now_ns();
	if (percent_of(hand, hard->both_percent))
		spend_both(seg, member, hard, hand, cost, &deed);
	else
		spend_one(seg, member, hard, hand, cost, &deed);
	deed.end_ns = bench_now_ns();
	note(hand, &deed);
}

struct unit *hard_units(const struct hard *hard, uint32_t which, size_t *ret_count)
{
	struct unit *unit;
	size_t count = 0;

	for (uint32_t h = 0; h < HARD_HANDS; h++)
		count += hard->hand[h].count;
	unit = calloc(count + 1, sizeof(*unit));
	if (unit == NULL)
		bench_die("no memory to judge");
	*ret_count = 0;
	for (uint32_t h = 0; h < HARD_HANDS; h++)
		for (size_t i = 0; i < hard->hand[h].count; i++) {
			const struct deed *deed = &hard->hand[h].deed[i];

			if (deed->units == 0 || deed->limit[which] == 0)
				continue;
			unit[(*ret_count)++] = (struct unit){.begin_ns = deed->begin_ns,
							     .end_ns = deed->end_ns,
							     .now_ns = deed->now_ns[which],
							     .refund_ns = deed->refund_ns,
							     .units = deed->units,
							     .limit = deed->limit[which]};
		}
	return unit;
}
