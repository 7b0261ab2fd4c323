/* threads.h - several threads change blocks of an open image that are apart, while others map it
 * and one flushes. */
#ifndef TESTS_SUPPORT_THREADS_H
#define TESTS_SUPPORT_THREADS_H

#include "tests/support/rig.h"

/* One way to run. */
struct thread_shape {
    const char *name;
    const struct pl_driver *driver;
    const char *options; /* as for -o */
    uint32_t cache_bytes;
    const char *parent_identity; /* null: no parent */
    bool no_leaks;               /* nothing is lost either */
    uint64_t size;               /* of the disk, bytes; 0: 4 MiB */
    unsigned steps;              /* of each writer; 0: 400 */
    uint64_t write_len;          /* bytes of a block that a write fills; 0: all */
};

/* Runs them all, what main returns: no call fails, each block ends with what its one thread did to
 * it last, the tables are sound. */
int run_thread_shapes(const char *group, const struct thread_shape *shapes, size_t count);

#endif
