#include "shm/rl_clock_check.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shm/rl_clock.h"
#include "shm/rl_error.h"

/* An agent that beat this recently is there to compare with. */
#define FRESH_NS (10 * RL_SECOND_NS)
/* Two honest readings are microseconds apart. */
#define APART_NS RL_SECOND_NS

#define WALL_STEP_NS INT64_C(1000000) /* what counts as a step of the wall clock */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* The kernel's boot id as 128 bits; 0,0 when it cannot be read (no /proc). */
static void read_boot_id(uint64_t ret_id[2])
{
	char text[64] = {0};
	unsigned digits = 0;
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	ret_id[0] = ret_id[1] = 0;
	if (fd < 0)
		return;
	if (read(fd, text, sizeof(text) - 1) > 0)
		for (const char *c = text; *c != '\0' && digits < 32; c++)
			if (hex_digit(*c) >= 0) {
				ret_id[digits / 16] =
					ret_id[digits / 16] << 4 | (uint64_t)hex_digit(*c);
				digits++;
			}
	close(fd);
}

/* Identifies the time namespace of this process; 0 when it cannot be told. */
static uint64_t read_timens(void)
{
	struct stat st;

	return stat("/proc/self/ns/time", &st) == 0 ? (uint64_t)st.st_ino : 0;
}

void rl_clock_sign(struct rl_hdr *hdr)
{
	read_boot_id(hdr->boot_id);
	hdr->timens_ino = read_timens();
	hdr->tick_ns = rl_clock_tick_ns();
}

/*
 * How far apart the two clocks are. Only a step is written, not the microseconds by which two
 * readings differ each time: windows of the wall clock would begin and end with them.
 */
static void set_wall(struct rl_live *live, uint64_t wall_ns)
{
	/* Relaxed, both: one writer; a number that stands for itself. */
	uint64_t last_ns = atomic_load_explicit(&live->wall_ns, memory_order_relaxed);
	int64_t off_ns = (int64_t)(wall_ns - last_ns);

	if (off_ns > WALL_STEP_NS || off_ns < -WALL_STEP_NS)
		atomic_store_explicit(&live->wall_ns, wall_ns, memory_order_relaxed);
}

void rl_clock_beat(struct rl_live *live)
{
	uint64_t real_ns = rl_clock_read_ns(CLOCK_REALTIME), now_ns = rl_clock_precise_ns();

	/* Relaxed: each reading stands for itself; a reader tolerates a second between them. */
	atomic_store_explicit(&live->beat_real_ns, real_ns, memory_order_relaxed);
	atomic_store_explicit(&live->beat_ns, now_ns, memory_order_relaxed);
	set_wall(live, real_ns - now_ns);
}

static uint64_t distance(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

static bool other_boot(const struct rl_hdr *hdr)
{
	uint64_t mine[2];

	read_boot_id(mine);
	if ((mine[0] | mine[1]) == 0 || (hdr->boot_id[0] | hdr->boot_id[1]) == 0)
		return false;
	return mine[0] != hdr->boot_id[0] || mine[1] != hdr->boot_id[1];
}

/*
 * CLOCK_REALTIME is the same in every time namespace, so agent and reader compare how far
 * their monotonic clock is from it. Only a live agent's pair is recent enough for that: NTP
 * and suspend move the two clocks apart over time.
 */
static bool same_clock(const struct rl_hdr *hdr, const struct rl_live *live)
{
	uint64_t beat = atomic_load_explicit(&live->beat_ns, memory_order_relaxed);
	uint64_t beat_real = atomic_load_explicit(&live->beat_real_ns, memory_order_relaxed);
	uint64_t now = rl_clock_precise_ns();
	uint64_t real = rl_clock_read_ns(CLOCK_REALTIME);
	uint64_t mine = read_timens();

	if (beat > now + APART_NS)
		return false;
	if (mine != 0 && mine == hdr->timens_ino)
		return true;
	if (distance(real, beat_real) < FRESH_NS)
		return distance(real - now, beat_real - beat) < APART_NS;
	return mine == 0 || hdr->timens_ino == 0;
}

int rl_clock_check(const struct rl_hdr *hdr, const struct rl_live *live, char *why)
{
	const char *text;

	if (other_boot(hdr))
		text = "it was made before the last boot: remove it and start rl-agent again";
	else if (!same_clock(hdr, live))
		text = "its stamps are of another clock: this process and rl-agent are in "
		       "different "
		       "time namespaces; run both in one";
	else
		return 0;
	return rl_refuse(RL_E_CLOCKS, why, "%s", text);
}
