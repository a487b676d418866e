/*
 * Goal:   every wrong configuration gets its own message at its own line and column, all of
 *         a file in one run; a right one is read exactly.
 * Method: a table of texts and the exact lines they must print.
 */
#include "tests/t.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/config/config.h"

#define SNAPSHOT_PLACE \
	"'snapshot' would be written over a file of the segment: give it a path of its own, on a " \
	"disk\n"

static struct agent_config config;
static char printed[65536];

static bool load(const char *text, size_t len)
{
	char name[] = "/tmp/rl-test-XXXXXX";
	FILE *out = fmemopen(printed, sizeof(printed), "w");
	int fd = mkstemp(name);
	bool fine;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	close(fd);
	memset(printed, 0, sizeof(printed));
	fine = config_load(name, out, &config);
	fclose(out);
	unlink(name);
	/* The random name is of no interest: "F:" in front of each line. */
	for (char *at; (at = strstr(printed, name)) != NULL;) {
		*at = 'F';
		memmove(at + 1, at + strlen(name), strlen(at + strlen(name)) + 1);
	}
	return fine;
}

struct text_and_lines {
	const char *text, *lines;
};

static const struct text_and_lines bad[] = {
	{"", "F:1:1: the file is empty\n"},
	{"# only a comment\n", "F:1:1: the file is empty\n"},
	{"just text\n", "F:1:1: the file must be a mapping (key: value)\n"},
	{"- a\n- b\n", "F:1:1: the file must be a mapping (key: value)\n"},
	{"rules: []\n---\nrules: []\n", "F:2:1: a second document: one file, one document\n"},
	{"rules: &r []\nsegment: *r\n",
	 "F:1:8: anchors and aliases (&name, *name) are not supported\n"},
	{"rules: *r\n", "F:1:8: anchors and aliases (&name, *name) are not supported\n"},
	{"rules: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: 1",
	 "F:1:68: nested more than 16 deep\n"},
	{"rules: []\0\n", "F:1:10: control characters are not allowed\n"},
	{"rules:\n# \xc3\xa4\x01\n", "F:2:4: control characters are not allowed\n"},
	{"\"r\\e[31m\\x7f\\x9b\": 1\nrules: []\n",
	 "F:1:1: unknown key 'r\\x1b[31m\\x7f\\x9b' (known here: fleet, host, segment, redis, "
	 "snapshot, audit, rules)\n"},
	{"rules:\n\t- name: a\n",
	 "F:2:1: found character that cannot start any token while scanning "
	 "for the next token\n"},
	{"rules:\n  - name: a\n   limit: 5/s\n", "F:3:4: did not find expected '-' indicator while "
						 "parsing a block collection\n"},
	{"rules: [\n", "F:2:1: did not find expected node content while parsing a flow node\n"},
	{"segment: /s\n", "F:1:1: there is no 'rules' list (write 'rules: []' to have none)\n"},
	{"rule: []\n", "F:1:1: unknown key 'rule' (did you mean 'rules'?)\n"
		       "F:1:1: there is no 'rules' list (write 'rules: []' to have none)\n"},
	{"rules: []\nlisten: x\n", "F:2:1: unknown key 'listen' (known here: fleet, host, segment, "
				   "redis, snapshot, audit, rules)\n"},
	{"rules: []\nrules: []\n", "F:2:1: 'rules' is given twice\n"},
	{"rules: []\n[a]: b\n", "F:2:1: a key must be plain text\n"},
	{"rules: many\n", "F:1:8: 'rules' must be a list (- name: ...)\n"},
	{"rules:\n  name: a\n", "F:2:3: 'rules' must be a list (- name: ...)\n"},
	{"rules: [a]\n", "F:1:9: a rule must be a mapping (key: value)\n"},
	{"rules:\n  - name: a\n", "F:2:5: this rule has no 'limit'\n"},
	{"rules:\n  - limit: 5/s\n", "F:2:5: this rule has no 'name'\n"},
	{"rules:\n  - name: a b\n    limit: 5/s\n",
	 "F:2:11: bad name 'a b': a rule's name may hold only letters, digits, '.', '_' and '-'\n"},
	{"rules:\n  - name: ''\n    limit: 5/s\n",
	 "F:2:11: 'name' is empty: write the rule's name\n"},
	{"rules:\n  - name: [a]\n    limit: 5/s\n", "F:2:11: 'name' must be the rule's name\n"},
	{"rules:\n  - name: \"a\\0b\"\n    limit: 5/s\n", "F:2:11: 'name' holds a NUL character\n"},
	{"segment:\nrules: []\n", "F:1:9: 'segment' is empty: write an absolute path\n"},
	{"segment: {path: ''}\nrules: []\n", "F:1:17: 'path' is empty: write an absolute path\n"},
	{"segment: \"/a\\0b\"\nrules: []\n", "F:1:10: 'segment' holds a NUL character\n"},
	{"segment: {path: []}\nrules: []\n", "F:1:17: 'path' must be an absolute path\n"},
	{"rules:\n  - name: a\n    limit: 100/fortnight\n",
	 "F:3:12: bad limit '100/fortnight': the window's unit must be ms, s, second, m, minute, "
	 "h, "
	 "hour, d or day\n"},
	{"rules:\n  - name: a\n    limit: lots\n",
	 "F:3:12: bad limit 'lots': expected COUNT/WINDOW, e.g. 100/minute, 5/10s\n"},
	{"rules:\n  - name: a\n    limit: 0/s\n",
	 "F:3:12: bad limit '0/s': the count must be 1 .. 2147483647\n"},
	{"rules:\n  - name: a\n    limit: 5/1ms\n",
	 "F:3:12: bad limit '5/1ms': the window must be 10ms .. 365d\n"},
	{"rules:\n  - name: a\n    limit: {n: 5}\n",
	 "F:3:12: 'limit' must be COUNT/WINDOW, e.g. 100/minute, 5/10s\n"},
	{"rules:\n  - name: a\n    limit: 5/s\n  - name: a\n    limit: 6/s\n",
	 "F:4:5: a rule named 'a' stands above already\n"},
	{"rules:\n  - name: a\n    limit: 5/s\n    brust: 20\n",
	 "F:4:5: unknown key 'brust' (did you mean 'burst'?)\n"},
	{"rules:\n  - name: a\n    limit: 5/s\n    reset: 20\n",
	 "F:4:5: unknown key 'reset' (known here: name, limit, algorithm, burst, delay, "
	 "interpolate, consistency, beta, wait, no_credit, on_unreachable, on_full, allow, deny, "
	 "overrides, "
	 "shadow, "
	 "enforce, audit)\n"},
	{"rules:\n  - name: a\n    limit: 5/s\n    burst: 20\n",
	 "F:4:12: 'burst' on a sliding rule: only 'algorithm: token_bucket or "
	 "leaky_bucket' has one\n"},
	{"rules:\n  - name: a\n    limit: 5/s\n    algorithm: leaky_bucket\n    delay: 2\n",
	 "F:5:12: 'delay' must be a whole number 0 .. 0\n"},
	{"rules:\n  - name: a\n    limit: 5/s\n    algorithm: leaky_bucket\n    burst: 3\n    "
	 "delay: 4\n",
	 "F:6:12: 'delay' must be a whole number 0 .. 3\n"},
	{"rules:\n  - name: a\n    limit: 5/s\n    algorithm: token_bucket\n    burst: 3\n    "
	 "delay: 2\n",
	 "F:6:12: 'delay' on a token_bucket rule: only 'algorithm: leaky_bucket' has one\n"},
	{"rules:\n  - name: a\n    limit: 5/s\n    algorithm: concurrency\n",
	 "F:3:12: bad limit '5/s': a concurrency rule limits requests in flight, it has no window: "
	 "a "
	 "plain count 1 .. 1048575, e.g. 20\n"},
	{"rules:\n  - name: a\n    limit: 1048576\n    algorithm: concurrency\n",
	 "F:3:12: bad limit '1048576': a concurrency rule limits requests in flight, it has no "
	 "window: "
	 "a plain count 1 .. 1048575, e.g. 20\n"},
	{"rules:\n  - name: a\n    limit: 20\n",
	 "F:3:12: bad limit '20': expected a '/' after the count, e.g. 100/minute\n"},
	{"rules:\n  - name: a\n    limit: 5\n    algorithm: concurrency\n    on_full: pool\n",
	 "F:5:14: 'on_full: pool' on a concurrency rule: a new key without a slot is told "
	 "RL_ERR_FULL, say deny or nothing\n"},
	{"rules:\n  - name: a\n    limit: 5\n    algorithm: concurrency\n    on_full: allow\n",
	 "F:5:14: 'on_full: allow' on a concurrency rule: a new key without a slot is told "
	 "RL_ERR_FULL, say deny or nothing\n"},
	{"rules:\n  - name: a\n    limit: 5\n    algorithm: concurrency\n    burst: 3\n",
	 "F:5:12: 'burst' on a concurrency rule: only 'algorithm: token_bucket or leaky_bucket' "
	 "has "
	 "one\n"},
	{"redis: redis://127.0.0.1\nrules:\n  - name: a\n    limit: 5\n    algorithm: "
	 "concurrency\n",
	 "F:5:16: a concurrency rule counts on each host alone: say 'consistency: local'\n"},
	{"rules:\n  - name: a\n    limit: 5/s\n    algorithm: token_bukket\n    burst: 20\n",
	 "F:4:16: 'algorithm' must be sliding, fixed, token_bucket, leaky_bucket or concurrency, "
	 "not "
	 "'token_bukket' (did you mean 'token_bucket'?)\n"},
	{"rules:\n  - name: a\n    limit: 5/s\n    algorithm: token_bucket\n    burst: 0\n",
	 "F:5:12: 'burst' must be a whole number 1 .. 2147483647\n"},
	{"rules:\n  - name: a\n    limit: 5/s\n    algorithm: fixed\n    interpolate: true\n",
	 "F:5:18: 'interpolate' on a fixed rule: only 'algorithm: sliding' has one\n"},
	{"rules:\n  - name: a\n    limit: 5/s\n    interpolate: maybe\n",
	 "F:4:18: 'interpolate' must be false or true, not 'maybe'\n"},
	{"redis: unix:/r\nrules:\n  - name: a\n    limit: 5/s\n    algorithm: fixed\n",
	 "F:5:16: a fixed rule counts on each host alone: say 'consistency: local'\n"},
	{"redis: unix:/r\nrules:\n  - name: a\n    limit: 5/s\n    interpolate: true\n",
	 "F:5:18: 'interpolate' on a rule that hosts share: it is for local ones\n"},
	{"rules:\n  - nam: a\n    limt: 5/s\n",
	 "F:2:5: unknown key 'nam' (did you mean 'name'?)\n"
	 "F:3:5: unknown key 'limt' (did you mean 'limit'?)\n"
	 "F:2:5: this rule has no 'name'\n"
	 "F:2:5: this rule has no 'limit'\n"},
	{"segment: relative/path\nrules: []\n", "F:1:10: the segment's path must start with '/'\n"},
	{"segment: []\nrules: []\n", "F:1:10: 'segment' must be a mapping (key: value)\n"},
	{"segment: {path: /s, size: 5}\nrules: []\n",
	 "F:1:21: unknown key 'size' (known here: path, keys, group, mode, clock, lists)\n"},
	{"segment: {group: no-such-group}\nrules: []\n",
	 "F:1:18: there is no group 'no-such-group' on this host\n"},
	{"segment: {group: ''}\nrules: []\n", "F:1:18: 'group' is empty: write a group's name\n"},
	{"rules:\n- {name: a, limit: 1/s, deny: bad}\n",
	 "F:2:31: 'deny' must be a list of keys and networks, e.g. [10.0.0.0/8, monitor]\n"},
	{"rules:\n- {name: a, limit: 1/s, deny: [10.0.0.0/33, 10.0.0.7/8, [x]]}\n",
	 "F:2:32: bad network '10.0.0.0/33': the length is 0 .. 32\n"
	 "F:2:45: bad network '10.0.0.7/8': it has bits behind its length; did you mean "
	 "10.0.0.0/8?\n"
	 "F:2:57: 'deny' must be a key or a network, e.g. 10.0.0.0/8\n"},
	{"rules:\n- {name: a, limit: 1/s, allow: [k, 10.0.0.1],\n   deny: ['::ffff:10.0.0.1'],\n"
	 "   overrides: [{key: k, limit: 2/s}]}\n",
	 "F:3:11: the same key or network stands in line 2 already\n"
	 "F:4:22: the same key or network stands in line 2 already\n"},
	{"rules:\n- {name: a, limit: 1/s, overrides: [{key: k}, {limit: 1/s}, {key: b, limit: "
	 "0/s},\n"
	 "   {key: c, limit: 1/s, burst: 3}]}\n",
	 "F:2:37: this override has no 'limit'\n"
	 "F:2:47: this override has no 'key'\n"
	 "F:2:77: bad limit '0/s': the count must be 1 .. 2147483647\n"
	 "F:3:32: 'burst' in an override of a sliding rule: it has none\n"},
	{"rules:\n- {name: a, limit: 1/s, shadow: true, enforce: 10%}\n",
	 "F:2:48: 'enforce' on a shadow rule: it enforces nothing; take one out\n"},
	{"rules:\n- {name: a, limit: 1/s, shadow: maybe}\n",
	 "F:2:33: 'shadow' must be false or true, not 'maybe'\n"},
	{"segment: {clock: mine}\nrules: []\n",
	 "F:1:18: 'clock' must be own or given, not 'mine'\n"},
	{"segment: {clock: given}\nredis: redis://h\nrules: []\n",
	 "F:1:18: 'clock: given' with a 'redis': Redis counts by its own clock; take one of them "
	 "out\n"},
	{"snapshot: here\nrules: []\n",
	 "F:1:11: 'snapshot' must be the absolute path of a file, e.g. "
	 "/var/lib/ratel/default.snapshot\n"},
	{"snapshot: {path: /a/, interval: 500ms}\nrules: []\n",
	 "F:1:18: 'path' must be the absolute path of a file, e.g. "
	 "/var/lib/ratel/default.snapshot\n"
	 "F:1:33: 'interval' must be a time 1s .. 1h, e.g. 10s\n"},
	{"snapshot: {interval: 2h, size: 3}\nrules: []\n",
	 "F:1:26: unknown key 'size' (known here: path, interval)\n"
	 "F:1:11: 'snapshot' has no 'path'\nF:1:22: 'interval' must be a time 1s .. 1h, e.g. "
	 "10s\n"},
	{"snapshot: {interval: 2h}\nrules: []\n", "F:1:11: 'snapshot' has no 'path'\nF:1:22: "
						  "'interval' must be a time 1s .. 1h, e.g. 10s\n"},
	{"audit: 3\nrules: []\n", "F:1:8: 'audit' must be 0 or a power of two up to 1048576, e.g. "
				  "1024: one key in so many is audited\n"},
	{"audit: -1\nrules: [{name: a, limit: 1/s, audit: 2097152}]\n",
	 "F:1:8: 'audit' must be a whole number 0 .. 1048576\n"
	 "F:2:38: 'audit' must be a whole number 0 .. 1048576\n"},
	{"rules: [{name: a, limit: 1/s, algorithm: fixed, audit: 1}]\n",
	 "F:1:56: 'audit' on a rule of this algorithm: it measures sliding windows\n"},
	{"segment: {clock: given}\nrules: [{name: a, limit: 1/s, audit: 1}]\n",
	 "F:2:38: 'audit' with 'clock: given': it measures real time\n"},
	{"segment: /a/s\nsnapshot: /a/s\nrules: []\n", "F:2:11: " SNAPSHOT_PLACE},
	{"snapshot: /a/s.ctl\nsegment: /a/s\nrules: []\n", "F:1:11: " SNAPSHOT_PLACE},
	{"segment: /a/s.tmp\nsnapshot: {path: /a/s}\nrules: []\n", "F:2:11: " SNAPSHOT_PLACE},
	{"segment: {clock: given}\nsnapshot: /a\nrules: []\n",
	 "F:2:11: 'snapshot' with 'clock: given': what its callers will say is not known after a "
	 "reboot; take one of them out\n"},
	{"segment: {mode: rw}\nrules: []\n",
	 "F:1:17: 'mode' must be an octal file mode of read and write bits, 0600 .. 0666, e.g. "
	 "0660\n"},
	{"segment: {mode: 0777}\nrules: []\n",
	 "F:1:17: 'mode' must be an octal file mode of read and write bits, 0600 .. 0666, e.g. "
	 "0660\n"},
	{"segment: {mode: 0060}\nrules: []\n",
	 "F:1:17: 'mode' must be an octal file mode of read and write bits, 0600 .. 0666, e.g. "
	 "0660\n"},
	{"segment: {keys: 0}\nrules: []\n",
	 "F:1:17: 'keys' must be a whole number 1 .. 3000000000\n"},
	{"segment: {keys: 1e6}\nrules: []\n",
	 "F:1:17: 'keys' must be a whole number 1 .. 3000000000\n"},
	{"segment: {keys: -1}\nrules: []\n",
	 "F:1:17: 'keys' must be a whole number 1 .. 3000000000\n"},
	{"segment: {keys: 99999999999999999999999}\nrules: []\n",
	 "F:1:17: 'keys' must be a whole number 1 .. 3000000000\n"},
	{"segment: {keys: many}\nrules: []\n",
	 "F:1:17: 'keys' must be a whole number 1 .. 3000000000\n"},
	{"segment: {path: x, keys: no}\nrules:\n  - limit: 1/x\n",
	 "F:1:17: the segment's path must start with '/'\n"
	 "F:1:26: 'keys' must be a whole number 1 .. 3000000000\n"
	 "F:3:5: this rule has no 'name'\n"
	 "F:3:12: bad limit '1/x': the window's unit must be ms, s, second, m, minute, h, hour, d "
	 "or "
	 "day\n"},
};

