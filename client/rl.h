/*
 * rl.h - Ratel: one rate limit for all the processes of a host, and all hosts of a fleet.
 *
 *	struct rl_client *client;
 *	uint64_t rule;
 *	struct rl_result result;
 *	char why[RL_WHY_SIZE];
 *
 *	if (rl_attach(NULL, &client, why) != 0)
 *		fprintf(stderr, "%s\n", why);      // no segment: admit or refuse as you see fit
 *	else if (rl_rule(client, "login", &rule) == 0)
 *		switch (rl_check(client, rule, ip, strlen(ip), 1, 0, &result)) {
 *		case RL_ALLOWED: serve(); break;
 *		case RL_LIMITED: refuse(result.retry_after_ns); break;
 *		default:         could_not_decide(); // a negative error: never a limit
 *		}
 *
 * Every function returns 0 or a positive answer, or a negative error: -errno, or RL_ERR_*
 * below -4096. rl_strerror() names both. The library never prints, never exits, starts no
 * thread, installs no signal handler, keeps no descriptor open (but one for rl_acquire(), in
 * processes that call it, and those of rl_waiter_open()) and needs libc only.
 */
#ifndef RL_H
#define RL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define RL_API __attribute__((visibility("default")))
#else
#define RL_API
#endif

/* Answers of rl_check(). */
#define RL_ALLOWED 0 /* cost was spent: serve */
#define RL_LIMITED 1 /* nothing was spent: refuse, try again after retry_after_ns */
#define RL_PENDING 2 /* of rl_check_start(), _finish(): no answer yet */

/* Errors that errno has no name for. Values never change their meaning. */
#define RL_ERR_SHORT     (-4097) /* attach: the file is shorter than a segment */
#define RL_ERR_NOT_READY (-4098) /* attach: still being built, try again */
#define RL_ERR_MAGIC     (-4099) /* attach: not a Ratel segment */
#define RL_ERR_ABI       (-4100) /* attach: made by another version of Ratel */
#define RL_ERR_SIZES     (-4101) /* attach: damaged, or made by an incompatible build */
#define RL_ERR_CLOCKS    (-4102) /* attach: made before this boot, or in another time namespace */
#define RL_ERR_RULE      (-4104) /* no such rule (any more) */
#define RL_ERR_COST      (-4105) /* cost above what the rule can ever admit at once */
#define RL_ERR_FULL      (-4106) /* new key, no slot free, and its rule's pool has none either */
#define RL_ERR_BUSY      (-4107) /* the key's slot stayed closed for the whole call */
#define RL_ERR_KEY       (-4109) /* an rl_key of another segment: make it again */
#define RL_ERR_SHARED    (-4110) /* hosts share the rule: one of them alone cannot do that */
#define RL_ERR_CLOCK \
	(-4111)               /* rl_check_at() on a live segment, or another check where the \
			       * time is given */
#define RL_ERR_ABSENT (-4113) /* rl_open()'s client: no segment that it can use, as yet */
#define RL_ERR_ALGORITHM \
	(-4114)                /* rl_acquire() of a rule with windows, or a check of one without */
#define RL_ERR_TICKET  (-4115) /* rl_release(): done before, or acquired by another process */
#define RL_ERR_HOLDERS (-4116) /* rl_acquire(): 1,023 processes of the host do so already */

#define RL_ERR_GROWN (-4118) /* the table has grown, this process could not map the rest of it */

/* How far an answer can be trusted; field state of a result. */
#define RL_STATE_FRESH 0 /* the agent is alive and, for a shared rule, Redis answers it */
#define RL_STATE_STALE 1 /* shared rule: Redis has not answered for a while (250 ms) */
#define RL_STATE_ALONE 2 /* no heartbeat for 1 s: a local rule goes on by the host's counts */

