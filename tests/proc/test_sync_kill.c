/*
 * Goal:   agents and workers that are killed at any moment lose no unit of what was admitted and
 *         invent none, in Redis as in the segment: a killed worker costs at most its one unit.
 * Method: the real rl-agent, a redis-server on a private socket, and workers that admit by
 *         credit. SIGKILL at random moments, each death confirmed by waitpid; RL_TEST_TOTALS
 *         makes the agent's script keep a total of each key for ever, which is held against the
 *         slots' counts and against the workers' own notes. $KILLS sets how many agents die
 *         (default 150; a third as many workers).
 */
#include "tests/shared_key.h"

#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/sync/slot.h"
#include "client/rl.h"

enum { WORKERS = 3, KEYS = 4, PATH_SIZE = 128 };

#define PATIENCE_NS (30 * RL_SECOND_NS)

/* What outlives the workers. */
struct notes {
	_Atomic uint64_t allowed[KEYS], asked, errors;
};

static char dir[64], segment[PATH_SIZE], config[PATH_SIZE], server_socket[PATH_SIZE];
static char agent_path[PATH_SIZE * 4], agent_log[PATH_SIZE];
static struct notes *notes;
static struct rl_seg seg;
static struct rl_rule rule;
static uint64_t seed, slot_of[KEYS], first_n[KEYS];
static pid_t redis_pid, agent_pid, worker_pid[WORKERS];
static redisContext *redis;

static void nap_ns(uint64_t ns)
{
	const struct timespec nap = {(time_t)(ns / RL_SECOND_NS), (long)(ns % RL_SECOND_NS)};

	nanosleep(&nap, NULL);
}

