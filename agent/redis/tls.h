/*
 * tls.h - the TLS of a connection to Redis: OpenSSL's, over libevent.
 *
 * Rooms:  agent/redis/.
 *
 * The server must prove that it holds a certificate for the name we look for, signed by a CA we
 * trust; TLS 1.2 is the oldest. The files are read when a connection begins and when they have
 * changed since the last one, so a renewed certificate needs no restart.
 */
#ifndef AGENT_REDIS_TLS_H
#define AGENT_REDIS_TLS_H

#include <event2/bufferevent.h>
#include <stdbool.h>
#include <stddef.h>

#include "agent/redis/access.h"

struct redis_tls;

/* NULL when there is no memory. trust is copied. */
struct redis_tls *redis_tls_new(const struct redis_trust *trust);
void redis_tls_free(struct redis_tls *tls);

/* Read the files, if need be, before a connection begins; false with the reason in why. */
bool redis_tls_ready(struct redis_tls *tls, char *why, size_t why_size);

/*
 * A stream that begins its handshake over a connected socket, for a server that the address calls
 * host; it closes the socket when it is freed. NULL when there is no memory; then fd is open.
 */
struct bufferevent *redis_tls_stream(struct redis_tls *tls, struct event_base *base, int fd,
				     const char *host);

/*
 * Why it failed, once its end or an error was reported; early: the handshake was over and nothing
 * had been answered yet. False: it was not TLS that failed.
 */
bool redis_tls_explain(struct redis_tls *tls, struct bufferevent *stream, bool early, char *why,
		       size_t why_size);

#endif
