#include "agent/split.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/log.h"
#include "shm/rl_clock.h"
#include "shm/rl_error.h"
#include "shm/rl_hash.h"

#define SLACK_NS  RL_SECOND_NS /* ticks of coarse clocks, and a check in its middle */
#define NOTE_SIZE 64           /* bytes of an emptied file, at most; below any segment's */

struct split_rules {
	struct rl_rule_spec whole[RL_RULES_MAX], half[RL_RULES_MAX];
	struct rl_list_item *list; /* of all rules, whole; then of all rules, halved */
	char *keys;                /* of these, one after the other */
	size_t count;
	size_t released; /* rules that were whole when they were put in force last */
};

static uint32_t larger_half(uint32_t units)
{
	return units - units / 2;
}

/* Of a queue one more than its length may be in it: together as many as in the whole one. */
static uint32_t burst_half(const struct rl_rule_spec *rule, uint32_t burst)
{
	bool queue = (rl_algorithm_options(rule->algorithm) & RL_OPTION_DELAY) != 0;

	return larger_half(burst) - (queue && burst > 0);
}

/* A limit of 1 cannot be divided: both have it. */
static uint32_t smaller_half(uint32_t units)
{
	return units > 1 ? units / 2 : units;
}

static bool is_halved(const struct rl_rule_spec *rule)
{
	return rule->fleet.consistency == RL_LOCAL;
}

static void free_rules(struct split_rules *rules)
{
	if (rules == NULL)
		return;
	free(rules->list);
	free(rules->keys);
	free(rules);
}

static bool allocate(struct split_rules *rules, const struct rl_rule_spec *rule, size_t count)
{
	size_t items = 0, bytes = 0;

	for (size_t r = 0; r < count; r++)
		for (size_t i = 0; i < rule[r].list_count; i++) {
			items++;
			bytes += rule[r].list[i].key_len;
		}
	rules->list = calloc(2 * items + 1, sizeof(*rules->list));
	rules->keys = malloc(bytes + 1);
	return rules->list != NULL && rules->keys != NULL;
}

static void halve_rule(struct rl_rule_spec *rule)
{
	rule->terms.limit = larger_half(rule->terms.limit);
	rule->burst = burst_half(rule, rule->burst);
	rule->delay /= 2;
}

static void halve_item(const struct rl_rule_spec *rule, struct rl_list_item *item)
{
	if (item->verdict != RL_VERDICT_OTHER && item->verdict != RL_VERDICT_UNTIL)
		return;
	item->terms.limit = larger_half(item->terms.limit);
	item->burst = burst_half(rule, item->burst);
}

/* The configuration that they are from may be freed before they are needed again. */
static void copy_rules(struct split_rules *rules, const struct rl_rule_spec *rule, size_t count)
{
	struct rl_list_item *at = rules->list;
	char *key = rules->keys;

	rules->count = count;
	for (size_t r = 0; r < count; r++) {
		rules->whole[r] = rule[r];
		rules->whole[r].list = at;
		for (size_t i = 0; i < rule[r].list_count; i++, at++) {
			*at = rule[r].list[i];
			if (at->key == NULL)
				continue;
			memcpy(key, at->key, at->key_len);
			at->key = key;
			key += at->key_len;
		}
	}
	for (size_t r = 0; r < count; r++) {
		rules->half[r] = rules->whole[r];
		if (!is_halved(&rule[r]))
			continue;
		halve_rule(&rules->half[r]);
		rules->half[r].list = at;
		for (size_t i = 0; i < rule[r].list_count; i++, at++) {
			*at = rules->whole[r].list[i];
			halve_item(&rule[r], at);
		}
	}
}

/* Units that the old segment may have admitted leave within this. */
static uint64_t wait_ns(const struct rl_rule_spec *rule)
{
	uint64_t longest_ns = rule->terms.window_ns;
	uint32_t limit = rule->terms.limit > 0 ? rule->terms.limit : 1;

	for (size_t i = 0; i < rule->list_count; i++)
		if ((rule->list[i].verdict == RL_VERDICT_OTHER ||
		     rule->list[i].verdict == RL_VERDICT_UNTIL) &&
		    rule->list[i].terms.window_ns > longest_ns)
			longest_ns = rule->list[i].terms.window_ns;
	/* A bucket that is larger than its limit takes longer to drain. */
	return longest_ns * (1 + rule->burst / limit) + SLACK_NS;
}

