#include "agent/config/yaml.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX      16u /* a right file is 4 deep */
#define DIRECTIVES_MAX 16u /* a right file has none; libyaml compares each with all */

/* C0, DEL, and C1 in UTF-8: what a terminal might obey. */
static bool is_control(const unsigned char *c)
{
	return c[0] < 0x20 || c[0] == 0x7f || (c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0);
}

static void put_line(FILE *out, const char *line)
{
	for (const unsigned char *c = (const unsigned char *)line; *c != '\0'; c++)
		if (is_control(c))
			fprintf(out, "\\x%02x", *c == 0xc2 ? *++c : *c);
		else
			fputc(*c, out);
	fputc('\n', out);
}

bool yaml_enough(const struct yaml_file *file)
{
	return file->faults > YAML_FAULTS_MAX;
}

/* where: ":LINE:COLUMN", or "". */
static void say(struct yaml_file *file, const char *where, const char *format, va_list args)
{
	char line[8192];
	int len;

	if (yaml_enough(file))
		return;
	len = snprintf(line, sizeof(line), "%.4096s%s: ", file->name, where);
	if (file->faults == YAML_FAULTS_MAX)
		snprintf(line + len, sizeof(line) - (size_t)len, "... and more");
	else
		vsnprintf(line + len, sizeof(line) - (size_t)len, format, args);
	put_line(file->out, line);
	file->faults++;
}

static void say_at(struct yaml_file *file, yaml_mark_t at, const char *format, va_list args)
{
	char where[64];

	snprintf(where, sizeof(where), ":%zu:%zu", at.line + 1, at.column + 1);
	say(file, where, format, args);
}