static void test_config__each_fault_has_its_line_and_message(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		/* A NUL in the text is the last but one byte of it. */
		size_t len = strlen(bad[i].text);

		assert_false(load(bad[i].text, len + (strcmp(bad[i].text, "rules: []") == 0)));
		assert_string_equal(printed, bad[i].lines);
	}
}

static void test_config__right_file_is_read_exactly(void **state)
{
	static const char text[] = "# the front doors\n"
				   "segment:\n"
				   "  path: /dev/shm/rl/web\n"
				   "  keys: 5000\n"
				   "  group: root\n"
				   "  mode: 0640\n"
				   "rules:\n"
				   "  - name: login\n"
				   "    limit: 5/10s\n"
				   "  - {name: api-v2, limit: 100/minute}\n";

	(void)state;
	assert_true(load(text, strlen(text)));
	assert_string_equal(printed, "");
	assert_string_equal(config.segment_path, "/dev/shm/rl/web");
	assert_int_equal(config.segment_keys, 5000);
	assert_true(config.set_group);
	assert_int_equal(config.segment_group, 0);
	assert_int_equal(config.segment_mode, 0640);
	assert_int_equal(config.rule_count, 2);
	assert_string_equal(config.rule[0].name, "login");
	assert_int_equal(config.rule[0].terms.limit, 5);
	assert_string_equal(config.rule[1].name, "api-v2");
	assert_int_equal(config.rule[1].terms.window_ns, UINT64_C(60000000000));
}