/* What gave the answer; field decided_by of a result. */
#define RL_BY_WINDOW    0 /* this host's own counts: a local rule */
#define RL_BY_CREDIT    1 /* the fleet: its credit, or what its window was told to hold */
#define RL_BY_NO_CREDIT 2 /* no credit in time: the rule's no_credit */
#define RL_BY_POLICY    3 /* stale or alone: the rule's on_unreachable */
#define RL_BY_BLOCK     4 /* the key is blocked: rl_block() */
#define RL_BY_LIST      5 /* the rule's allow or deny has the key: nothing is counted */
#define RL_BY_SHADOW    6 /* allowed, though the limit is reached: the rule only looks on */
#define RL_BY_POOL      8 /* no slot is free: by what the keys without one share */
#define RL_BY_FULL      9 /* no slot is free: the rule's on_full, allow or deny */
#define RL_BY_OFF       7 /* allowed: the rule is switched off, nothing is counted */

/* Flags of rl_check(). */
#define RL_MAY_WAIT 1u /* may sleep for credit of a shared rule, at most its wait (2 ms) */

/* Answers of rl_refund(). */
#define RL_REFUNDED 0 /* given back */
#define RL_KEPT     1 /* it stays spent until its window has passed */

#define RL_KEY_MAX     1024 /* bytes of a key */
#define RL_IP_KEY_SIZE 50   /* bytes for rl_ip_key(), with its NUL */
#define RL_ALL_MAX     16   /* rules that rl_check_all() takes */
#define RL_WHY_SIZE    256  /* bytes for a refusal's text, with its NUL */

struct rl_client; /* the segment at one path, whichever that is; opaque */

struct rl_result {
	uint32_t state;      /* RL_STATE_* */
	uint32_t limit;      /* units a window, 1 .. 2^31 - 1 */
	uint32_t remaining;  /* units that could be admitted at once after this answer */
	uint32_t decided_by; /* RL_BY_* */
	uint64_t window_ns;  /* length of the rule's window, nanoseconds; 0: of a rule that limits
			      * requests in flight */
	uint64_t retry_after_ns; /* RL_LIMITED: until the same cost could pass (under a shared rule
				  * an estimate: others may be first); else 0 */
	uint64_t delay_ns;       /* RL_ALLOWED: hold the request up for so long before it is served
				  * (a leaky bucket's queue); 0: serve at once */
	uint64_t now_ns;         /* the clock reading it was decided by: CLOCK_MONOTONIC, or for
				  * windows from 10 s on CLOCK_MONOTONIC_COARSE, nanoseconds */
	uint64_t ticket[3];      /* what rl_refund() or rl_release() gives back; 0: nothing */
};

/* A key under a rule, hashed once for many checks. Opaque; may be copied. */
struct rl_key {
	uint64_t word[14];
};

/* An event loop's, for checks that wait for credit: rl_waiter_open(). */
struct rl_waiter {
	int fd; /* to be polled for reading; -1: none */
	uint32_t reserved;
	uint64_t word[2]; /* opaque */
};

/* A check that waits: rl_check_start(). Opaque; may be moved, not copied. */
struct rl_pending {
	uint64_t word[20];
};

/* One of the rules that rl_check_all() asks, and what it answered. */
struct rl_ask {
	uint64_t rule;
	const void *key;
	size_t key_len;
	uint32_t cost;
	uint32_t flags;          /* as of rl_check() */
	int answer;              /* out: RL_ALLOWED, RL_LIMITED or an error */
	uint32_t reserved1;      /* 0 */
	struct rl_result result; /* out: as of rl_check() */
};

