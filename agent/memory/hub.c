#include "agent/memory/hub.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/memory/peer.h"
#include "agent/memory/serve.h"
#include "shm/rl_clock.h"

#define PEERS_MAX  64              /* agents; more are turned away */
#define TURN       16              /* frames of one peer before others have their turn */
#define UNREAD_MAX (2 * FRAME_MAX) /* bytes of answers to one that reads none */
#define SWEEP_MS   100

struct hub_peer {
	struct hub *hub;
	struct bufferevent *stream; /* NULL: free */
	bool greeted;
};

struct hub {
	struct event_base *base;
	struct memory *memory;
	int lock;
	struct evconnlistener *listener;
	struct event *sweep;
	double ahead_ms; /* of wall-clock time before CLOCK_BOOTTIME's */
	dev_t dev;       /* of the socket */
	ino_t ino;
	struct hub_peer peer[PEERS_MAX];
	char path[HUB_PATH_MAX + 1], lock_path[HUB_PATH_MAX + 6];
};

/* The wall clock's time as it was when the hub began, and from then on without its steps. */
static double clock_ms(const struct hub *hub)
{
	return (double)rl_clock_read_ns(CLOCK_BOOTTIME) / 1e6 + hub->ahead_ms;
}

static void hang_up(struct hub_peer *peer)
{
	bufferevent_free(peer->stream);
	peer->stream = NULL;
}

/* One frame; false: whoever sends such is hung up on. */
static bool answer(struct hub_peer *peer, struct frame_in *in)
{
	static struct frame_out out; /* too large for a stack; the loop has one thread */
	struct hub *hub = peer->hub;

	if (!peer->greeted) {
		peer->greeted = serve_hello(in, &out);
		return peer_send(peer->stream, &out) && peer->greeted;
	}
	return serve(hub->memory, clock_ms(hub), in, &out) && peer_send(peer->stream, &out);
}

static bool wants_too_much(struct hub_peer *peer)
{
	return evbuffer_get_length(bufferevent_get_output(peer->stream)) > UNREAD_MAX;
}

static void on_frames(struct bufferevent *stream, void *arg)
{
	struct hub_peer *peer = arg;
	enum peer_frame next = PEER_NONE;
	struct frame_in in;

	for (int i = 0; i < TURN && (next = peer_next(stream, &in)) == PEER_FRAME; i++) {
		if (!answer(peer, &in) || wants_too_much(peer)) {
			next = PEER_BAD;
			break;
		}
		peer_done(stream);
	}
	if (next == PEER_BAD)
		hang_up(peer);
	else if (next == PEER_FRAME) /* there may be more: when the others had their turn */
		bufferevent_trigger(stream, EV_READ, BEV_TRIG_DEFER_CALLBACKS);
}

static void on_end(struct bufferevent *stream, short what, void *arg)
{
	(void)stream, (void)what; /* it closed, or failed: all the same to us */
	hang_up(arg);
}

static struct hub_peer *free_place(struct hub *hub)
{
	for (size_t i = 0; i < PEERS_MAX; i++)
		if (hub->peer[i].stream == NULL)
			return &hub->peer[i];
	return NULL;
}

static void on_peer(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
		    int len, void *arg)
{
	struct hub *hub = arg;
	struct hub_peer *peer = free_place(hub);
	pid_t pid;

	(void)listener, (void)address, (void)len;
	if (peer != NULL && peer_is_ours(fd, &pid))
		peer->stream = bufferevent_socket_new(hub->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (peer == NULL || peer->stream == NULL) {
		close(fd);
		return;
	}
	peer->hub = hub;
	peer->greeted = false;
	bufferevent_setcb(peer->stream, on_frames, NULL, on_end, peer);
	bufferevent_setwatermark(peer->stream, EV_READ, 0, FRAME_MAX);
	bufferevent_enable(peer->stream, EV_READ | EV_WRITE);
}

static void on_sweep(evutil_socket_t unused, short events, void *arg)
{
	struct hub *hub = arg;

	(void)unused, (void)events;
	memory_sweep(hub->memory, clock_ms(hub));
}

/* Of the open file, not of the process: so two hubs of one process are two, for tests. */
static int lock_file(const char *path)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd >= 0 && fcntl(fd, F_OFD_SETLK, &lock) != 0) {
		int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

static bool is_same_file(const char *path, int fd)
{
	struct stat there, ours;

	return stat(path, &there) == 0 && fstat(fd, &ours) == 0 && there.st_dev == ours.st_dev &&
	       there.st_ino == ours.st_ino;
}

/* What lies there is a dead hub's socket: we hold its lock. Anything else is not ours to remove. */
static bool clear_place(const char *path)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		return errno == ENOENT;
	errno = EEXIST;
	return S_ISSOCK(st.st_mode) && unlink(path) == 0;
}

