/*
 * rl_ip_key.c - the key that a client's address is counted under.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "client/rl.h"
#include "shm/rl_ip.h"

static_assert(RL_IP_KEY_SIZE >= RL_IP_TEXT, "every address fits");

int rl_ip_key(const char *address, unsigned ipv6_prefix, char ret_key[RL_IP_KEY_SIZE])
{
	struct rl_ip ip;

	if (address == NULL || ret_key == NULL || ipv6_prefix > RL_IP6_BITS ||
	    !rl_ip_parse(address, strlen(address), &ip))
		return -EINVAL;
	if (ip.bits == RL_IP6_BITS)
		rl_ip_mask(&ip, ipv6_prefix == 0 ? RL_IP6_USUAL : ipv6_prefix);
	return (int)rl_ip_format(&ip, ret_key);
}
