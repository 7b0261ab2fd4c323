#include "core/engine/bitmaps.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/base/checked.h"
#include "core/base/scope.h"

/* The most memory for one bitmap's bits. */
#define BITS_MAX (64 * PL_MIB)

static int refuse_broken(const struct pl_image *img, const struct pl_bitmap *bitmap,
                         struct pl_err *e)
{
    pl_fail(e, PL_E_CORRUPT, "Cannot copy inconsistent bitmap '%s' of %s", bitmap->name, img->path);
    return pl_hint(e, "--skip-broken-bitmaps leaves it out");
}

static int copy_one(struct pl_image *from, struct pl_image *to, const struct pl_bitmap *bitmap,
                    struct pl_err *e)
{
    const uint64_t count = pl_div_up(pl_size(from), bitmap->granularity);
    const uint64_t len = pl_div_up(count, 8);
    PL_FREE uint8_t *bits = NULL;

    if (len > BITS_MAX)
        return pl_fail(e, PL_E_LIMIT, "%s: bitmap '%s' has too many bits", from->path,
                       bitmap->name);
    bits = calloc(1, len ? len : 1);
    if (!bits)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for bitmap '%s'", from->path, bitmap->name);
    if (from->driver->bitmap_load(from->layer.state, bitmap->name, bits, len, e) < 0)
        return pl_within(e, "%s: reading bitmap '%s'", from->path, bitmap->name);
    if (to->driver->bitmap_store(to->layer.state, bitmap, bits, len, e) < 0)
        return pl_within(e, "%s: writing bitmap '%s'", to->path, bitmap->name);
    return 0;
}

int pl_check_bitmaps_fit(const struct pl_image *from, const struct pl_image *to, struct pl_err *e)
{
    if (!from->driver->bitmaps)
        return pl_no_slot(from, "a persistent bitmap", e);
    if (!to->driver->bitmap_store)
        return pl_no_slot(to, "a persistent bitmap", e);
    if (pl_size(from) != pl_size(to))
        return pl_fail(e, PL_E_INVALID,
                       "bitmaps are only copied between disks of one size: %s has %" PRIu64
                       " bytes, %s %" PRIu64,
                       from->path, pl_size(from), to->path, pl_size(to));
    return 0;
}

int pl_copy_bitmaps(struct pl_image *from, struct pl_image *to, bool skip_broken,
                    const struct pl_report *report, struct pl_err *e)
{
    PL_FREE struct pl_bitmap *list = NULL;
    size_t count;

    if (pl_bitmaps(from, &list, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        if (list[i].in_use) {
            if (!skip_broken)
                return refuse_broken(from, &list[i], e);
            pl_warn(report, "Skipping inconsistent bitmap '%s'", list[i].name);
        } else if (copy_one(from, to, &list[i], e) < 0) {
            return -1;
        }
    }
    return 0;
}

int pl_refuse_broken_bitmaps(struct pl_image *img, struct pl_err *e)
{
    PL_FREE struct pl_bitmap *list = NULL;
    size_t count;

    if (pl_bitmaps(img, &list, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (list[i].in_use)
            return refuse_broken(img, &list[i], e);
    return 0;
}
