/* locate.c - which layer of a chain decides about a guest address, and pl_map on top of that. */
#include <inttypes.h>

#include "core/base/checked.h"
#include "core/graph/node.h"

int pl_check_range(const struct pl_image *img, uint64_t at, uint64_t len, struct pl_err *e)
{
    if (!pl_inside(at, len, img->layer.size))
        return pl_fail(e, PL_E_LIMIT,
                       "%s: guest range [0x%" PRIx64 ", +0x%" PRIx64
                       ") is outside the disk of 0x%" PRIx64 " bytes",
                       img->path, at, len, img->layer.size);
    return 0;
}

static void nobody_says(struct pl_located *out, struct pl_image *last, unsigned depth, uint64_t len)
{
    *out = (struct pl_located){
        .extent = { .state = PL_ZERO, .len = len },
        .image = last,
        .depth = depth,
    };
}

int pl_locate(struct pl_image *img, uint64_t at, uint64_t len, struct pl_located *out,
              struct pl_err *e)
{
    for (unsigned depth = 0;; depth++) {
        struct pl_extent *extent = &out->extent;

        len = PL_MIN(len, img->layer.size - at);
        if (img->driver->map(img->layer.state, at, len, extent, e) < 0)
            return pl_within(e, "%s", img->path);
        if (extent->len == 0 || extent->len > len) /* or every loop over the map would be endless */
            return pl_fail(e, PL_E_CORRUPT,
                           "%s: the map has a run of %" PRIu64 " bytes at 0x%" PRIx64, img->path,
                           extent->len, at);
        if (extent->state != PL_PARENT) {
            out->image = img;
            out->depth = depth;
            out->present = true;
            return 0;
        }
        len = extent->len;
        if (!img->parent || at >= img->parent->layer.size) { /* a parent may be shorter */
            nobody_says(out, img, depth, len);
            return 0;
        }
        img = img->parent;
    }
}

static void describe(const struct pl_located *located, uint64_t at, struct pl_run *run)
{
    const struct pl_extent *x = &located->extent;
    const bool plain = x->state == PL_DATA || (x->state == PL_ZERO && x->allocated);

    *run = (struct pl_run){
        .at = at,
        .len = x->len,
        .depth = located->depth,
        .present = located->present,
        .zero = x->state == PL_ZERO,
        .data = x->state != PL_ZERO,
        .compressed = x->state == PL_PACKED,
        .has_offset = plain,
        .offset = plain ? x->off : 0,
        .file = plain ? x->st->path : NULL,
    };
}

static bool continues(const struct pl_run *run, const struct pl_run *next)
{
    return run->depth == next->depth && run->present == next->present && run->zero == next->zero &&
           run->data == next->data && run->compressed == next->compressed &&
           run->has_offset == next->has_offset && run->file == next->file &&
           (!run->has_offset || run->offset + run->len == next->offset);
}

int pl_map(struct pl_image *img, uint64_t at, uint64_t len, struct pl_run *run, struct pl_err *e)
{
    struct pl_located located;
    struct pl_run next;

    if (pl_check_range(img, at, len, e) < 0)
        return -1;
    if (len == 0)
        return pl_fail(e, PL_E_INVALID, "%s: a map of no bytes was asked for", img->path);
    if (pl_locate(img, at, len, &located, e) < 0)
        return -1;
    describe(&located, at, run);
    while (run->len < len) {
        if (pl_locate(img, at + run->len, len - run->len, &located, e) < 0)
            return -1;
        describe(&located, at + run->len, &next);
        if (!continues(run, &next))
            break;
        run->len += next.len;
    }
    return 0;
}
