/*
 * cut.c - the 'rules' of a configuration as a text of their own.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/config/read.h"

/* Where the lines of 'rules' begin and end, counted from 0; the last is not one of them. */
struct lines {
	size_t begin, end;
	bool others; /* there are other sections */
};

static bool find_lines(struct yaml_file *file, struct lines *ret)
{
	const yaml_node_t *root = yaml_root(file), *rules = yaml_get(file, root, "rules");

	*ret = (struct lines){0};
	for (const yaml_node_pair_t *pair = root->data.mapping.pairs.start;
	     pair < root->data.mapping.pairs.top; pair++) {
		const yaml_node_t *key = yaml_document_get_node(&file->document, pair->key);

		if (yaml_document_get_node(&file->document, pair->value) == rules)
			ret->begin = key->start_mark.line;
		else
			ret->others = true;
	}
	ret->end = rules->end_mark.line + (rules->end_mark.column > 0);
	return root->data.mapping.style != YAML_FLOW_MAPPING_STYLE;
}

static const char *line_at(const char *text, const char *end, size_t line)
{
	while (line > 0 && text < end) {
		const char *next = memchr(text, '\n', (size_t)(end - text));

		text = next == NULL ? end : next + 1;
		line--;
	}
	return text;
}

static bool same_rules(const struct agent_config *a, const struct agent_config *b)
{
	bool same = a->rule_count == b->rule_count;

	for (size_t i = 0; same && i < a->rule_count; i++)
		same = strcmp(a->rule[i].name, b->rule[i].name) == 0 &&
		       a->rule[i].terms.limit == b->rule[i].terms.limit &&
		       a->rule[i].terms.window_ns == b->rule[i].terms.window_ns &&
		       a->rule[i].list_count == b->rule[i].list_count;
	return same;
}

/* What YAML takes for the end of a line need not be one to us: so what was cut is read again. */
static bool says_the_same(const char *text, const char *cut, size_t size,
			  const struct agent_config *host, FILE *out)
{
	static struct agent_config whole, part;
	bool same = config_load_rules("", text, size, host, out, &whole) &&
		    config_load_rules("", cut, strlen(cut), host, out, &part) &&
		    same_rules(&whole, &part);

	config_free(&whole);
	config_free(&part);
	whole.rule_count = part.rule_count = 0;
	return same;
}

static char *cut_lines(const char *text, size_t size, const struct lines *lines)
{
	const char *begin = line_at(text, text + size, lines->begin);
	const char *end = line_at(text, text + size, lines->end);

	return strndup(begin, (size_t)(end - begin));
}

char *config_cut_rules(const char *name, const char *text, size_t size,
		       const struct agent_config *host, FILE *out, bool *ret_others)
{
	struct yaml_file file;
	struct lines lines;
	char *cut = NULL;

	if (yaml_open_text(&file, name, text, size, out) && find_lines(&file, &lines)) {
		*ret_others = lines.others;
		cut = lines.others ? cut_lines(text, size, &lines) : strndup(text, size);
	}
	yaml_close(&file);
	if (cut != NULL && says_the_same(text, cut, size, host, out))
		return cut;
	fprintf(out,
		"%s: the rules cannot be taken out of this file: put them into one that has "
		"'rules:' and nothing else\n",
		name);
	free(cut);
	return NULL;
}