static bool is_released(const struct split *split, const struct rl_rule_spec *rule)
{
	if (!split->on || !is_halved(rule))
		return true;
	return split->gone_ns != 0 && rl_clock_precise_ns() - split->gone_ns >= wait_ns(rule);
}

static size_t count_released(const struct split *split)
{
	size_t released = 0;

	for (size_t r = 0; r < split->rules->count; r++)
		released += is_released(split, &split->rules->whole[r]);
	return released;
}

static const struct rl_rule_spec *due_of(const struct split *split, struct split_rules *rules)
{
	static struct rl_rule_spec due[RL_RULES_MAX];

	rules->released = 0;
	for (size_t r = 0; r < rules->count; r++) {
		bool whole = is_released(split, &rules->whole[r]);

		due[r] = whole ? rules->whole[r] : rules->half[r];
		rules->released += whole;
	}
	return due;
}

const struct rl_rule_spec *split_due(struct split *split, size_t *ret_count)
{
	*ret_count = split->rules->count;
	return due_of(split, split->rules);
}

const struct rl_rule_spec *split_halve(struct split *split, const struct rl_rule_spec *rule,
				       size_t count)
{
	split_settle(split, false);
	if (!split->on)
		return rule;
	split->next = calloc(1, sizeof(*split->next));
	if (split->next == NULL || !allocate(split->next, rule, count)) {
		log_event(LOG_ERROR, "no_memory", "msg=\"limits are not halved\"");
		split_settle(split, false);
		return rule;
	}
	copy_rules(split->next, rule, count);
	return due_of(split, split->next);
}

void split_settle(struct split *split, bool in_force)
{
	struct split_rules *past = in_force ? split->rules : split->next;

	if (in_force)
		split->rules = split->next;
	split->next = NULL;
	free_rules(past);
}

/* Those of the new rules; who uses the old segment may know no other terms of them. */
void split_leave(struct rl_seg *old, const struct rl_rule_spec *rule, size_t count)
{
	for (size_t r = 0; r < count; r++) {
		const struct rl_bucket_terms most = {
			.limit = smaller_half(rule[r].terms.limit),
			.burst = rule[r].burst > 0 ? smaller_half(rule[r].burst) : UINT32_MAX,
			.delay = rule[r].delay / 2,
		};

		if (is_halved(&rule[r]))
			rl_rules_lower(old, rl_hash_rule(rule[r].name), &most);
	}
	rl_rules_halve_overrides(old);
}

static bool name_of(struct split *split, const char *segment)
{
	return snprintf(split->path, sizeof(split->path), "%s.before", segment) <
	       (int)sizeof(split->path);
}