static void test_config__algorithms_are_read_exactly(void **state)
{
	static const char text[] =
		"redis: unix:/r\n"
		"rules:\n"
		"  - {name: a, limit: 5/s}\n"
		"  - {name: b, limit: 5/s, algorithm: sliding, interpolate: true, consistency: "
		"local}\n"
		"  - {name: c, limit: 5/s, algorithm: fixed, consistency: local}\n"
		"  - {name: d, limit: 5/s, algorithm: token_bucket, consistency: local}\n"
		"  - {name: e, limit: 5/s, algorithm: token_bucket, burst: 2147483647, "
		"consistency: local}\n"
		"  - {name: f, limit: 5/s, algorithm: leaky_bucket, burst: 9, delay: 9, "
		"consistency: local}\n";

	(void)state;
	if (!load(text, sizeof(text) - 1))
		fail_msg("%s", printed);
	for (size_t i = 0; i < 6; i++) {
		static const uint8_t algorithm[] = {0, 0, 1, 2, 2, 3};

		assert_int_equal(config.rule[i].interpolate, i == 1);
		assert_int_equal(config.rule[i].algorithm, algorithm[i]);
		assert_int_equal(config.rule[i].burst, i < 4 ? 0 : i == 4 ? 2147483647 : 9);
		assert_int_equal(config.rule[i].delay, i == 5 ? 9 : 0);
	}
}

static void test_config__lists_are_read_exactly(void **state)
{
	const struct rl_list_item *item;
	static const char text[] =

		"segment: {lists: 77}\n"
		"rules:\n"
		"- {name: a, limit: 1/s, allow: [10.0.0.0/8, monitor], deny: ['2001:db8::1', "
		"'2001:db8::1/128', '::ffff:10.0.0.1']}\n"
		"- {name: b, limit: 1/s, algorithm: token_bucket, burst: 7,\n"
		"   overrides: [{key: k, limit: 5/10s}, {key: 10.0.0.7, limit: 6/s, burst: 9}]}\n"
		"- {name: c, limit: 1/s, enforce: 10%}\n"
		"- {name: d, limit: 1/s, shadow: true}\n"
		"- {name: e, limit: 1/s, shadow: false}\n";

	(void)state;
	assert_true(load(text, strlen(text)));
	assert_int_equal(config.list_entries, 77);
	assert_int_equal(config.rule[0].list_count, 5);
	item = config.rule[0].list;
	assert_int_equal(item[0].verdict, RL_VERDICT_ALLOW);
	assert_null(item[0].key);
	assert_int_equal(item[0].net.prefix, 8);
	assert_string_equal(item[1].key, "monitor");
	assert_int_equal(item[1].key_len, 7);
	assert_int_equal(item[2].verdict, RL_VERDICT_DENY);
	assert_int_equal(item[2].net.prefix, 64); /* one subscriber's */
	assert_int_equal(item[3].net.prefix, 128);
	assert_int_equal(item[4].net.bits, 32);
	item = config.rule[1].list;
	assert_int_equal(item[0].verdict, RL_VERDICT_OTHER);
	assert_int_equal(item[0].terms.limit, 5);
	assert_int_equal(item[0].terms.window_ns, 10000000000);
	assert_int_equal(item[0].burst, 7);
	assert_int_equal(item[1].burst, 9);
	assert_int_equal(config.rule[2].shadow_ppm, 900000);
	assert_int_equal(config.rule[3].shadow_ppm, 1000000);
	assert_int_equal(config.rule[4].shadow_ppm, 0);
	config_free(&config);
	assert_null(config.rule[0].list);
}

static void test_config__defaults_are_the_documented_ones(void **state)
{
	(void)state;
	assert_true(load("rules: []\n", 10));
	assert_string_equal(config.segment_path, "/dev/shm/rl/default");
	assert_int_equal(config.segment_keys, 100000);
	assert_int_equal(config.rule_count, 0);
	assert_false(config.set_group);
	assert_int_equal(config.segment_mode, 0);
	assert_true(load("segment: {group: 4711}\nrules: []\n", 33));
	assert_int_equal(config.segment_group, 4711);
	assert_true(load("segment: /x/y\nrules: []\n", 24));
	assert_string_equal(config.segment_path, "/x/y");
	assert_string_equal(config.snapshot_path, "");
	assert_true(load("segment: /x/t\nsnapshot: /x/t.s\nrules: []\n", 40));
	assert_true(load("snapshot: /x/s\nrules: []\n", 25));
	assert_string_equal(config.snapshot_path, "/x/s");
	assert_int_equal(config.snapshot_interval_ns, UINT64_C(10000000000));
}

#define URL     "redis: 'unix:/r'\n"
#define RULE    "rules:\n  - name: a\n    limit: 5/s\n" /* the next line is 4, or 5 below URL */
#define NAME_63 "a23456789012345678901234567890123456789012345678901234567890123"

#define MUST_BE_NAME " must be 1 .. 63 letters, digits, '.', '_' and '-'\n"
#define NODES        " must be a list of nodes, HOST[:PORT] each, or true beside a 'url'"
#define A_LIST       " must be a list of Sentinels, HOST[:PORT] each"
#define SENTINEL_FORM \
	"Sentinels are written sentinel://HOST:PORT,HOST:PORT/NAME, where NAME is theirs for the " \
	"primary"
#define MUST_BE_URL \
	" must be a URL, unix:/PATH, memory:/PATH, redis[s]://HOST[:PORT][/DB] or " \
	"sentinel://HOST,.../NAME[/DB]: "
#define MUST_BE_PART "'beta' must be 0% .. 100% in steps of 0.01%, e.g. 10% or 0.1\n"
#define NO_UNIT      "a time's unit must be ms, s, second, m, minute, h, hour, d or day\n"

