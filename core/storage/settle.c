#include "core/storage/settle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>

#include "core/base/checked.h"

#define PAGE 4096
#define BLOCK (UINT64_C(1) << 20)

/* Ranges that lie so close to each other are one: what is between them is a table's, as a rule, and
 * small blocks would cost two calls each. */
#define GAP_MAX (UINT64_C(64) << 10)

void pl_settle_init(struct pl_settle *settle)
{
    *settle = (struct pl_settle){ .count = 0 };
    pl_lock_init(&settle->lock);
}

void pl_settle_destroy(struct pl_settle *settle)
{
    pl_lock_destroy(&settle->lock);
}

/* Whether the range is soon behind the end of the last one, and both together are no long one. */
static bool continues(const struct pl_settle_range *last, uint64_t off, uint64_t len)
{
    const uint64_t end = last->off + last->len;

    return off >= end && off - end <= GAP_MAX && off + len - last->off <= PL_SETTLE_LAG / 8;
}

/* Appends a range, joined to the newest one where it continues that.  False: there is no place. */
static bool push(struct pl_settle *settle, uint64_t off, uint64_t len)
{
    PL_LOCKED(&settle->lock);
    const unsigned next = settle->first + settle->count;
    struct pl_settle_range *last = &settle->waiting[(next - 1) % PL_SETTLE_RANGES];

    if (settle->count == PL_SETTLE_RANGES)
        return false;
    if (settle->count > 0 && continues(last, off, len)) {
        settle->bytes += off + len - (last->off + last->len);
        last->len = off + len - last->off;
        return true;
    }
    settle->bytes += len;
    settle->waiting[next % PL_SETTLE_RANGES] = (struct pl_settle_range){ off, len };
    settle->count++;
    return true;
}

/* The oldest range, once it is old enough or its place in the ring is needed. */
static bool pop(struct pl_settle *settle, struct pl_settle_range *range)
{
    PL_LOCKED(&settle->lock);

    if (settle->count == 0 || (settle->bytes <= PL_SETTLE_LAG && settle->count < PL_SETTLE_RANGES))
        return false;
    *range = settle->waiting[settle->first];
    settle->first = (settle->first + 1) % PL_SETTLE_RANGES;
    settle->count--;
    settle->bytes -= range->len;
    return true;
}

static void remember(struct pl_settle *settle, int result)
{
    if (result < 0 && (errno == EIO || errno == ENOSPC || errno == EDQUOT))
        atomic_store(&settle->error, errno);
}

/* Ranges are widened to pages: the cache lets go of whole pages only, and keeps one that a
 * neighbour made dirty again. */
static void finish(struct pl_settle *settle, int fd, const struct pl_settle_range *range)
{
    const uint64_t from = pl_round_down(range->off, PAGE);
    const off_t len = (off_t)(pl_round_up(range->off + range->len, PAGE) - from);

    remember(settle, sync_file_range(fd, (off_t)from, len,
                                     SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                         SYNC_FILE_RANGE_WAIT_AFTER));
    posix_fadvise(fd, (off_t)from, len, POSIX_FADV_DONTNEED);
}

/* Starts the writing of the blocks that end in the range: of whole blocks, because a page that two
 * short ranges share would be written twice, and many short requests keep a disk from its speed.
 * What is left of a block goes with the range behind it, or when its own range is finished. */
static void start(struct pl_settle *settle, int fd, uint64_t off, uint64_t len)
{
    const uint64_t from = pl_round_down(off, BLOCK), to = pl_round_down(off + len, BLOCK);

    if (to > from)
        remember(settle,
                 sync_file_range(fd, (off_t)from, (off_t)(to - from), SYNC_FILE_RANGE_WRITE));
}

void pl_settle(struct pl_settle *settle, int fd, uint64_t off, uint64_t len)
{
    struct pl_settle_range old;

    if (!pl_inside(off, len, PL_OFFSET_MAX - PAGE))
        return;
    start(settle, fd, off, len);
    do {
        while (pop(settle, &old))
            finish(settle, fd, &old);
    } while (!push(settle, off, len)); /* other threads may have filled the ring meanwhile */
}
