/*
 * inbound_wait.h - the rest of a head or of a refused body is not there yet: what now?
 *
 * Rooms:  inbound*.c only.
 *
 * Only here does the shim itself keep a caller waiting, so only here it is known what ends a
 * wait: the next byte, the end, a signal, the application's receive timeout.
 */
#ifndef PRELOAD_INBOUND_WAIT_H
#define PRELOAD_INBOUND_WAIT_H

#include <stddef.h>
#include <sys/types.h>

#include "client/preload/inbound_call.h"

/*
 * The head is not complete. Nothing is swallowed: whoever waits in poll, epoll or a blocking
 * receive is woken by the next byte or by the end.
 */
enum next wait_for_more(struct call *call, size_t seen, ssize_t *ret);

/*
 * Nothing of the body is there now. A blocking caller cannot be told to come back, so it is
 * held up for a moment, in which a client that is sending sends on; then it gets the end.
 */
enum next wait_for_body(struct call *call, ssize_t *ret);

#endif
