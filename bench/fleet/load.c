#include "bench/fleet/load.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"
#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_rules.h"

#define LATE_NS UINT64_C(50000000) /* a thread held up for longer leaves out what it missed */
#define LOOK_NS UINT64_C(10000000) /* how often a sleeping thread looks whether it shall end */

enum { KEY_SIZE = 48, KEYS_MAX = 256 };

struct sender {
	struct fleet_load *load;
	pthread_t thread;
	bool joined;
	uint32_t host;
	uint32_t at_once; /* this thread's share */
	double mean_ns;   /* between two requests; 0: none */
	uint32_t turn;    /* of this host, from 0 on, among those that get some */
	uint64_t handle;
	uint64_t seed;
	struct rl_member *member;
	struct fleet_log log;
	size_t room;
};

struct fleet_load {
	struct fleet *fleet;
	struct fleet_traffic traffic;
	char key[KEYS_MAX][KEY_SIZE];
	uint32_t key_len[KEYS_MAX];
	uint64_t start_ns;
	atomic_bool over[FLEET_HOSTS_MAX];
	uint32_t takers; /* hosts that get some */
	uint32_t count;
	struct sender sender[];
};

static double uniform(uint64_t *seed)
{
	return ((double)(bench_random(seed) >> 11) + 0.5) / 9007199254740992.0;
}

static void note(struct sender *sender, const struct fleet_request *request)
{
	struct fleet_log *log = &sender->log;

	if (log->count == sender->room) {
		sender->room = sender->room == 0 ? 1024 : sender->room * 2;
		log->request = realloc(log->request, sender->room * sizeof(*request));
		if (log->request == NULL)
			bench_die("no memory for the records");
	}
	log->request[log->count++] = *request;
}

/*
 * The check's reading in real time. The offset is the one after the call: where it stepped
 * meanwhile the result would lie outside the call, so it is kept inside.
 */
static uint64_t real_reading(const struct fleet_host *host, uint64_t reading_ns, uint64_t begin_ns,
			     uint64_t end_ns)
{
	uint64_t real;

	if (host->offset_ns == NULL)
		return reading_ns;
	/* Relaxed: a number that stands for itself. */
	real = reading_ns - (uint64_t)atomic_load_explicit(host->offset_ns, memory_order_relaxed);
	return real < begin_ns ? begin_ns : real > end_ns ? end_ns : real;
}

static void send_one(struct sender *sender)
{
	struct fleet_load *load = sender->load;
	struct fleet_host *host = &load->fleet->host[sender->host];
	uint32_t k = load->traffic.keys > 1
			     ? (uint32_t)(bench_random(&sender->seed) >> 32) % load->traffic.keys
			     : 0;
	struct rl_answer answer;
	uint64_t begin_ns = fleet_now_ns(load->fleet), end_ns;
	int got = rl_check_spend(&host->seg, sender->member, sender->handle, load->key[k],
				 load->key_len[k], 1, load->traffic.flags, &answer);

	end_ns = fleet_now_ns(load->fleet);
	if (got == RL_E_BUSY)
		sender->log.busy++;
	else if (got < 0)
		bench_die(rl_error_text(got));
	else
		note(sender, &(struct fleet_request){
				     .begin_ns = begin_ns,
				     .now_ns = real_reading(host, answer.now_ns, begin_ns, end_ns),
				     .span_ns = end_ns - begin_ns < UINT32_MAX
							? (uint32_t)(end_ns - begin_ns)
							: UINT32_MAX,
				     .host = (uint8_t)sender->host,
				     .key = (uint8_t)k,
				     .allowed = (uint8_t)got,
				     .state = (uint8_t)answer.state,
				     .by = (uint8_t)answer.by,
			     });
}

static void send_some(struct sender *sender, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		send_one(sender);
}

static bool is_over(const struct sender *sender)
{
	return atomic_load(&sender->load->over[sender->host]);
}

/* False when the load ends before. */
static bool wait_until(const struct sender *sender, uint64_t at_ns)
{
	const struct fleet *fleet = sender->load->fleet;
	uint64_t now = fleet_now_ns(fleet);

	for (; now < at_ns && !is_over(sender); now = fleet_now_ns(fleet))
		fleet_sleep_until(fleet, at_ns < now + LOOK_NS ? at_ns : now + LOOK_NS);
	return !is_over(sender);
}

static double gap_ns(struct sender *sender)
{
	return sender->load->traffic.paced ? sender->mean_ns
					   : -log(uniform(&sender->seed)) * sender->mean_ns;
}

/* At this moment, or when it is this host's turn again. */
static uint64_t in_turn(const struct sender *sender, uint64_t at_ns)
{
	const struct fleet_load *load = sender->load;
	uint64_t turn_ns = load->traffic.turn_ns, since_ns = at_ns - load->start_ns, turn;

	if (turn_ns == 0)
		return at_ns;
	turn = since_ns / turn_ns;
	if (turn % load->takers == sender->turn)
		return at_ns;
	turn += (sender->turn + load->takers - turn % load->takers) % load->takers;
	return load->start_ns + turn * turn_ns;
}

static void *send_all(void *arg)
{
	struct sender *sender = arg;
	struct fleet *fleet = sender->load->fleet;
	uint64_t next = sender->load->start_ns;
	uint32_t batch = sender->load->traffic.batch;

	prctl(PR_SET_TIMERSLACK, 1);
	if (fleet->spec.set_clock != NULL)
		fleet->spec.set_clock(fleet->host[sender->host].offset_ns);
	fleet_sleep_until(fleet, next);
	send_some(sender, sender->at_once);
	while (sender->mean_ns > 0) {
		next = in_turn(sender, next + (uint64_t)gap_ns(sender) + 1);
		if (!wait_until(sender, next))
			break;
		if (fleet_now_ns(fleet) > next + LATE_NS)
			next = fleet_now_ns(fleet); /* all at once it would not be Poisson */
		else
			send_some(sender, batch > 0 ? batch : 1);
	}
	return NULL;
}

