/*
 * keep.c - the file that an agent finds again what was ordered by: beside the snapshot if there is
 * one, which outlives a reboot, else beside the segment, which outlives the agent.
 *
 * Written anew as a whole at each change, then renamed. Not synced to the disk, as the loop must
 * not wait for one: of a host that loses its power the last seconds of orders may be lost, and come
 * from the fleet if there is one.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/log.h"
#include "agent/orders/inner.h"

#define FILE_MAX (4u << 20)

static uint64_t wall_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void add_text(json_t *object, const char *name, char *text)
{
	if (text != NULL)
		json_object_set_new(object, name, json_string(text));
	free(text);
}

static json_t *contents(struct orders *orders)
{
	json_t *object = json_pack("{s:i, s:s, s:I, s:I}", "format", DOC_FORMAT, "fleet",
				   orders->config->has_redis ? orders->config->fleet : "", "ahead",
				   (json_int_t)(orders_low_ms(orders, true) - wall_ms()), "resets",
				   (json_int_t)orders->resets_done);

	add_text(object, "local", order_doc_write(&orders->local));
	if (orders->fleet.life != 0) {
		add_text(object, "orders", order_doc_write(&orders->fleet));
		json_object_set_new(object, "orders_tip",
				    json_stringn(orders->doc[CONTROL_ORDERS].has, CONTROL_TIP));
	}
	if (orders->rules.life != 0) {
		add_text(object, "rules", rules_doc_write(&orders->rules));
		json_object_set_new(object, "rules_tip",
				    json_stringn(orders->doc[CONTROL_RULES].has, CONTROL_TIP));
	}
	return object;
}

/* Keys are what nobody else should read. */
static const char *write_file(const char *path, const char *text)
{
	char temporary[PATH_MAX + 8];
	FILE *out;
	bool good;
	int fd;

	snprintf(temporary, sizeof(temporary), "%s.tmp", path);
	unlink(temporary);
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	out = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (out == NULL) {
		int error = errno;

		if (fd >= 0)
			close(fd);
		return strerror(error);
	}
	good = fputs(text, out) >= 0;
	good = fclose(out) == 0 && good && rename(temporary, path) == 0;
	return good ? NULL : strerror(errno);
}

void keep_write(struct orders *orders)
{
	bool any =
		orders->local.set.count > 0 || orders->fleet.life != 0 || orders->rules.life != 0;
	json_t *object = any ? contents(orders) : NULL;
	char *text = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
	const char *why = NULL;

	json_decref(object);
	if (!any)
		unlink(orders->path); /* it may not be there */
	else
		why = text == NULL ? "no memory" : write_file(orders->path, text);
	free(text);
	if (why != NULL)
		log_event(LOG_WARNING, "orders_not_kept",
			  "file=%s msg=\"%s: what was ordered is in force, and forgotten when this "
			  "agent ends\"",
			  orders->path, why);
}

/* Whoever may write it could switch rules off, or push others. NULL: it is the agent's own. */
static const char *fault_of(int fd)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return strerror(errno);
	if (!S_ISREG(st.st_mode))
		return "it is not a regular file";
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return "it belongs to another user, not to root or this one";
	return (st.st_mode & (S_IWGRP | S_IWOTH)) != 0 ? "others may write it: chmod go-w it"
						       : NULL;
}

static char *read_open(int fd, const char **ret_why)
{
	char *text = malloc(FILE_MAX + 1);
	FILE *in = fdopen(fd, "r");
	size_t size = 0;

	if (in != NULL && text != NULL)
		size = fread(text, 1, FILE_MAX + 1, in);
	if (in == NULL || text == NULL || ferror(in) || size > FILE_MAX) {
		*ret_why = "it cannot be read, or is too long";
		free(text);
		text = NULL;
	} else {
		text[size] = '\0';
	}
	if (in != NULL)
		fclose(in);
	else
		close(fd);
	return text;
}

/* The file's text, to be freed; NULL with *ret_why, or without: there is none. */
static char *read_file(const char *path, const char **ret_why)
{
	/* Not waiting for whoever may write into a pipe of this name. */
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	*ret_why = fd >= 0 ? fault_of(fd) : errno != ENOENT ? strerror(errno) : NULL;
	if (fd >= 0 && *ret_why == NULL)
		return read_open(fd, ret_why);
	if (fd >= 0)
		close(fd);
	return NULL;
}

static void take_tip(json_t *object, const char *name, struct kept_doc *ret)
{
	const char *tip = json_string_value(json_object_get(object, name));

	if (tip == NULL || strlen(tip) != CONTROL_TIP)
		return;
	memcpy(ret->has, tip, CONTROL_TIP);
	memcpy(ret->seen, tip, CONTROL_TIP);
}

static bool take_orders(json_t *object, const char *name, struct order_doc *ret,
			const char **ret_why)
{
	const char *text = json_string_value(json_object_get(object, name));

	if (text != NULL && !order_doc_read(text, strlen(text), ret, ret_why))
		return false;
	if (ret->unknown > 0)
		log_event(LOG_ERROR, "orders_lost", "orders=%u msg=\"%s\"", ret->unknown, ret->why);
	return true;
}

static const char *take_fleet(struct orders *orders, json_t *object)
{
	const char *text = json_string_value(json_object_get(object, "rules"));
	const char *fleet = json_string_value(json_object_get(object, "fleet")), *why = NULL;
	json_int_t ahead = json_integer_value(json_object_get(object, "ahead"));

	if (!orders->config->has_redis || fleet == NULL ||
	    strcmp(fleet, orders->config->fleet) != 0)
		return NULL; /* what another fleet was told */
	if (!take_orders(object, "orders", &orders->fleet, &why))
		return why;
	if (text != NULL && !rules_doc_read(text, strlen(text), &orders->rules, &why))
		return why;
	take_tip(object, "orders_tip", &orders->doc[CONTROL_ORDERS]);
	take_tip(object, "rules_tip", &orders->doc[CONTROL_RULES]);
	orders->clock.store_ms = wall_ms() + (uint64_t)ahead;
	orders->resets_done = (uint64_t)json_integer_value(json_object_get(object, "resets"));
	return NULL;
}

static const char *take(struct orders *orders, const char *text)
{
	json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	const char *why = NULL;

	if (!json_is_object(object) ||
	    json_integer_value(json_object_get(object, "format")) != DOC_FORMAT)
		why = "it is damaged, or of another release";
	else if (take_orders(object, "local", &orders->local, &why))
		why = take_fleet(orders, object);
	json_decref(object);
	return why;
}

void keep_read(struct orders *orders)
{
	const char *why;
	char *text = read_file(orders->path, &why);

	orders->clock.store_ms = wall_ms();
	orders->clock.sent_ns = orders->clock.got_ns = rl_clock_precise_ns();
	if (text != NULL)
		why = take(orders, text);
	free(text);
	if (why != NULL)
		log_event(LOG_ERROR, "orders_lost",
			  "file=%s msg=\"%s: what was ordered on this host is not in force; what "
			  "its fleet was told is when it is reached\"",
			  orders->path, why);
}
