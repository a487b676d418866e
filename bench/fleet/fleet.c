#include "bench/fleet/fleet.h"

#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"

#define READY_NS UINT64_C(20000000000) /* then something is wrong */
#define POLL_NS  1000000

enum { PATH_SIZE = 100 }; /* fits into a socket address */

/* The last of a log, each line marked: also where TAP is read. */
static void show_end_of(const char *path)
{
	FILE *log = fopen(path, "re");
	char line[512];

	if (log == NULL)
		return;
	fprintf(stderr, "# --- %s\n", path);
	if (fseek(log, -3000, SEEK_END) == 0 && fgets(line, sizeof(line), log) == NULL)
		line[0] = '\0';
	while (fgets(line, sizeof(line), log) != NULL)
		fprintf(stderr, "# %s", line);
	fclose(log);
}

static void path_of(const struct fleet *fleet, int host, const char *what, char ret[PATH_SIZE])
{
	if (host < 0)
		snprintf(ret, PATH_SIZE, "%s/redis.%s", fleet->dir, what);
	else
		snprintf(ret, PATH_SIZE, "%s/h%d.%s", fleet->dir, host, what);
}

_Noreturn static void give_up(const struct fleet *fleet, int host, const char *what)
{
	char path[PATH_SIZE];

	for (int h = -1; h < (int)fleet->spec.hosts; h++) {
		if (host >= 0 && h != host)
			continue;
		path_of(fleet, h, "log", path);
		show_end_of(path);
	}
	if (host >= 0)
		fprintf(stderr, "# host %d: ", host);
	bench_die(what);
}

static uint64_t raw_now_ns(void)
{
	struct timespec t;

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t fleet_now_ns(const struct fleet *fleet)
{
	return fleet->spec.set_clock != NULL ? raw_now_ns() : bench_now_ns();
}

void fleet_sleep_until(const struct fleet *fleet, uint64_t at_ns)
{
	const struct timespec at = {(time_t)(at_ns / 1000000000), (long)(at_ns % 1000000000)};

	(void)fleet; /* the kernel's own clock, which nothing moves */
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

static void nap(void)
{
	const struct timespec t = {.tv_nsec = POLL_NS};

	nanosleep(&t, NULL);
}

/* The folder above this program's that has the agent in it: build/, build-asan/ ... */
static const char *find_build(void)
{
	static char path[PATH_SIZE * 4];
	char agent[sizeof(path) + 16];
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);

	while (len > 0) {
		path[len] = '\0';
		len = strrchr(path, '/') - path;
		path[len] = '\0';
		snprintf(agent, sizeof(agent), "%s/rl-agent", path);
		if (access(agent, X_OK) == 0)
			return path;
	}
	bench_die("there is no rl-agent in a folder above this program: make all");
}

/* $RL_TEST_REDIS_SERVER, a path or a name; as found in $PATH, or where Debian has redis-server. */
static const char *find_redis_server(void)
{
	static char path[PATH_SIZE * 4];
	const char *at = getenv("PATH"), *name = getenv("RL_TEST_REDIS_SERVER");

	if (name == NULL)
		name = "redis-server";
	if (strchr(name, '/') != NULL)
		return name;
	while (at != NULL && *at != '\0') {
		int len = (int)strcspn(at, ":");

		snprintf(path, sizeof(path), "%.*s/%s", len, at, name);
		if (len > 0 && access(path, X_OK) == 0)
			return path;
		at += len + (at[len] == ':');
	}
	return "/usr/bin/redis-server";
}

static void start_redis(struct fleet *fleet)
{
	char server[PATH_SIZE * 4], socket_path[PATH_SIZE], log[PATH_SIZE];
	char *argv[] = {server, "--port",       "0",  "--unixsocket", socket_path, "--save",
			"",     "--appendonly", "no", "--dir",        fleet->dir,  NULL};
	uint64_t deadline = fleet_now_ns(fleet) + READY_NS;

	snprintf(server, sizeof(server), "%s", find_redis_server());
	path_of(fleet, FLEET_ALL, "sock", socket_path);
	path_of(fleet, FLEET_ALL, "log", log);
	fleet->redis = child_start(argv, NULL, log);
	for (;;) {
		const struct timeval timeout = {.tv_sec = 5};

		fleet->connection = redisConnectUnixWithTimeout(socket_path, timeout);
		if (fleet->connection != NULL && fleet->connection->err == 0)
			break;
		if (fleet->connection != NULL)
			redisFree(fleet->connection);
		fleet->connection = NULL;
		if (!child_is_alive(fleet->redis) || fleet_now_ns(fleet) > deadline)
			give_up(fleet, FLEET_ALL, "redis-server did not start");
		nap();
	}
	fcntl(fleet->connection->fd, F_SETFD, FD_CLOEXEC);
}

/* It holds the locks of all sockets that agents are sent to, so that none of them keeps counts. */
static void start_keeper(struct fleet *fleet)
{
	char keeper[PATH_SIZE * 4], paths[2 + FLEET_HOSTS_MAX][PATH_SIZE], log[PATH_SIZE];
	char *argv[4 + FLEET_HOSTS_MAX] = {keeper, paths[0], paths[1]};

	snprintf(keeper, sizeof(keeper), "%s/tests/memory/keeper", fleet->build);
	path_of(fleet, FLEET_ALL, "sock", paths[0]);
	path_of(fleet, FLEET_ALL, "ctl", paths[1]);
	path_of(fleet, FLEET_ALL, "log", log);
	for (uint32_t h = 0; h < fleet->spec.hosts; h++) {
		path_of(fleet, (int)h, "sock", paths[2 + h]);
		argv[3 + h] = paths[2 + h];
	}
	fleet->redis = child_start(argv, NULL, log);
}

/* Whether something accepts connections at this path; then *ret_fd is one. */
static bool reach(const char *path, int *ret_fd)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0) {
		*ret_fd = fd;
		return true;
	}
	if (fd >= 0)
		close(fd);
	return false;
}

