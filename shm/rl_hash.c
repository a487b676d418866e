#include "shm/rl_hash.h"

#include <string.h>

struct sip {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotl(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = rotl(s->v1, 13) ^ s->v0;
	s->v3 = rotl(s->v3, 16) ^ s->v2;
	s->v0 = rotl(s->v0, 32);
	s->v2 += s->v1;
	s->v0 += s->v3;
	s->v1 = rotl(s->v1, 17) ^ s->v2;
	s->v3 = rotl(s->v3, 21) ^ s->v0;
	s->v2 = rotl(s->v2, 32);
}

static inline void sip_absorb(struct sip *s, uint64_t m)
{
	s->v3 ^= m;
	sip_round(s);
	s->v0 ^= m;
}

static inline struct sip sip_start(const uint64_t key[2])
{
	return (struct sip){
		.v0 = key[0] ^ UINT64_C(0x736f6d6570736575),
		.v1 = key[1] ^ UINT64_C(0x646f72616e646f6d) ^ 0xee, /* 0xee: 128-bit output */
		.v2 = key[0] ^ UINT64_C(0x6c7967656e657261),
		.v3 = key[1] ^ UINT64_C(0x7465646279746573),
	};
}

static inline uint64_t load_le64(const unsigned char *p)
{
	uint64_t m;

	memcpy(&m, p, sizeof(m));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	m = __builtin_bswap64(m);
#endif
	return m;
}

static inline uint64_t load_le32(const unsigned char *p)
{
	uint32_t m;

	memcpy(&m, p, sizeof(m));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	m = __builtin_bswap32(m);
#endif
	return m;
}

/*
 * The last block: the remaining len % 8 bytes, and the total length in the top byte. Loads
 * that overlap instead of a loop, whose end would be mispredicted for keys of many lengths.
 */
static inline uint64_t load_tail(const unsigned char *p, size_t left, size_t total)
{
	uint64_t m = (uint64_t)(total & 0xff) << 56;

	if (left >= 4)
		return m | load_le32(p) | load_le32(p + left - 4) << (8 * (left - 4));
	if (left == 0)
		return m;
	return m | p[0] | (uint64_t)p[left / 2] << (8 * (left / 2)) |
	       (uint64_t)p[left - 1] << (8 * (left - 1));
}

static inline void sip_finish(struct sip *s, const unsigned char *p, size_t len, size_t total,
			      uint64_t out[2])
{
	for (; len >= 8; len -= 8, p += 8)
		sip_absorb(s, load_le64(p));
	sip_absorb(s, load_tail(p, len, total));
	s->v2 ^= 0xee;
	for (int i = 0; i < 3; i++)
		sip_round(s);
	out[0] = s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
	s->v1 ^= 0xdd;
	for (int i = 0; i < 3; i++)
		sip_round(s);
	out[1] = s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

void rl_hash128(const uint64_t key[2], const void *bytes, size_t len, uint64_t out[2])
{
	struct sip s = sip_start(key);

	sip_finish(&s, bytes, len, len, out);
}

struct rl_id rl_hash_key(const uint64_t key[2], uint32_t rule_id, const void *bytes, size_t len)
{
	struct sip s = sip_start(key);
	struct rl_id id;

	sip_absorb(&s, rule_id);
	sip_finish(&s, bytes, len, 8 + len, id.word);
	for (int i = 0; i < 2; i++)
		if (id.word[i] == 0)
			id.word[i] = 1;
	return id;
}

uint32_t rl_hash_rule(const char *name)
{
	static const uint64_t fixed[2] = {UINT64_C(0x726174656c2d7275),
					  UINT64_C(0x6c652d6e616d6531)};
	uint64_t out[2];

	rl_hash128(fixed, name, strlen(name), out);
	return (uint32_t)out[0] == 0 ? 1 : (uint32_t)out[0];
}
