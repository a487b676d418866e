/*
 * boot.h - which boot of the machine this is.
 *
 * Rooms:  agent/snapshot/.
 */
#ifndef SNAPSHOT_BOOT_H
#define SNAPSHOT_BOOT_H

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "agent/snapshot/file.h"

/* The kernel's boot id, text, the rest zero; all zero when it does not say. */
static inline void snapshot_boot(char ret[SNAPSHOT_BOOT_BYTES])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memset(ret, 0, SNAPSHOT_BOOT_BYTES);
	if (fd < 0)
		return;
	if (read(fd, ret, SNAPSHOT_BOOT_BYTES - 1) < 36)
		memset(ret, 0, SNAPSHOT_BOOT_BYTES);
	close(fd);
}

#endif
