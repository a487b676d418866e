/*
 * limiter.h - the shim's one rule: attach when there is a segment, ask for a connection.
 *
 * Rooms:  client/preload only; the only file there that includes client/rl.h.
 */
#ifndef PRELOAD_LIMITER_H
#define PRELOAD_LIMITER_H

#include <stdbool.h>
#include <stdint.h>

#include "client/preload/conn.h"

/*
 * Read RL_SEGMENT, RL_RULE and RL_PORT, once, in the constructor; attach if possible. An
 * RL_PORT that is no port is one line on stderr, and no effect.
 */
void limiter_init(void);

/*
 * Is there a rule to ask? Called at each accept. While there is none it looks for it, at most once
 * a second; later librl follows when the segment is replaced, at the next check. Without RL_RULE
 * always false, and the shim does nothing.
 */
bool limiter_ready(void);

/* Only connections to this local port are limited; 0 = all. */
uint16_t limiter_port(void);

/*
 * May this connection's client send one more request? False only when the answer is
 * "limited", then with the seconds to wait; an error is never a refusal.
 */
bool limiter_allows(const struct conn *conn, uint64_t *ret_retry_after_s);

#endif
