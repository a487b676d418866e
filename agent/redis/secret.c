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

static ssize_t read_all(int fd, char *bytes, size_t room)
{
	size_t size = 0;
	ssize_t count;

	while (size < room && (count = read(fd, bytes + size, room - size)) != 0) {
		if (count < 0 && errno != EINTR)
			return -1;
		size += count > 0 ? (size_t)count : 0;
	}
	return (ssize_t)size;
}

/* What is wrong with these bytes as a password, or NULL; the end of the line is cut off. */
static const char *trim(struct redis_password *password)
{
	if (password->size == sizeof(password->bytes))
		return "is too long";
	if (password->size > 0 && password->bytes[password->size - 1] == '\n')
		password->size--;
	if (password->size > 0 && password->bytes[password->size - 1] == '\r')
		password->size--;
	if (password->size == 0)
		return "is empty";
	if (memchr(password->bytes, '\n', password->size) != NULL)
		return "has more than one line";
	return NULL;
}

bool redis_password_read(const char *path, const char *option, struct redis_password *ret,
			 char *why, size_t why_size)
{
	const char *wrong;
	char name[64];
	ssize_t size;
	int fd;

	snprintf(name, sizeof(name), "%spassword_file", option);
	fd = redis_secret_open(path, "the password", name, why, why_size);
	redis_password_wipe(ret);
	if (fd < 0)
		return false;
	size = read_all(fd, ret->bytes, sizeof(ret->bytes));
	ret->size = size > 0 ? (size_t)size : 0;
	wrong = size < 0 ? strerror(errno) : trim(ret);
	close(fd);
	if (wrong == NULL)
		return true;
	redis_password_wipe(ret);
	snprintf(why, why_size, "the password file %s %s: it must hold the password, in one line",
		 path, size < 0 ? "cannot be read" : wrong);
	return false;
}

void redis_password_wipe(struct redis_password *password)
{
	explicit_bzero(password, sizeof(*password));
}