/* A child that dies with this process; what it prints goes to the log. */
static pid_t start(const char *program, const char *const *argv)
{
	pid_t parent = getpid(), pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent || freopen(agent_log, "a", stdout) == NULL ||
		    freopen(agent_log, "a", stderr) == NULL)
			_exit(126);
		setenv("RL_TEST_TOTALS", "1", 1);
		execv(program, (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	assert_true(pid > 0);
	return pid;
}

static const char *redis_server(void)
{
	static const char *const at[] = {"/usr/bin/redis-server", "/usr/local/bin/redis-server"};
	const char *chosen = getenv("RL_TEST_REDIS_SERVER"); /* a path, here */

	if (chosen != NULL && access(chosen, X_OK) == 0)
		return chosen;
	for (size_t i = 0; i < 2; i++)
		if (access(at[i], X_OK) == 0)
			return at[i];
	return NULL;
}

/* In the folder of this build: two above this program's. */
static bool find_agent(void)
{
	ssize_t len = readlink("/proc/self/exe", agent_path, sizeof(agent_path) - 20);

	if (len < 0)
		return false;
	agent_path[len] = '\0';
	for (int up = 0; up < 3; up++)
		*strrchr(agent_path, '/') = '\0';
	strcat(agent_path, "/rl-agent");
	return access(agent_path, X_OK) == 0;
}

static void start_redis(const char *server)
{
	const char *const argv[] = {server,        "--port", "0", "--unixsocket",
				    server_socket, "--save", "",  "--appendonly",
				    "no",          "--dir",  dir, NULL};
	uint64_t deadline = t_now_ns() + PATIENCE_NS;

	redis_pid = start(server, argv);
	for (;;) {
		redis = redisConnectUnix(server_socket);
		if (redis != NULL && redis->err == 0)
			return;
		redisFree(redis);
		assert_true(t_now_ns() < deadline);
		nap_ns(5000000);
	}
}

static void start_agent(void)
{
	const char *const argv[] = {agent_path, "--config", config, NULL};

	agent_pid = start(agent_path, argv);
}

static void write_config(void)
{
	FILE *file = fopen(config, "we");

	assert_non_null(file);
	fprintf(file, "fleet: kill\nhost: h\nredis: {url: \"unix://%s\"}\n", server_socket);
	fprintf(file, "segment: {path: %s, keys: 100}\nrules:\n", segment);
	fprintf(file, "  - {name: r, limit: 100000000/h, consistency: strict}\n");
	assert_int_equal(fclose(file), 0);
}

static void attach(void)
{
	uint64_t deadline = t_now_ns() + PATIENCE_NS, handle;

	while (rl_segment_attach(segment, &seg, NULL) != 0 || seg.live->generation == 0 ||
	       rl_rules_find(&seg.view, "r", &handle) != 0) {
		assert_true(t_now_ns() < deadline);
		nap_ns(5000000);
	}
	assert_int_equal(rl_rules_read(&seg.view, handle, &rule), 0);
}

/* Each key's slot and first count, before anybody can die. */
static void open_keys(void)
{
	for (uint32_t key = 0; key < KEYS; key++) {
		struct shared_key k = {.t.seg = seg, .rule = rule};

		shared_open(&k, &key, sizeof(key));
		slot_of[key] = k.index;
		first_n[key] = shared_n(&k);
	}
}

static int setup(void **state)
{
	(void)state;
	seed = t_seed();
	snprintf(dir, sizeof(dir), "/dev/shm/rl-sync-kill-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(segment, sizeof(segment), "%s/seg/s", dir);
	snprintf(config, sizeof(config), "%s/yaml", dir);
	snprintf(server_socket, sizeof(server_socket), "%s/sock", dir);
	snprintf(agent_log, sizeof(agent_log), "%s/log", dir);
	notes = t_shared(sizeof(*notes));
	return 0;
}

static void end(pid_t *pid)
{
	if (*pid > 0) {
		kill(*pid, SIGKILL);
		waitpid(*pid, NULL, 0);
	}
	*pid = 0;
}

static int teardown(void **state)
{
	char command[PATH_SIZE];

	(void)state;
	for (int w = 0; w < WORKERS; w++)
		end(&worker_pid[w]);
	end(&agent_pid);
	end(&redis_pid);
	if (redis != NULL)
		redisFree(redis);
	munmap(notes, sizeof(*notes));
	snprintf(command, sizeof(command), "rm -rf -- %s", dir);
	return system(command);
}

static void work(uint64_t own_seed)
{
	struct rl_client *client;
	uint64_t handle;

	if (rl_attach(segment, &client, NULL) != 0 || rl_rule(client, "r", &handle) != 0)
		_exit(1);
	for (;;) {
		uint32_t key = (uint32_t)t_below(&own_seed, KEYS);
		int got = rl_check(client, handle, &key, sizeof(key), 1, RL_MAY_WAIT, NULL);

		if (got == RL_ALLOWED)
			atomic_fetch_add(&notes->allowed[key], 1);
		else if (got < 0)
			atomic_fetch_add(&notes->errors, 1);
		if (atomic_fetch_add(&notes->asked, 1) % 16 == 0)
			nap_ns(200000); /* two cores, and an agent that must start */
	}
}

static pid_t start_worker(void)
{
	uint64_t own_seed = t_random(&seed) | 1;
	pid_t parent = getpid(), pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == parent)
			work(own_seed);
		_exit(1);
	}
	assert_true(pid > 0);
	return pid;
}

static uint64_t admitted(void)
{
	uint64_t sum = 0;

	for (uint32_t key = 0; key < KEYS; key++)
		sum += atomic_load(&notes->allowed[key]);
	return sum;
}

/* Somebody admits, hence the agent lives, has Redis, and brings credit. */
static void wait_for_admits(void)
{
	uint64_t before = admitted(), deadline = t_now_ns() + PATIENCE_NS;

	while (admitted() < before + 10) {
		assert_true(t_now_ns() < deadline);
		nap_ns(1000000);
	}
}

/* Killed while it starts, catches up, or is at work. */
static void kill_at_random(uint64_t wanted)
{
	for (uint64_t kills = 0; kills < wanted; kills++) {
		nap_ns(t_below(&seed, kills % 3 == 0 ? 100000000 : 20000000));
		t_kill(agent_pid);
		start_agent();
		if (kills % 3 == 0) {
			uint32_t w = (uint32_t)t_below(&seed, WORKERS);

			t_kill(worker_pid[w]);
			worker_pid[w] = start_worker();
		}
		if (kills % 10 == 9)
			wait_for_admits();
	}
}