static int open_it(const struct split *split)
{
	return open(split->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

static bool is_note(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= NOTE_SIZE;
}

/*
 * Does anybody have it open, or mapped, for writing? A mapping counts as long as it is there. Where
 * a kernel cannot say, somebody has.
 */
static bool is_used(int fd, int *ret_unsure)
{
	*ret_unsure = 0;
	if (is_note(fd))
		return false;
	if (fcntl(fd, F_SETLEASE, F_RDLCK) != 0) {
		*ret_unsure = errno == EAGAIN ? 0 : errno;
		return true;
	}
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return false;
}

/* Who opens it while we hold that lease would have us killed by this signal, if it were not so. */
static void ignore_lease_breaks(void)
{
	signal(SIGIO, SIG_IGN);
}

/* A moment of this boot, or none. */
static uint64_t read_note(int fd)
{
	char text[NOTE_SIZE + 1] = "";
	uint64_t ns = 0, now_ns = rl_clock_precise_ns();

	if (!is_note(fd) || read(fd, text, NOTE_SIZE) <= 0 || sscanf(text, "%" SCNu64, &ns) != 1)
		return 0;
	return ns > 0 && ns <= now_ns ? ns : 0;
}

/* In its place, so that its memory is free. Killed before the rename: they are seen gone again. */
static void write_note(const struct split *split)
{
	char temp[sizeof(split->path) + sizeof(".1.tmp")], text[NOTE_SIZE];
	int len = snprintf(text, sizeof(text), "%" PRIu64 "\n", split->gone_ns), fd;
	bool written;

	snprintf(temp, sizeof(temp), "%s.1.tmp", split->path);
	unlink(temp);
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	written = write(fd, text, (size_t)len) == len;
	close(fd);
	if (!written || rename(temp, split->path) != 0)
		unlink(temp);
}

void split_open(struct split *split, const char *segment)
{
	int fd;

	if (!name_of(split, segment))
		return;
	fd = open_it(split);
	if (fd < 0)
		return;
	ignore_lease_breaks();
	split->on = true;
	split->gone_ns = read_note(fd);
	close(fd);
}

static bool is_same_file(const char *a, const char *b)
{
	struct stat x, y;

	return lstat(a, &x) == 0 && lstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* What an agent before us left of the name: ours already, nobody's any more, or in use. */
static int clear_name(const struct split *split, const char *segment, char *why)
{
	int fd, unsure;
	bool used;

	if (is_same_file(split->path, segment))
		return 0;
	fd = open_it(split);
	used = fd >= 0 && is_used(fd, &unsure);
	if (fd >= 0)
		close(fd);
	if (used)
		return rl_refuse(-EBUSY, why,
				 "processes of the release before that still use %s: start them "
				 "again, or end them, first",
				 split->path);
	return unlink(split->path) == 0 || errno == ENOENT ? 0 : -errno;
}

int split_begin(struct split *split, const char *segment, char *why)
{
	int error = name_of(split, segment) ? 0 : -ENAMETOOLONG, fd;

	ignore_lease_breaks();
	if (error == 0)
		error = clear_name(split, segment, why);
	if (error == -EBUSY)
		return error;
	if (error == 0 && link(segment, split->path) != 0 && errno != EEXIST)
		error = -errno;
	if (error != 0)
		return rl_refuse(error, why, "cannot give it the name %s.before: %s", segment,
				 strerror(-error));
	fd = open_it(split);
	split->was_idle = fd >= 0 && !is_used(fd, &split->unsure);
	if (fd >= 0)
		close(fd);
	split->gone_ns = 0;
	split->on = true;
	return 0;
}

void split_cancel(struct split *split)
{
	unlink(split->path);
	split_close(split);
}

static void end(struct split *split, const char *why)
{
	unlink(split->path);
	split->on = false;
	log_event(LOG_INFO, "split_over", "before=%s msg=\"%s: all limits are whole\"", split->path,
		  why);
}

static void note_gone(struct split *split)
{
	split->gone_ns = rl_clock_precise_ns();
	write_note(split);
	log_event(LOG_INFO, "split_left",
		  "before=%s msg=\"nobody uses it any more: each rule's limit is whole again when "
		  "its window has passed\"",
		  split->path);
}

static void say(struct split *split)
{
	if (!split->said)
		log_event(
			LOG_WARNING, "split",
			"before=%s msg=\"processes of the earlier release use the old segment, or "
			"did within a window: until they are started again or gone each of the two "
			"segments has half of each limit that this host alone counts%s%s\"",
			split->path,
			split->unsure != 0 ? "; the kernel does not say when that is, so remove "
					     "the file then: "
					   : "",
			split->unsure != 0 ? strerror(split->unsure) : "");
	split->said = true;
}

/* Its end is told by what is_released() says of all rules then. */
bool split_look(struct split *split)
{
	int fd;

	if (!split->on || split->rules == NULL)
		return false;
	fd = open_it(split);
	if (fd < 0) {
		end(split, "the file was removed");
		return true;
	}
	if (split->gone_ns == 0 && !is_used(fd, &split->unsure)) {
		if (split->was_idle)
			end(split, "nobody used the old segment");
		else
			note_gone(split);
	}
	close(fd);
	if (split->on && count_released(split) == split->rules->count)
		end(split, "their windows have passed");
	if (split->on)
		say(split);
	return count_released(split) != split->rules->released;
}

void split_close(struct split *split)
{
	split_settle(split, false);
	free_rules(split->rules);
	split->rules = NULL;
	split->on = false;
}
