/*
 * accept.h - accept a connection, and track it when its client is to be limited.
 *
 * Rooms:  client/preload only.
 */
#ifndef PRELOAD_ACCEPT_H
#define PRELOAD_ACCEPT_H

#include <stdbool.h>
#include <sys/socket.h>

/* As accept(2), or accept4(2) when four. What it returns and errno are libc's. */
int accept_tracked(int listener, struct sockaddr *address, socklen_t *len, int flags, bool four);

#endif
