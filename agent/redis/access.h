/*
 * access.h - whom the agent believes to be its Redis, and who it is there. No secrets: only where
 * they lie.
 *
 * Rooms:  agent/redis/, agent/config/, agent/sync/.
 */
#ifndef AGENT_REDIS_ACCESS_H
#define AGENT_REDIS_ACCESS_H

#include <limits.h>
#include <stdbool.h>

#include "agent/redis/url.h"

/* Of a rediss:// address. All zero: the system's CAs, the address's host, no certificate. */
struct redis_trust {
	char ca_file[PATH_MAX];   /* PEM; empty: the CAs this system trusts */
	char cert_file[PATH_MAX]; /* ours, PEM, with its chain; empty: none */
	char key_file[PATH_MAX];  /* of cert_file */
	char server_name[256];    /* in the server's certificate; empty: the address's host */
	bool anyone;              /* whoever answers is believed */
};

/* Empty: nobody asks for one. */
struct redis_login {
	char user[128];               /* empty: the default user */
	char password_file[PATH_MAX]; /* one line */
};

#define REDIS_SENTINELS_MAX 8
#define REDIS_SENTINEL_PORT 26379
#define REDIS_PRIMARY_MAX   127

#define REDIS_SEEDS_MAX 16

/* Some nodes of a cluster, which name the others. count 0: it is none. */
struct redis_seeds {
	unsigned count;
	struct redis_address address[REDIS_SEEDS_MAX];
};

/* One more, as redis_host_parse() reads it; NULL, or the reason why not, as above. */
const char *redis_seeds_add(const char *text, bool tls, struct redis_seeds *ret);

/* Who says where the primary is. count 0: nobody, the address does. */
struct redis_sentinels {
	unsigned count;
	struct redis_address address[REDIS_SENTINELS_MAX];
	char primary[REDIS_PRIMARY_MAX + 1]; /* their name for it */
	struct redis_login login;            /* theirs, not the primary's */
	bool tls;                            /* of the primary, and of who is not redis:// */
	uint16_t database;                   /* of the primary */
};

/*
 * Read "sentinel://HOST[:PORT],HOST[:PORT].../NAME[/DB]". NULL, or the reason why not, one line,
 * which repeats nothing of the text; then *ret is untouched. login and tls are left as they are.
 */
const char *redis_sentinels_parse(const char *text, struct redis_sentinels *ret);

/* One more, as redis_host_parse() reads it; reasons as above. */
const char *redis_sentinels_add(const char *text, struct redis_sentinels *ret);

/* Is it a name that Sentinel takes: letters, digits, '.', '_', '-'? */
bool redis_primary_name_is_good(const char *name);

#endif
