/*
 * rl-agent - keeps one host's segment: publishes rules, beats, gives idle slots back.
 *
 * Runs in the foreground until SIGTERM or SIGINT. Workers go on without it: it is in no
 * request's way, and the next one takes the segment over with all counts.
 */
#include <errno.h>
#include <event2/event.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/config/config.h"
#include "agent/control.h"
#include "agent/keeper.h"
#include "agent/log.h"
#include "agent/orders/orders.h"
#include "agent/snapshot/snapshot.h"
#include "agent/sweep.h"
#include "agent/sync/sync.h"
#include "agent/watch/watch.h"
#include "shm/rl_member.h"

#define BEAT_MS 100
#define TIDY_MS 1000 /* members of dead processes; is the file still there? */

enum { EXIT_STOPPED = 0, EXIT_CONFIG = 1, EXIT_OTHER = 2 };

struct agent {
	const char *config_file;
	struct agent_config config;
	struct keeper keeper;
	struct sweep sweep;
	struct sync *sync; /* NULL: no Redis is configured */
	struct watch watch;
	struct orders *orders;
	struct control *control;
	struct snapshot_thread *snapshot;
	struct event_base *base;
	int exit_code;
};

static const char usage[] =
	"usage: rl-agent --config FILE [--check | --export SNAPSHOT]\n"
	"\n"
	"  --config FILE  YAML: segment, rules, and for a fleet redis, fleet, host\n"
	"  --check        read FILE, report what is wrong with it, and exit\n"
	"  --export SNAPSHOT\n"
	"                 write what the segment holds of local rules to SNAPSHOT, and exit; also\n"
	"                 while an rl-agent runs\n"
	"  --version      print the version and exit\n"
	"\n"
	"segment: {path: " RL_SEGMENT_DEFAULT ", keys: 100000, group: www-data, mode: 0660}\n"
	"redis: redis://10.0.0.5:6379     # or unix:/PATH; without it every host counts alone\n"
	"rules:\n"
	"  - {name: login, limit: 5/10s, consistency: strict}\n"
	"\n"
	"group and mode say who may take part: workers need to read and write the segment.\n"
	"They are applied when rl-agent starts, to a segment that is there as well.\n"
	"rl-agent(8) has all options.\n"
	"\n"
	"SIGHUP reads FILE again; a bad one is reported and the old rules stay in force.\n"
	"SIGTERM and SIGINT stop; the segment and its counts stay.\n"
	"exit status: 0 stopped, or FILE is fine; 1 FILE is wrong; 2 anything else\n";

static void on_beat(evutil_socket_t unused, short events, void *arg)
{
	struct agent *agent = arg;

	(void)unused, (void)events;
	keeper_beat(&agent->keeper);
}

static void on_slice(evutil_socket_t unused, short events, void *arg)
{
	struct agent *agent = arg;

	(void)unused, (void)events;
	sweep_slice(&agent->sweep);
}

static void on_watch(evutil_socket_t unused, short events, void *arg)
{
	struct agent *agent = arg;

	(void)unused, (void)events;
	watch_tick(&agent->watch);
}

static void on_inflight(evutil_socket_t unused, short events, void *arg)
{
	struct agent *agent = arg;

	(void)unused, (void)events;
	inflight_pass(&agent->keeper.inflight);
	agent->sweep.holds_short = agent->keeper.inflight.is_short;
}

static void rules_changed(struct agent *agent)
{
	sweep_rules_changed(&agent->sweep);
	if (agent->sync != NULL)
		sync_rules_changed(agent->sync);
}

static void on_tidy(evutil_socket_t unused, short events, void *arg)
{
	struct agent *agent = arg;

	(void)unused, (void)events;
	rl_member_sweep(&agent->keeper.seg);
	keeper_pools(&agent->keeper);
	if (keeper_split(&agent->keeper))
		rules_changed(agent);
	if (keeper_still_there(&agent->keeper))
		return;
	keeper_abandon(&agent->keeper);
	agent->exit_code = EXIT_OTHER;
	event_base_loopbreak(agent->base);
}

