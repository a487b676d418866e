/*
 * config.h - the agent's configuration: a YAML file to a checked struct.
 *
 *	segment:                      # or just a path
 *	  path: /dev/shm/rl/default   # where workers attach
 *	  keys: 100000                # distinct keys the table holds
 *	  group: www-data             # of the file; without it, the agent's
 *	  mode: 0660                  # who may take part: owner and group read and write
 *	  lists: 4096                 # entries that all rules' lists may have together
 *	  clock: own                  # given: each check brings its time, rl_check_at() only
 *	fleet: default                # hosts of one fleet and one Redis share limits
 *	host: web-1                   # distinct in its fleet; without it, the agent makes one
 *	redis:                        # or just a URL; without it, every rule is local
 *	  url: redis://10.0.0.5:6379  # or unix:/run/redis.sock; with /3 or ?db=3 database 3; or
 *	                              # sentinel://10.0.0.1,10.0.0.2:26380/shop/3, short for
 *	  sentinels: [10.0.0.1, 10.0.0.2:26380]
 *	  master: shop                # the primary, as the Sentinels call it
 *	  database: 3                 # with sentinels
 *	  sentinel_user: look         # of the Sentinels' own ACL, if they have one
 *	  sentinel_password_file: /etc/rl/sentinel
 *	  cluster: [10.0.0.1, 10.0.0.2:7001]  # or these nodes, and all that they name; or true,
 *	                              # and the url is one
 *	  user: ratel                 # of an ACL; without it the default user
 *	  password_file: /etc/rl/pw   # one line, that no other user can read
 *	  tls:                        # of rediss://10.0.0.5:6379
 *	    ca_file: /etc/rl/ca.pem   # else the CAs this system trusts
 *	    cert_file: /etc/rl/me.pem # ours, for a server that wants one
 *	    key_file: /etc/rl/me.key  # that no other user can read
 *	    server_name: redis.lan    # in the server's certificate; else the url's host
 *	    verify: full              # none: whoever answers is taken for Redis
 *	  stale_after: 250ms          # unanswered for so long: on_unreachable is in force
 *	  timeout: 2s                 # then a connection is given up
 *	  interval: 50ms              # between two syncs of a key; without it, by its window
 *	snapshot:                     # or just a path; without it, counts begin at 0 after a reboot
 *	  path: /var/lib/ratel/default.snapshot
 *	  interval: 10s               # what a crash of the host may lose
 *	audit: 1024                   # one key in so many is audited; 0: none
 *	rules:
 *	  - name: login               # letters, digits, '.', '_', '-'; up to 63
 *	    limit: 100/minute         # COUNT/WINDOW; of concurrency just COUNT, in flight
 *	    algorithm: sliding        # sliding | fixed | token_bucket | leaky_bucket | concurrency
 *	    burst: 20                 # of a bucket: units that may come at once
 *	    delay: 5                  # of a leaky bucket: how many of them are not held up
 *	    interpolate: false        # of a sliding local rule: full use, up to 4.6 % above
 *	    consistency: bounded      # local | bounded | strict | eventual; bounded with a redis
 *	    beta: 10%                 # of the limit, that all hosts may admit without credit
 *	    wait: 2ms                 # at most, for credit, by callers that may wait
 *	    no_credit: allow          # allow | deny, to the others; a strict rule denies
 *	    on_unreachable: share     # share | local | open | closed; closed on a strict rule
 *	    allow: [10.0.0.0/8]       # keys and networks that pass and are not counted
 *	    deny: [203.0.113.7]       # that are refused
 *	    overrides: [{key: partner, limit: 1000/minute}]
 *	    on_full: pool             # pool | allow | deny: a new key when the table is full
 *	    shadow: false             # count and let everything pass
 *	    enforce: 10%              # of the keys; the others as in a shadow rule
 *	    audit: 1                  # of this rule's keys; sliding only
 */
#ifndef AGENT_CONFIG_H
#define AGENT_CONFIG_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "agent/redis/access.h"
#include "shm/rl_rules.h"

#define CONFIG_KEYS_DEFAULT     100000u
#define CONFIG_FLEET_DEFAULT    "default"
#define CONFIG_STALE_AFTER_NS   UINT64_C(250000000)
#define CONFIG_REDIS_TIMEOUT_NS UINT64_C(2000000000)
#define CONFIG_SNAPSHOT_NS      UINT64_C(10000000000)
#define CONFIG_AUDIT            UINT32_C(1024)
#define CONFIG_SNAPSHOT_MIN_NS  UINT64_C(1000000000)
#define CONFIG_SNAPSHOT_MAX_NS  UINT64_C(3600000000000)

struct agent_config {
	char segment_path[PATH_MAX];
	uint64_t segment_keys;
	bool set_group;
	gid_t segment_group;          /* with set_group */
	mode_t segment_mode;          /* 0 = not given */
	uint32_t list_entries;        /* 0 = not given */
	bool clock_given;             /* the segment counts by what its callers say */
	char snapshot_path[PATH_MAX]; /* empty = none */
	uint64_t snapshot_interval_ns;
	char fleet[RL_NAME_MAX + 1];
	char host[RL_NAME_MAX + 1]; /* empty = not given */
	bool has_redis;
	char redis_url[512]; /* empty: redis_sentinels say where it is */
	struct redis_sentinels redis_sentinels;
	struct redis_seeds redis_seeds; /* count not 0: a cluster */
	struct redis_login redis_login;
	struct redis_trust redis_trust;
	uint64_t stale_after_ns;
	uint64_t redis_timeout_ns;
	uint64_t interval_ns; /* between two syncs of a key; 0 = by its window */
	uint32_t audit;       /* one key in so many, of rules that say nothing; 0: none */
	size_t rule_count;
	struct rl_rule_spec rule[RL_RULES_MAX];
};

/*
 * Read and check the whole file. True and *ret filled, or false after printing every fault
 * in it to out, one line each: file:line:column: what is wrong. *ret is then unspecified. It is all
 * zero before the first load; what an earlier one allocated is freed.
 * What is allowed but weakens a promise is printed as well: file:line:column: warning: ...
 */
bool config_load(const char *file_name, FILE *out, struct agent_config *ret);

/*
 * The same of a text, of which only the rules count: as they would be on this host. Other sections
 * are looked past; what is wrong within the rules is printed as name:line:column.
 */
bool config_load_rules(const char *name, const char *text, size_t size,
		       const struct agent_config *host, FILE *out, struct agent_config *ret);

/*
 * Of such a text, which is right, the lines of its 'rules' alone, to be freed: a password that
 * stands elsewhere in it goes nowhere. *ret_others: it had other sections. NULL after printing why
 * they cannot be taken out.
 */
char *config_cut_rules(const char *name, const char *text, size_t size,
		       const struct agent_config *host, FILE *out, bool *ret_others);

/* Each gets the other's rules. */
void config_swap_rules(struct agent_config *a, struct agent_config *b);

/* Give back what config_load() has allocated. */
void config_free(struct agent_config *config);

/* Same fleet, host and redis: an agent that runs by one may take the rules of the other. */
bool config_same_fleet(const struct agent_config *a, const struct agent_config *b);

#endif
