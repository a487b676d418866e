#include "client/preload/inbound_call.h"

#include <errno.h>
#include <fcntl.h>

#include "client/preload/inbound_socket.h"
#include "client/preload/real.h"

bool call_never_blocks(const struct call *call)
{
	int flags;

	if ((call->flags & MSG_DONTWAIT) != 0)
		return true;
	flags = real()->fcntl(call->fd, F_GETFL);
	return flags < 0 || (flags & O_NONBLOCK) != 0;
}

enum next call_give(ssize_t got, ssize_t *ret)
{
	*ret = got;
	return NEXT_RETURN;
}

enum next call_fail(int error, ssize_t *ret)
{
	errno = error;
	return call_give(-1, ret);
}

enum next call_end(struct call *call, ssize_t *ret)
{
	conn_set_state(call->conn, CONN_ENDED);
	return call_give(0, ret);
}

enum next call_leave_alone(struct call *call)
{
	socket_reset_low_water(call->fd, call->conn);
	conn_leave(call->conn);
	return NEXT_YOURS;
}

enum next call_forget(struct call *call)
{
	conn_close(call->fd);
	return NEXT_YOURS;
}

enum next call_nothing(struct call *call, ssize_t got, ssize_t *ret)
{
	if (got < 0 && (errno == ENOTSOCK || errno == EOPNOTSUPP || errno == EINVAL))
		return call_forget(call);
	return call_give(got, ret);
}