/*
 * Map the segment at path for checking; NULL: $RL_SEGMENT, else /dev/shm/rl/default.
 *
 *   ret_client  untouched on failure
 *   ret_why     RL_WHY_SIZE bytes for one line that says what is wrong and what to do; may
 *               be NULL
 *
 * Returns 0, -ENOENT (no segment: no agent has run), -EACCES (not in its group), another
 * -errno, or RL_ERR_SHORT .. RL_ERR_CLOCKS.
 *
 * A client goes with its path: when the segment there is removed and made anew (another size, an
 * agent of another release), it follows by itself, without a restart and off the hot path. It looks
 * when an answer is RL_STATE_ALONE or an error, at most four times a second: one stat(), and when
 * another file lies there open, fstat, mmap, read and close. So it follows within 1.25 s of the old
 * agent's last heartbeat. Until then, and while it cannot use what lies there, it goes on by the
 * counts that it has. In the new segment counts begin at 0; rule handles stay good, an rl_key is to
 * be made again (RL_ERR_KEY), a ticket is RL_KEPT. What is in flight is not in flight there: its
 * tickets are released in the old segment, as long as that is kept, and are RL_ERR_TICKET then;
 * rl_acquire() goes to the new one, and keeps one descriptor more. A call goes to its end in the
 * segment in which it began; the memory of that is given back 2 s later. A thread that was stopped
 * amid a call for longer is answered RL_ERR_BUSY or RL_ERR_FULL, and nothing is spent. Each move
 * costs address space until rl_detach().
 *
 * When the table of the segment grows (the agent was started with more keys) nothing begins anew:
 * counts, keys, tickets and what is in flight stay good. The first call for a key that is not in
 * what is mapped maps the rest, and is answered by it; RL_ERR_GROWN if it could not: for want of
 * memory, or on Linux before 5.14 if the process may no longer open the file. Keys in what is
 * mapped go on as before.
 *
 * Thread-safe. Not async-signal-safe. Uses no malloc.
 */
RL_API int rl_attach(const char *path, struct rl_client **ret_client, char *ret_why);

/*
 * As rl_attach(), but a client is made also when there is no segment that it can use: for a server
 * that may start before the agent. ret_why then says why, and is "" when it is attached. Checks are
 * answered RL_ERR_ABSENT ("could not decide") until there is one; those that are look for it, as
 * above.
 *
 * Returns 0, or -ENOMEM, -ENAMETOOLONG or another -errno when no client could be made.
 */
RL_API int rl_open(const char *path, struct rl_client **ret_client, char *ret_why);

/*
 * Look at the path now, and whether the segment there has grown, whatever the answers were: at a
 * moment of the program's own choosing, or to learn what is wrong there.
 *
 * Returns 0 (the client has the segment that is there), 1 (it has it now), or an error of
 * rl_attach() with ret_why filled as there, and the client goes on with what it has, if anything.
 * Thread-safe; async-signal-safe when ret_why is NULL.
 */
RL_API int rl_refresh(struct rl_client *client, char *ret_why);

/*
 * Unmap all and free; what was acquired and not released is given back within a second. No other
 * call on the handle may be running or follow. NULL is allowed.
 */
RL_API void rl_detach(struct rl_client *client);

/*
 * The handle of the rule with this name, good for the life of the client, over reloads and in
 * every segment. While there is no segment any name that a rule can have gets one; when there is a
 * segment without such a rule, checks are answered RL_ERR_RULE.
 * Returns 0 and fills *ret_rule, or RL_ERR_RULE, RL_ERR_BUSY, -EINVAL for a NULL. Thread- and
 * signal-safe.
 */
RL_API int rl_rule(struct rl_client *client, const char *name, uint64_t *ret_rule);

