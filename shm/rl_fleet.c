#include "shm/rl_fleet.h"

#define NO_CREDIT_AT   2 /* consistency lies in bits 0 and 1 */
#define UNREACHABLE_AT 3
#define BETA_AT        5
#define BETA_BITS      UINT32_C(0x3fff)

#define INTERVAL_MIN_NS UINT64_C(10000000)
#define INTERVAL_MAX_NS UINT64_C(100000000)

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static struct rl_fleet_terms made_valid(struct rl_fleet_terms terms)
{
	terms.no_credit &= 1;
	terms.on_unreachable &= 3;
	terms.beta_ppm = least(terms.beta_ppm, RL_BETA_ALL_PPM);
	if (terms.wait_ns > RL_WAIT_MAX_NS)
		terms.wait_ns = RL_WAIT_MAX_NS;
	if (terms.consistency == RL_LOCAL)
		return (struct rl_fleet_terms){.consistency = RL_LOCAL};
	if (terms.consistency == RL_BOUNDED)
		return terms;
	if (terms.consistency == RL_EVENTUAL)
		return (struct rl_fleet_terms){.consistency = RL_EVENTUAL,
					       .on_unreachable = terms.on_unreachable};
	terms.consistency = RL_STRICT;
	terms.no_credit = RL_NO_CREDIT_DENY;
	terms.beta_ppm = 0;
	return terms;
}

uint32_t rl_fleet_pack(const struct rl_fleet_terms *terms)
{
	struct rl_fleet_terms t = made_valid(*terms);

	return t.consistency | (uint32_t)t.no_credit << NO_CREDIT_AT |
	       (uint32_t)t.on_unreachable << UNREACHABLE_AT |
	       t.beta_ppm / RL_BETA_STEP_PPM << BETA_AT;
}

void rl_fleet_unpack(uint32_t flags, uint64_t wait_ns, struct rl_fleet_terms *ret)
{
	*ret = made_valid((struct rl_fleet_terms){
		.consistency = flags & 3,
		.no_credit = flags >> NO_CREDIT_AT & 1,
		.on_unreachable = flags >> UNREACHABLE_AT & 3,
		.beta_ppm = (flags >> BETA_AT & BETA_BITS) * RL_BETA_STEP_PPM,
		.wait_ns = wait_ns,
	});
}

/* At most 2^32 * 10^6 above and below the line: 64 bits hold both exactly. */
uint32_t rl_fleet_blind(uint32_t limit, const struct rl_fleet_terms *terms, uint32_t hosts)
{
	uint64_t share;

	if (terms->consistency != RL_BOUNDED || hosts == 0)
		return 0;
	share = (uint64_t)least(terms->beta_ppm, RL_BETA_ALL_PPM) * limit /
		((uint64_t)RL_BETA_ALL_PPM * hosts);
	return share < RL_CREDIT_MAX ? (uint32_t)share : RL_CREDIT_MAX;
}

uint64_t rl_fleet_bound(uint32_t limit, const struct rl_fleet_terms *terms, uint32_t hosts)
{
	uint64_t blind = rl_fleet_blind(limit, terms, hosts), count = hosts == 0 ? 1 : hosts;

	if (terms->consistency == RL_EVENTUAL)
		return limit * count;
	if (terms->consistency != RL_BOUNDED)
		return limit;
	if (terms->no_credit == RL_NO_CREDIT_DENY)
		return limit + count * blind;
	return limit + 2 * count * (blind == 0 ? 1 : blind); /* each share, and a debt as large */
}

uint64_t rl_fleet_interval_ns(uint64_t window_ns)
{
	uint64_t part = window_ns / 50;

	if (part < INTERVAL_MIN_NS)
		return INTERVAL_MIN_NS;
	return part < INTERVAL_MAX_NS ? part : INTERVAL_MAX_NS;
}

const char *rl_consistency_name(unsigned consistency)
{
	static const char *const name[RL_CONSISTENCIES] = {"local", "bounded", "strict",
							   "eventual"};

	return consistency < RL_CONSISTENCIES ? name[consistency] : "?";
}

const char *rl_no_credit_name(unsigned no_credit)
{
	static const char *const name[RL_NO_CREDITS] = {"allow", "deny"};

	return no_credit < RL_NO_CREDITS ? name[no_credit] : "?";
}

const char *rl_unreachable_name(unsigned on_unreachable)
{
	static const char *const name[RL_UNREACHABLES] = {"share", "local", "open", "closed"};

	return on_unreachable < RL_UNREACHABLES ? name[on_unreachable] : "?";
}
