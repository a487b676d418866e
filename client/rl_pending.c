/*
 * rl_pending.c - checks that wait for credit in an event loop: left pending, told of by the agent
 * over a socket, finished by the caller.
 *
 * Nothing of a pending check is kept in the segment but its demand, which is counted as that of one
 * that slept; so a process may die with any number of them. What the agent is told is the slot and
 * the turn seen there before the try that failed: if that has changed when it reads the note, or
 * changes later, it answers with a byte. So there is no moment at which an answer goes unheard.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/rl_client.h"
#include "shm/rl_error.h"
#include "shm/rl_wait.h"

#define FULL_AGAIN_NS \
	UINT64_C(5000000) /* the socket had no room for a note: come again so soon \
			   */

#define READS_MAX 1024 /* the agent sends a byte for a note at most; what is left is read next */

/* What is in an rl_pending. */
struct pending {
	struct hashed key;
	uint32_t cost; /* 0: not pending */
	uint32_t turn;
	uint64_t asked;
	uint64_t deadline_ns;
	uint64_t index;
};
static_assert(sizeof(struct pending) <= sizeof(struct rl_pending), "rl.h promises this size");
static_assert(RL_PENDING != RL_ALLOWED && RL_PENDING != RL_LIMITED, "three answers");

/* What is in an rl_waiter's words: whose it is, and whether the agent has gone. */
enum { PID, LOST };

int rl_waiter_open(struct rl_client *client, struct rl_waiter *ret_waiter)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int saved = errno, fd, error = 0;

	if (client == NULL || ret_waiter == NULL)
		return -EINVAL;
	*ret_waiter = (struct rl_waiter){.fd = -1};
	if (strlen(client->path) + strlen(RL_WAIT_SUFFIX) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, client->path, strlen(client->path));
	memcpy(address.sun_path + strlen(client->path), RL_WAIT_SUFFIX, strlen(RL_WAIT_SUFFIX));
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		error = -errno;
	if (fd >= 0 && error != 0)
		close(fd);
	errno = saved;
	if (error != 0)
		return error;
	*ret_waiter = (struct rl_waiter){.fd = fd, .word[PID] = (uint64_t)getpid()};
	return fd;
}

void rl_waiter_close(struct rl_waiter *waiter)
{
	int saved = errno;

	if (waiter == NULL || waiter->fd < 0)
		return;
	close(waiter->fd);
	*waiter = (struct rl_waiter){.fd = -1};
	errno = saved;
}

/* A child's end of its parent's socket would take the parent's bytes. */
static bool is_usable(const struct rl_waiter *waiter)
{
	return waiter != NULL && waiter->fd >= 0 && waiter->word[LOST] == 0 &&
	       waiter->word[PID] == (uint64_t)getpid();
}

/* Not by rl_check_finish(): a byte that came for a check which the loop has just been through would
 * be taken by the next one's, and the first never looked at again. */
int rl_waiter_read(struct rl_waiter *waiter)
{
	int saved = errno;
	ssize_t len = 1;
	char byte;

	if (waiter == NULL)
		return -EINVAL;
	if (!is_usable(waiter))
		return -EPIPE;
	for (int i = 0; i < READS_MAX && len > 0; i++)
		len = recv(waiter->fd, &byte, 1, MSG_DONTWAIT);
	if (len == 0 || (len < 0 && errno != EAGAIN && errno != EINTR))
		waiter->word[LOST] = 1;
	errno = saved;
	return waiter->word[LOST] == 0 ? 0 : -EPIPE;
}

/*
 * Ask to be told. False when nobody would. A full socket is that of an agent that was held up, or
 * has many checks to hear of: nobody tells of this one, so it comes again soon.
 */
