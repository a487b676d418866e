/*
 * inbound_refuse.h - a request over the limit: take its bytes away, and answer 429 or end.
 *
 * Rooms:  inbound.c only.
 */
#ifndef PRELOAD_INBOUND_REFUSE_H
#define PRELOAD_INBOUND_REFUSE_H

#include <stdint.h>
#include <sys/types.h>

#include "client/preload/http_head.h"
#include "client/preload/inbound_call.h"

/* The request whose head is the next in the kernel. */
enum next refuse_head(struct call *call, const struct head *head, uint64_t retry_after_s,
		      ssize_t *ret);

/* In the body of a refused request. */
enum next refuse_body(struct call *call, ssize_t *ret);

#endif
