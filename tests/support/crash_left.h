/* crash_left.h - looks at what a crash left of a run's file: for crash.c alone. */
#ifndef TESTS_SUPPORT_CRASH_LEFT_H
#define TESTS_SUPPORT_CRASH_LEFT_H

#include "tests/support/crash.h"

/* The history's cells for the size of the disk, in sectors, and for its parent, an enum run_parent.
 */
#define SIZE_CELL(r) ((r)->sectors)
#define PARENT_CELL(r) ((r)->sectors + 1)

/* The most bytes that a file has. */
size_t crash_file_limit(const struct crash_format *format);

/* Opens what a crash after operation `op` may have left, by that seed, and looks at it; every fifth
 * of such files is worked with, too. */
void crash_look_at(struct crash_run *run, uint64_t op, uint64_t seed);

#endif
