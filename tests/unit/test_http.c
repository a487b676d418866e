/*
 * Goal:   request heads, chunked bodies and responses are framed exactly, however they are
 *         cut, and what cannot be framed safely is left alone.
 * Method: tables of texts, each fed at every split; random bytes must never be read past.
 */
#include "tests/t.h"

#include <stdlib.h>
#include <string.h>

#include "client/preload/http_chunk.h"
#include "client/preload/http_head.h"
#include "client/preload/http_response.h"

/* Scan a copy that ends exactly at len, so that a sanitizer sees any read past it. */
static enum head_kind scan(const char *text, size_t len, struct head *ret)
{
	char *copy = malloc(len > 0 ? len : 1);
	enum head_kind kind;

	assert_non_null(copy);
	memcpy(copy, text, len);
	kind = head_scan(copy, len, ret);
	free(copy);
	return kind;
}

static const struct {
	const char *text;
	uint64_t body;
	bool chunked, is_head, is_connect, close, expects;
} whole[] = {
	{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 0, false, false, false, false, false},
	{"GET / HTTP/1.1\n\n", 0, false, false, false, false, false},
	{"\r\n\r\nGET / HTTP/1.1\r\n\r\n", 0, false, false, false, false, false},
	{"GET / HTTP/1.0\r\n\r\n", 0, false, false, false, true, false},
	{"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 0, false, false, false, false, false},
	{"GET / HTTP/1.1\r\nConnection: Close\r\n\r\n", 0, false, false, false, true, false},
	{"GET / HTTP/1.1\r\nconnection: te , close\r\n\r\n", 0, false, false, false, true, false},
	{"HEAD /x HTTP/1.1\r\n\r\n", 0, false, true, false, false, false},
	{"CONNECT a:1 HTTP/1.1\r\n\r\n", 0, false, false, true, false, false},
	{"POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\n", 12, false, false, false, false, false},
	{"POST / HTTP/1.1\r\nCONTENT-length:12 \r\n\r\n", 12, false, false, false, false, false},
	{"POST / HTTP/1.1\r\nContent-Length: 7\r\nContent-Length: 7\r\n\r\n", 7, false, false,
	 false, false, false},
	{"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 0, true, false, false, false,
	 false},
	{"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", 5, false, false,
	 false, false, true},
	{"VERSION-CONTROL / HTTP/1.1\r\n\r\n", 0, false, false, false, false, false},
	{"GET /?q=HTTP/1.1\xff HTTP/1.1\r\nX: \xff\r\n\r\n", 0, false, false, false, false, false},
	{"GET / HTTP/1.2\r\n\r\n", 0, false, false, false, false, false},
	{"GET / HTTP/1.9\r\n\r\n", 0, false, false, false, false, false},
	{"HEAD / HTTP/1.1 \r\n\r\n", 0, false, true, false, false, false},
	{"GET / HTTP/1.0 \t\r\n\r\n", 0, false, false, false, true, false},
	{"HEAD\t/\tHTTP/1.1\r\n\r\n", 0, false, true, false, false, false},
	{"GET / HTTP/1.1\r\nno colon\r\n\r\n", 0, false, false, false, false, false},
	{"POST / HTTP/1.1\r\nContent-Length: 5\r\nno colon\r\n\r\n", 5, false, false, false, false,
	 false},
	{"GET / HTTP/1.1\r\nA : b\r\n\r\n", 0, false, false, false, false, false},
	{"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\tit: is\r\n\r\n", 0, false, false, false, false,
	 false},
	{"POST / HTTP/1.1\r\nA: b\r\n c\r\nContent-Length: 5\r\n\r\n", 5, false, false, false,
	 false, false},
	{"GET / HTTP/1.1\r\nContent-Lengthy: 12\r\nX-Content-Length: 9\r\n\r\n", 0, false, false,
	 false, false, false},
};

static void test_head__whole_requests_are_framed(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
		struct head head;

		assert_int_equal(scan(whole[i].text, strlen(whole[i].text), &head), HEAD_WHOLE);
		assert_int_equal(head.size, strlen(whole[i].text));
		assert_int_equal(head.body_size, whole[i].body);
		assert_int_equal(head.chunked, whole[i].chunked);
		assert_int_equal(head.is_head, whole[i].is_head);
		assert_int_equal(head.is_connect, whole[i].is_connect);
		assert_int_equal(head.wants_close, whole[i].close);
		assert_int_equal(head.expects, whole[i].expects);
	}
}