/*
 * Ask whether key may spend cost units under rule now, and spend them if so.
 *
 *   key, key_len  bytes, 1 .. RL_KEY_MAX; any bytes, need not end in NUL
 *   cost          units, 1 .. what the rule can admit at once: its limit (of a shared rule at
 *                 most 1,048,575), of a bucket its burst; a plain request is 1
 *   flags         0, or RL_MAY_WAIT. An event loop must not pass it: it would hold up all of
 *                 its clients; rl_check_start() is for it
 *   ret_result    filled whenever RL_ALLOWED or RL_LIMITED is returned, zeroed on an error;
 *                 may be NULL
 *
 * Returns RL_ALLOWED or RL_LIMITED; or an error, and nothing is spent:
 *   -EINVAL       client or key NULL, key_len out of range, cost 0
 *   RL_ERR_RULE   the rule left the configuration
 *   RL_ERR_ALGORITHM  it limits requests in flight: rl_acquire()
 *   RL_ERR_COST   cost above what the rule can ever admit at once
 *   RL_ERR_FULL   no slot for a new key, nor for its rule's pool (on_full: pool)
 *   RL_ERR_ABSENT no segment yet: of a client of rl_open()
 *   RL_ERR_GROWN  the table has grown and this process could not map the rest of it
 *   RL_ERR_BUSY   4,096 tries, under 1 ms: the agent was killed (until the next one runs) or got
 *                 no processor while it rewrote or freed this key's slot; or others were first
 *                 each time (processors that do nothing but check this key); or damage
 *   RL_ERR_CLOCK  the segment counts by the times that its callers give: rl_check_at()
 *
 * The promise: each admitted unit can be placed at an instant inside its own call so that
 * no interval (t - window, t] holds more than limit units, over all processes of the host.
 *
 * A rule's allow, deny and overrides, its shadow and enforce and its switch are obeyed at the next
 * check after they were changed. RL_BY_SHADOW: retry_after_ns says when it would have passed.
 *
 * A rule that hosts share is answered from the credit that this host holds. When that does not
 * suffice the agent is asked, and this call is answered by the rule's no_credit, or waits. An
 * eventual rule has no credit: what the fleet held when this host was last told decides, at once.
 * While Redis or the agent is out of reach nobody waits: the rule's on_unreachable decides,
 * and state says so.
 *
 * Never blocks without RL_MAY_WAIT, never allocates or locks. Makes no system call but to wake
 * a sleeping agent, to wait, and to look for another segment as rl_attach() says (the clock is the
 * vDSO's; a process calls getpid once after each fork and move; moving takes 12 KiB of stack).
 * Thread-safe and fork-safe on one handle: a child may
 * go on with its parent's. Async-signal-safe.
 */
RL_API int rl_check(struct rl_client *client, uint64_t rule, const void *key, size_t key_len,
		    uint32_t cost, uint32_t flags, struct rl_result *ret_result);

/*
 * For event loops, which must never sleep: RL_MAY_WAIT without waiting. A check under a rule that
 * hosts share, which would sleep for credit, is left pending, and a descriptor says when to go on:
 *
 *	rl_waiter_open(client, &waiter);                       // once a loop; poll waiter.fd
 *
 *	switch (rl_check_start(client, &waiter, rule, ip, strlen(ip), 1, &pending, &result)) {
 *	case RL_ALLOWED: serve(); break;
 *	case RL_LIMITED: refuse(); break;
 *	case RL_PENDING: set_timer(result.retry_after_ns); break;  // go on with other clients
 *	}
 *	// waiter.fd is readable: rl_waiter_read(&waiter), and then for each that is pending (or
 *	// of one whose timer has passed)
 *	switch (rl_check_finish(client, &waiter, &pending, &result)) { ... }    // as above
 *
 * rl_waiter_open(): connect to the agent at "<segment>.wait". One waiter is used by one thread at a
 * time; give each loop its own. Its descriptor, close-on-exec, belongs to librl until
 * rl_waiter_close(): poll it, level- or edge-triggered, and nothing else. It becomes readable when
 * any check that is pending with it may have an answer, once for many, at times for none; and for
 * good when the agent ends: then finish what is pending, close the waiter and open another when
 * there is an agent again. Without a waiter (NULL, -1, closed, the agent gone, a
 * forked child with its parent's) nothing stays pending: checks are answered at once, as rl_check()
 * without RL_MAY_WAIT.
 *
 * Returns the descriptor; -ENOENT or -ECONNREFUSED (no agent, or one without a redis), -EACCES,
 * -EAGAIN (too many connect at once), -EINVAL for a NULL, another -errno. An agent has room for
 * 256; the next one is hung up on.
 */
