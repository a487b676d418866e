/*
 * resp.h - where one Redis reply ends and the next begins.
 */
#ifndef TESTS_PROXY_RESP_H
#define TESTS_PROXY_RESP_H

#include <stddef.h>

#define RESP_BROKEN ((size_t)-1)

/* Bytes of the first whole reply in data; 0: it is not all there; or RESP_BROKEN. */
size_t resp_size(const char *data, size_t size);

#endif