static const struct text_and_lines bad_fleet[] = {
	{"fleet: a b\nrules: []\n", "F:1:8: 'fleet'" MUST_BE_NAME},
	{"fleet: ''\nrules: []\n",
	 "F:1:8: 'fleet' is empty: write 1 .. 63 letters, digits, '.', '_' and '-'\n"},
	{"fleet: [a]\nrules: []\n", "F:1:8: 'fleet'" MUST_BE_NAME},
	{"fleet: " NAME_63 "4\nrules: []\n", "F:1:8: 'fleet'" MUST_BE_NAME},
	{"host: 'a:b'\nrules: []\n", "F:1:7: 'host'" MUST_BE_NAME},
	{"host: " NAME_63 "4\nrules: []\n", "F:1:7: 'host'" MUST_BE_NAME},
	{"flet: a\nrules: []\n", "F:1:1: unknown key 'flet' (did you mean 'fleet'?)\n"},

	{"redis: memory:run/s\nrules: []\n",
	 "F:1:8: 'redis'" MUST_BE_URL "the path of its socket must be absolute\n"},
	{"redis: 'memory:'\nrules: []\n",
	 "F:1:8: 'redis'" MUST_BE_URL "the path of its socket must be absolute\n"},
	{"redis: memory:/run/\nrules: []\n",
	 "F:1:8: 'redis'" MUST_BE_URL "its path is that of a socket, and not of a folder\n"},
	{"redis: {url: memory:/s, user: u, tls: {}}\nrules: []\n",
	 "F:1:31: 'user' is for a Redis: with a url of memory:/PATH agents meet at that socket, "
	 "and "
	 "the kernel says whose they are\n"
	 "F:1:39: 'tls' is for a Redis: with a url of memory:/PATH agents meet at that socket, and "
	 "the kernel says whose they are\n"},
	{"redis:\nrules: []\n", "F:1:7: 'redis' is empty: write a URL, unix:/PATH, memory:/PATH, "
				"redis[s]://HOST[:PORT][/DB] or sentinel://HOST,.../NAME[/DB]\n"},
	{"redis: []\nrules: []\n",
	 "F:1:8: 'redis' must be a URL, unix:/PATH, memory:/PATH, redis[s]://HOST[:PORT][/DB] or "
	 "sentinel://HOST,.../NAME[/DB]\n"},
	{"redis: /run/redis.sock\nrules: []\n",
	 "F:1:8: 'redis'" MUST_BE_URL "a unix socket is written unix:/PATH\n"},
	{"redis: 'redis:/h'\nrules: []\n",
	 "F:1:8: 'redis'" MUST_BE_URL "the port is a number from 1 to 65535\n"},
	{"redis: 'http://u:secret@h'\nrules: []\n",
	 "F:1:8: 'redis'" MUST_BE_URL "an address begins with redis://, rediss://, sentinel:// or "
	 "unix:\n"},
	{"redis: 'rediss://u:secret@h'\nrules: []\n",
	 "F:1:8: 'redis'" MUST_BE_URL
	 "a user or a password does not stand in the url, but in redis.user and "
	 "redis.password_file\n"},
	{"redis: {url: unix:/r, user: u}\nrules: []\n",
	 "F:1:29: 'user' without a 'password_file'\n"},
	{"redis: {url: unix:/r, user: 'a b', password_file: /p}\nrules: []\n",
	 "F:1:29: 'user' must be a user's name, 1 .. 127 bytes without spaces\n"},
	{"redis: {url: unix:/r, password_file: p}\nrules: []\n",
	 "F:1:38: 'password_file' must be an absolute path\n"},
	{"redis: {url: unix:/r, password: secret}\nrules: []\n",
	 "F:1:23: unknown key 'password' (known here: url, cluster, sentinels, master, database, "
	 "sentinel_user, sentinel_password_file, user, password_file, tls, stale_after, "
	 "timeout, interval)\n"},
	{"redis: {url: 'redis://h', tls: {ca_file: /ca}}\nrules: []\n",
	 "F:1:32: 'tls' is for a url that begins with rediss://\n"},
	{"redis: {url: 'unix:/r', tls: {}}\nrules: []\n",
	 "F:1:30: 'tls' is for a url that begins with rediss://\n"},
	{"redis: {url: 'rediss://h', tls: /ca}\nrules: []\n",
	 "F:1:33: 'tls' must be a mapping (key: value)\n"},
	{"redis: {url: 'rediss://h', tls: {ca: /ca}}\nrules: []\n",
	 "F:1:34: unknown key 'ca' (known here: ca_file, cert_file, key_file, server_name, "
	 "verify)\n"},
	{"redis: {url: 'rediss://h', tls: {ca_file: ca.pem}}\nrules: []\n",
	 "F:1:43: 'ca_file' must be an absolute path\n"},
	{"redis: {url: 'rediss://h', tls: {cert_file: /c}}\nrules: []\n",
	 "F:1:33: 'cert_file' without the 'key_file' that belongs to it\n"},
	{"redis: {url: 'rediss://h', tls: {key_file: /k}}\nrules: []\n",
	 "F:1:33: 'key_file' without the 'cert_file' it belongs to\n"},
	{"redis: {url: 'rediss://h', tls: {verify: false}}\nrules: []\n",
	 "F:1:42: 'verify' must be full or none, not 'false'\n"},
	{"redis: {url: 'rediss://h', tls: {server_name: ''}}\nrules: []\n",
	 "F:1:47: 'server_name' is empty: write the name in the server's certificate, up to 255 "
	 "bytes\n"},
	{"redis: {}\nrules: []\n",
	 "F:1:8: 'redis' has no 'url', and no 'sentinels' or 'cluster' either\n"},
	{"redis: {timeout: 1s}\nrules: []\n",
	 "F:1:8: 'redis' has no 'url', and no 'sentinels' or 'cluster' either\n"},
	{"redis: {url: ''}\nrules: []\n", "F:1:14: 'url' is empty: write a URL, unix:/PATH, "
					  "memory:/PATH, redis[s]://HOST[:PORT][/DB] or "
					  "sentinel://HOST,.../NAME[/DB]\n"},
	{"redis: {url: 'unix:/r', stale: 1s}\nrules: []\n",
	 "F:1:25: unknown key 'stale' (known here: url, cluster, sentinels, master, database, "
	 "sentinel_user, sentinel_password_file, user, password_file, "
	 "tls, stale_after, timeout, interval)\n"},
	{"redis: {url: 'unix:/r', stale_after: 49ms}\nrules: []\n",
	 "F:1:38: 'stale_after' must be a time 50ms .. 5s, e.g. 250ms\n"},
	{"redis: {url: 'unix:/r', stale_after: 5001ms}\nrules: []\n",
	 "F:1:38: 'stale_after' must be a time 50ms .. 5s, e.g. 250ms\n"},
	{"redis: {url: 'unix:/r', stale_after: 250}\nrules: []\n",
	 "F:1:38: bad stale_after '250': " NO_UNIT},
	{"redis: {url: 'unix:/r', timeout: 99ms}\nrules: []\n",
	 "F:1:34: 'timeout' must be a time 100ms .. 30s, e.g. 2s\n"},
	{"redis: {url: 'unix:/r', timeout: 30001ms}\nrules: []\n",
	 "F:1:34: 'timeout' must be a time 100ms .. 30s, e.g. 2s\n"},
	{"redis: {url: 'unix:/r', timeout: []}\nrules: []\n",
	 "F:1:34: 'timeout' must be a time 100ms .. 30s, e.g. 2s\n"},
	{"redis: {url: 'unix:/r', interval: 4ms}\nrules: []\n",
	 "F:1:35: 'interval' must be a time 5ms .. 1s, e.g. 50ms\n"},
	{"redis: {url: 'unix:/r', interval: 1001ms}\nrules: []\n",
	 "F:1:35: 'interval' must be a time 5ms .. 1s, e.g. 50ms\n"},
	{"redis: {url: 'unix:/r', interval: 0}\nrules: []\n",
	 "F:1:35: 'interval' must be a time 5ms .. 1s, e.g. 50ms\n"},
	{"redis: sentinel://h/\nrules: []\n", "F:1:8: 'redis'" MUST_BE_URL SENTINEL_FORM "\n"},
	{"redis: {url: 'sentinel://h:0/m'}\nrules: []\n",
	 "F:1:14: 'url'" MUST_BE_URL "the port is a number from 1 to 65535\n"},
	{"redis: {url: 'redis://h', sentinels: [a], master: m}\nrules: []\n",
	 "F:1:14: 'url' and 'sentinels': take one of them out\n"},
	{"redis: {url: 'redis://h', cluster: [a]}\nrules: []\n",
	 "F:1:14: 'url' and a list of nodes in 'cluster': take one of them out\n"},
	{"redis: {cluster: []}\nrules: []\n", "F:1:18: 'cluster'" NODES "\n"},
	{"redis: {cluster: {}}\nrules: []\n", "F:1:18: 'cluster'" NODES "\n"},
	{"redis: {cluster: true}\nrules: []\n", "F:1:18: 'cluster'" NODES "\n"},
	{"redis: {cluster: [a, 'unix:/b']}\nrules: []\n",
	 "F:1:22: 'cluster'" NODES ": it is HOST[:PORT], or redis[s]://HOST[:PORT]\n"},
	{"redis: {cluster: ['redis://a/3']}\nrules: []\n",
	 "F:1:19: 'cluster'" NODES ": it is HOST[:PORT], or redis[s]://HOST[:PORT]\n"},
	{"redis: {cluster: ['redis://a', 'rediss://b']}\nrules: []\n",
	 "F:1:32: 'cluster'" NODES ": all nodes of a cluster are spoken to in TLS, or none\n"},
	{"redis: {cluster: [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q]}\nrules: []\n",
	 "F:1:67: 'cluster'" NODES ": 16 nodes are enough: they name the others\n"},
	{"redis: {url: 'unix:/a', cluster: true}\nrules: []\n",
	 "F:1:14: 'cluster': the 'url' of a node is redis[s]://HOST[:PORT]\n"},
	{"redis: {url: 'redis://a/3', cluster: true}\nrules: []\n",
	 "F:1:14: 'cluster': a cluster has database 0 alone\n"},
	{"redis: {url: a, cluster: maybe}\nrules: []\n",
	 "F:1:26: 'cluster' must be false or true, not 'maybe'\n"},
	{"redis: {cluster: [a], sentinels: [b], master: m}\nrules: []\n",
	 "F:1:18: 'cluster' and Sentinels: take one of them out\n"},
	{"redis: {cluster: true, url: 'sentinel://a/m'}\nrules: []\n",
	 "F:1:18: 'cluster' and Sentinels: take one of them out\n"},
	{"redis: {sentinels: [a]}\nrules: []\n",
	 "F:1:20: 'sentinels' without 'master', their name for the primary (in their "
	 "configuration: sentinel monitor NAME ...)\n"},
	{"redis: {sentinels: [], master: m}\nrules: []\n", "F:1:20: 'sentinels'" A_LIST "\n"},
	{"redis: {sentinels: a, master: m}\nrules: []\n", "F:1:20: 'sentinels'" A_LIST "\n"},
	{"redis: {sentinels: [a, 'unix:/b'], master: m}\nrules: []\n",
	 "F:1:24: 'sentinels'" A_LIST ": it is HOST[:PORT], or redis[s]://HOST[:PORT]\n"},
	{"redis: {sentinels: [a/3], master: m}\nrules: []\n",
	 "F:1:21: 'sentinels'" A_LIST ": it is HOST[:PORT], or redis[s]://HOST[:PORT]\n"},
	{"redis: {sentinels: [a, b, c, d, e, f, g, h, i], master: m}\nrules: []\n",
	 "F:1:45: 'sentinels'" A_LIST ": 8 Sentinels are enough: they name the others\n"},
	{"redis: {sentinels: [a], master: 'm x'}\nrules: []\n",
	 "F:1:33: 'master' must be the Sentinels' name for the primary: letters, digits, '.', "
	 "'_', '-', up to 127\n"},
	{"redis: {sentinels: [a], master: m, database: 65536}\nrules: []\n",
	 "F:1:46: 'database' must be a whole number 0 .. 65535\n"},
	{"redis: {url: 'redis://h', master: m}\nrules: []\n",
	 "F:1:35: 'master' goes with 'sentinels'; in a 'url' it stands behind a '/'\n"},
	{"redis: {url: 'redis://h', sentinel_password_file: /p}\nrules: []\n",
	 "F:1:51: 'sentinel_password_file' without 'sentinels'\n"},
	{"redis: {sentinels: [a], master: m, sentinel_user: u}\nrules: []\n",
	 "F:1:51: 'sentinel_user' without a 'sentinel_password_file'\n"},
	/* A wrong redis is a redis: the rules are not blamed for it. */
	{"redis: http://x\n" RULE "    consistency: strict\n",
	 "F:1:8: 'redis'" MUST_BE_URL "an address begins with redis://, rediss://, sentinel:// or "
	 "unix:\n"},

	{RULE "    consistency: strict\n",
	 "F:4:18: a strict rule is shared between hosts through Redis: add a top-level 'redis'\n"},
	{RULE "    consistency: bounded\n",
	 "F:4:18: a bounded rule is shared between hosts through Redis: add a top-level "
	 "'redis'\n"},
	{URL RULE "    consistency: bonded\n", "F:5:18: 'consistency' must be local, bounded, "
					       "strict or eventual, not 'bonded' (did you mean "
					       "'bounded'?)\n"},
	{URL RULE "    consistency: stirct\n", "F:5:18: 'consistency' must be local, bounded, "
					       "strict or eventual, not 'stirct' (did you mean "
					       "'strict'?)\n"},
	{RULE "    consistency: eventual\n",
	 "F:4:18: an eventual rule is shared between hosts through Redis: add a top-level "
	 "'redis'\n"},
	{URL RULE "    consistency: eventual\n    beta: 0\n",
	 "F:6:11: 'beta' on an eventual rule: it has no credit to be short of\n"},
	{URL RULE "    consistency: eventual\n    wait: 2ms\n    no_credit: deny\n",
	 "F:6:11: 'wait' on an eventual rule: it has no credit to be short of\n"
	 "F:7:16: 'no_credit' on an eventual rule: it has no credit to be short of\n"},
	{URL RULE "    consistency: eventual\n    algorithm: fixed\n",
	 "F:6:16: a fixed rule counts on each host alone: say 'consistency: local'\n"},
	{URL RULE "    consistency: Strict!!\n",
	 "F:5:18: 'consistency' must be local, bounded, strict or eventual, not 'Strict!!'\n"},
	{URL RULE "    consistency:\n",
	 "F:5:17: 'consistency' is empty: write local, bounded, strict or eventual\n"},
	{URL RULE "    consistency: [strict]\n",
	 "F:5:18: 'consistency' must be local, bounded, strict or eventual\n"},
	/* A word that is none is one fault, not five. */
	{RULE "    consistency: stric\n    beta: 1%\n    wait: 1ms\n    no_credit: allow\n",
	 "F:4:18: 'consistency' must be local, bounded, strict or eventual, not 'stric' (did you "
	 "mean "
	 "'strict'?)\n"},

	{URL RULE "    beta: 100.01%\n", "F:5:11: " MUST_BE_PART},
	{URL RULE "    beta: 101%\n", "F:5:11: " MUST_BE_PART},
	{URL RULE "    beta: 1.0001\n", "F:5:11: " MUST_BE_PART},
	{URL RULE "    beta: 10\n", "F:5:11: " MUST_BE_PART},
	{URL RULE "    beta: 429496730%\n", "F:5:11: " MUST_BE_PART}, /* 0.4 %, if 32 bits wrap */
	{URL RULE "    beta: 0.001%\n", "F:5:11: " MUST_BE_PART},
	{URL RULE "    beta: 0.00001\n", "F:5:11: " MUST_BE_PART},
	{URL RULE "    beta: -1%\n", "F:5:11: " MUST_BE_PART},
	{URL RULE "    beta: .1\n", "F:5:11: " MUST_BE_PART},
	{URL RULE "    beta: 1.\n", "F:5:11: " MUST_BE_PART},
	{URL RULE "    beta: 1.%\n", "F:5:11: " MUST_BE_PART},
	{URL RULE "    beta: 10%%\n", "F:5:11: " MUST_BE_PART},
	{URL RULE "    beta: 10 %\n", "F:5:11: " MUST_BE_PART},
	{URL RULE "    beta: 1e-1\n", "F:5:11: " MUST_BE_PART},
	{URL RULE "    beta: nan\n", "F:5:11: " MUST_BE_PART},
	{URL RULE "    beta: [1%]\n", "F:5:11: " MUST_BE_PART},
	{URL RULE "    consistency: strict\n    beta: 0\n",
	 "F:6:11: 'beta' on a strict rule: nothing passes without credit, its beta is 0\n"},

	{URL RULE "    wait: 1001ms\n", "F:5:11: 'wait' must be a time 0 .. 1s, e.g. 2ms\n"},
	{URL RULE "    wait: 2\n", "F:5:11: bad wait '2': " NO_UNIT},
	{URL RULE "    wait: soon\n", "F:5:11: bad wait 'soon': expected a time, e.g. 250ms, 2s\n"},

	{URL RULE "    no_credit: alow\n",
	 "F:5:16: 'no_credit' must be allow or deny, not 'alow' (did you mean 'allow'?)\n"},
	{URL RULE "    no_credit: wait\n",
	 "F:5:16: 'no_credit' must be allow or deny, not 'wait'\n"},
	{URL RULE "    consistency: strict\n    no_credit: allow\n",
	 "F:6:16: 'allow' on a strict rule: more than the limit could pass; a strict rule always "
	 "has 'deny'\n"},

	{URL RULE "    on_unreachable: close\n",
	 "F:5:21: 'on_unreachable' must be share, local, open or closed, not 'close' (did you "
	 "mean 'closed'?)\n"},
	{URL RULE "    on_unreachable: allow\n",
	 "F:5:21: 'on_unreachable' must be share, local, open or closed, not 'allow'\n"},

	{URL RULE "    consistency: local\n    beta: 0\n    wait: 0\n    no_credit: deny\n"
		  "    on_unreachable: local\n",
	 "F:6:11: 'beta' on a local rule: it counts on this host alone\n"
	 "F:7:11: 'wait' on a local rule: it counts on this host alone\n"
	 "F:8:16: 'no_credit' on a local rule: it counts on this host alone\n"
	 "F:9:21: 'on_unreachable' on a local rule: it counts on this host alone\n"},
	{RULE "    wait: 2ms\n", "F:4:11: 'wait' on a local rule: it counts on this host alone "
				 "(to share it, add a top-level 'redis')\n"},
};

