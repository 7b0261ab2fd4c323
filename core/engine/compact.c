/* compact.c - pl_compact: finds clusters that hold zeros, then has the driver close the gaps.
 *
 * Only what this image itself keeps room for is looked at: clusters of a parent are read by nobody
 * and stay as they are. */
#include "core/engine/compact.h"

#include <string.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/base/zero.h"
#include "core/graph/node.h"

/* Bytes read at once, if the clusters are no larger. */
#define PIECE (1u << 20)

/* Zeros are looked for in no smaller pieces: a hole of the host costs it more than it gives. */
#define UNIT_MIN (64u << 10)

struct compact {
    struct pl_image *img;
    const struct pl_report *report;
    uint32_t unit;     /* a power of two: whole clusters */
    uint64_t zeros_at; /* zeros that are not yet given back ... */
    uint64_t zeros_len;
    uint64_t zeros; /* given back */
    bool refused;   /* the format cannot say zeros here */
};

/* Gives back what was gathered. */
static int give_back(struct compact *c, struct pl_err *e)
{
    struct pl_image *img = c->img;
    int result;

    if (c->zeros_len == 0)
        return 0;
    result = img->driver->zero(img->layer.state, c->zeros_at, c->zeros_len, true, e);
    if (result < 0)
        return pl_within(e, "%s: giving back 0x%llx bytes at guest address 0x%llx", img->path,
                         (unsigned long long)c->zeros_len, (unsigned long long)c->zeros_at);
    c->refused = c->refused || result == 1;
    if (result == 0)
        c->zeros += c->zeros_len;
    c->zeros_len = 0;
    return 0;
}

static int add_zeros(struct compact *c, uint64_t at, uint64_t len, struct pl_err *e)
{
    if (c->zeros_len && c->zeros_at + c->zeros_len != at && give_back(c, e) < 0)
        return -1;
    if (c->zeros_len == 0)
        c->zeros_at = at;
    c->zeros_len += len;
    return 0;
}

/* Whether the host keeps blocks for zeros that the format keeps room for. */
static bool is_hole(const struct pl_extent *x)
{
    uint64_t len = x->len;
    bool hole;

    if (!x->allocated || x->off >= pl_storage_size(x->st))
        return true;
    len = PL_MIN(len, pl_storage_size(x->st) - x->off);
    return pl_storage_map(x->st, x->off, &len, &hole, NULL) == 0 && hole && len == x->len;
}

/* Whether this image keeps room for a part of [at, at + len). */
static int has_room(const struct compact *c, uint64_t at, uint64_t len, bool *room,
                    struct pl_err *e)
{
    *room = false;
    while (len > 0 && !*room) {
        struct pl_located located;
        const struct pl_extent *x = &located.extent;

        if (pl_locate(c->img, at, len, &located, e) < 0)
            return -1;
        *room = located.present && located.depth == 0 && (x->state != PL_ZERO || !is_hole(x));
        at += x->len;
        len -= x->len;
    }
    return 0;
}

/* How many bytes from `at` on are whole units for which this image keeps no room. */
static int skip_units(const struct compact *c, uint64_t at, uint64_t *skip, struct pl_err *e)
{
    const uint64_t left = c->img->layer.size - at;
    struct pl_located located;
    const struct pl_extent *x = &located.extent;

    *skip = 0;
    if (pl_locate(c->img, at, left, &located, e) < 0)
        return -1;
    if (located.present && located.depth == 0 && (x->state != PL_ZERO || !is_hole(x)))
        return 0;
    *skip = x->len == left ? left : pl_round_down(x->len, c->unit);
    return 0;
}

/* Looks at the units of [at, at + len). */
static int look(struct compact *c, uint64_t at, uint8_t *buf, uint64_t len, struct pl_err *e)
{
    if (pl_read(c->img, at, buf, len, e) < 0)
        return -1;
    for (uint64_t done = 0; done < len;) {
        const uint64_t n = PL_MIN(c->unit, len - done);
        bool room = false;

        /* The host keeps a block for the end of a raw file, whatever is in it. */
        if ((n == c->unit || c->img->layer.cluster_size) && pl_is_zero(buf + done, n) &&
            has_room(c, at + done, n, &room, e) < 0)
            return -1;
        if (room && add_zeros(c, at + done, n, e) < 0)
            return -1;
        done += n;
    }
    return 0;
}

static int find_zeros(struct compact *c, struct pl_err *e)
{
    const uint64_t size = c->img->layer.size, most = PL_MAX(PIECE, c->unit);
    PL_FREE uint8_t *buf = pl_buffer(PL_MIN(most, size));

    if (!buf)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for a buffer", c->img->path);
    for (uint64_t at = 0; at < size && !c->refused;) {
        uint64_t len;

        if (pl_check_cancelled(c->report, e) < 0 || skip_units(c, at, &len, e) < 0)
            return -1;
        if (len == 0) {
            len = PL_MIN(most, size - at);
            if (look(c, at, buf, len, e) < 0)
                return -1;
        }
        at += len;
        pl_progress(c->report, at, size);
    }
    return give_back(c, e);
}

/* ---- the driver's part ---- */

/* Its progress follows ours. */
struct second_half {
    const struct pl_report *report;
    uint64_t before;
};

static void show_progress(void *ctx, uint64_t done, uint64_t total)
{
    const struct second_half *half = ctx;

    pl_progress(half->report, half->before + done, half->before + total);
}

static void hand_on_warning(void *ctx, const char *message)
{
    const struct second_half *half = ctx;

    pl_warn(half->report, "%s", message);
}

static bool is_cancelled(void *ctx)
{
    const struct second_half *half = ctx;

    return pl_check_cancelled(half->report, NULL) < 0;
}

static int close_gaps(struct compact *c, struct pl_err *e)
{
    struct pl_image *img = c->img;
    struct second_half half = { .report = c->report, .before = img->layer.size };
    const struct pl_report report = {
        .ctx = &half, .warn = hand_on_warning, .progress = show_progress, .cancelled = is_cancelled
    };
    uint64_t freed;

    if (pl_flush(img, e) < 0)
        return -1;
    if (!img->driver->compact)
        return 0;
    return img->driver->compact(img->layer.state, &report, &freed, e) < 0
               ? pl_within(e, "%s: making the file shorter", img->path)
               : 0;
}

static uint64_t less(uint64_t before, uint64_t now)
{
    return before > now ? before - now : 0;
}

int pl_compact(struct pl_image *img, const struct pl_report *report,
               struct pl_compact_result *result, struct pl_err *e)
{
    const uint64_t file_size = pl_file_size(img), usage = pl_disk_usage(img);
    struct compact c = { .img = img, .report = report };

    *result = (struct pl_compact_result){ 0 };
    if (!img->driver->zero && !img->driver->compact)
        return pl_no_slot(img, "compacting", e);
    if (!img->writable)
        return pl_fail(e, PL_E_INVALID, "%s: it is open for reading only", img->path);
    c.unit = PL_MAX(PL_MAX(img->layer.granule, img->layer.cluster_size), 512u);
    if (img->layer.cluster_size == 0)
        c.unit = PL_MAX(c.unit, UNIT_MIN);
    if ((img->driver->zero && find_zeros(&c, e) < 0) || close_gaps(&c, e) < 0)
        return -1;
    result->zeros = c.zeros;
    result->file_freed = less(file_size, pl_file_size(img));
    result->usage_freed = less(usage, pl_disk_usage(img));
    return 0;
}