static void on_reload(evutil_socket_t unused, short events, void *arg)
{
	static struct agent_config fresh;
	struct agent *agent = arg;

	(void)unused, (void)events;
	if (!config_load(agent->config_file, stderr, &fresh)) {
		log_event(LOG_ERROR, "reload_refused",
			  "config=%s msg=\"the old rules stay in force\"", agent->config_file);
		return;
	}
	if (strcmp(fresh.segment_path, agent->config.segment_path) != 0 ||
	    fresh.segment_keys != agent->config.segment_keys ||
	    fresh.set_group != agent->config.set_group ||
	    fresh.segment_group != agent->config.segment_group ||
	    fresh.segment_mode != agent->config.segment_mode ||
	    fresh.list_entries != agent->config.list_entries ||
	    fresh.clock_given != agent->config.clock_given ||
	    strcmp(fresh.snapshot_path, agent->config.snapshot_path) != 0 ||
	    fresh.snapshot_interval_ns != agent->config.snapshot_interval_ns)
		log_event(
			LOG_WARNING, "needs_restart",
			"msg=\"a changed 'segment' or 'snapshot' takes effect when rl-agent starts "
			"again\"");
	if (!config_same_fleet(&fresh, &agent->config)) {
		log_event(LOG_ERROR, "reload_refused",
			  "config=%s msg=\"'fleet', 'host' and 'redis' take effect when rl-agent "
			  "starts again; the old rules stay in force\"",
			  agent->config_file);
		return;
	}
	config_swap_rules(&agent->config, &fresh);
	if (!orders_reload(agent->orders)) {
		config_swap_rules(&agent->config, &fresh);
		return;
	}
	log_event(LOG_INFO, "reloaded", "config=%s rules=%zu", agent->config_file,
		  agent->config.rule_count);
}

/* What is in force changes: the file's rules, pushed ones, or what was ordered. */
static bool publish(void *arg, const struct agent_config *config, bool rules)
{
	struct agent *agent = arg;

	if (!keeper_publish(&agent->keeper, config))
		return false;
	if (rules) {
		rules_changed(agent);
		return true;
	}
	sweep_lists_changed(&agent->sweep);
	if (agent->sync != NULL)
		sync_lists_changed(agent->sync);
	return true;
}

static void on_stop(evutil_socket_t signal_number, short events, void *arg)
{
	struct agent *agent = arg;

	(void)events;
	log_event(LOG_INFO, "stopping", "signal=%d", (int)signal_number);
	event_base_loopbreak(agent->base);
}

static bool every(struct agent *agent, event_callback_fn callback, unsigned ms)
{
	const struct timeval interval = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
	struct event *timer = event_new(agent->base, -1, EV_PERSIST, callback, agent);

	return timer != NULL && event_add(timer, &interval) == 0;
}

static bool upon(struct agent *agent, int signal_number, event_callback_fn callback)
{
	struct event *event = evsignal_new(agent->base, signal_number, callback, agent);

	return event != NULL && event_add(event, NULL) == 0;
}

/* Signals are caught before the segment is published: who sees it may already signal us. */
static bool wire_signals(struct agent *agent)
{
	signal(SIGPIPE, SIG_IGN);
	keeper_catch_truncation();
	agent->base = event_base_new();
	return agent->base != NULL && upon(agent, SIGHUP, on_reload) &&
	       upon(agent, SIGTERM, on_stop) && upon(agent, SIGINT, on_stop);
}

static bool may_free(void *arg, uint64_t index)
{
	return sync_may_free(arg, index);
}

/* Rules that hosts share are in force already: they go by on_unreachable until Redis answers. */
static bool wire_sync(struct agent *agent)
{
	if (!agent->config.has_redis) {
		/* An agent before us may have had one. Relaxed: for tools. */
		atomic_store_explicit(&agent->keeper.seg.fleet->redis, RL_REDIS_NONE,
				      memory_order_relaxed);
		return true;
	}
	agent->sync = sync_new(agent->base, &agent->keeper.seg, agent->keeper.path, &agent->config);
	agent->sweep.may_free = may_free;
	agent->sweep.may_free_arg = agent->sync;
	if (agent->sync != NULL)
		sync_watched_by(agent->sync, &agent->watch);
	return agent->sync != NULL;
}

static bool wire_snapshot(struct agent *agent)
{
	const struct agent_config *config = &agent->config;

	if (config->snapshot_path[0] == '\0')
		return true;
	agent->snapshot = snapshot_start(&agent->keeper.seg.view, config->snapshot_path,
					 config->snapshot_interval_ns);
	if (agent->snapshot == NULL)
		log_event(LOG_ERROR, "no_thread", "msg=\"cannot start the thread of snapshots\"");
	return agent->snapshot != NULL;
}