static void test_head__bytes_after_the_head_are_not_part_of_it(void **state)
{
	static const char text[] = "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n";
	struct head head;

	(void)state;
	assert_int_equal(scan(text, strlen(text), &head), HEAD_WHOLE);
	assert_int_equal(head.size, 19);
}

static void test_head__every_cut_of_a_request_is_partial(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++)
		for (size_t len = 0; len < strlen(whole[i].text); len++) {
			struct head head;

			assert_int_equal(scan(whole[i].text, len, &head), HEAD_PARTIAL);
		}
}

static const char *const foreign[] = {
	"\x16\x03\x01\x02", /* TLS */
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"SSH-2.0-OpenSSH_9.2\r\n",
	"get / HTTP/1.1\r\n\r\n",
	"-GET / HTTP/1.1\r\n\r\n",
	"GET /old\r\n",
	"GET / HTTP/2\r\n",
	"GET / HTTP/1.\r\n",
	"GET / HTTP/1.11\r\n",
	"GET / HTTP/1.x\r\n",
	"GET /HTTP/1.1\r\n",
	"GET / FTP/1.1\r\n",
	"EHLO mail.example.com\r\n",
	"*1\r\n$4\r\nPING\r\n",
	"ABCDEFGHIJKLMNOPQRSTUVWXYZ / HTTP/1.1\r\n\r\n",
	"GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
	"GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
	"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
	"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
	"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
	"GET / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n",
	"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
	"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
	"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
	"GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
	"GET / HTTP/1.1\r\nContent-Length: 0x10\r\n\r\n",
	"GET / HTTP/1.1\r\nContent-Length:\r\n\r\n",
	"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
	"GET / HTTP/1.1\r\nContent-Length : 5\r\n\r\n",
	"GET / HTTP/1.1\r\nContent-Length\t: 5\r\n\r\n",
	"GET / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n",
	"GET / HTTP/1.1\r\nA: b\r\n Content-Length: 5\r\n\r\n",
	"GET / HTTP/1.1\r\nA: b\r\n\tTransfer-Encoding: chunked\r\n\r\n",
	"GET / HTTP/1.1\r\nContent-Length: 5\r\n 6\r\n\r\n",
	"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n , gzip\r\n\r\n",
	"GET / HTTP/1.1\r\nno colon\r\nContent-Length: 5\r\n\r\n",
	"GET / HTTP/1.1\r\nno colon\r\nTransfer-Encoding: chunked\r\n\r\n",
	"GET / HTTP/1.1\r\n : x\r\n\r\n",
	"GET / HTTP/1.1\r\n: empty\r\n\r\n",
};

static void test_head__what_cannot_be_framed_safely_is_foreign(void **state)
{
	struct head head;

	(void)state;
	for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++)
		assert_int_equal(scan(foreign[i], strlen(foreign[i]), &head), HEAD_FOREIGN);
	assert_int_equal(scan("GET / HTTP/1.1\r\nA: b\0c\r\n\r\n", 27, &head), HEAD_FOREIGN);
}

static void test_head__random_bytes_are_never_read_past(void **state)
{
	static const char letters[] =
		"GETPOS /HTP1.0:\r\n\r\n\r\n lchunked-ContentLength: 123\t,\xff\x00";
	uint64_t seed = t_seed();
	char text[200];
	struct head head;

	(void)state;
	for (int i = 0; i < 100000; i++) {
		size_t start = t_below(&seed, 2) == 0 ? 16 : 0, len = start + t_below(&seed, 150);

		memcpy(text, "GET / HTTP/1.1\r\n", 16);
		for (size_t j = start; j < len; j++)
			text[j] = letters[t_below(&seed, sizeof(letters) - 1)];
		if (scan(text, len, &head) == HEAD_WHOLE)
			assert_true(head.size <= len);
	}
}

static const char chunks[] = "5\r\nhello\r\nA;x=\"y\"\r\n0123456789\r\n00\r\nTrailer: z\r\n\r\n";
static const char zeros[] = "00000000000000000005\r\nhello\r\n00000000000000000000\r\n\r\n";

static void test_chunk__body_ends_at_the_same_byte_however_cut(void **state)
{
	static const char after[] = "GET / HTTP/1.1\r\n\r\n";
	char text[128];
	size_t body = strlen(chunks), len;

	(void)state;
	len = (size_t)(stpcpy(stpcpy(text, chunks), after) - text);
	for (size_t first = 0; first <= body; first++)
		for (size_t second = first; second <= body; second++) {
			struct chunk chunk = {0};
			bool done = false, bad;
			size_t used = chunk_walk(&chunk, text, first, &done, &bad);

			assert_false(bad);
			if (!done)
				used += chunk_walk(&chunk, text + used, second - used, &done, &bad);
			assert_false(bad);
			if (!done)
				used += chunk_walk(&chunk, text + used, len - used, &done, &bad);
			assert_true(done && !bad);
			assert_int_equal(used, body);
		}
}

