#include "client/preload/real.h"

#include <dlfcn.h>
#include <stdatomic.h>

static struct real functions;
static atomic_bool resolved;

/*
 * ISO C has no conversion from void * to a function pointer, so dlsym's result is stored
 * through the object representation, as POSIX asks.
 */
#define RESOLVE(field, name) *(void **)(void *)&functions.field = dlsym(RTLD_NEXT, name)

static void resolve(void)
{
	RESOLVE(accept, "accept");
	RESOLVE(accept4, "accept4");
	RESOLVE(read, "read");
	RESOLVE(readv, "readv");
	RESOLVE(recv, "recv");
	RESOLVE(recvfrom, "recvfrom");
	RESOLVE(recvmsg, "recvmsg");
	RESOLVE(write, "write");
	RESOLVE(writev, "writev");
	RESOLVE(send, "send");
	RESOLVE(sendto, "sendto");
	RESOLVE(sendmsg, "sendmsg");
	RESOLVE(sendfile, "sendfile");
	RESOLVE(close, "close");
	RESOLVE(dup, "dup");
	RESOLVE(dup2, "dup2");
	RESOLVE(dup3, "dup3");
	RESOLVE(fcntl, "fcntl");
	RESOLVE(close_range, "close_range");
	RESOLVE(closefrom, "closefrom");
	RESOLVE(socket, "socket");
	RESOLVE(socketpair, "socketpair");
	RESOLVE(epoll_ctl, "epoll_ctl");
	RESOLVE(read_chk, "__read_chk");
	RESOLVE(recv_chk, "__recv_chk");
	RESOLVE(recvfrom_chk, "__recvfrom_chk");
	/* pairs[real_ready.rel]: every pointer is stored before they count as resolved. Two
	 * threads may both resolve: they store the same values. */
	atomic_store_explicit(&resolved, true, memory_order_release);
}

const struct real *real(void)
{
	/* pairs[real_ready.acq]: after true, every pointer is there. */
	if (!atomic_load_explicit(&resolved, memory_order_acquire))
		resolve();
	return &functions;
}