static void test_config__each_fault_of_a_fleet_has_its_message(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad_fleet) / sizeof(bad_fleet[0]); i++) {
		assert_false(load(bad_fleet[i].text, strlen(bad_fleet[i].text)));
		assert_string_equal(printed, bad_fleet[i].lines);
	}
}

static void load_silently(const char *text)
{
	bool fine = load(text, strlen(text));

	assert_string_equal(printed, "");
	assert_true(fine);
}

static void assert_same_terms(const struct rl_fleet_terms *a, const struct rl_fleet_terms *b)
{
	assert_int_equal(a->consistency, b->consistency);
	assert_int_equal(a->no_credit, b->no_credit);
	assert_int_equal(a->on_unreachable, b->on_unreachable);
	assert_int_equal(a->beta_ppm, b->beta_ppm);
	assert_int_equal(a->wait_ns, b->wait_ns);
}

/* The only rule is shared like this, in the segment too. */
static void assert_shared(struct rl_fleet_terms want)
{
	const struct rl_fleet_terms *is = &config.rule[0].fleet;
	struct rl_fleet_terms unpacked;

	assert_int_equal(config.rule_count, 1);
	assert_same_terms(is, &want);
	rl_fleet_unpack(rl_fleet_pack(is), is->wait_ns, &unpacked);
	assert_same_terms(&unpacked, is);
}

