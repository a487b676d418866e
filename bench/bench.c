#include "bench/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

_Noreturn void bench_die(const char *what)
{
	fprintf(stderr, "bench: %s\n", what);
	exit(2);
}

void bench_seg_make(struct bench_seg *bench, uint64_t keys)
{
	const struct rl_segment_spec spec = {.keys = keys, .mode = 0660};
	char why[RL_WHY_MAX] = "";

	snprintf(bench->dir, sizeof(bench->dir), "/dev/shm/rl-bench-XXXXXX");
	if (mkdtemp(bench->dir) == NULL)
		bench_die("cannot make a folder under /dev/shm");
	snprintf(bench->path, sizeof(bench->path), "%s/seg", bench->dir);
	if (rl_segment_create(bench->path, &spec, &bench->seg, why) != 0)
		bench_die(why);
}

void bench_seg_drop(struct bench_seg *bench)
{
	rl_segment_detach(&bench->seg);
	unlink(bench->path);
	rmdir(bench->dir);
}

void bench_rules(struct rl_seg *seg, size_t count, const char *const *rules)
{
	static struct rl_rule_spec spec[RL_RULES_MAX];
	size_t other;

	memset(spec, 0, sizeof(spec));
	for (size_t i = 0; i < count; i++) {
		const char *space = strchr(rules[i], ' ');

		memcpy(spec[i].name, rules[i], (size_t)(space - rules[i]));
		if (rl_terms_parse(space + 1, &spec[i].terms) != NULL)
			bench_die(rules[i]);
	}
	if (rl_rules_publish(seg, spec, count, &other) != 0)
		bench_die("the rules were refused");
}

void bench_keys(struct bench_key *key, uint32_t keys, uint32_t *order, uint32_t count)
{
	uint64_t seed = 20261121;

	for (uint32_t k = 0; k < keys; k++)
		key[k].len =
			(size_t)snprintf(key[k].text, sizeof(key[k].text), "10.%u.%u.%u",
					 (unsigned)(bench_random(&seed) >> 56), k / 256, k % 256);
	for (uint32_t i = 0; i < count; i++)
		order[i] = (uint32_t)(bench_random(&seed) >> 32) % keys;
}

uint64_t bench_rule(const struct rl_view *view, const char *name)
{
	uint64_t handle;

	if (rl_rules_find(view, name, &handle) != 0)
		bench_die(name);
	return handle;
}

void bench_figure(const char *name, double value, const char *unit)
{
	printf("figure %s %.6g %s\n", name, value, unit);
}

void bench_machine(void)
{
	char line[256], *name = NULL;
	FILE *info = fopen("/proc/cpuinfo", "re");

	while (info != NULL && name == NULL && fgets(line, sizeof(line), info) != NULL)
		if (strncmp(line, "model name", 10) == 0)
			name = strchr(line, ':');
	if (info != NULL)
		fclose(info);
	printf("machine: %ld processors%s", sysconf(_SC_NPROCESSORS_ONLN),
	       name != NULL ? name : "\n");
	printf("compiler: %s\n", __VERSION__);
}

uint64_t bench_memory_bytes(void)
{
	FILE *info = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[256];

	while (info != NULL && kib == 0 && fgets(line, sizeof(line), info) != NULL)
		if (sscanf(line, "MemAvailable: %llu kB", &kib) != 1)
			kib = 0;
	if (info != NULL)
		fclose(info);
	return (uint64_t)kib * 1024;
}

static int by_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double bench_median(double *value, size_t count)
{
	qsort(value, count, sizeof(*value), by_double);
	return count % 2 != 0 ? value[count / 2] : (value[count / 2 - 1] + value[count / 2]) / 2;
}

static int by_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

void bench_sort(uint32_t *value, size_t count)
{
	qsort(value, count, sizeof(*value), by_u32);
}

uint32_t bench_percentile(const uint32_t *sorted, size_t count, double part)
{
	size_t rank = (size_t)(part * (double)count + 0.999999);

	return count == 0 ? 0 : sorted[rank < 1 ? 0 : rank > count ? count - 1 : rank - 1];
}

uint64_t bench_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t bench_seed(void)
{
	const char *given = getenv("SEED");
	uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : bench_now_ns();

	printf("SEED=%llu\n", (unsigned long long)seed);
	return seed | 1;
}

uint64_t bench_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(0x2545f4914f6cdd1d);
}
