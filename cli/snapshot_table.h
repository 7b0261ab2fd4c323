/* snapshot_table.h - internal snapshots as a table and as JSON, as qemu-img shows them. */
#ifndef PL_CLI_SNAPSHOT_TABLE_H
#define PL_CLI_SNAPSHOT_TABLE_H

#include <jansson.h>

#include "include/platter.h"

/* Prints the table with its heading to standard output. */
void snapshot_table_print(const struct pl_snapshot *list, size_t count);

/* The list as an array of objects. */
json_t *snapshot_table_json(const struct pl_snapshot *list, size_t count);

#endif