static void test_config__sharing_defaults_follow_the_consistency(void **state)
{
	(void)state;
	load_silently(RULE);
	assert_shared((struct rl_fleet_terms){0});
	load_silently(RULE "    consistency: local\n");
	assert_shared((struct rl_fleet_terms){0});
	load_silently(URL RULE "    consistency: local\n");
	assert_shared((struct rl_fleet_terms){0});
	load_silently(URL RULE);
	assert_shared(
		(struct rl_fleet_terms){RL_BOUNDED, RL_NO_CREDIT_ALLOW, RL_SHARE, 100000, 2000000});
	load_silently(URL RULE "    consistency: bounded\n");
	assert_shared(
		(struct rl_fleet_terms){RL_BOUNDED, RL_NO_CREDIT_ALLOW, RL_SHARE, 100000, 2000000});
	load_silently(URL RULE "    consistency: strict\n");
	assert_shared((struct rl_fleet_terms){RL_STRICT, RL_NO_CREDIT_DENY, RL_CLOSED, 0, 2000000});
	load_silently(URL RULE "    consistency: eventual\n");
	assert_shared((struct rl_fleet_terms){RL_EVENTUAL, 0, RL_SHARE, 0, 0});
	load_silently(URL RULE "    consistency: eventual\n    on_unreachable: closed\n");
	assert_shared((struct rl_fleet_terms){RL_EVENTUAL, 0, RL_CLOSED, 0, 0});
}

static void test_config__redis_below_the_rules_counts_for_them(void **state)
{
	(void)state;
	load_silently(RULE "    consistency: strict\n" URL);
	assert_int_equal(config.rule[0].fleet.consistency, RL_STRICT);
	load_silently(RULE "    on_unreachable: open\n    no_credit: deny\n    wait: 0\n"
			   "    beta: 100%\n" URL);
	assert_shared((struct rl_fleet_terms){RL_BOUNDED, RL_NO_CREDIT_DENY, RL_OPEN, 1000000, 0});
}

static void test_config__sharing_is_read_up_to_its_borders(void **state)
{
	static const struct {
		const char *text;
		uint32_t ppm;
	} beta[] = {
		{"0", 0},
		{"0%", 0},
		{"0.0", 0},
		{"0.01%", 100},
		{"0.0001", 100},
		{"0.02%", 200},
		{"10%", 100000},
		{"0.1", 100000},
		{"0.100000", 100000},
		{"12.5%", 125000},
		{"33.33%", 333300},
		{"0.3333", 333300},
		{"99.99%", 999900},
		{"1", 1000000},
		{"1.0", 1000000},
		{"100%", 1000000},
		{"100.00%", 1000000},
	};
	char text[256];

	(void)state;
	for (size_t i = 0; i < sizeof(beta) / sizeof(beta[0]); i++) {
		sprintf(text, URL RULE "    beta: %s\n", beta[i].text);
		load_silently(text);
		assert_shared((struct rl_fleet_terms){RL_BOUNDED, 0, 0, beta[i].ppm, 2000000});
	}
	for (uint8_t away = 0; away < RL_UNREACHABLES; away++) {
		sprintf(text, URL RULE "    on_unreachable: %s\n", rl_unreachable_name(away));
		load_silently(text);
		assert_shared((struct rl_fleet_terms){RL_BOUNDED, 0, away, 100000, 2000000});
	}
	load_silently(URL RULE "    wait: 1s\n    no_credit: deny\n");
	assert_shared((struct rl_fleet_terms){RL_BOUNDED, 1, 0, 100000, 1000000000});
	load_silently(URL RULE "    wait: 0ms\n    no_credit: allow\n");
	assert_shared((struct rl_fleet_terms){RL_BOUNDED, 0, 0, 100000, 0});
	load_silently(URL RULE "    consistency: strict\n    wait: 1000ms\n    no_credit: deny\n"
			       "    on_unreachable: closed\n");
	assert_shared((struct rl_fleet_terms){RL_STRICT, 1, RL_CLOSED, 0, 1000000000});
}

static void test_config__strict_rule_that_may_exceed_is_read_with_a_warning(void **state)
{
	char text[256], line[256];

	(void)state;
	for (uint8_t away = RL_SHARE; away < RL_CLOSED; away++) {
		sprintf(text, URL RULE "    consistency: strict\n    on_unreachable: %s\n",
			rl_unreachable_name(away));
		sprintf(line,
			"F:6:21: warning: '%s' on a strict rule: while Redis cannot be reached "
			"more than the limit may pass\n",
			rl_unreachable_name(away));
		assert_true(load(text, strlen(text)));
		assert_string_equal(printed, line);
		assert_shared((struct rl_fleet_terms){RL_STRICT, 1, away, 0, 2000000});
	}
}