RL_API int rl_waiter_open(struct rl_client *client, struct rl_waiter *ret_waiter);

/*
 * When it is readable, once, before what is pending is finished: what comes from then on makes it
 * readable again. Returns 0; -EPIPE: the agent has gone, or waiter cannot be used, as above;
 * -EINVAL for a NULL. Never blocks.
 */
RL_API int rl_waiter_read(struct rl_waiter *waiter);

/* Close it. What is pending with it can be finished all the same. NULL, or one closed: nothing. */
RL_API void rl_waiter_close(struct rl_waiter *waiter);

/*
 * rl_check(), but instead of sleeping it returns RL_PENDING.
 *
 *   waiter       as above, or NULL
 *   ret_pending  filled with RL_PENDING: keep it until the check is finished. It holds no memory
 *                and no descriptor, so it may also be dropped. Of the key nothing else is kept
 *   ret_result   not NULL. With RL_PENDING retry_after_ns says when to call rl_check_finish() at
 *                the latest, ns, whatever the descriptor says: at most the rule's wait. Nothing
 *                else would end it when the agent is stopped
 *
 * Never blocks. Beside what rl_check() does one send() for each time it returns RL_PENDING. Safe
 * after fork as said above; async-signal-safe if the waiter is used nowhere else meanwhile.
 */
RL_API int rl_check_start(struct rl_client *client, struct rl_waiter *waiter, uint64_t rule,
			  const void *key, size_t key_len, uint32_t cost,
			  struct rl_pending *ret_pending, struct rl_result *ret_result);

/*
 * Go on with a check that is pending: RL_ALLOWED or RL_LIMITED, as rl_check() with RL_MAY_WAIT
 * would have answered; or RL_PENDING again, with ret_result as above, until the rule's wait is
 * over: then the rule's no_credit answers, or its on_unreachable. It is charged when it is
 * RL_ALLOWED and not before: whoever comes first has the credit. At any moment, as often as one
 * likes. Every other return than RL_PENDING empties *pending.
 *
 * Errors as of rl_check(), and nothing is spent; RL_ERR_KEY: the segment was replaced meanwhile,
 * start anew; -EINVAL: it is not pending, or a NULL (but for waiter).
 * Otherwise as rl_check_start().
 */
RL_API int rl_check_finish(struct rl_client *client, struct rl_waiter *waiter,
			   struct rl_pending *pending, struct rl_result *ret_result);

/*
 * Forget a check that is pending, as its client has gone: nothing was spent, nothing is kept of it.
 * Credit that comes for it serves others, or is given back. NULL, or not pending: nothing.
 */
RL_API void rl_check_cancel(struct rl_pending *pending);

/*
 * What rl_check() would answer now: nothing is spent and nothing is written. A shared rule answers
 * RL_ALLOWED when the host would first have to ask for credit. remaining: before it. Under a
 * concurrency rule what rl_acquire() would answer.
 * Returns as rl_check(). Thread- and async-signal-safe.
 */
RL_API int rl_peek(struct rl_client *client, uint64_t rule, const void *key, size_t key_len,
		   uint32_t cost, struct rl_result *ret_result);

/*
 * Hash a key once, for one that is checked often (a route, a tenant). Good for this client's
 * segment and this rule, over reloads. The bytes need not stay. Returns 0, RL_ERR_ABSENT, or
 * -EINVAL as rl_check(). Thread- and async-signal-safe.
 */
RL_API int rl_key_make(struct rl_client *client, uint64_t rule, const void *key, size_t key_len,
		       struct rl_key *ret_key);

/* rl_check() of such a key; RL_ERR_KEY when it was made for another segment. */
RL_API int rl_check_key(struct rl_client *client, const struct rl_key *key, uint32_t cost,
			uint32_t flags, struct rl_result *ret_result);

