/* output.h - results on standard output: JSON, and trees of facts in both forms. */
#ifndef PL_CLI_OUTPUT_H
#define PL_CLI_OUTPUT_H

#include <jansson.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/base/facts.h"

/* A JSON string of text that may not be UTF-8: bytes that are not become U+FFFD.  null without
 * memory. */
json_t *output_json_text(const char *text);

/* A JSON number; what does not fit into 63 bits becomes the largest that does. */
json_t *output_json_number(uint64_t n);

/* The tree as JSON. */
json_t *output_json_facts(const struct pl_fact *fact);

/* Prints it with 4 spaces a level and a newline at the end, and drops the reference.  null:
 * PL_E_NOMEM. */
int output_json(json_t *value, struct pl_err *e) PL_CHECK;

/* Prints the members of an object as "name: value" lines, indented by `indent` spaces; dashes in
 * names become spaces. */
void output_facts(const struct pl_fact *object, int indent);

/* Writes out what is buffered on standard output; an error on the way there is a failure of the
 * command. */
int output_finish(struct pl_err *e) PL_CHECK;

#endif