static bool wire_timers(struct agent *agent)
{
	return every(agent, on_beat, BEAT_MS) && every(agent, on_slice, SWEEP_SLICE_MS) &&
	       every(agent, on_watch, WATCH_TICK_MS) && every(agent, on_inflight, INFLIGHT_MS) &&
	       every(agent, on_tidy, TIDY_MS);
}

static int run(struct agent *agent)
{
	if (!wire_signals(agent))
		return EXIT_OTHER;
	agent->orders = orders_open(&agent->config, publish, agent);
	if (agent->orders == NULL || keeper_open(&agent->keeper, agent->config.segment_path,
						 orders_config(agent->orders)) != 0)
		return EXIT_OTHER;
	keeper_beat(&agent->keeper);
	sweep_init(&agent->sweep, &agent->keeper.seg);
	if (!watch_open(&agent->watch, &agent->keeper.seg) || !wire_sync(agent) ||
	    !wire_timers(agent))
		return EXIT_OTHER;
	if (!orders_begin(agent->orders, agent->base, &agent->keeper.seg, agent->sync,
			  agent->keeper.anew))
		return EXIT_OTHER;
	agent->control = control_new(agent->base, agent->orders, agent->keeper.path);
	if (!wire_snapshot(agent))
		return EXIT_OTHER;
	log_event(LOG_INFO, "started", "segment=%s keys=%llu rules=%zu pid=%ld", agent->keeper.path,
		  (unsigned long long)rl_segment_keys(agent->keeper.seg.view.bucket_count),
		  agent->config.rule_count, (long)getpid());
	event_base_dispatch(agent->base);
	orders_end(agent->orders);
	control_free(agent->control);
	sync_free(agent->sync);
	watch_close(&agent->watch);
	orders_free(agent->orders);
	snapshot_stop(agent->snapshot, agent->exit_code == EXIT_STOPPED);
	config_free(&agent->config);
	keeper_close(&agent->keeper);
	return agent->exit_code;
}

static int export_to(const char *file, const char *segment)
{
	char why[RL_WHY_MAX] = "";
	struct rl_view view;
	uint64_t keys;
	int error = rl_segment_view(segment, &view, why);

	if (error != 0) {
		log_event(LOG_ERROR, "no_segment", "segment=%s msg=\"%s\"", segment, why);
		return EXIT_OTHER;
	}
	error = snapshot_save(&view, file, &keys, why);
	rl_segment_unview(&view);
	if (error != 0)
		log_event(LOG_ERROR, "snapshot_failed", "msg=\"%s\"", why);
	else
		printf("%s: %llu keys\n", file, (unsigned long long)keys);
	return error != 0 ? EXIT_OTHER : EXIT_STOPPED;
}

/* What is to be done other than to run. */
struct task {
	bool check;
	const char *export;
};

static bool parse_options(int argc, char **argv, struct agent *agent, struct task *ret_task)
{
	static const struct option known[] = {
		{"config", required_argument, NULL, 'c'}, {"check", no_argument, NULL, 'k'},
		{"export", required_argument, NULL, 'e'}, {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},      {0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "c:h", known, NULL)) != -1) {
		if (option == 'c')
			agent->config_file = optarg;
		else if (option == 'k')
			ret_task->check = true;
		else if (option == 'e')
			ret_task->export = optarg;
		else if (option == 'h')
			exit(fputs(usage, stdout) < 0);
		else if (option == 'v')
			exit(puts("rl-agent " RL_VERSION) < 0);
		else
			return false;
	}
	if (optind < argc)
		fprintf(stderr, "rl-agent: unexpected argument '%s'\n", argv[optind]);
	else if (agent->config_file == NULL)
		fprintf(stderr, "rl-agent: --config FILE is needed\n");
	return optind == argc && agent->config_file != NULL;
}

int main(int argc, char **argv)
{
	static struct agent agent;
	struct task task = {0};

	if (!parse_options(argc, argv, &agent, &task)) {
		fputs(usage, stderr);
		return EXIT_OTHER;
	}
	if (!config_load(agent.config_file, stderr, &agent.config))
		return EXIT_CONFIG;
	if (task.export != NULL && strlen(task.export) < PATH_MAX)
		return export_to(task.export, agent.config.segment_path);
	if (task.check) {
		printf("%s: fine, %zu rule%s\n", agent.config_file, agent.config.rule_count,
		       agent.config.rule_count == 1 ? "" : "s");
		return EXIT_STOPPED;
	}
	return run(&agent);
}