/*
 * Ask several rules for one request: RL_ALLOWED when all allow it, and then all are spent; else
 * RL_LIMITED or an error, of the first that said so, and none is spent. Each ask has its answer,
 * what it would have been for itself: so the longest retry_after_ns is known.
 *
 * All are looked at first, so a refusal writes nothing. When another process comes in between,
 * what was spent is refunded, as by rl_refund(). What that keeps, and what a process had spent
 * that is killed in the middle, is at most each ask's cost, until its window has passed.
 *
 * Returns -EINVAL also for no asks, or more than RL_ALL_MAX. With RL_MAY_WAIT in an ask's flags
 * it may wait for credit of that rule. Otherwise as rl_check().
 */
RL_API int rl_check_all(struct rl_client *client, struct rl_ask *ask, size_t count);

/*
 * rl_check() of many requests, each for itself. The memory of up to RL_ALL_MAX keys is fetched at
 * once, which is worth it when there are more keys than fit a cache. Each ask has its answer and
 * result. Returns how many were allowed, or -EINVAL for a NULL. Otherwise as rl_check().
 */
RL_API int rl_check_batch(struct rl_client *client, struct rl_ask *ask, size_t count);

/*
 * Give back what the check under rule that filled in *result has spent, of a request that was not
 * served after all. The ticket in *result is used up.
 *
 * RL_REFUNDED, or RL_KEPT: it stays spent until its window has passed, as the limit could
 * otherwise be exceeded. A sliding window can forget only within its newest group (a 23rd of the
 * limit; up to a limit of 23 its last unit), a bucket its last admit, a fixed window all of the
 * same window. What hosts share is kept. -EINVAL for a NULL, RL_ERR_ALGORITHM for a result of
 * rl_acquire(), which stays good. Thread- and async-signal-safe.
 */
RL_API int rl_refund(struct rl_client *client, uint64_t rule, struct rl_result *result);

/*
 * Forget what the key has spent under a rule that is local to the host: its next checks have the
 * whole limit. A block stays. What another thread was admitted meanwhile may be forgotten as well.
 * 0, also when nothing was known of the key; -EINVAL, RL_ERR_RULE, RL_ERR_SHARED, RL_ERR_BUSY as
 * rl_check(), RL_ERR_ALGORITHM under a concurrency rule. A process that is killed in it has reset
 * the key or not. Thread- and async-signal-safe.
 */
RL_API int rl_reset(struct rl_client *client, uint64_t rule, const void *key, size_t key_len);

/*
 * Refuse the key under a rule that is local to the host for so long: RL_LIMITED, RL_BY_BLOCK,
 * whatever it has spent. Rounded up to whole seconds; a century is the most. A later call replaces
 * it; for_ns = 0 ends it. It is over, too, when the segment is removed or the rule becomes one that
 * hosts share. 0; -EINVAL, RL_ERR_RULE, RL_ERR_SHARED, RL_ERR_FULL (a new key, no slot free),
 * RL_ERR_BUSY, RL_ERR_ALGORITHM under a concurrency rule. Thread- and async-signal-safe.
 */
RL_API int rl_block(struct rl_client *client, uint64_t rule, const void *key, size_t key_len,
		    uint64_t for_ns);

/*
 * rl_check() at a moment of the caller's: to replay a log, to test, or where requests bring time
 * stamps of their own. Only of a segment that was made for it (`clock: given`), which has no clock:
 * there rl_peek(), rl_refund() and rl_block() go by the latest moment that was given, and the other
 * checks answer RL_ERR_CLOCK. A live segment refuses this one likewise.
 *
 *   now_ns   0 .. 2^61, from whatever beginning (of a fixed window's rule: the Unix epoch). Time
 *            does not go back: an earlier moment than the latest that any caller gave to this
 *            segment counts as that one, and result.now_ns says so
 *
 * Stamps are exact: one admitted W before does not count. Thread- and async-signal-safe.
 */
RL_API int rl_check_at(struct rl_client *client, uint64_t rule, const void *key, size_t key_len,
		       uint32_t cost, uint64_t now_ns, struct rl_result *ret_result);

