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

#define ANSWER_MAX 4096
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

/* The line that came, without its end; false, and errno, when none did; 0: we were hung up on. */
static bool receive_line(int fd, char line[ANSWER_MAX])
{
	size_t len = 0;

	while (len < ANSWER_MAX - 1) {
		ssize_t some = recv(fd, line + len, ANSWER_MAX - 1 - len, 0);
		char *end;

		if (some < 0 && errno == EINTR)
			continue;
		if (some == 0)
			errno = 0;
		if (some <= 0)
			return false;
		len += (size_t)some;
		line[len] = '\0';
		end = strchr(line, '\n');
		if (end != NULL) {
			*end = '\0';
			return true;
		}
	}
	return false;
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
		return tool_error("the agent did not do it: %s",
				  error != NULL ? error : "no answer");
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

static int converse(const struct tool *tool, int fd, json_t *command)
{
	char *text = json_dumps(command, JSON_COMPACT), line[ANSWER_MAX];
	bool answered = text != NULL && send_line(fd, text) && receive_line(fd, line);
	int error = errno, code;
	json_t *answer;

	free(text);
	if (!answered)
		return refuse_silence(tool, error);
	answer = json_loads(line, 0, NULL);
	code = report(tool, command, answer);
	json_decref(answer);
	return code;
}

int ask_agent(const struct tool *tool, json_t *command)
{
	int fd = dial(tool), code = TOOL_ERROR;

	if (fd >= 0) {
		code = converse(tool, fd, command);
		close(fd);
	}
	json_decref(command);
	return code;
}

json_t *ask_key(const char *key)
{
	size_t len = strlen(key);
	char hex[2 * 1024 + 1] = "";

	for (size_t i = 0; i < len && i < 1024; i++)
		snprintf(hex + 2 * i, 3, "%02x", (unsigned)(unsigned char)key[i]);
	return json_string(hex);
}
