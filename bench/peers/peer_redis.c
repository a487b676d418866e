/*
 * peer_redis.c - a peer of figure-peers: one INCR for each check, to a Redis of its own on this
 * host, over a unix socket. Not even the expiry, which would be a second command or a script.
 *
 * Standard input: as peer.lua's. Argument: a folder for the socket.
 */
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LIST_MAX = 1 << 16, LINE_MAX_BYTES = 64, START_MS = 5000 };

static char key[LIST_MAX][LINE_MAX_BYTES];
static uint32_t order[LIST_MAX];

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "peer_redis: %s\n", what);
	exit(1);
}

static bool read_number(size_t *ret)
{
	char line[LINE_MAX_BYTES];

	if (fgets(line, sizeof(line), stdin) == NULL)
		return false;
	*ret = strtoul(line, NULL, 10);
	return true;
}

static size_t read_count(void)
{
	size_t count;

	if (!read_number(&count) || count < 1 || count > LIST_MAX)
		die("no list on standard input");
	return count;
}

static void read_keys(void)
{
	size_t count = read_count();

	for (size_t i = 0; i < count; i++) {
		if (fgets(key[i], sizeof(key[i]), stdin) == NULL)
			die("a key is missing");
		key[i][strcspn(key[i], "\n")] = '\0';
	}
}

static size_t read_order(void)
{
	size_t count = read_count(), number = 0;

	for (size_t i = 0; i < count; i++) {
		if (!read_number(&number) || number >= LIST_MAX)
			die("a number is missing");
		order[i] = (uint32_t)number;
	}
	return count;
}

static pid_t start_redis(const char *socket)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", socket, "--save", "",
	       "--appendonly", "no", "--logfile", "/dev/null", (char *)NULL);
	die("cannot start redis-server: install redis-server (tools/setup figure-peers does)");
}

static redisContext *connect_redis(const char *socket)
{
	const struct timespec pause = {0, 10000000};

	for (int i = 0; i < START_MS / 10; i++) {
		redisContext *redis = redisConnectUnix(socket);

		if (redis != NULL && redis->err == 0)
			return redis;
		redisFree(redis);
		nanosleep(&pause, NULL);
	}
	die("redis-server does not answer");
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t round_ns(redisContext *redis, size_t turns, size_t calls)
{
	uint64_t start = now_ns();

	for (size_t i = 0; i < calls; i++) {
		redisReply *reply = redisCommand(redis, "INCR %s", key[order[i % turns]]);

		if (reply == NULL || reply->type != REDIS_REPLY_INTEGER)
			die("Redis did not count");
		freeReplyObject(reply);
	}
	return now_ns() - start;
}

int main(int argc, char **argv)
{
	redisContext *redis;
	size_t turns, calls;
	char socket[100];
	pid_t pid;

	if (argc != 2)
		die("usage: peer_redis FOLDER");
	snprintf(socket, sizeof(socket), "%s/redis.sock", argv[1]);
	pid = start_redis(socket);
	redis = connect_redis(socket);
	read_keys();
	turns = read_order();
	while (read_number(&calls)) {
		printf("%llu\n", (unsigned long long)round_ns(redis, turns, calls));
		fflush(stdout);
	}
	redisFree(redis);
	kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
	unlink(socket);
	return 0;
}
