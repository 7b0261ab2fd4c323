/* snapshot_diff.h - what changed between two states of a disk, as lines or as JSON. */
#ifndef PL_CLI_SNAPSHOT_DIFF_H
#define PL_CLI_SNAPSHOT_DIFF_H

#include "cli/command.h"

/* Prints the ranges that differ between two states of the disk at `path`, and their sum; a null
 * name is the disk as it is now. */
int snapshot_diff(struct cli *cli, const char *path, const char *from, const char *to,
                  const struct pl_state_options *options, struct pl_err *e) PL_CHECK;

#endif
