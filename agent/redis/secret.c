#include "agent/redis/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Without waiting: what is no file (a pipe nobody writes to) is refused, not waited for. */
#define HOW (O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)

int redis_secret_open(const char *path, const char *what, const char *option, char *why,
		      size_t why_size)
{
	int fd = open(path, HOW);
	struct stat at;

	if (fd < 0 || fstat(fd, &at) != 0)
		snprintf(why, why_size, "%s cannot be read from %s: %s: correct the file or %s",
			 what, path, strerror(errno), option);
	else if (!S_ISREG(at.st_mode))
		snprintf(why, why_size, "%s cannot be read from %s: it is no file: correct %s",
			 what, path, option);
	else if ((at.st_mode & S_IRWXO) != 0)
		snprintf(why, why_size,
			 "%s is not taken from %s: any user of this host can read or change it "
			 "(mode %04o): chmod o= %s",
			 what, path, (unsigned)at.st_mode & 07777, path);
	else
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}
