/*
 * rl_ip.h - addresses and networks as bytes: parse, mask, print.
 *
 * Rooms:  everywhere. Pure; thread- and async-signal-safe.
 *
 * A v4-mapped address (::ffff:192.0.2.7) is the IPv4 address, however it is written, so that a
 * client is the same one whichever socket it came through.
 */
#ifndef RL_IP_H
#define RL_IP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RL_IP_TEXT   50 /* bytes for rl_ip_format(): "ffff:...:ffff/128" and a NUL */
#define RL_IP4_BITS  32u
#define RL_IP6_BITS  128u
#define RL_IP6_USUAL 64u /* what one subscriber is given: a single IPv6 address stands for it */

struct rl_ip {
	uint8_t bytes[16]; /* network order; the first 4 of an IPv4 one, the rest 0 */
	uint8_t bits;      /* RL_IP4_BITS or RL_IP6_BITS */
	uint8_t prefix;    /* 0 .. bits; of a single address: bits */
};

/*
 * "192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7", "fe80::1%eth0" (the zone is left out), each with
 * "/PREFIX" or without. The bytes behind the prefix are cleared. False when it is none of these.
 */
bool rl_ip_parse(const char *text, size_t len, struct rl_ip *ret);

/* Shorten to at most so many bits: the bytes behind are cleared. */
void rl_ip_mask(struct rl_ip *ip, uint32_t prefix);

/* "192.0.2.7", "2001:db8::/64": the prefix when it is not whole. Returns its length. */
size_t rl_ip_format(const struct rl_ip *ip, char ret[RL_IP_TEXT]);

#endif