/* 20 faults are printed and a warning is none of them; none follows the last fault. */
static void test_config__warnings_do_not_use_up_the_faults(void **state)
{
	static char text[8192];
	char *at = text + sprintf(text, URL "rules:\n");
	int lines = 0, warnings = 0;

	(void)state;
	for (int i = 0; i < 30; i++)
		at += sprintf(at,
			      "  - {name: r%d, limit: 1/s, consistency: strict, "
			      "on_unreachable: open%s}\n",
			      i, i < 5 ? "" : ", beta: 0");
	assert_false(load(text, strlen(text)));
	for (const char *c = printed; (c = strchr(c, '\n')) != NULL; c++)
		lines++;
	for (const char *c = printed; (c = strstr(c, "warning: ")) != NULL; c++)
		warnings++;
	assert_int_equal(warnings, 24);
	assert_int_equal(lines, 20 + 1 + 24);
}

static void test_config__fleet_is_read_exactly(void **state)
{
	static const char text[] = "redis:\n"
				   "  interval: 50ms\n"
				   "  timeout: 30s\n"
				   "  stale_after: 5s\n"
				   "  url: redis://10.0.0.5:6380\n"
				   "host: web_1.example\n"
				   "fleet: " NAME_63 "\n"
				   "rules: []\n";

	(void)state;
	load_silently(text);
	assert_string_equal(config.fleet, NAME_63);
	assert_string_equal(config.host, "web_1.example");
	assert_true(config.has_redis);
	assert_string_equal(config.redis_url, "redis://10.0.0.5:6380");
	assert_int_equal(config.stale_after_ns, UINT64_C(5000000000));
	assert_int_equal(config.redis_timeout_ns, UINT64_C(30000000000));
	assert_int_equal(config.interval_ns, 50000000);
	load_silently("redis: {url: 'unix:/r', stale_after: 50ms, timeout: 100ms, interval: 5ms}\n"
		      "rules: []\n");
	assert_int_equal(config.stale_after_ns, 50000000);
	assert_int_equal(config.redis_timeout_ns, 100000000);
	assert_int_equal(config.interval_ns, 5000000);
	load_silently("redis: {url: 'unix:/r', interval: 1s}\nrules: []\n");
	assert_int_equal(config.interval_ns, 1000000000);
}

static void test_config__login_is_read_exactly(void **state)
{
	char text[300];

	(void)state;
	sprintf(text, "redis: {url: 'unix:/r', user: '%0127d', password_file: /p/w}\nrules: []\n",
		0);
	load_silently(text);
	assert_int_equal(strlen(config.redis_login.user), 127);
	assert_string_equal(config.redis_login.password_file, "/p/w");
	load_silently("redis: {url: 'unix:/r', password_file: /p}\nrules: []\n");
	assert_string_equal(config.redis_login.user, "");
	sprintf(text, "redis: {url: 'unix:/r', user: '%0128d', password_file: /p}\nrules: []\n", 0);
	assert_false(load(text, strlen(text)));
}

static void test_config__nodes_of_a_cluster_are_read(void **state)
{
	(void)state;
	load_silently("redis:\n  cluster: [a, '10.0.0.2:7001', '[::1]:65535', 'redis://d']\n"
		      "rules: []\n");
	assert_int_equal(config.redis_seeds.count, 4);
	assert_string_equal(config.redis_seeds.address[0].host, "a");
	assert_int_equal(config.redis_seeds.address[0].port, 6379);
	assert_int_equal(config.redis_seeds.address[1].port, 7001);
	assert_string_equal(config.redis_seeds.address[2].host, "::1");
	assert_false(config.redis_seeds.address[3].tls);
	load_silently("redis: {cluster: [a, b], tls: {}}\nrules: []\n");
	assert_int_equal(config.redis_seeds.count, 2);
	assert_true(config.redis_seeds.address[1].tls);
	load_silently("redis: {url: 'rediss://a:1', cluster: true, tls: {}}\nrules: []\n");
	assert_int_equal(config.redis_seeds.count, 1);
	assert_true(config.redis_seeds.address[0].tls);
	load_silently("redis: {url: a, cluster: false}\nrules: []\n");
	assert_int_equal(config.redis_seeds.count, 0);
}

static void test_config__sentinels_are_read_exactly_in_both_forms(void **state)
{
	struct redis_sentinels by_list;

	(void)state;
	load_silently("redis:\n  sentinels: [a, '10.0.0.2:1', '[::1]:65535', 'rediss://c']\n"
		      "  master: My-shop_1.x\n  database: 3\n  sentinel_user: u\n"
		      "  sentinel_password_file: /s\n  user: v\n  password_file: /p\nrules: []\n");
	by_list = config.redis_sentinels;
	assert_int_equal(by_list.count, 4);
	assert_string_equal(by_list.address[0].host, "a");
	assert_int_equal(by_list.address[0].port, 26379);
	assert_false(by_list.address[0].tls);
	assert_string_equal(by_list.address[1].host, "10.0.0.2");
	assert_int_equal(by_list.address[1].port, 1);
	assert_string_equal(by_list.address[2].host, "::1");
	assert_int_equal(by_list.address[2].port, 65535);
	assert_false(by_list.address[2].tls);
	assert_true(by_list.address[3].tls);
	by_list.address[3].tls = false; /* in a url all or none */
	assert_string_equal(by_list.primary, "My-shop_1.x");
	assert_int_equal(by_list.database, 3);
	assert_string_equal(by_list.login.user, "u");
	assert_string_equal(by_list.login.password_file, "/s");
	assert_string_equal(config.redis_login.user, "v");
	assert_string_equal(config.redis_login.password_file, "/p");
	assert_false(by_list.tls);
	load_silently("redis: {url: 'sentinel://a,10.0.0.2:1,[::1]:65535,c/My-shop_1.x/3',\n"
		      "  sentinel_user: u, sentinel_password_file: /s}\nrules: []\n");
	assert_string_equal(config.redis_sentinels.primary, "My-shop_1.x");
	assert_memory_equal(&config.redis_sentinels, &by_list, sizeof(by_list));
	load_silently("redis: sentinel://a/m\nrules: []\n");
	assert_int_equal(config.redis_sentinels.count, 1);
	assert_int_equal(config.redis_sentinels.database, 0);
	load_silently("redis: {sentinels: [a, 'redis://b'], master: m, tls: {}}\nrules: []\n");
	assert_true(config.redis_sentinels.tls);
	assert_true(config.redis_sentinels.address[0].tls);
	assert_false(config.redis_sentinels.address[1].tls);
}

static void test_config__tls_is_read_exactly(void **state)
{
	static const char text[] =
		"redis:\n"
		"  url: rediss://cache:6380/2\n"
		"  tls: {ca_file: /ca, cert_file: /c, key_file: /k, server_name: n}\n"
		"rules: []\n";

	(void)state;
	load_silently(text);
	assert_string_equal(config.redis_trust.ca_file, "/ca");
	assert_string_equal(config.redis_trust.cert_file, "/c");
	assert_string_equal(config.redis_trust.key_file, "/k");
	assert_string_equal(config.redis_trust.server_name, "n");
	assert_false(config.redis_trust.anyone);
	load_silently("redis: {url: 'rediss://h', tls: {verify: full}}\nrules: []\n");
	assert_false(config.redis_trust.anyone);
	load_silently("redis: 'rediss://h'\nrules: []\n");
	assert_false(config.redis_trust.anyone);
}

static void test_config__tls_without_verification_is_taken_with_a_warning(void **state)
{
	static const char text[] = "redis: {url: 'rediss://h', tls: {verify: none}}\nrules: []\n";

	(void)state;
	assert_true(load(text, strlen(text)));
	assert_true(config.redis_trust.anyone);
	assert_string_equal(printed, "F:1:42: warning: 'verify: none': whoever answers at this "
				     "address is taken for Redis, and is given the password\n");
}

static void test_config__fleet_defaults_are_the_documented_ones(void **state)
{
	(void)state;
	for (int with_redis = 0; with_redis < 2; with_redis++) {
		load_silently(with_redis ? URL "rules: []\n" : "rules: []\n");
		assert_int_equal(config.has_redis, with_redis);
		assert_string_equal(config.redis_url, with_redis ? "unix:/r" : "");
		assert_string_equal(config.fleet, "default");
		assert_string_equal(config.host, "");
		assert_int_equal(config.stale_after_ns, 250000000);
		assert_int_equal(config.redis_timeout_ns, 2000000000);
		assert_int_equal(config.interval_ns, 0);
	}
}

static void test_config__redis_url_fits_or_is_refused(void **state)
{
	char text[1024];

	(void)state;
	sprintf(text, "redis: 'unix:/%0106d'\nrules: []\n", 0);
	load_silently(text);
	assert_int_equal(strlen(config.redis_url), 6 + 106);
	sprintf(text, "redis: 'unix:/%0107d'\nrules: []\n", 0);
	assert_false(load(text, strlen(text)));
	assert_string_equal(printed, "F:1:8: 'redis'" MUST_BE_URL
				     "the path of a unix socket has 107 bytes at most\n");
}

