/* state_list.h - the states of a disk as a tree of lines, and as JSON. */
#ifndef PL_CLI_STATE_LIST_H
#define PL_CLI_STATE_LIST_H

#include <jansson.h>

#include "include/platter.h"

/* Prints the tree to standard output: a state below the one that it was made from, and the disk
 * where it stands. */
void state_list_print(const struct pl_states *states);

/* The disk and its states as an object. */
json_t *state_list_json(const struct pl_states *states);

#endif
