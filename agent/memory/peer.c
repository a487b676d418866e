#include "agent/memory/peer.h"

#include <event2/buffer.h>
#include <sys/socket.h>
#include <unistd.h>

bool peer_is_ours(int fd, pid_t *ret_pid)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) != 0)
		return false;
	*ret_pid = who.pid;
	return who.uid == geteuid() || who.uid == 0;
}

static uint32_t size_of(struct evbuffer *input)
{
	unsigned char bytes[4] = {0};
	struct frame_in in = {bytes, bytes + sizeof(bytes), false};

	evbuffer_copyout(input, bytes, sizeof(bytes));
	return frame_take4(&in);
}

enum peer_frame peer_next(struct bufferevent *stream, struct frame_in *ret)
{
	struct evbuffer *input = bufferevent_get_input(stream);
	size_t have = evbuffer_get_length(input);
	uint32_t size;
	const unsigned char *bytes;

	if (have < 4)
		return PEER_NONE;
	size = size_of(input);
	if (size > FRAME_MAX - 4)
		return PEER_BAD;
	if (have - 4 < size)
		return PEER_NONE;
	bytes = evbuffer_pullup(input, (ev_ssize_t)size + 4);
	if (bytes == NULL)
		return PEER_BAD;
	*ret = (struct frame_in){bytes + 4, bytes + 4 + size, false};
	return PEER_FRAME;
}

void peer_done(struct bufferevent *stream)
{
	struct evbuffer *input = bufferevent_get_input(stream);

	evbuffer_drain(input, size_of(input) + 4u);
}

bool peer_send(struct bufferevent *stream, struct frame_out *out)
{
	return frame_end(out) && bufferevent_write(stream, out->bytes, out->size) == 0;
}
