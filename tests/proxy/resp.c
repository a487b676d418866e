#include "tests/proxy/resp.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_MAX (1l << 30)

/* Move *at behind the line it is at; false when the end of that is not there yet. */
static bool skip_line(const char *data, size_t size, size_t *at)
{
	const char *newline = *at < size ? memchr(data + *at, '\n', size - *at) : NULL;

	if (newline == NULL)
		return false;
	*at = (size_t)(newline - data) + 1;
	return true;
}

enum kind { KIND_LINE, KIND_BULK, KIND_LIST, KIND_MAP, KIND_NONE };

static enum kind kind_of(char type)
{
	static const char *const types[KIND_NONE] = {"+-:_#,(", "$=!", "*~>", "%|"};
	int kind = KIND_LINE;

	while (kind < KIND_NONE && (type == '\0' || strchr(types[kind], type) == NULL))
		kind++;
	return (enum kind)kind;
}

size_t resp_size(const char *data, size_t size)
{
	size_t at = 0;

	for (long wanted = 1; wanted > 0; wanted--) {
		size_t line = at;
		enum kind kind;
		long count;

		if (!skip_line(data, size, &at))
			return line < size && kind_of(data[line]) == KIND_NONE ? RESP_BROKEN : 0;
		kind = kind_of(data[line]);
		count = strtol(data + line + 1, NULL, 10);
		if (kind == KIND_NONE || (kind != KIND_LINE && count > COUNT_MAX))
			return RESP_BROKEN;
		if (kind == KIND_LINE || count < 0) /* below 0: nothing, as in "$-1" */
			continue;
		if (kind == KIND_BULK)
			at += (size_t)count + 2;
		else
			wanted += kind == KIND_MAP ? 2 * count : count;
	}
	return at <= size ? at : 0;
}
