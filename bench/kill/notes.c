#include "bench/kill/notes.h"

#include <stddef.h>
#include <sys/mman.h>

#include "bench/bench.h"

/* [ key:16 | cost:16 | rules:16 | what:4 | came:4 ] */
static uint64_t pack(const struct kill_note *note, enum kill_came came)
{
	return (uint64_t)note->key << 48 | (uint64_t)note->cost << 32 |
	       (uint64_t)note->rules << 16 | (uint64_t)note->what << 4 | (uint64_t)came;
}

struct kill_notes *kill_notes_make(void)
{
	void *at = mmap(NULL, sizeof(struct kill_notes), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		bench_die("no memory for notes");
	return at;
}

void kill_note(struct kill_notes *notes, uint32_t at, const struct kill_note *note,
	       enum kill_came came)
{
	/* seq_cst: what is begun is stored before the call, what came of it after. */
	atomic_store_explicit(&notes->word[at], pack(note, came), memory_order_seq_cst);
}

/* A call that has no answer, or one that may have left something: sure, or not, is what it asked.
 */
static void add_unsure(struct kill_account *account, enum kill_what what, int64_t cost)
{
	if (what == KILL_SPEND)
		account->may_be_more += cost;
	else
		account->may_be_less += cost;
}

static void add_to_key(struct kill_account *account, enum kill_what what, enum kill_came came,
		       int64_t cost, bool one_of_many)
{
	if (came == KILL_BEGUN || (came >= KILL_BUSY && one_of_many))
		add_unsure(account, what, cost);
	else if (came == KILL_DONE)
		account->sure += what == KILL_SPEND ? cost : -cost;
}

static void add(struct kill_ledger *ledger, uint64_t word)
{
	enum kill_came came = (enum kill_came)(word & 15);
	enum kill_what what = (enum kill_what)(word >> 4 & 15);
	uint32_t rules = (uint32_t)(word >> 16 & 0xffff), key = (uint32_t)(word >> 48);
	int64_t cost = (int64_t)(word >> 32 & 0xffff);

	for (int r = 0; r < KILL_RULES; r++)
		if ((rules >> r & 1) != 0)
			add_to_key(&ledger->of[r][key], what, came, cost,
				   (rules & (rules - 1)) != 0);
	ledger->calls++;
	ledger->begun += came == KILL_BEGUN;
	ledger->busy += came == KILL_BUSY;
	ledger->mistakes += came == KILL_MISTAKE;
}

void kill_notes_close(struct kill_notes *notes, struct kill_ledger *ledger)
{
	/* Relaxed: who wrote is dead and reaped. */
	for (uint32_t at = 0; at < KILL_NOTES_MAX; at++) {
		uint64_t word = atomic_load_explicit(&notes->word[at], memory_order_relaxed);

		if (word == 0)
			return;
		add(ledger, word);
		atomic_store_explicit(&notes->word[at], 0, memory_order_relaxed);
	}
}
