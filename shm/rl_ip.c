#include "shm/rl_ip.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

void rl_ip_mask(struct rl_ip *ip, uint32_t prefix)
{
	if (prefix < ip->prefix)
		ip->prefix = (uint8_t)prefix;
	for (uint32_t i = 0; i < sizeof(ip->bytes); i++) {
		uint32_t kept = ip->prefix > 8 * i ? ip->prefix - 8 * i : 0;

		if (kept < 8)
			ip->bytes[i] &= (uint8_t)(0xff00 >> kept);
	}
}

/* ::ffff:a.b.c.d/96+N is a.b.c.d/N; of a shorter prefix the address is not the whole of it. */
static void fold(struct rl_ip *ip)
{
	if (ip->bits != RL_IP6_BITS || ip->prefix < 96 || memcmp(ip->bytes, mapped, 12) != 0)
		return;
	memcpy(ip->bytes, ip->bytes + 12, 4);
	memset(ip->bytes + 4, 0, 12);
	ip->bits = RL_IP4_BITS;
	ip->prefix -= 96;
}

/* 1 to 3 digits, at most bits. */
static bool parse_prefix(const char *text, size_t len, uint32_t bits, uint8_t *ret)
{
	uint32_t number = 0;

	if (len < 1 || len > 3)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		number = number * 10 + (uint32_t)(text[i] - '0');
	}
	*ret = (uint8_t)number;
	return number <= bits;
}

bool rl_ip_parse(const char *text, size_t len, struct rl_ip *ret)
{
	const char *slash = memchr(text, '/', len);
	size_t address_len = slash != NULL ? (size_t)(slash - text) : len;
	const char *zone = memchr(text, '%', address_len);
	char address[INET6_ADDRSTRLEN];

	if (zone != NULL)
		address_len = (size_t)(zone - text);
	/* A key is any bytes: one with a NUL in it is another than what is before that. */
	if (address_len < 2 || address_len >= sizeof(address) ||
	    memchr(text, '\0', address_len) != NULL)
		return false;
	memcpy(address, text, address_len);
	address[address_len] = '\0';
	*ret = (struct rl_ip){.bits = RL_IP4_BITS};
	if (inet_pton(AF_INET, address, ret->bytes) != 1) {
		ret->bits = RL_IP6_BITS;
		if (inet_pton(AF_INET6, address, ret->bytes) != 1)
			return false;
	}
	if (zone != NULL && ret->bits != RL_IP6_BITS)
		return false;
	ret->prefix = ret->bits;
	if (slash != NULL &&
	    !parse_prefix(slash + 1, len - (size_t)(slash + 1 - text), ret->bits, &ret->prefix))
		return false;
	rl_ip_mask(ret, ret->prefix);
	fold(ret);
	return true;
}

size_t rl_ip_format(const struct rl_ip *ip, char ret[RL_IP_TEXT])
{
	char address[INET6_ADDRSTRLEN] = "";

	inet_ntop(ip->bits == RL_IP4_BITS ? AF_INET : AF_INET6, ip->bytes, address,
		  sizeof(address));
	if (ip->prefix == ip->bits)
		return (size_t)snprintf(ret, RL_IP_TEXT, "%s", address);
	return (size_t)snprintf(ret, RL_IP_TEXT, "%s/%u", address, (unsigned)ip->prefix);
}