static int bind_socket(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	mode_t before;
	int failed;

	if (fd < 0)
		return -1;
	memcpy(address.sun_path, path, strlen(path) + 1);
	before = umask(0177);
	failed = bind(fd, (struct sockaddr *)&address, sizeof(address));
	umask(before);
	if (failed == 0)
		return fd;
	close(fd);
	return -1;
}

static bool listen_now(struct hub *hub)
{
	struct stat st;
	int fd = clear_place(hub->path) ? bind_socket(hub->path) : -1;

	if (fd < 0)
		return false;
	hub->listener =
		evconnlistener_new(hub->base, on_peer, hub,
				   LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, PEERS_MAX, fd);
	if (hub->listener == NULL) {
		close(fd);
		return false;
	}
	if (stat(hub->path, &st) == 0) {
		hub->dev = st.st_dev;
		hub->ino = st.st_ino;
	}
	return true;
}

static bool has_socket(const struct hub *hub)
{
	struct stat st;

	return stat(hub->path, &st) == 0 && st.st_dev == hub->dev && st.st_ino == hub->ino;
}

bool hub_is_in_place(struct hub *hub)
{
	if (!is_same_file(hub->lock_path, hub->lock))
		return false;
	if (has_socket(hub))
		return true;
	evconnlistener_free(hub->listener);
	hub->listener = NULL;
	return listen_now(hub);
}

static bool begin(struct hub *hub)
{
	const struct timeval every = {.tv_usec = SWEEP_MS * 1000};

	hub->ahead_ms = (double)rl_clock_read_ns(CLOCK_REALTIME) / 1e6 -
			(double)rl_clock_read_ns(CLOCK_BOOTTIME) / 1e6;
	hub->memory = memory_new(HUB_MAX_BYTES);
	hub->sweep = event_new(hub->base, -1, EV_PERSIST, on_sweep, hub);
	return hub->memory != NULL && hub->sweep != NULL && event_add(hub->sweep, &every) == 0 &&
	       listen_now(hub);
}

static struct hub *make(struct event_base *base, const char *path)
{
	struct hub *hub = calloc(1, sizeof(*hub));

	if (hub == NULL)
		return NULL;
	hub->base = base;
	snprintf(hub->path, sizeof(hub->path), "%s", path);
	snprintf(hub->lock_path, sizeof(hub->lock_path), "%s.lock", path);
	hub->lock = lock_file(hub->lock_path);
	if (hub->lock >= 0)
		return hub;
	free(hub);
	return NULL;
}

struct hub *hub_new(struct event_base *base, const char *path, const char **ret_why)
{
	struct hub *hub = make(base, path);

	*ret_why = NULL;
	if (hub == NULL && errno == EAGAIN)
		return NULL; /* another one has the lock */
	if (hub != NULL && begin(hub))
		return hub;
	*ret_why = errno == ENOENT ? "its folder is not there: make it" : strerror(errno);
	hub_free(hub);
	return NULL;
}

struct memory *hub_memory(struct hub *hub)
{
	return hub->memory;
}

void hub_free(struct hub *hub)
{
	if (hub == NULL)
		return;
	for (size_t i = 0; i < PEERS_MAX; i++)
		if (hub->peer[i].stream != NULL)
			hang_up(&hub->peer[i]);
	if (hub->sweep != NULL)
		event_free(hub->sweep);
	if (hub->listener != NULL) {
		evconnlistener_free(hub->listener);
		if (has_socket(hub))
			unlink(hub->path);
	}
	memory_free(hub->memory);
	close(hub->lock); /* its file stays: whoever waits for it has it open */
	free(hub);
}