/* A fault of the file as a whole. */
static void file_fault(struct yaml_file *file, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void file_fault(struct yaml_file *file, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(file, "", format, args);
	va_end(args);
}

static void fault_at(struct yaml_file *file, yaml_mark_t at, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void fault_at(struct yaml_file *file, yaml_mark_t at, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say_at(file, at, format, args);
	va_end(args);
}

void yaml_fault(struct yaml_file *file, const yaml_node_t *node, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say_at(file, node->start_mark, format, args);
	va_end(args);
}

void yaml_warning(struct yaml_file *file, const yaml_node_t *node, const char *format, ...)
{
	unsigned faults = file->faults;
	char text[256];
	va_list args;

	if (faults >= YAML_FAULTS_MAX)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	yaml_fault(file, node, "warning: %s", text);
	file->faults = faults;
}

/* The whole file in memory; NULL and a fault when it cannot be. */
static char *slurp(struct yaml_file *file, size_t *ret_size)
{
	FILE *in = fopen(file->name, "re");
	char *text = malloc(YAML_BYTES_MAX + 1);
	size_t size = 0;
	const char *wrong = NULL;

	if (text == NULL || in == NULL)
		wrong = strerror(errno);
	else
		size = fread(text, 1, YAML_BYTES_MAX + 1, in);
	if (wrong == NULL && ferror(in))
		wrong = strerror(errno);
	if (wrong == NULL && size > YAML_BYTES_MAX)
		wrong = "larger than 256 KiB: this is not a configuration";
	if (in != NULL)
		fclose(in);
	if (wrong == NULL) {
		*ret_size = size;
		return text;
	}
	file_fault(file, "cannot read: %s", wrong);
	free(text);
	return NULL;
}

/* Line and column of a byte of the text; columns count characters. */
static yaml_mark_t mark_of(const char *text, size_t size, size_t offset)
{
	yaml_mark_t at = {0, 0, 0};

	for (size_t i = 0; i < offset && i < size; i++)
		if (text[i] == '\n')
			at = (yaml_mark_t){i + 1, at.line + 1, 0};
		else if (((unsigned char)text[i] & 0xc0) != 0x80)
			at.column++;
	return at;
}

static void syntax_fault(struct yaml_file *file, const yaml_parser_t *parser, const char *text,
			 size_t size)
{
	yaml_mark_t at = parser->problem_mark;

	if (parser->error == YAML_READER_ERROR) /* its mark is where the scanner is, far back */
		at = mark_of(text, size, parser->problem_offset);
	fault_at(file, at, "%s%s%s", parser->problem != NULL ? parser->problem : "syntax error",
		 parser->context != NULL ? " " : "",
		 parser->context != NULL ? parser->context : "");
}

/* 1 where an event opens a level, -1 where it closes one. */
static int step_of(yaml_event_type_t type)
{
	if (type == YAML_SEQUENCE_START_EVENT || type == YAML_MAPPING_START_EVENT)
		return 1;
	return type == YAML_SEQUENCE_END_EVENT || type == YAML_MAPPING_END_EVENT ? -1 : 0;
}

static bool has_anchor(const yaml_event_t *event)
{
	return event->type == YAML_ALIAS_EVENT ||
	       (event->type == YAML_SCALAR_EVENT && event->data.scalar.anchor != NULL) ||
	       (event->type == YAML_SEQUENCE_START_EVENT &&
		event->data.sequence_start.anchor != NULL) ||
	       (event->type == YAML_MAPPING_START_EVENT &&
		event->data.mapping_start.anchor != NULL);
}

/* What YAML allows and this file may not have. */
static void check_event(struct yaml_file *file, const yaml_event_t *event, unsigned depth,
			unsigned documents)
{
	if (has_anchor(event))
		fault_at(file, event->start_mark,
			 "anchors and aliases (&name, *name) are not supported");
	if (event->type == YAML_DOCUMENT_START_EVENT && documents == 2)
		fault_at(file, event->start_mark, "a second document: one file, one document");
	if (depth > DEPTH_MAX)
		fault_at(file, event->start_mark, "nested more than %u deep", DEPTH_MAX);
}

/* Counted before libyaml sees them. */
static bool few_directives(struct yaml_file *file, const char *text, size_t size)
{
	unsigned count = 0;

	for (size_t i = 0; i < size; i++)
		if (text[i] == '%' && (i == 0 || text[i - 1] == '\n') && ++count > DIRECTIVES_MAX) {
			fault_at(file, mark_of(text, size, i), "too many %% directives");
			return false;
		}
	return true;
}

/* A first pass over the events: syntax, one document, no aliases (they may be cyclic). */
static bool plain_document(struct yaml_file *file, const char *text, size_t size)
{
	yaml_parser_t parser;
	yaml_event_t event;
	unsigned before = file->faults, documents = 0, depth = 0;
	bool more = few_directives(file, text, size);

	yaml_parser_initialize(&parser);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
	while (more && file->faults == before) {
		if (!yaml_parser_parse(&parser, &event)) {
			syntax_fault(file, &parser, text, size);
			break;
		}
		documents += event.type == YAML_DOCUMENT_START_EVENT;
		depth += (unsigned)step_of(event.type);
		check_event(file, &event, depth, documents);
		more = event.type != YAML_STREAM_END_EVENT;
		yaml_event_delete(&event);
	}
	if (documents == 0 && file->faults == before)
		fault_at(file, (yaml_mark_t){0, 0, 0}, "the file is empty");
	yaml_parser_delete(&parser);
	return file->faults == before;
}

static bool parse(struct yaml_file *file, const char *text, size_t size)
{
	yaml_parser_t parser;

	if (!plain_document(file, text, size))
		return false;
	yaml_parser_initialize(&parser);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
	file->loaded = yaml_parser_load(&parser, &file->document) == 1;
	if (!file->loaded)
		syntax_fault(file, &parser, text, size);
	yaml_parser_delete(&parser);
	return file->loaded;
}

bool yaml_open(struct yaml_file *file, const char *name, FILE *out)
{
	size_t size;
	char *text;

	*file = (struct yaml_file){.name = name, .out = out};
	text = slurp(file, &size);
	if (text != NULL)
		parse(file, text, size);
	free(text);
	return file->loaded;
}

bool yaml_open_text(struct yaml_file *file, const char *name, const char *text, size_t size,
		    FILE *out)
{
	*file = (struct yaml_file){.name = name, .out = out};
	if (size > YAML_BYTES_MAX)
		file_fault(file, "more than %u KiB", YAML_BYTES_MAX >> 10);
	else
		parse(file, text, size);
	return file->loaded;
}

void yaml_close(struct yaml_file *file)
{
	if (file->loaded)
		yaml_document_delete(&file->document);
	file->loaded = false;
}

yaml_node_t *yaml_root(struct yaml_file *file)
{
	return yaml_document_get_root_node(&file->document);
}

static size_t least(size_t a, size_t b, size_t c)
{
	size_t ab = a < b ? a : b;

	return ab < c ? ab : c;
}

/* Edit distance (Levenshtein 1965), up to 31 characters; more counts as far apart. */
size_t yaml_distance(const char *a, const char *b)
{
	size_t row[32], len = strlen(b);

	if (len > 31 || strlen(a) > 31)
		return 32;
	for (size_t j = 0; j <= len; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1] != '\0'; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= len; j++) {
			size_t above = row[j];

			row[j] =
				least(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[len];
}

static void unknown_key(struct yaml_file *file, const yaml_node_t *key, const char *text,
			const char *const *known)
{
	char list[256] = "";
	const char *best = NULL;

	for (size_t i = 0; known[i] != NULL; i++) {
		if (best == NULL || yaml_distance(text, known[i]) < yaml_distance(text, best))
			best = known[i];
		strncat(list, i == 0 ? "" : ", ", sizeof(list) - strlen(list) - 1);
		strncat(list, known[i], sizeof(list) - strlen(list) - 1);
	}
	if (best != NULL && yaml_distance(text, best) <= 2)
		yaml_fault(file, key, "unknown key '%s' (did you mean '%s'?)", text, best);
	else
		yaml_fault(file, key, "unknown key '%s' (known here: %s)", text, list);
}

static const char *scalar_of(const yaml_node_t *node)
{
	if (node->type != YAML_SCALAR_NODE ||
	    strlen((const char *)node->data.scalar.value) != node->data.scalar.length)
		return NULL;
	return (const char *)node->data.scalar.value;
}

static bool is_known(const char *text, const char *const *known)
{
	for (size_t i = 0; known[i] != NULL; i++)
		if (strcmp(text, known[i]) == 0)
			return true;
	return false;
}

static bool seen_before(struct yaml_file *file, const yaml_node_t *mapping,
			const yaml_node_pair_t *until, const char *text)
{
	for (const yaml_node_pair_t *p = mapping->data.mapping.pairs.start; p < until; p++) {
		const char *other = scalar_of(yaml_document_get_node(&file->document, p->key));

		if (other != NULL && strcmp(other, text) == 0)
			return true;
	}
	return false;
}

bool yaml_check_keys(struct yaml_file *file, const yaml_node_t *node, const char *what,
		     const char *const *known)
{
	if (node->type != YAML_MAPPING_NODE) {
		yaml_fault(file, node, "%s must be a mapping (key: value)", what);
		return false;
	}
	for (const yaml_node_pair_t *p = node->data.mapping.pairs.start;
	     p < node->data.mapping.pairs.top && !yaml_enough(file); p++) {
		const yaml_node_t *key = yaml_document_get_node(&file->document, p->key);
		const char *text = scalar_of(key);

		if (text == NULL)
			yaml_fault(file, key, "a key must be plain text");
		else if (!is_known(text, known))
			unknown_key(file, key, text, known);
		else if (seen_before(file, node, p, text))
			yaml_fault(file, key, "'%s' is given twice", text);
	}
	return true;
}

yaml_node_t *yaml_get(struct yaml_file *file, const yaml_node_t *mapping, const char *key)
{
	for (const yaml_node_pair_t *p = mapping->data.mapping.pairs.start;
	     p < mapping->data.mapping.pairs.top; p++) {
		const char *text = scalar_of(yaml_document_get_node(&file->document, p->key));

		if (text != NULL && strcmp(text, key) == 0)
			return yaml_document_get_node(&file->document, p->value);
	}
	return NULL;
}

const char *yaml_text(struct yaml_file *file, const yaml_node_t *node, const char *key,
		      const char *must_be)
{
	const char *text = scalar_of(node);

	if (node->type != YAML_SCALAR_NODE)
		yaml_fault(file, node, "'%s' must be %s", key, must_be);
	else if (text == NULL)
		yaml_fault(file, node, "'%s' holds a NUL character", key);
	else if (*text == '\0')
		yaml_fault(file, node, "'%s' is empty: write %s", key, must_be);
	else
		return text;
	return NULL;
}

bool yaml_number(struct yaml_file *file, const yaml_node_t *node, const char *key,
		 unsigned long long low, unsigned long long high, unsigned long long *ret)
{
	const char *text = scalar_of(node);
	unsigned long long value = 0;
	char *end = NULL;

	if (text != NULL && *text >= '0' && *text <= '9') {
		errno = 0;
		value = strtoull(text, &end, 10);
	}
	if (end == NULL || *end != '\0' || errno != 0 || value < low || value > high) {
		yaml_fault(file, node, "'%s' must be a whole number %llu .. %llu", key, low, high);
		return false;
	}
	*ret = value;
	return true;
}

yaml_node_t *yaml_item(struct yaml_file *file, const yaml_node_t *sequence, size_t i)
{
	const yaml_node_item_t *start = sequence->data.sequence.items.start;

	if (i >= (size_t)(sequence->data.sequence.items.top - start))
		return NULL;
	return yaml_document_get_node(&file->document, start[i]);
}
