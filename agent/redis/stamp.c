#include "agent/redis/stamp.h"

#include <string.h>
#include <sys/stat.h>

bool redis_stamp_take(const char *path, struct redis_stamp *stamp)
{
	struct redis_stamp now;
	struct stat at;
	bool changed;

	memset(&now, 0, sizeof(now)); /* for memcmp() */
	if (path[0] != '\0' && stat(path, &at) == 0) {
		now.device = at.st_dev;
		now.inode = at.st_ino;
		now.size = at.st_size;
		now.changed = at.st_ctim;
	}
	changed = memcmp(&now, stamp, sizeof(now)) != 0;
	*stamp = now;
	return changed;
}