static bool takes_part(const struct fleet_load *load, uint32_t host)
{
	return load->traffic.hosts == 0 || (load->traffic.hosts >> host & 1) != 0;
}

static uint32_t count_takers(const struct fleet_load *load)
{
	uint32_t hosts = 0;

	for (uint32_t h = 0; h < load->fleet->spec.hosts; h++)
		hosts += takes_part(load, h);
	return hosts;
}

/* Between two requests of a thread, or two batches; 0: none. */
static double mean_ns(const struct fleet_load *load)
{
	const struct fleet_traffic *t = &load->traffic;
	uint32_t at_once = t->turn_ns == 0 ? load->takers : 1;

	return t->per_second > 0
		       ? 1e9 * at_once * t->threads * (t->batch > 0 ? t->batch : 1) / t->per_second
		       : 0;
}

static void name_keys(struct fleet_load *load)
{
	if (load->traffic.keys < 1 || load->traffic.keys > KEYS_MAX)
		bench_die("no such number of keys");
	for (uint32_t k = 0; k < load->traffic.keys; k++)
		load->key_len[k] =
			(uint32_t)snprintf(load->key[k], KEY_SIZE, "%s%u", load->traffic.key, k);
}

/* The threads of one host, not yet started. */
static void prepare_host(struct fleet_load *load, uint32_t host, uint32_t turn, uint64_t *seed)
{
	const struct fleet_traffic *t = &load->traffic;
	struct fleet_host *h = &load->fleet->host[host];
	uint64_t handle;

	if (rl_rules_find(&h->seg.view, t->rule, &handle) != 0)
		bench_die("a host does not have the rule");
	for (uint32_t i = 0; i < t->threads; i++)
		load->sender[load->count++] = (struct sender){
			.load = load,
			.host = host,
			.at_once = t->at_once * (i + 1) / t->threads - t->at_once * i / t->threads,
			.mean_ns = mean_ns(load),
			.turn = turn,
			.handle = handle,
			.seed = bench_random(seed) | 1,
			.member = rl_member_take(&h->seg, (uint64_t)getpid()),
		};
}

struct fleet_load *fleet_load_start(struct fleet *fleet, const struct fleet_traffic *traffic)
{
	size_t threads = (size_t)fleet->spec.hosts * traffic->threads;
	struct fleet_load *load = calloc(1, sizeof(*load) + threads * sizeof(load->sender[0]));
	uint64_t seed = traffic->seed | 1;

	if (load == NULL)
		bench_die("no memory for the load");
	load->fleet = fleet;
	load->traffic = *traffic;
	name_keys(load);
	load->takers = count_takers(load);
	for (uint32_t h = 0, turn = 0; h < fleet->spec.hosts; h++)
		if (takes_part(load, h))
			prepare_host(load, h, turn++, &seed);
	load->start_ns = fleet_now_ns(fleet) + 5000000 + load->count * UINT64_C(100000);
	child_block_signals(true);
	for (uint32_t i = 0; i < load->count; i++)
		if (pthread_create(&load->sender[i].thread, NULL, send_all, &load->sender[i]) != 0)
			bench_die("cannot start a thread");
	child_block_signals(false);
	return load;
}

uint64_t fleet_load_began_ns(const struct fleet_load *load)
{
	return load->start_ns;
}

void fleet_load_leave(struct fleet_load *load, uint32_t host)
{
	atomic_store(&load->over[host], true);
	for (uint32_t i = 0; i < load->count; i++)
		if (load->sender[i].host == host && !load->sender[i].joined) {
			pthread_join(load->sender[i].thread, NULL);
			load->sender[i].joined = true;
		}
}

void fleet_load_end(struct fleet_load *load, struct fleet_log *ret)
{
	struct fleet_log all = {0};
	size_t count = 0;

	for (uint32_t h = 0; h < load->fleet->spec.hosts; h++)
		atomic_store(&load->over[h], true);
	for (uint32_t h = 0; h < load->fleet->spec.hosts; h++)
		fleet_load_leave(load, h);
	for (uint32_t i = 0; i < load->count; i++)
		count += load->sender[i].log.count;
	all.request = malloc((count + 1) * sizeof(*all.request));
	if (all.request == NULL)
		bench_die("no memory for the records");
	for (uint32_t i = 0; i < load->count; i++) {
		struct sender *sender = &load->sender[i];

		if (sender->log.count > 0)
			memcpy(all.request + all.count, sender->log.request,
			       sender->log.count * sizeof(*all.request));
		all.count += sender->log.count;
		all.busy += sender->log.busy;
		fleet_log_free(&sender->log);
		rl_member_give(sender->member, (uint64_t)getpid());
	}
	free(load);
	memset(ret, 0, sizeof(*ret));
	fleet_log_add(ret, &all);
}

void fleet_load_run(struct fleet *fleet, const struct fleet_traffic *traffic, uint64_t ns,
		    struct fleet_log *ret)
{
	struct fleet_load *load = fleet_load_start(fleet, traffic);

	fleet_sleep_until(fleet, fleet_load_began_ns(load) + ns);
	fleet_load_end(load, ret);
}
