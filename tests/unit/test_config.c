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

#include "agent/config.h"

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

static const struct {
	const char *text, *lines;
} bad[] = {
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
	 "F:1:1: unknown key 'r\\x1b[31m\\x7f\\x9b' (known here: segment, rules)\n"},
	{"rules:\n\t- name: a\n",
	 "F:2:1: found character that cannot start any token while scanning "
	 "for the next token\n"},
	{"rules:\n  - name: a\n   limit: 5/s\n", "F:3:4: did not find expected '-' indicator while "
						 "parsing a block collection\n"},
	{"rules: [\n", "F:2:1: did not find expected node content while parsing a flow node\n"},
	{"segment: /s\n", "F:1:1: there is no 'rules' list (write 'rules: []' to have none)\n"},
	{"rule: []\n", "F:1:1: unknown key 'rule' (did you mean 'rules'?)\n"
		       "F:1:1: there is no 'rules' list (write 'rules: []' to have none)\n"},
	{"rules: []\nredis: x\n", "F:2:1: unknown key 'redis' (known here: segment, rules)\n"},
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
	 "F:4:5: unknown key 'brust' (known here: name, limit)\n"},
	{"rules:\n  - nam: a\n    limt: 5/s\n",
	 "F:2:5: unknown key 'nam' (did you mean 'name'?)\n"
	 "F:3:5: unknown key 'limt' (did you mean 'limit'?)\n"
	 "F:2:5: this rule has no 'name'\n"
	 "F:2:5: this rule has no 'limit'\n"},
	{"segment: relative/path\nrules: []\n", "F:1:10: the segment's path must start with '/'\n"},
	{"segment: []\nrules: []\n", "F:1:10: 'segment' must be a mapping (key: value)\n"},
	{"segment: {path: /s, size: 5}\nrules: []\n",
	 "F:1:21: unknown key 'size' (known here: path, keys, group, mode)\n"},
	{"segment: {group: no-such-group}\nrules: []\n",
	 "F:1:18: there is no group 'no-such-group' on this host\n"},
	{"segment: {group: ''}\nrules: []\n", "F:1:18: 'group' is empty: write a group's name\n"},
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
		cmocka_unit_test(test_config__defaults_are_the_documented_ones),
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