static void command_proxy(struct fleet *fleet, int host, const char *command)
{
	const struct timeval patience = {.tv_sec = 5};
	uint64_t deadline = fleet_now_ns(fleet) + READY_NS;
	char path[PATH_SIZE], line[64], answer[8] = "";
	int fd, len = snprintf(line, sizeof(line), "%s\n", command);

	path_of(fleet, host, "ctl", path);
	while (!reach(path, &fd)) {
		if (!child_is_alive(fleet->host[host].proxy) || fleet_now_ns(fleet) > deadline)
			give_up(fleet, host, "the proxy did not start");
		nap();
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (send(fd, line, (size_t)len, MSG_NOSIGNAL) != len ||
	    recv(fd, answer, 3, MSG_WAITALL) != 3 || strcmp(answer, "ok\n") != 0)
		give_up(fleet, host, command);
	close(fd);
}

static void start_proxy(struct fleet *fleet, uint32_t host)
{
	char program[PATH_SIZE * 4], from[PATH_SIZE], to[PATH_SIZE], control[PATH_SIZE];
	char log[PATH_SIZE];
	char frames[] = "frames";
	char *argv[] = {program, from, to, control, fleet->in_memory ? frames : NULL, NULL};

	snprintf(program, sizeof(program), "%s/tests/fault_proxy", fleet->build);
	path_of(fleet, (int)host, "sock", from);
	path_of(fleet, FLEET_ALL, "sock", to);
	path_of(fleet, (int)host, "ctl", control);
	path_of(fleet, (int)host, "log", log);
	fleet->host[host].proxy = child_start(argv, NULL, log);
	command_proxy(fleet, (int)host, "clear"); /* it listens, then */
}

void fleet_fault(struct fleet *fleet, int host, const char *command)
{
	for (int h = 0; h < (int)fleet->spec.hosts; h++)
		if ((host == FLEET_ALL || host == h) && fleet->host[h].proxy != 0)
			command_proxy(fleet, h, command);
}

static void segment_path(const struct fleet *fleet, uint32_t host, char ret[PATH_SIZE])
{
	snprintf(ret, PATH_SIZE, "%s/h%u", fleet->shm, host);
}

static void write_config(const struct fleet *fleet, uint32_t host)
{
	char path[PATH_SIZE], redis[PATH_SIZE], segment[PATH_SIZE];
	FILE *file;

	path_of(fleet, (int)host, "yaml", path);
	path_of(fleet, fleet->spec.proxy ? (int)host : FLEET_ALL, "sock", redis);
	segment_path(fleet, host, segment);
	file = fopen(path, "we");
	if (file == NULL)
		bench_die("cannot write a configuration");
	fprintf(file, "fleet: test\nhost: h%u\n", host);
	fprintf(file, "redis: {url: \"%s%s\"%s%s}\n", fleet->in_memory ? "memory:" : "unix://",
		redis, fleet->spec.redis != NULL ? ", " : "",
		fleet->spec.redis != NULL ? fleet->spec.redis : "");
	fprintf(file, "segment: {path: %s, keys: %u}\nrules:\n", segment,
		fleet->spec.keys != 0 ? fleet->spec.keys : 1000);
	for (const char *const *rule = fleet->spec.rules; *rule != NULL; rule++)
		fprintf(file, "  - {%s}\n", *rule);
	if (fclose(file) != 0)
		bench_die("cannot write a configuration");
}

/* A word that this process and an agent share: how far the host's clocks are off. */
static void make_offset(struct fleet *fleet, uint32_t host)
{
	char path[PATH_SIZE];
	void *at = MAP_FAILED;
	int fd;

	path_of(fleet, (int)host, "skew", path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0 && ftruncate(fd, sizeof(int64_t)) == 0)
		at = mmap(NULL, sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		bench_die("cannot map a clock's offset");
	close(fd);
	fleet->host[host].offset_ns = at;
	/* Relaxed: a number that stands for itself. */
	atomic_store_explicit(fleet->host[host].offset_ns, fleet->spec.offset_ns[host],
			      memory_order_relaxed);
}

void fleet_start_agent(struct fleet *fleet, uint32_t host)
{
	char program[PATH_SIZE * 4], config[PATH_SIZE], log[PATH_SIZE];
	char preload[PATH_SIZE * 5], skew[PATH_SIZE * 2];
	char *argv[] = {program, "--config", config, NULL};
	const char *env[4] = {NULL};
	size_t set = 0;

	snprintf(program, sizeof(program), "%s/rl-agent", fleet->build);
	path_of(fleet, (int)host, "yaml", config);
	path_of(fleet, (int)host, "log", log);
	if (fleet->spec.set_clock != NULL) {
		snprintf(preload, sizeof(preload), "LD_PRELOAD=%s/tests/skew/skew.so",
			 fleet->build);
		snprintf(skew, sizeof(skew), "RL_SKEW=%s/h%u.skew", fleet->dir, host);
		env[set++] = preload;
		env[set++] = skew;
	}
	if (!fleet->spec.without_totals)
		env[set] = "RL_TEST_TOTALS=1";
	fleet->host[host].agent = child_start(argv, env, log);
}

void fleet_kill_agent(struct fleet *fleet, uint32_t host)
{
	if (!child_kill(fleet->host[host].agent))
		give_up(fleet, (int)host, "the agent had ended by itself");
	fleet->host[host].agent = 0;
}

/* By the clocks of the host, which the segment is made for. */
static bool attach(struct fleet *fleet, uint32_t host)
{
	struct fleet_host *h = &fleet->host[host];
	char path[PATH_SIZE], why[RL_WHY_MAX];
	int error;

	if (h->seg.slot != NULL)
		return true;
	segment_path(fleet, host, path);
	if (fleet->spec.set_clock != NULL)
		fleet->spec.set_clock(h->offset_ns);
	error = rl_segment_attach(path, &h->seg, why);
	if (fleet->spec.set_clock != NULL)
		fleet->spec.set_clock(NULL);
	if (error != 0 && error != -ENOENT && error != RL_E_NOT_READY)
		give_up(fleet, (int)host, why);
	return error == 0;
}

/* Relaxed, all: numbers that stand for themselves. */
static uint64_t read_word(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

static bool is_ready(struct fleet *fleet, uint32_t host, uint64_t hosts)
{
	const struct fleet_host *h = &fleet->host[host];

	return attach(fleet, host) && read_word(&h->seg.live->agent_pid) == (uint64_t)h->agent &&
	       read_word(&h->seg.live->generation) > 0 && /* rules */
	       read_word(&h->seg.fleet->redis) == RL_REDIS_UP &&
	       read_word(&h->seg.fleet->hosts) == hosts;
}

void fleet_wait_ready(struct fleet *fleet)
{
	uint64_t deadline = fleet_now_ns(fleet) + READY_NS, hosts = 0;

	for (uint32_t h = 0; h < fleet->spec.hosts; h++)
		hosts += !fleet->host[h].removed;
	for (uint32_t h = 0; h < fleet->spec.hosts; h++)
		while (!fleet->host[h].removed && !is_ready(fleet, h, hosts)) {
			if (!child_is_alive(fleet->host[h].agent))
				give_up(fleet, (int)h, "the agent ended");
			if (fleet_now_ns(fleet) > deadline)
				give_up(fleet, (int)h,
					"the agent has not found Redis and all hosts");
			nap();
		}
}

void fleet_start(struct fleet *fleet, const struct fleet_spec *spec)
{
	memset(fleet, 0, sizeof(*fleet));
	fleet->spec = *spec;
	fleet->build = find_build();
	child_folder("/tmp", fleet->dir);
	child_folder("/dev/shm", fleet->shm);
	fleet->in_memory = getenv("FLEET_STORE") != NULL;
	if (fleet->in_memory)
		start_keeper(fleet);
	else
		start_redis(fleet);
	for (uint32_t h = 0; h < spec->hosts; h++) {
		if (spec->set_clock != NULL)
			make_offset(fleet, h);
		if (spec->proxy)
			start_proxy(fleet, h);
		write_config(fleet, h);
		fleet_start_agent(fleet, h);
	}
	fleet_wait_ready(fleet);
}

static void drop_host(struct fleet_host *host)
{
	if (host->proxy != 0)
		child_kill(host->proxy);
	if (host->seg.slot != NULL)
		rl_segment_detach(&host->seg);
	if (host->offset_ns != NULL)
		munmap(host->offset_ns, sizeof(*host->offset_ns));
	memset(host, 0, sizeof(*host));
}

void fleet_stop(struct fleet *fleet)
{
	if (fleet->redis == 0)
		return;
	if (fleet->redis_stopped)
		fleet_continue_redis(fleet);
	for (uint32_t h = 0; h < fleet->spec.hosts; h++)
		if (fleet->host[h].agent != 0 && !child_stop(fleet->host[h].agent))
			give_up(fleet, (int)h, "the agent did not stop cleanly");
	for (uint32_t h = 0; h < fleet->spec.hosts; h++)
		drop_host(&fleet->host[h]);
	if (fleet->connection != NULL)
		redisFree(fleet->connection);
	child_end_all(); /* Redis, and the folders */
	memset(fleet, 0, sizeof(*fleet));
}

void fleet_remove_host(struct fleet *fleet, uint32_t host)
{
	char path[PATH_SIZE];

	fleet_kill_agent(fleet, host);
	if (fleet->host[host].proxy != 0)
		child_kill(fleet->host[host].proxy);
	fleet->host[host].proxy = 0;
	fleet->host[host].removed = true;
	segment_path(fleet, host, path);
	if (unlink(path) != 0)
		give_up(fleet, (int)host, "its segment had no file");
}

void fleet_stop_redis(struct fleet *fleet)
{
	siginfo_t info;

	if (kill(fleet->redis, SIGSTOP) != 0 ||
	    waitid(P_PID, (id_t)fleet->redis, &info, WSTOPPED) != 0)
		bench_die("cannot stop Redis");
	fleet->redis_stopped = true;
}

void fleet_continue_redis(struct fleet *fleet)
{
	kill(fleet->redis, SIGCONT);
	fleet->redis_stopped = false;
}

static redisReply *ask_redis(struct fleet *fleet, const char *format, ...)
{
	redisReply *reply;
	va_list args;

	va_start(args, format);
	reply = redisvCommand(fleet->connection, format, args);
	va_end(args);
	if (reply == NULL || reply->type == REDIS_REPLY_ERROR)
		give_up(fleet, FLEET_ALL, reply != NULL ? reply->str : "Redis has gone");
	return reply;
}

void fleet_flush_redis(struct fleet *fleet)
{
	freeReplyObject(ask_redis(fleet, "FLUSHALL"));
}

static uint64_t number_at(struct fleet *fleet, const char *name)
{
	redisReply *reply = ask_redis(fleet, "GET %s", name);
	uint64_t number = reply->type == REDIS_REPLY_STRING ? strtoull(reply->str, NULL, 10) : 0;

	freeReplyObject(reply);
	return number;
}

static uint64_t ask_keeper(struct fleet *fleet, const char *rule, size_t rule_len, const char *key)
{
	char path[PATH_SIZE], line[256], answer[32] = "";
	int fd, len = snprintf(line, sizeof(line), "test %.*s:%s\n", (int)rule_len, rule, key);
	size_t have = 0;

	path_of(fleet, FLEET_ALL, "ctl", path);
	if (!reach(path, &fd) || send(fd, line, (size_t)len, MSG_NOSIGNAL) != len)
		give_up(fleet, FLEET_ALL, "the keeper does not answer");
	while (have < sizeof(answer) - 1 && strchr(answer, '\n') == NULL &&
	       recv(fd, answer + have, 1, 0) == 1)
		have++;
	close(fd);
	return strtoull(answer, NULL, 10);
}

/* "name: RULE, limit: ..." of each rule, and the key behind it. */
static uint64_t total_in_memory(struct fleet *fleet, const char *key)
{
	uint64_t sum = 0;

	for (const char *const *rule = fleet->spec.rules; *rule != NULL; rule++) {
		const char *name = *rule + strlen("name: ");

		sum += ask_keeper(fleet, name, strcspn(name, ","), key);
	}
	return sum;
}

/* A total's name ends in its key. KEYS: nobody else uses this Redis, and it holds little. */
uint64_t fleet_total(struct fleet *fleet, const char *key)
{
	redisReply *names;
	uint64_t sum = 0;

	if (fleet->in_memory)
		return total_in_memory(fleet, key);
	names = ask_redis(fleet, "KEYS {rl:test:*}:t:*%s", key);
	for (size_t i = 0; i < names->elements; i++)
		sum += number_at(fleet, names->element[i]->str);
	freeReplyObject(names);
	return sum;
}

uint64_t fleet_syncs(const struct fleet *fleet)
{
	uint64_t sum = 0;

	for (uint32_t h = 0; h < fleet->spec.hosts; h++)
		sum += read_word(&fleet->host[h].seg.fleet->syncs);
	return sum;
}

uint64_t fleet_keys_synced(const struct fleet *fleet)
{
	uint64_t sum = 0;

	for (uint32_t h = 0; h < fleet->spec.hosts; h++)
		sum += read_word(&fleet->host[h].seg.fleet->keys_synced);
	return sum;
}

uint64_t fleet_resends(const struct fleet *fleet)
{
	uint64_t sum = 0;

	for (uint32_t h = 0; h < fleet->spec.hosts; h++)
		sum += read_word(&fleet->host[h].seg.fleet->resends);
	return sum;
}
