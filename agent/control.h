/*
 * control.h - the agent's ear for commands, to this host and to its fleet: switch rules, reset and
 * block keys, give them another limit for a while, push rules.
 *
 * Rooms:  agent/main.c. On the loop's thread; nothing is waited for there.
 *
 * A stream socket beside the segment, "<segment>.ctl", with the segment's group and mode: who may
 * write to the segment may command. One JSON object a line, of these members only, one line in
 * answer. Who asks on and on and reads no answer is hung up on:
 *
 *	{"do": "off", "rule": "login"}        off and on; without a rule, all of them
 *	{"do": "reset", "rule": "login", "key": "3139322e302e322e37"}       key: its bytes in hex
 *	{"do": "block", "rule": "login", "key": "..", "for_s": 600}         0: no longer
 *	{"do": "override", "rule": "login", "key": "..", "limit": "1000/minute", "for_s": 600}
 *	{"do": "push", "text": "rules: ..", "name": "rl.yaml"}              a configuration
 *	{"do": "clear"} and {"do": "rollback"}                              of pushed rules
 *	{"do": "orders"} and {"do": "rules"}                                what stands
 *
 *	{"ok": true}    or    {"ok": false, "error": "no such rule", "code": -4104}
 *
 * In a fleet they are for all of it; "local": true is for this host alone. Then the answer comes
 * when the fleet's store has the command and this host has obeyed, with "version", how many "hosts"
 * live, and how many "have" it already; "wait": true waits until all have, 4 s at most.
 *
 * Each command is logged with the caller's uid and pid.
 */
#ifndef AGENT_CONTROL_H
#define AGENT_CONTROL_H

#include <event2/event.h>

#include "agent/orders/orders.h"

struct control;

/*
 * Listen for commands to the segment at path, whose lock the caller holds. NULL after logging why:
 * everything else goes on without.
 */
struct control *control_new(struct event_base *base, struct orders *orders, const char *path);

/* Close every connection and remove the socket, if it is still ours. NULL is fine. */
void control_free(struct control *control);

#endif