static bool note(struct rl_waiter *waiter, struct rl_check_wait *wait)
{
	const struct rl_wait_note note = {.index = wait->index, .turn = wait->turn};
	int saved = errno;

	if (!is_usable(waiter))
		return false;
	if (send(waiter->fd, &note, sizeof(note), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			waiter->word[LOST] = 1;
		else if (wait->within_ns > FULL_AGAIN_NS)
			wait->within_ns = FULL_AGAIN_NS;
	}
	errno = saved;
	return waiter->word[LOST] == 0;
}

/* One try; one more, as of a caller that may not wait, when nobody would tell of an answer. */
static int try(struct mapped *mapped, struct rl_waiter *waiter, uint64_t rule,
	       struct rl_check_wait *wait, uint32_t cost, struct rl_answer *answer)
{
	struct rl_member *member = client_member(mapped);
	int got = rl_check_spend_key(&mapped->seg, member, rule, &wait->key, cost, RL_CHECK_PENDING,
				     answer);

	if (got != RL_CHECK_WAITS || note(waiter, wait))
		return got;
	wait->over = true;
	return rl_check_spend_key(&mapped->seg, member, rule, &wait->key, cost, RL_CHECK_PENDING,
				  answer);
}

static int stay(const struct rl_check_wait *wait, struct pending *pending,
		struct rl_pending *ret_pending, struct rl_result *ret_result)
{
	pending->turn = wait->turn;
	pending->asked = wait->asked;
	pending->deadline_ns = wait->deadline_ns;
	pending->index = wait->index;
	*ret_pending = (struct rl_pending){0};
	memcpy(ret_pending, pending, sizeof(*pending));
	ret_result->retry_after_ns = wait->within_ns;
	return RL_PENDING;
}

int rl_check_start(struct rl_client *client, struct rl_waiter *waiter, uint64_t rule,
		   const void *key, size_t key_len, uint32_t cost, struct rl_pending *ret_pending,
		   struct rl_result *ret_result)
{
	struct pending pending = {.key.of.rule = rule, .cost = cost};
	struct rl_check_wait wait;
	struct rl_answer *answer;
	struct mapped *mapped;
	int got;

	if (ret_pending == NULL || ret_result == NULL ||
	    client_refuses(client, key, key_len, cost, 0))
		return client_error(-EINVAL, ret_result);
	*ret_pending = (struct rl_pending){0};
	answer = client_into(ret_result, NULL);
	do {
		mapped = client_mapped(client);
		wait = (struct rl_check_wait){.over = waiter == NULL};
		rl_check_hash(&mapped->seg.view, rule, key, key_len, &wait.key);
		got = try(mapped, waiter, rule, &wait, cost, answer);
	} while (client_again(client, mapped, got));
	if (got != RL_CHECK_WAITS)
		return client_verdict(client, mapped, got, answer);
	pending.key.of.segment = mapped->seg.view.hash_key[0];
	pending.key.of.id = wait.key.id;
	rl_key_text(key, key_len, &pending.key.text);
	return stay(&wait, &pending, ret_pending, ret_result);
}

int rl_check_finish(struct rl_client *client, struct rl_waiter *waiter, struct rl_pending *pending,
		    struct rl_result *ret_result)
{
	struct pending p;
	struct rl_check_wait wait;
	struct rl_answer *answer;
	struct mapped *mapped;
	int got;

	if (client == NULL || pending == NULL || ret_result == NULL)
		return client_error(-EINVAL, ret_result);
	memcpy(&p, pending, sizeof(p));
	if (p.cost == 0)
		return client_error(-EINVAL, ret_result);
	*pending = (struct rl_pending){0};
	answer = client_into(ret_result, NULL);
	wait = (struct rl_check_wait){
		.key = {.id = p.key.of.id, .text = &p.key.text},
		.over = !is_usable(waiter),
		.asked = p.asked != 0,
		.deadline_ns = p.deadline_ns,
		.index = p.index,
		.turn = p.turn,
	};
	do {
		mapped = client_mapped(client);
		if (p.key.of.segment != mapped->seg.view.hash_key[0])
			return client_error(client_look(client, mapped, RL_ERR_KEY), ret_result);
		got = try(mapped, waiter, p.key.of.rule, &wait, p.cost, answer);
	} while (client_again(client, mapped, got));
	if (got != RL_CHECK_WAITS)
		return client_verdict(client, mapped, got, answer);
	return stay(&wait, &p, pending, ret_result);
}

void rl_check_cancel(struct rl_pending *pending)
{
	if (pending != NULL)
		*pending = (struct rl_pending){0};
}
