/*
 * redis_url.h - where a Redis is, from text and back.
 */
#ifndef AGENT_REDIS_URL_H
#define AGENT_REDIS_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REDIS_PORT_DEFAULT 6379
#define REDIS_DATABASE_MAX UINT16_MAX

struct redis_address {
	enum { REDIS_TCP, REDIS_UNIX } kind;
	bool tls;       /* of TCP */
	char host[256]; /* TCP: a name, or an address without brackets */
	uint16_t port;
	uint16_t database;
	char path[108]; /* UNIX: as long as sun_path, its NUL included */
};

/*
 * Read "unix:/PATH[?db=N]", "unix:///PATH[?db=N]", "redis://HOST[:PORT][/N]", the same with
 * "rediss://" for TLS, or "HOST[:PORT][/N]"; an IPv6 address stands in brackets. NULL, or the
 * reason why not, one line, which repeats nothing of the text; then *ret is untouched.
 */
const char *redis_url_parse(const char *text, struct redis_address *ret);

/*
 * Read "[redis[s]://]HOST[:PORT]" with another port where none is given. As above.
 */
const char *redis_host_parse(const char *text, uint16_t port, struct redis_address *ret);

/* The shortest of the ways above, for logs. Returns text; 288 bytes hold any address. */
#define REDIS_URL_MAX 288
const char *redis_url_format(const struct redis_address *address, char text[REDIS_URL_MAX]);

#endif