static void test_chunk__leading_zeros_of_a_size_say_nothing(void **state)
{
	struct chunk chunk = {0};
	bool done, bad;

	(void)state;
	assert_int_equal(chunk_walk(&chunk, zeros, strlen(zeros), &done, &bad), strlen(zeros));
	assert_true(done);
	assert_false(bad);
}

static void test_chunk__what_is_no_chunk_is_bad(void **state)
{
	static const char *const texts[] = {"x\r\n",  "\r\n",   "5\r\nhelloX",
					    "-5\r\n", "5x\r\n", "fffffffffffffff\r\n",
					    " 5\r\n"};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct chunk chunk = {0};
		bool done, bad;

		chunk_walk(&chunk, texts[i], strlen(texts[i]), &done, &bad);
		assert_true(bad);
		assert_false(done);
	}
}

/* Responses, and how each ends. */
static const struct {
	const char *text;
	bool to_head;
	size_t end; /* bytes to the end; 0 = never known */
} response[] = {
	{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false, 43},
	{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, 38},
	{"HTTP/1.1 200 OK\r\ncontent-length:5\r\nX-Long-Header: "
	 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	 "aaaaaaaaaaaaaaa\r\n\r\nhello",
	 false, 114},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", false, 59},
	{"HTTP/1.1 204 No Content\r\n\r\n", false, 27},
	{"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", false, 50},
	{"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", true, 41},
	{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", false, 64},
	{"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.0 404 No\nContent-Length: 1\n\nx",
	 false, 73},
	{"HTTP/1.0 200 OK\r\n\r\nuntil the close", false, 0},
	{"HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nhello", false, 0},
	{"not http at all\r\n\r\n", false, 0},
	{"\r\n\r\n", false, 0},
};

static void test_response__end_is_found_at_every_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(response) / sizeof(response[0]); i++) {
		const char *text = response[i].text;
		size_t len = strlen(text);

		for (size_t cut = 0; cut <= len; cut++) {
			struct response r = {0};
			enum response_event event;
			size_t used, total;

			event = response_feed(&r, response[i].to_head, text, cut, &used);
			total = used;
			if (event == RESPONSE_MORE) {
				event = response_feed(&r, response[i].to_head, text + cut,
						      len - cut, &used);
				total += used;
			}
			if (response[i].end == 0) {
				assert_int_equal(event, RESPONSE_MORE);
				assert_int_equal(r.phase, RESPONSE_LOST);
				continue;
			}
			assert_int_equal(event, RESPONSE_DONE);
			assert_int_equal(total, response[i].end);
			assert_int_equal(r.phase, RESPONSE_HEAD);
		}
	}
}

static void test_response__switching_protocols_is_told(void **state)
{
	struct response r = {0};
	size_t used;

	(void)state;
	assert_int_equal(
		response_feed(&r, false, "HTTP/1.1 101 Switching Protocols\r\n\r\n", 36, &used),
		RESPONSE_SWITCHED);
}

static void test_response__file_bytes_finish_a_body(void **state)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n";
	struct response r = {0};
	size_t used;

	(void)state;
	response_feed(&r, false, head, strlen(head), &used);
	assert_int_equal(response_skip(&r, 60), RESPONSE_MORE);
	assert_int_equal(response_skip(&r, 40), RESPONSE_DONE);
	response_feed(&r, false, head, strlen(head), &used);
	assert_int_equal(response_skip(&r, 101), RESPONSE_MORE); /* more than was promised */
	assert_int_equal(r.phase, RESPONSE_LOST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_head__whole_requests_are_framed),
		cmocka_unit_test(test_head__bytes_after_the_head_are_not_part_of_it),
		cmocka_unit_test(test_head__every_cut_of_a_request_is_partial),
		cmocka_unit_test(test_head__what_cannot_be_framed_safely_is_foreign),
		cmocka_unit_test(test_head__random_bytes_are_never_read_past),
		cmocka_unit_test(test_chunk__body_ends_at_the_same_byte_however_cut),
		cmocka_unit_test(test_chunk__leading_zeros_of_a_size_say_nothing),
		cmocka_unit_test(test_chunk__what_is_no_chunk_is_bad),
		cmocka_unit_test(test_response__end_is_found_at_every_cut),
		cmocka_unit_test(test_response__switching_protocols_is_told),
		cmocka_unit_test(test_response__file_bytes_finish_a_body),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