static void test_config__same_fleet_sees_each_change(void **state)
{
	static const char *const other[] = {
		"rules: []\n",
		"redis: 'unix:/s'\nrules: []\n",
		URL "fleet: b\nrules: []\n",
		URL "host: b\nrules: []\n",
		"redis: {url: 'unix:/r', stale_after: 251ms}\nrules: []\n",
		"redis: {url: 'unix:/r', timeout: 3s}\nrules: []\n",
		"redis: {url: 'unix:/r', interval: 10ms}\nrules: []\n",
		"redis: 'rediss://r'\nrules: []\n",
		"redis: {url: 'unix:/r', password_file: /p}\nrules: []\n",
	};
	static struct agent_config before;

	(void)state;
	load_silently(URL "rules: []\n");
	before = config;
	for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
		load_silently(other[i]);
		assert_false(config_same_fleet(&before, &config));
		assert_false(config_same_fleet(&config, &before));
	}
	load_silently("redis: 'rediss://r'\nrules: []\n");
	before = config;
	load_silently("redis: {url: 'rediss://r', tls: {server_name: n}}\nrules: []\n");
	assert_false(config_same_fleet(&before, &config));
	load_silently(URL "rules: []\n");
	before = config;
	/* Its rules and its segment are no part of it, nor is how it is written. */
	load_silently("redis: {url: 'unix:/r', timeout: 2s}\nsegment: /x/y\nfleet: default\n" RULE);
	assert_true(config_same_fleet(&before, &config));
}

static void test_config__missing_file_says_so(void **state)
{
	FILE *out = fmemopen(printed, sizeof(printed), "w");

	(void)state;
	assert_false(config_load("/nowhere/rl.yaml", out, &config));
	fclose(out);
	assert_string_equal(printed, "/nowhere/rl.yaml: cannot read: No such file or directory\n");
	out = fmemopen(printed, sizeof(printed), "w");
	assert_false(config_load("/tmp", out, &config));
	fclose(out);
	assert_string_equal(printed, "/tmp: cannot read: Is a directory\n");
}

static void test_config__more_rules_than_fit_are_refused(void **state)
{
	char *text = malloc(64 * 300), *at = text;

	(void)state;
	assert_non_null(text);
	at += sprintf(at, "rules:\n");
	for (int i = 0; i < 257; i++)
		at += sprintf(at, "  - {name: r%d, limit: 1/s}\n", i);
	assert_false(load(text, (size_t)(at - text)));
	assert_string_equal(printed, "F:258:5: more than 256 rules: a segment holds no more\n");
	free(text);
}

static void test_config__huge_file_is_refused_unread(void **state)
{
	char *text = malloc(2 << 20);

	(void)state;
	assert_non_null(text);
	memset(text, ' ', 2 << 20);
	assert_false(load(text, 2 << 20));
	assert_string_equal(printed,
			    "F: cannot read: larger than 256 KiB: this is not a configuration\n");
	free(text);
}

/* head, unit over and over, tail; at most 256 KiB. */
static void assert_quick(const char *head, const char *unit, size_t times, const char *words)
{
	size_t len = strlen(head), step = strlen(unit);
	char *text = malloc(len + step * times + 1);
	uint64_t start = t_now_ns();

	assert_non_null(text);
	memcpy(text, head, len);
	for (size_t i = 0; i < times; i++, len += step)
		memcpy(text + len, unit, step);
	assert_false(load(text, len));
	free(text);
	if (strstr(printed, words) == NULL)
		fail_msg("'%s' does not say '%s'", printed, words);
	/* Far more than it takes, on a busy machine under a sanitizer too. */
	assert_true(t_now_ns() - start < UINT64_C(5000000000));
}

static void test_config__hostile_files_are_refused_quickly(void **state)
{
	static char head[140000];
	size_t len = 0;

	(void)state;
	assert_quick("", "[", 260000, "F:1:17: nested more than 16 deep");
	assert_quick("", "{a: ", 65000, "nested more than 16 deep");
	assert_quick("", "- ", 130000, "nested more than 16 deep");
	assert_quick("", "? ", 130000, "nested more than 16 deep");
	assert_quick("", "rules: 1\n", 29000, "... and more");
	assert_quick("", "%TAG !a! b\n", 20000, "too many % directives");
	for (int i = 0; i < 14000; i++)
		len += (size_t)sprintf(head + len, "k%05d: \n", i);
	assert_quick(head, "rules: 1\n", 13000, "... and more");
	len = 0;
	for (int i = 0; i < 14000; i++)
		len += (size_t)sprintf(head + len, "- &%x 1\n", i);
	assert_quick(head, "", 0, "anchors and aliases");
}

static void test_config__faults_are_listed_up_to_twenty(void **state)
{
	char text[1024] = "rules: []\n", *at = text + strlen(text);
	int lines = 0;

	(void)state;
	for (int i = 0; i < 30; i++)
		at += sprintf(at, "odd%d: 1\n", i);
	assert_false(load(text, strlen(text)));
	for (const char *c = printed; *c != '\0'; c++)
		lines += *c == '\n';
	assert_int_equal(lines, 21);
	assert_non_null(strstr(printed, "F:21:1: unknown key 'odd19'"));
	assert_non_null(strstr(printed, "F:22:1: ... and more\n"));
}

static void test_config__path_too_long_is_refused(void **state)
{
	static char text[8192];
	int len = sprintf(text, "segment: /%04090d\nrules: []\n", 0);

	(void)state;
	assert_false(load(text, (size_t)len));
	assert_string_equal(printed, "F:1:10: the segment's path is too long\n");
}

static void test_config__random_bytes_never_crash_the_reader(void **state)
{
	static const char letters[] = "rules: -nameslimit5/10s{}[]&*!|>'\"%@`#,?:\n\n  \t\xff\x00";
	uint64_t seed = t_seed();
	char text[300];

	(void)state;
	for (int i = 0; i < 3000; i++) {
		size_t len = t_below(&seed, sizeof(text));

		for (size_t j = 0; j < len; j++)
			text[j] = letters[t_below(&seed, sizeof(letters) - 1)];
		if (!load(text, len))
			assert_int_equal(strncmp(printed, "F:", 2), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config__each_fault_has_its_line_and_message),
		cmocka_unit_test(test_config__right_file_is_read_exactly),
		cmocka_unit_test(test_config__algorithms_are_read_exactly),
		cmocka_unit_test(test_config__lists_are_read_exactly),
		cmocka_unit_test(test_config__defaults_are_the_documented_ones),
		cmocka_unit_test(test_config__each_fault_of_a_fleet_has_its_message),
		cmocka_unit_test(test_config__sharing_defaults_follow_the_consistency),
		cmocka_unit_test(test_config__redis_below_the_rules_counts_for_them),
		cmocka_unit_test(test_config__sharing_is_read_up_to_its_borders),
		cmocka_unit_test(test_config__strict_rule_that_may_exceed_is_read_with_a_warning),
		cmocka_unit_test(test_config__warnings_do_not_use_up_the_faults),
		cmocka_unit_test(test_config__fleet_is_read_exactly),
		cmocka_unit_test(test_config__fleet_defaults_are_the_documented_ones),
		cmocka_unit_test(test_config__redis_url_fits_or_is_refused),
		cmocka_unit_test(test_config__login_is_read_exactly),
		cmocka_unit_test(test_config__nodes_of_a_cluster_are_read),
		cmocka_unit_test(test_config__sentinels_are_read_exactly_in_both_forms),
		cmocka_unit_test(test_config__tls_is_read_exactly),
		cmocka_unit_test(test_config__tls_without_verification_is_taken_with_a_warning),
		cmocka_unit_test(test_config__same_fleet_sees_each_change),
		cmocka_unit_test(test_config__missing_file_says_so),
		cmocka_unit_test(test_config__more_rules_than_fit_are_refused),
		cmocka_unit_test(test_config__huge_file_is_refused_unread),
		cmocka_unit_test(test_config__hostile_files_are_refused_quickly),
		cmocka_unit_test(test_config__faults_are_listed_up_to_twenty),
		cmocka_unit_test(test_config__path_too_long_is_refused),
		cmocka_unit_test(test_config__random_bytes_never_crash_the_reader),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
