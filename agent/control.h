/*
 * control.h - the agent's ear for commands of this host: switch rules, reset and block keys.
 *
 * Rooms:  agent/main.c. On the loop's thread; no command takes longer than a check.
 *
 * A stream socket beside the segment, "<segment>.ctl", with the segment's group and mode: who may
 * write to the segment may command. One JSON object a line, of these members only, one line in
 * answer. Who asks on and on and reads no answer is hung up on:
 *
 *	{"do": "off", "rule": "login"}        off and on; without a rule, all of them
 *	{"do": "reset", "rule": "login", "key": "3139322e302e322e37"}       key: its bytes in hex
 *	{"do": "block", "rule": "login", "key": "..", "for_s": 600}         0: no longer
 *
 *	{"ok": true}    or    {"ok": false, "error": "no such rule", "code": -4104}
 *
 * Each command is logged with the caller's uid and pid.
 */
#ifndef AGENT_CONTROL_H
#define AGENT_CONTROL_H

#include <event2/event.h>

#include "shm/rl_segment.h"

struct control;

/*
 * Listen for commands to the segment at path, whose lock the caller holds. NULL after logging why:
 * everything else goes on without.
 */
struct control *control_new(struct event_base *base, struct rl_seg *seg, const char *path);

/* Close every connection and remove the socket, if it is still ours. NULL is fine. */
void control_free(struct control *control);

#endif
