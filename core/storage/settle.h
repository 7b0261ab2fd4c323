/* settle.h - bounds what a long write leaves in the page cache.
 *
 * Ranges that will not be read again soon are handed to pl_settle.  The kernel starts to write
 * them at once, by whole MiB; a range that PL_SETTLE_LAG bytes of others have followed is waited
 * for and dropped from the cache.  So a convert keeps a few dozen MiB there, whatever the image's
 * size, and neither pushes out what other programs use nor is killed in a small memory group.
 *
 * Threads: any number. */
#ifndef PL_CORE_STORAGE_SETTLE_H
#define PL_CORE_STORAGE_SETTLE_H

#include <stdatomic.h>
#include <stdint.h>

#include "core/base/lock.h"

/* Bytes whose writing has begun and is not yet waited for. */
#define PL_SETTLE_LAG (UINT64_C(24) << 20)
/* Ranges remembered; more than LAG has when a range is a MiB. */
#define PL_SETTLE_RANGES 64

struct pl_settle_range {
    uint64_t off, len;
};

struct pl_settle {
    struct pl_lock lock; /* guards the rest but for `error`; leaf lock, no I/O inside it */
    struct pl_settle_range waiting[PL_SETTLE_RANGES]; /* a ring, oldest at `first` */
    unsigned first, count;
    uint64_t bytes;   /* sum of the lengths in it */
    atomic_int error; /* errno of a write that failed in the background, 0: none */
};

/* Makes *settle ready; pl_settle_destroy releases it. */
void pl_settle_init(struct pl_settle *settle);
void pl_settle_destroy(struct pl_settle *settle); /* waits for nothing */

/* [off, off + len) of fd was written and is not read again soon. */
void pl_settle(struct pl_settle *settle, int fd, uint64_t off, uint64_t len);

#endif
