/*
 * run_share.h - whose is the segment that was named to `rlctl run --limit`?
 */
#ifndef TOOLS_RUN_SHARE_H
#define TOOLS_RUN_SHARE_H

#include "shm/rl_terms.h"

enum run_share {
	RUN_SHARE_NOBODY, /* nobody's, or of an earlier run: a private agent may have it */
	RUN_SHARE_SAME,   /* a live agent has this very limit */
	RUN_SHARE_OTHER,  /* a live agent has other rules */
	RUN_SHARE_DEAD,   /* other rules, and no agent at the moment: not ours to replace */
	RUN_SHARE_SILENT, /* an agent holds its lock, and has not answered for seconds */
};

/*
 * Look, and when an agent is just starting (another `rlctl run` of the same moment), wait
 * until it has published its rules: RUN_SHARE_WAIT_MS at most.
 */
#define RUN_SHARE_WAIT_MS 5000
enum run_share run_share_settle(const char *segment, const struct rl_terms *terms);

#endif
