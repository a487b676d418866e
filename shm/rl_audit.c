#include "shm/rl_audit.h"

#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_hash.h"
#include "shm/rl_word.h"

#define TAG_AT  48
#define LOW48   ((UINT64_C(1) << TAG_AT) - 1)
#define ID_BITS 31

uint32_t rl_audit_code(uint32_t n)
{
	return n == 0 ? 0 : 1 + (uint32_t)__builtin_ctz(n);
}

bool rl_audit_can_be(uint64_t n)
{
	return n <= RL_AUDIT_MOST && (n & (n - 1)) == 0;
}

static bool may_be(const struct rl_view *view, const struct rl_rule *rule)
{
	return !view->given && rl_rule_algorithm(rule) == RL_SLIDING;
}

bool rl_audit_picks(const struct rl_view *view, const struct rl_rule *rule,
		    const struct rl_key_text *text)
{
	/* Without a secret: all hosts must agree. Who makes keys up to be audited, or not to be,
	 * changes what is measured of those keys and nothing else. */
	static const uint64_t open_key[2] = {UINT64_C(0x726174656c206175),
					     UINT64_C(0x646974206b657973)};
	uint32_t n = rl_audit_of_code(rl_rules_audit(view, rule->index, rule->id));

	if (n == 0 || !may_be(view, rule) || rl_pool_is_text(text))
		return false;
	return (rl_hash_key(open_key, rule->id, text->word, sizeof(text->word)).word[0] &
		(n - 1)) == 0;
}

/* Relaxed, all: words of which each stands for itself. */
static uint64_t take(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static void put(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed);
}

static void text_of(const struct rl_view *view, uint64_t index, struct rl_key_text *ret)
{
	ret->code = rl_acked_text(take(&view->side[index].acked));
	for (size_t i = 0; i < RL_TEXT_BYTES / 8; i++)
		ret->word[i] = take(&view->text[index].word[i]);
}

bool rl_audit_settle(struct rl_seg *seg, uint64_t index, const struct rl_rule *rule)
{
	uint64_t acked = take(&seg->side[index].acked), mark = rl_mark_of(&seg->slot[index]);
	uint64_t shape = take(&seg->slot[index].shape), wanted_mark = mark & ~RL_MARK_AUDIT;
	struct rl_key_text text;
	bool wanted;

	if (rl_shape_algorithm(shape) != RL_SLIDING)
		return false; /* it counts in a word, until it is re-based if need be */
	text_of(&seg->view, index, &text);
	wanted = rule != NULL && rl_audit_picks(&seg->view, rule, &text);
	if (wanted && rl_rule_is_local(rule))
		wanted_mark |= RL_MARK_AUDIT;
	if (wanted == ((acked & RL_TEXT_AUDIT) != 0) && wanted_mark == mark)
		return false;
	/* The agent alone writes this word of an open slot. */
	put(&seg->side[index].acked,
	    wanted ? acked | RL_TEXT_AUDIT : acked & ~(uint64_t)RL_TEXT_AUDIT);
	/* Relaxed: fails if a worker reset or blocked the key just now; the next pass will do. */
	atomic_compare_exchange_strong_explicit(&seg->slot[index].state, &mark, wanted_mark,
						memory_order_relaxed, memory_order_relaxed);
	return true;
}

uint32_t rl_audit_id(const struct rl_view *view, uint64_t index)
{
	return (uint32_t)(take(&view->slot[index].id[0]) >> (64 - ID_BITS));
}

static uint64_t tag_of(uint64_t number)
{
	return (number / RL_AUDIT_CELLS + 1) << TAG_AT;
}

RL_COLD void rl_audit_note(struct rl_seg *seg, uint64_t index, uint64_t begun_ns, uint32_t units,
			   enum rl_audit_kind kind)
{
	uint64_t ended_ns = rl_clock_precise_ns(), id = rl_audit_id(&seg->view, index);
	uint64_t took_ns = ended_ns > begun_ns ? ended_ns - begun_ns : 0;
	/* Relaxed: a number of one's own. */
	uint64_t number = atomic_fetch_add_explicit(&seg->watch->put, 1, memory_order_relaxed);
	struct rl_audit_cell *cell = &seg->watch->cell[number % RL_AUDIT_CELLS];

	put(&cell->word[0], tag_of(number) | (begun_ns & LOW48));
	put(&cell->word[1], tag_of(number) | (took_ns & LOW48));
	put(&cell->word[2], tag_of(number) | (id >> 15) << 32 | (uint32_t)index);
	put(&cell->word[3],
	    tag_of(number) | (id & 0x7fff) << 33 | (uint64_t)kind << 31 | (units & RL_LIMIT_MAX));
}

static void count(_Atomic uint64_t *counter, uint64_t by)
{
	atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

void rl_audit_begin(struct rl_seg *seg)
{
	uint64_t number = take(&seg->watch->put);

	count(&seg->watch->missed, number - take(&seg->watch->taken));
	put(&seg->watch->taken, number);
}

/* Of the cell with this number. False: it is not, or no longer, what it was taken for. */
static bool read_cell(const struct rl_seg *seg, uint64_t number, struct rl_audit_entry *ret)
{
	const struct rl_audit_cell *cell = &seg->watch->cell[number % RL_AUDIT_CELLS];
	uint64_t word[4], now_ns;

	for (size_t i = 0; i < 4; i++) {
		word[i] = take(&cell->word[i]);
		if ((word[i] & ~LOW48) != tag_of(number))
			return false;
	}
	now_ns = rl_clock_precise_ns();
	ret->begun_ns = now_ns - ((now_ns - word[0]) & LOW48);
	ret->ended_ns = ret->begun_ns + (word[1] & LOW48);
	ret->index = (uint32_t)word[2];
	ret->id = (uint32_t)((word[2] >> 32 & 0xffff) << 15 | (word[3] >> 33 & 0x7fff));
	ret->kind = (enum rl_audit_kind)(word[3] >> 31 & 3);
	ret->units = (uint32_t)(word[3] & RL_LIMIT_MAX);
	return true;
}

/* What a damaged segment could say must not reach who uses it. */
static bool is_sound(const struct rl_seg *seg, const struct rl_audit_entry *entry)
{
	return entry->index < seg->view.slot_count && entry->kind != 0 &&
	       entry->ended_ns <= rl_clock_precise_ns();
}

bool rl_audit_take(struct rl_seg *seg, struct rl_audit_reader *reader, struct rl_audit_entry *ret)
{
	uint64_t end = take(&seg->watch->put), next = take(&seg->watch->taken);

	if (end - next > RL_AUDIT_CELLS) { /* overwritten; or damage, whichever way */
		count(&seg->watch->missed, end - next - RL_AUDIT_CELLS);
		next = end - RL_AUDIT_CELLS;
	}
	for (; next != end; next++) {
		bool got = read_cell(seg, next, ret);
		uint64_t now_ns = rl_clock_precise_ns();

		if (!got && reader->waits_at != next + 1) {
			*reader = (struct rl_audit_reader){next + 1, now_ns};
			break;
		}
		if (!got && now_ns - reader->since_ns < RL_AUDIT_PATIENCE_NS)
			break;
		put(&seg->watch->taken, next + 1);
		if (got && is_sound(seg, ret))
			return true;
		count(&seg->watch->missed, 1);
	}
	put(&seg->watch->taken, next);
	return false;
}
