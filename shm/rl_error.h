/*
 * rl_error.h - errors that errno has no name for. Below -4096, so that one int can carry
 * -errno, these, and a non-negative answer. client/rl.h publishes the same values.
 */
#ifndef RL_ERROR_H
#define RL_ERROR_H

#define RL_E_SHORT     (-4097) /* the file is shorter than a segment's header, or than it says */
#define RL_E_NOT_READY (-4098) /* the segment is still being built: try again */
#define RL_E_MAGIC     (-4099) /* not a Ratel segment, or of the other byte order */
#define RL_E_ABI       (-4100) /* made by another major version of the layout */
#define RL_E_SIZES     (-4101) /* the header's sizes contradict this build or each other */
#define RL_E_CLOCKS    (-4102) /* stamps in the segment are not of this process's clock */
#define RL_E_LOCKED    (-4103) /* another agent keeps this segment */
#define RL_E_RULE      (-4104) /* no such rule (any more) */
#define RL_E_COST      (-4105) /* cost above what can ever be admitted at once */
#define RL_E_FULL      (-4106) /* no slot free for a new key */
#define RL_E_BUSY      (-4107) /* the slot stayed contended or closed for the whole try */
#define RL_E_KEY       (-4109) /* a hashed key of another segment */
#define RL_E_SHARED    (-4110) /* not of a rule that hosts share */
#define RL_E_CLOCK     (-4111) /* a moment given to a live segment, or none to another */
#define RL_E_LISTS     (-4112) /* more entries of lists than the segment has room for */
#define RL_E_ABSENT    (-4113) /* there is no segment that can be used yet */
#define RL_E_RULES     (-4108) /* more rules than a segment holds, or two with one id */
#define RL_E_ALGORITHM \
	(-4114) /* acquire of a rule that has windows, or a check of one that has none */
#define RL_E_TICKET  (-4115) /* given back before, or not of this process */
#define RL_E_HOLDERS (-4116) /* RL_HOLDERS_MAX processes hold requests */
#define RL_E_GROWN   (-4118) /* the table has grown: a key may be where it is not mapped here */
#define RL_E_HOLDER  (-4117) /* inside only: this process was taken for dead, it lost its lock */

#define RL_WHY_MAX 256 /* bytes of a buffer for the text of a refusal, with its NUL */

/* Write one line to why (RL_WHY_MAX bytes, may be NULL) and return error unchanged. */
int rl_refuse(int error, char *why, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* One line of text for an error of ours or an errno, negative as returned. Never NULL. */
const char *rl_error_text(int error);

#endif