/* Credit may stay in stock for a window. */
static bool is_quiet(void)
{
	for (uint32_t key = 0; key < KEYS; key++)
		if (sync_slot_unsent(&seg.view, slot_of[key]) != 0 ||
		    seg.side[slot_of[key]].infl != 0)
			return false;
	return true;
}

static void wait_until_quiet(void)
{
	uint64_t deadline = t_now_ns() + PATIENCE_NS;

	while (!is_quiet()) {
		assert_true(t_now_ns() < deadline);
		nap_ns(10000000);
	}
}

/* "{rl:FLEET:p}:t:RULE" and the key's name. */
static uint64_t total_of(uint32_t key)
{
	char name[RL_NAME_BYTES], text[200];
	size_t len = rl_side_name(&seg.view, slot_of[key], name);
	int at = snprintf(text, sizeof(text), "{rl:kill:%u}:t:r", rl_side_part(rule.id, name, len));
	redisReply *reply;
	uint64_t total;

	memcpy(text + at, name, len);
	reply = redisCommand(redis, "GET %b", text, (size_t)at + len);
	assert_non_null(reply);
	assert_int_equal(reply->type, REDIS_REPLY_STRING);
	total = strtoull(reply->str, NULL, 10);
	freeReplyObject(reply);
	return total;
}

static void judge(uint64_t agents, uint64_t workers)
{
	uint64_t uncertain = 0, sum = 0;

	for (uint32_t key = 0; key < KEYS; key++) {
		uint64_t head = seg.slot[slot_of[key]].head, counted;

		assert_true(rl_head_is_open(head));
		assert_int_equal(shared_find(&(struct shared_key){.t.seg = seg, .rule = rule}, &key,
					     sizeof(key)),
				 slot_of[key]);
		counted = rl_head_n(head) - first_n[key];
		assert_int_equal(total_of(key), counted);
		assert_true(counted >= notes->allowed[key]);
		uncertain += counted - notes->allowed[key];
		sum += counted;
	}
	printf("# %llu agents and %llu workers killed, %llu units, %llu uncertain, %llu calls\n",
	       (unsigned long long)agents, (unsigned long long)workers, (unsigned long long)sum,
	       (unsigned long long)uncertain, (unsigned long long)seg.fleet->syncs);
	assert_true(uncertain <= workers);
	assert_int_equal(notes->errors, 0);
	assert_int_equal(seg.fleet->clashes, 0);
	assert_int_equal(seg.fleet->dropped, 0);
	for (uint64_t i = 0; i < seg.view.slot_count; i++)
		assert_true(rl_head_is_open(seg.slot[i].head) ||
			    rl_head_is(seg.slot[i].head, RL_KIND_FREE));
}

static void test_sync_kill__totals_in_redis_are_what_was_admitted(void **state)
{
	const char *text = getenv("KILLS"), *server = redis_server();
	uint64_t wanted = text != NULL ? strtoull(text, NULL, 10) : 150;

	(void)state;
	if (server == NULL || !find_agent()) {
		print_message("there is no %s here\n",
			      server == NULL ? "redis-server" : "rl-agent in this build");
		skip();
	}
	start_redis(server);
	write_config();
	start_agent();
	attach();
	open_keys();
	for (int w = 0; w < WORKERS; w++)
		worker_pid[w] = start_worker();
	wait_for_admits();
	kill_at_random(wanted);
	wait_for_admits();
	for (int w = 0; w < WORKERS; w++) {
		t_kill(worker_pid[w]);
		worker_pid[w] = 0;
	}
	wait_until_quiet();
	judge(wanted, (wanted + 2) / 3 + WORKERS);
	rl_segment_detach(&seg);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_sync_kill__totals_in_redis_are_what_was_admitted, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
