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

#endif
