/*
 * sync_active.h - the keys that are being synced: those with something to report, a lease, or
 * somebody who asked a moment ago. All others cost nothing.
 *
 * Rooms:  agent/sync/. The agent's own memory; a kill loses it, a new agent finds the keys
 * again from the slots.
 */
#ifndef AGENT_SYNC_ACTIVE_H
#define AGENT_SYNC_ACTIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/store/item.h"
#include "shm/rl_layout.h"

struct sync_entry {
	uint64_t index;
	uint64_t due_ns;     /* of the next call, precise clock; sooner: sync_active_sooner() */
	uint64_t busy_ns;    /* when it last had demand */
	uint64_t taken_ns;   /* when it was last part of a call */
	uint64_t asked_ns;   /* when the call that it is part of was put together */
	uint64_t told_ns;    /* what was admitted before is known to the store */
	uint64_t nothing_ns; /* when an answer last gave nothing; 0: it gave something */
	uint64_t forget_ns;  /* what was spent before is to be forgotten; 0: nothing */
	double rate;         /* units of demand a nanosecond, smoothed */
	uint32_t stock;      /* credit that is kept for callers that do not wait */
	uint16_t debt;       /* the slot's debt when it was taken */
	bool near;           /* half of the limit is in use */
	bool pressed;        /* and others may want the rest: no stock */
	bool recorded;       /* Redis has a lease of it */
	bool close;          /* its last answer gave no blind share: busy, or near its limit */
	bool urgent;         /* somebody runs short */
	bool in_flight;
	struct sync_item item; /* what the call under way says of it */
};

#define SYNC_BLOCK 16u /* entries that share a word of when the first of them is due */

struct sync_list {
	struct sync_entry *entry;
	uint64_t *soonest_ns; /* of each block: no entry of it is due before; it may be too early */
	uint32_t count, room;
};

struct sync_active {
	struct sync_list part[RL_PARTS];
	uint32_t *where; /* of each slot: partition and place + 1 in its list; 0 = not active */
	uint64_t slot_count;
};

/* False when there is no memory for four bytes a slot. */
bool sync_active_init(struct sync_active *active, uint64_t slot_count);
void sync_active_free(struct sync_active *active);

/* The entry of a slot, or NULL. Valid until the next add or remove. */
struct sync_entry *sync_active_find(struct sync_active *active, uint64_t index);

/* The entry of a slot, a new one if need be; NULL when there is no memory. */
struct sync_entry *sync_active_add(struct sync_active *active, uint32_t part, uint64_t index);

/* The partition whose list a slot's entry is in; the slot is active. */
uint32_t sync_active_part(const struct sync_active *active, uint64_t index);

/* Remove it; the last of its partition takes its place in the list. */
void sync_active_remove(struct sync_active *active, struct sync_entry *entry);

/* It is due at due_ns, which may be before it was. */
void sync_active_sooner(struct sync_active *active, struct sync_entry *entry, uint64_t due_ns);

/*
 * The first place from at on, or the list's count, whose entry may be due: whole blocks in which
 * none is are passed over, so that a look at all keys costs what is due and not what is active.
 */
uint32_t sync_list_due(const struct sync_list *list, uint32_t at, uint64_t now_ns);

/* All of the block that ends before place at was looked at; what of it is due was taken. */
void sync_list_looked(struct sync_list *list, uint32_t at);

#endif
