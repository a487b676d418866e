#include "agent/config/value.h"

#include <stdarg.h>
#include <string.h>

#include "shm/rl_fleet.h"

#define WHOLE_STEPS (RL_BETA_ALL_PPM / RL_BETA_STEP_PPM) /* 10000: steps of 0.01 % */

/* The first word that is at most two edits away, or NULL. */
static const char *meant(const char *text, const struct value_choice *choice)
{
	for (size_t edits = 1; edits <= 2; edits++)
		for (unsigned i = 0; i < choice->count; i++)
			if (yaml_distance(text, choice->name(i)) <= edits)
				return choice->name(i);
	return NULL;
}

/* "local, bounded or strict" */
static void list_words(const struct value_choice *choice, char *ret, size_t size)
{
	*ret = '\0';
	for (unsigned i = 0; i < choice->count; i++) {
		const char *before = i == 0 ? "" : i + 1 < choice->count ? ", " : " or ";

		strncat(ret, before, size - strlen(ret) - 1);
		strncat(ret, choice->name(i), size - strlen(ret) - 1);
	}
}

bool value_choice(struct yaml_file *file, const yaml_node_t *mapping,
		  const struct value_choice *choice, uint8_t *ret)
{
	yaml_node_t *node = yaml_get(file, mapping, choice->key);
	const char *text, *word;
	char words[128];

	if (node == NULL)
		return true;
	list_words(choice, words, sizeof(words));
	text = yaml_text(file, node, choice->key, words);
	if (text == NULL)
		return false;
	for (unsigned i = 0; i < choice->count; i++)
		if (strcmp(text, choice->name(i)) == 0) {
			*ret = (uint8_t)i;
			return true;
		}
	word = meant(text, choice);
	if (word != NULL)
		yaml_fault(file, node, "'%s' must be %s, not '%s' (did you mean '%s'?)",
			   choice->key, words, text, word);
	else
		yaml_fault(file, node, "'%s' must be %s, not '%s'", choice->key, words, text);
	return false;
}

void value_span(struct yaml_file *file, const yaml_node_t *mapping, const struct value_span *span,
		uint64_t *ret_ns)
{
	yaml_node_t *node = yaml_get(file, mapping, span->key);
	const char *text, *wrong;
	uint64_t ns = 0;

	if (node == NULL)
		return;
	text = yaml_text(file, node, span->key, span->must_be);
	if (text == NULL)
		return;
	wrong = rl_span_parse(text, &ns);
	if (wrong != NULL)
		yaml_fault(file, node, "bad %s '%s': %s", span->key, text, wrong);
	else if (ns < span->low_ns || ns > span->high_ns)
		yaml_fault(file, node, "'%s' must be %s", span->key, span->must_be);
	else
		*ret_ns = ns;
}

/*
 * D[.D] as 1/10000 of one; false when it is no such number, is finer, or above 100. Digits
 * are read one by one: strtod() would follow the locale and take "nan" and "0x1".
 */
static bool take_decimal(const char **text, uint32_t *ret)
{
	const char *c = *text;
	uint32_t value = 0, unit = WHOLE_STEPS;

	if (*c < '0' || *c > '9')
		return false;
	for (; *c >= '0' && *c <= '9'; c++) {
		value = value * 10 + (uint32_t)(*c - '0');
		if (value > 100)
			return false;
	}
	value *= WHOLE_STEPS;
	if (*c == '.' && (c[1] < '0' || c[1] > '9'))
		return false;
	if (*c == '.')
		for (c++; *c >= '0' && *c <= '9'; c++) {
			unit /= 10;
			if (unit == 0 && *c != '0')
				return false;
			value += unit * (uint32_t)(*c - '0');
		}
	*text = c;
	*ret = value;
	return true;
}

static bool parse_part(const char *text, uint32_t *ret_ppm)
{
	uint32_t steps;

	if (!take_decimal(&text, &steps))
		return false;
	if (*text == '%') {
		if (steps % 100 != 0)
			return false;
		steps /= 100;
		text++;
	}
	if (*text != '\0' || steps > WHOLE_STEPS)
		return false;
	*ret_ppm = steps * RL_BETA_STEP_PPM;
	return true;
}

void value_part(struct yaml_file *file, const yaml_node_t *mapping, const char *key,
		uint32_t *ret_ppm)
{
	static const char must_be[] = "0% .. 100% in steps of 0.01%, e.g. 10% or 0.1";
	yaml_node_t *node = yaml_get(file, mapping, key);
	const char *text;

	if (node == NULL)
		return;
	text = yaml_text(file, node, key, must_be);
	if (text != NULL && !parse_part(text, ret_ppm))
		yaml_fault(file, node, "'%s' must be %s", key, must_be);
}

void value_name(struct yaml_file *file, const yaml_node_t *mapping, const char *key,
		char ret[RL_NAME_MAX + 1])
{
	static const char must_be[] = "1 .. 63 letters, digits, '.', '_' and '-'";
	yaml_node_t *node = yaml_get(file, mapping, key);
	const char *text;

	if (node == NULL)
		return;
	text = yaml_text(file, node, key, must_be);
	if (text == NULL)
		return;
	if (rl_name_fault(text) != NULL)
		yaml_fault(file, node, "'%s' must be %s", key, must_be);
	else
		memcpy(ret, text, strlen(text) + 1);
}

/* A fault that is not counted; after "... and more" nothing is printed any longer. */

static const char *truth_name(unsigned value)
{
	return value == 0 ? "false" : "true";
}

void value_truth(struct yaml_file *file, const yaml_node_t *mapping, const char *key, bool *ret)
{
	const struct value_choice choice = {key, truth_name, 2};
	uint8_t value = *ret;

	if (value_choice(file, mapping, &choice, &value))
		*ret = value == 1;
}
