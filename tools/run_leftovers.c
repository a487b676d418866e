#include "tools/run_leftovers.h"

#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/rl_member.h"

/* A server that outlived its rlctl still counts here, and may start workers that attach. */
static bool is_attached(const char *segment)
{
	struct rl_view view;
	bool attached;

	if (rl_segment_view(segment, &view, NULL) != 0)
		return false;
	attached = rl_member_living(&view) > 0;
	rl_segment_unview(&view);
	return attached;
}

/* "run-PID", "run-PID.lock" or "run-PID.N.tmp": the PID; else 0. */
static uint64_t maker_of(const char *name)
{
	size_t digits;
	const char *rest;

	if (strncmp(name, "run-", 4) != 0)
		return 0;
	digits = strspn(name + 4, "0123456789");
	rest = name + 4 + digits;
	if (digits < 1 || digits > 9)
		return 0;
	if (*rest == '.' && strcmp(rest, ".lock") != 0) {
		rest += 1 + strspn(rest + 1, "0123456789");
		if (strcmp(rest, ".tmp") != 0)
			return 0;
	} else if (*rest != '\0' && *rest != '.') {
		return 0;
	}
	return strtoul(name + 4, NULL, 10);
}

static void remove_entry(const char *dir, const char *name, uint64_t maker)
{
	char segment[PATH_MAX], file[PATH_MAX];
	pid_t holder;
	int fd;

	if ((size_t)snprintf(segment, sizeof(segment), "%s/run-%lu", dir, (unsigned long)maker) >=
		    sizeof(segment) ||
	    (size_t)snprintf(file, sizeof(file), "%s/%s", dir, name) >= sizeof(file))
		return;
	if (!rl_member_is_gone(maker) || is_attached(segment) ||
	    rl_segment_lock(segment, &fd, &holder, NULL) != 0)
		return;
	unlink(segment);
	unlink(file);
	rl_segment_unlock(segment, fd, true);
}

void run_leftovers_remove(const char *dir)
{
	DIR *list = opendir(dir);
	struct dirent *entry;

	if (list == NULL)
		return;
	while ((entry = readdir(list)) != NULL) {
		uint64_t maker = maker_of(entry->d_name);

		if (maker != 0)
			remove_entry(dir, entry->d_name, maker);
	}
	closedir(list);
}