/*
 * The key to count a client's address under, the same however it is written: "::ffff:192.0.2.7" is
 * "192.0.2.7", and an IPv6 address is the network that one subscriber has, "2001:db8::/64", as each
 * of them could come from 2^64 addresses. A rule's lists find such keys by their networks.
 *
 *   ipv6_prefix  bits of an IPv6 address that tell clients apart, 1 .. 128; 0: 64
 *
 * Returns the key's length, or -EINVAL for what is no address. Thread- and async-signal-safe.
 */
RL_API int rl_ip_key(const char *address, unsigned ipv6_prefix, char ret_key[RL_IP_KEY_SIZE]);

/*
 * Under a rule of the concurrency algorithm: begin a request of key that counts as cost, if no more
 * than the rule's limit are then in flight. RL_ALLOWED: serve, then rl_release(). RL_LIMITED:
 * refuse; retry_after_ns is 0, for it depends on when others are done. Arguments, result and errors
 * as rl_check(), without flags, and ret_result must not be NULL; and
 *   RL_ERR_ALGORITHM  the rule has windows: rl_check() is for it
 *   RL_ERR_FULL       no slot for a new key, or too many keys in flight: OPERATIONS.md
 *   RL_ERR_HOLDERS    as above
 *   RL_ERR_ABSENT     no segment yet: of a client of rl_open()
 *   -errno            "<segment>.alive" cannot be opened (-ENOENT: no agent has made it; -EACCES)
 *                     or locked; -ENOSYS: a kernel before 4.14
 *
 * The promise: at no instant more units are held than the limit, over all processes of the host.
 * RL_LIMITED: as many were held or being asked for, each at an instant within the call. What a
 * process held that died, by whatever signal, is given back by the agent within a second. What a
 * list, shadow or a switch lets pass holds nothing; release it likewise.
 *
 * By the death the kernel tells: a process that acquires keeps one descriptor open, close-on-exec,
 * numbered from 512 on if it can be, with a lock on it. It is opened at the first rl_acquire() and
 * again in each child that calls it: until then the process must be able to open the file. Close it
 * (close_range()) and what the process holds is taken for a dead one's and given back, unless it
 * calls rl_acquire() or rl_release() within 200 ms, which take the lock again; later calls begin
 * anew. Likewise when it opens and closes "<segment>.alive" itself.
 *
 * Lock-free, allocates nothing; no system call but at the first call after attach or fork, and
 * two every 100 ms. Thread-safe and fork-safe; from the second call on async-signal-safe.
 */
RL_API int rl_acquire(struct rl_client *client, uint64_t rule, const void *key, size_t key_len,
		      uint32_t cost, struct rl_result *ret_result);

/*
 * End the request that the rl_acquire() under rule began which filled in *result; from any thread
 * of the process. The ticket in *result is used up: of two calls with one result one releases. Do
 * not release a copy as well: another request of this process and key would be ended early.
 *
 * Returns 0, or changes nothing: RL_ERR_TICKET (no ticket, used up, or acquired by another
 * process: what a parent holds stays the parent's, a forked child cannot release it; or in a
 * segment that was replaced, and is given back by now),
 * RL_ERR_RULE (acquired under another rule), -EINVAL for a NULL. It also works when the rule has
 * left the configuration. Thread-safe and, as rl_acquire(), async-signal-safe.
 */
RL_API int rl_release(struct rl_client *client, uint64_t rule, struct rl_result *result);

/*
 * Milliseconds since the agent's last heartbeat; UINT64_MAX: there is no segment yet, or the agent
 * has left it for good. Thread- and signal-safe.
 */
RL_API uint64_t rl_agent_age_ms(const struct rl_client *client);

/* One line of text for a negative error of any function here. Never NULL. Thread-safe. */
RL_API const char *rl_strerror(int error);

#ifdef __cplusplus
}
#endif

#endif
