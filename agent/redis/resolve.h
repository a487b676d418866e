/*
 * redis_resolve.h - the addresses of a host name, asked for beside the event loop.
 *
 * getaddrinfo() is used because it knows all that this machine calls a name (/etc/hosts,
 * nsswitch.conf, search domains). But it may take 10 s and more while a name server is silent,
 * and cannot be called off. So each question has a short-lived thread of its own, which takes
 * no signals; there is at most one at a time, and a numeric address needs none.
 *
 * The question and its answer belong to the thread and to the loop together: whoever is done
 * with them last frees them. So an end never waits for the thread.
 *
 * All functions are for the thread of the event loop.
 */
#ifndef AGENT_REDIS_RESOLVE_H
#define AGENT_REDIS_RESOLVE_H

#include <event2/event.h>
#include <netdb.h>
#include <stdbool.h>

#include "agent/redis/url.h"

struct redis_resolver;

/*
 * heard() is called from the loop once for every redis_resolver_ask() that began a question,
 * when its answer is there; it may free the resolver. NULL when there is no memory.
 */
struct redis_resolver *redis_resolver_new(struct event_base *base, void (*heard)(void *arg),
					  void *arg);

/* Returns at once; heard() is not called any more. NULL is fine. */
void redis_resolver_free(struct redis_resolver *resolver);

/*
 * Ask for the addresses of a TCP address's host, which is the same at each call, or
 * redis_resolver_forget() was called between. True: the
 * answer is there already (the host is numeric, an earlier question's answer was not taken, or
 * nothing can be asked, which is an answer too). False: heard() will tell; if an earlier
 * question is still on its way, this is the one that is waited for.
 */
bool redis_resolver_ask(struct redis_resolver *resolver, const struct redis_address *address);

/* Another host is asked for from now on: what is known or on its way is of the one before. */
void redis_resolver_forget(struct redis_resolver *resolver);

/*
 * Take the answer that is there: a list for freeaddrinfo(), never empty; or NULL and the
 * reason, which is good until the next call of anything.
 */
struct addrinfo *redis_resolver_take(struct redis_resolver *resolver, const char **ret_why);

#endif
