/*
 * yaml.h - a YAML file as a tree whose every node knows its line and column.
 *
 * Rooms:  agent/config/. Over libyaml's document API; knows nothing of Ratel's options.
 *
 * Faults are collected, not thrown: one run names all of them, up to YAML_FAULTS_MAX, as
 *	rules.yaml:4:12: unknown key 'limt' (did you mean 'limit'?)
 * Control characters in a message are shown as \xNN: it goes to somebody's terminal.
 *
 * The agent reads a file between two heartbeats, so a hostile one must not take long: size,
 * depth and number of faults are bounded, and so is what libyaml compares with each other.
 */
#ifndef CONFIG_YAML_H
#define CONFIG_YAML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <yaml.h>

#define YAML_FAULTS_MAX 20u /* then "... and more" */

#define YAML_BYTES_MAX (256u << 10) /* 256 rules need 32 KiB; a wrong file is refused, not read */

struct yaml_file {
	const char *name; /* as the user wrote it, for the messages */
	FILE *out;        /* where faults go */
	unsigned faults;  /* at most one above YAML_FAULTS_MAX */
	bool loaded;
	yaml_document_t document;
};

/*
 * Read the whole file as one document without anchors and aliases. False when that failed: the
 * faults are printed and counted. yaml_close() is needed in both cases.
 */
bool yaml_open(struct yaml_file *file, const char *name, FILE *out);

/* The same of a text that is at hand; name is for messages only. */
bool yaml_open_text(struct yaml_file *file, const char *name, const char *text, size_t size,
		    FILE *out);
void yaml_close(struct yaml_file *file);

/* The top node, never NULL after a successful yaml_open(). */
yaml_node_t *yaml_root(struct yaml_file *file);

/* As many faults as are printed have been found: go no further. */
bool yaml_enough(const struct yaml_file *file);

/* Print a fault at a node and count it. */
void yaml_fault(struct yaml_file *file, const yaml_node_t *node, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Print something that is no fault but should be known: "warning: ...", and do not count it. */
void yaml_warning(struct yaml_file *file, const yaml_node_t *node, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Edits from one word to the other, for "did you mean"; 32 when one is longer than 31. */
size_t yaml_distance(const char *a, const char *b);

/*
 * Check that node is a mapping whose keys are plain, known and unique; known ends in NULL.
 * Each wrong key is a fault. False when node is no mapping.
 */
bool yaml_check_keys(struct yaml_file *file, const yaml_node_t *node, const char *what,
		     const char *const *known);

/* The value of a key of a mapping, or NULL. */
yaml_node_t *yaml_get(struct yaml_file *file, const yaml_node_t *mapping, const char *key);

/*
 * The text of a scalar; NULL and a fault for anything else: "'KEY' must be MUST_BE", "'KEY' is
 * empty: write MUST_BE", "'KEY' holds a NUL character".
 */
const char *yaml_text(struct yaml_file *file, const yaml_node_t *node, const char *key,
		      const char *must_be);

/* A whole number low .. high; false and a fault otherwise. */
bool yaml_number(struct yaml_file *file, const yaml_node_t *node, const char *key,
		 unsigned long long low, unsigned long long high, unsigned long long *ret);

/* Item i of a sequence; NULL past its end. */
yaml_node_t *yaml_item(struct yaml_file *file, const yaml_node_t *sequence, size_t i);

#endif
