#include "agent/log.h"

#include <stdarg.h>
#include <stdio.h>

/* Texts of others (Redis, another host's name) cannot begin a line of their own. */
static void make_plain(char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
	static const char *const name[] = {"error", "warning", "info"};
	char rest[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(rest, sizeof(rest), format, args);
	va_end(args);
	make_plain(rest);
	/* One call, one write: lines of several processes do not mix. */
	fprintf(stderr, "level=%s event=%s %s\n", name[level], event, rest);
}
