#include "tools/tool.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/rl_check.h"
#include "shm/rl_clock.h"
#include "shm/rl_rules.h"

int tool_error(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fputs("rlctl: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return TOOL_ERROR;
}

int tool_flush(int code)
{
	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	return tool_error("cannot write the answer: %s",
			  errno != 0 ? strerror(errno) : "the output is closed");
}

bool tool_is_utf8(const char *text)
{
	json_t *json = json_string(text); /* jansson checks it */

	json_decref(json);
	return json != NULL;
}

void tool_printable(char *text)
{
	for (; *text != '\0'; text++)
		if (*text < 0x20 || *text > 0x7e)
			*text = '?';
}

json_t *tool_json_text(const char *text)
{
	size_t size = 4 * strlen(text) + 1;
	json_t *json = json_string(text);
	char *escaped, *at;

	if (json != NULL)
		return json;
	at = escaped = malloc(size);
	if (escaped == NULL)
		return json_null();
	*at = '\0';
	for (; *text != '\0'; text++)
		at += snprintf(at, size - (size_t)(at - escaped),
			       (unsigned char)*text < 0x80 ? "%c" : "\\x%02x",
			       (unsigned char)*text);
	json = json_string(escaped);
	free(escaped);
	return json;
}

bool tool_view(const struct tool *tool, struct rl_view *ret)
{
	char why[RL_WHY_MAX];
	int error = rl_segment_view(tool->segment, ret, why);

	if (error == 0)
		return true;
	tool_error("cannot read the segment %s: %s", tool->segment, why);
	if (error == -ENOENT)
		fputs("  start one:    rl-agent --config FILE\n"
		      "  or name one:  rlctl --segment PATH ... (or set RL_SEGMENT)\n",
		      stderr);
	return false;
}

int tool_no_rule(const struct tool *tool, const struct rl_view *view, const char *name)
{
	static struct rl_named_rule list[RL_RULES_MAX];
	uint64_t generation;
	int count = rl_rules_list(view, list, &generation);

	tool_error("there is no rule '%s' in %s", name, tool->segment);
	fputs("  rules in force:", stderr);
	for (int i = 0; i < count && i < 10; i++) {
		tool_printable(list[i].name);
		fprintf(stderr, " %s", list[i].name);
	}
	fputs(count > 10 ? " ...\n" : count < 1 ? " none\n" : "\n", stderr);
	return TOOL_ERROR;
}

void tool_agent(const struct rl_view *view, struct tool_agent *ret)
{
	/* Relaxed: each word stands for itself. */
	uint64_t beat = atomic_load_explicit(&view->live->beat_ns, memory_order_relaxed);
	uint64_t now = rl_clock_precise_ns();

	ret->pid = atomic_load_explicit(&view->live->agent_pid, memory_order_relaxed);
	ret->age_ns = now > beat ? now - beat : 0;
	ret->alive = ret->pid != 0 && ret->age_ns <= RL_ALONE_NS;
}

bool tool_sibling(const char *name, const char *sub, char *ret_path, size_t size)
{
	char self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (len <= 0)
		return false;
	self[len] = '\0';
	slash = strrchr(self, '/');
	if (slash == NULL)
		return false;
	*slash = '\0';
	if ((size_t)snprintf(ret_path, size, "%s/%s", self, name) < size &&
	    access(ret_path, R_OK) == 0)
		return true;
	return (size_t)snprintf(ret_path, size, "%s/../%s/%s", self, sub, name) < size &&
	       access(ret_path, R_OK) == 0;
}

bool tool_number(const char *text, unsigned long low, unsigned long high, unsigned long *ret)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*ret = strtoul(text, &end, 10);
	return *end == '\0' && errno == 0 && *ret >= low && *ret <= high;
}
