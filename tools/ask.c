#include "tools/ask.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/rl_error.h"

#define ANSWER_MAX (8u << 20) /* a thousand orders, or a set of rules */
#define WAIT_S     5

static int refuse_connect(const struct tool *tool, int error)
{
	if (error == ENOENT || error == ECONNREFUSED)
		return tool_error(
			"no agent listens at %s.ctl: is rl-agent running for this segment?",
			tool->segment);
	if (error == EACCES)
		return tool_error(
			"cannot command the agent at %s.ctl: Permission denied; run as its "
			"user, as root, or as a member of the segment's group",
			tool->segment);
	return tool_error("cannot reach the agent at %s.ctl: %s", tool->segment, strerror(error));
}

/* A connected socket, or -1 after a message. */
static int dial(const struct tool *tool)
{
	const struct timeval wait = {.tv_sec = WAIT_S};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	if (snprintf(address.sun_path, sizeof(address.sun_path), "%s.ctl", tool->segment) >=
	    (int)sizeof(address.sun_path)) {
		tool_error("%s.ctl is too long for a socket's path", tool->segment);
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		tool_error("cannot make a socket: %s", strerror(errno));
		return -1;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		refuse_connect(tool, errno);
		close(fd);
		return -1;
	}
	return fd;
}

static bool send_line(int fd, const char *text)
{
	size_t len = strlen(text), sent = 0;

	while (sent < len) {
		ssize_t some = send(fd, text + sent, len - sent, MSG_NOSIGNAL);

		if (some < 0 && errno != EINTR)
			return false;
		sent += some > 0 ? (size_t)some : 0;
	}
	return send(fd, "\n", 1, MSG_NOSIGNAL) == 1;
}

/* What came up to the end of a line; false, and errno, when none did; 0: we were hung up on. */
static bool receive_line(int fd, FILE *line)
{
	char some[16384];
	size_t len = 0;

	while (len < ANSWER_MAX) {
		ssize_t got = recv(fd, some, sizeof(some), 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got == 0)
			errno = 0;
		if (got <= 0)
			return false;
		len += (size_t)got;
		if (some[got - 1] == '\n') /* we asked one thing, and it is answered */
			return fwrite(some, 1, (size_t)got - 1, line) == (size_t)got - 1;
		if (fwrite(some, 1, (size_t)got, line) != (size_t)got)
			return false;
	}
	return false;
}

const char *ask_text(json_t *answer, const char *name, char *ret, size_t size)
{
	const char *text = json_string_value(json_object_get(answer, name));

	snprintf(ret, size, "%s", text != NULL ? text : "");
	tool_printable(ret);
	return ret;
}

/* It may have several lines, of which each is printable. */
static int report_error(const char *error)
{
	char *text = strdup(error != NULL ? error : "no answer");

	for (char *c = text; c != NULL && *c != '\0'; c++)
		if ((*c < 0x20 && *c != '\n') || *c > 0x7e)
			*c = '?';
	if (text != NULL && *text != '\0' && text[strlen(text) - 1] == '\n')
		text[strlen(text) - 1] = '\0';
	tool_error("the agent did not do it: %s", text != NULL ? text : "?");
	free(text);
	return TOOL_ERROR;
}

/* A rule that is not there is answered with those that are. */
static int report(const struct tool *tool, json_t *command, json_t *answer)
{
	const char *error = json_string_value(json_object_get(answer, "error"));
	const char *rule = json_string_value(json_object_get(command, "rule"));
	struct rl_view view;
	int code;

	if (json_is_true(json_object_get(answer, "ok")))
		return TOOL_FINE;
	if (json_integer_value(json_object_get(answer, "code")) != RL_E_RULE || rule == NULL ||
	    !tool_view(tool, &view))
		return report_error(error);
	code = tool_no_rule(tool, &view, rule);
	rl_segment_unview(&view);
	return code;
}

static int refuse_silence(const struct tool *tool, int error)
{
	if (error == EAGAIN)
		return tool_error("the agent at %s.ctl did not answer in %d s: is it stopped?",
				  tool->segment, WAIT_S);
	return tool_error("the agent at %s.ctl hung up: it has ended, or too many others command "
			  "it at this moment; try again",
			  tool->segment);
}

/* The answer, parsed: NULL after a message. */
static json_t *converse(const struct tool *tool, int fd, json_t *command)
{
	char *text = json_dumps(command, JSON_COMPACT), *line = NULL;
	size_t size;
	FILE *out = open_memstream(&line, &size);
	bool answered = text != NULL && out != NULL && send_line(fd, text) && receive_line(fd, out);
	int error = errno;
	json_t *answer = NULL;

	free(text);
	if (out != NULL)
		fclose(out);
	if (!answered)
		refuse_silence(tool, error);
	else
		answer = json_loadb(line, size, 0, NULL);
	if (answered && report(tool, command, answer) != TOOL_FINE) {
		json_decref(answer);
		answer = NULL;
	}
	free(line);
	return answer;
}

json_t *ask_agent(const struct tool *tool, json_t *command)
{
	int fd = dial(tool);
	json_t *answer = NULL;

	if ((tool->given & TOOL_LOCAL) != 0)
		json_object_set_new(command, "local", json_true());
	if ((tool->given & TOOL_WAIT) != 0)
		json_object_set_new(command, "wait", json_true());
	if (fd >= 0) {
		answer = converse(tool, fd, command);
		close(fd);
	}
	json_decref(command);
	return answer;
}

json_t *ask_key(const char *key)
{
	size_t len = strlen(key);
	char hex[2 * 1024 + 1] = "";

	for (size_t i = 0; i < len && i < 1024; i++)
		snprintf(hex + 2 * i, 3, "%02x", (unsigned)(unsigned char)key[i]);
	return json_string(hex);
}
