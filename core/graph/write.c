/* write.c - changes guest bytes: room from the driver, bytes from here, then the link.
 *
 * A write that covers a part of a granule which gets new room fills the rest from what the guest
 * saw there before, be it a parent's data, a compressed unit or zeros.  The range lock is taken on
 * whole clusters, so no other thread sees or changes the bytes in between.
 *
 * An image that is raw because nothing else was found in it, and not because the user said so, must
 * not become something else by what its guest writes to the first bytes: such writes are refused.
 */
#include <inttypes.h>
#include <string.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/base/zero.h"
#include "core/graph/long_work.h"
#include "core/graph/node.h"

/* Zeros are written, where the format has none of its own, in pieces of this size. */
#define ZERO_PIECE (256 * PL_KIB)

static uint64_t lock_unit(const struct pl_image *img)
{
    return PL_MAX(img->layer.granule, img->layer.cluster_size);
}

static void take_range(struct pl_image *img, struct pl_range *range, uint64_t at, uint64_t len)
{
    const uint64_t unit = lock_unit(img);

    pl_range_take(&img->ranges, range, pl_round_down(at, unit), pl_round_up(at + len, unit), true);
}

static int check_writable(struct pl_image *img, uint64_t at, uint64_t len, struct pl_err *e)
{
    if (!img->writable)
        return pl_fail(e, PL_E_INVALID, "%s: it is open for reading only", img->path);
    if (img->broken) {
        pl_fail(e, PL_E_CORRUPT, "%s: an earlier change failed half-way, so no more are made",
                img->path);
        return pl_hint(e, "close it and run: platter check -r all");
    }
    return pl_check_range(img, at, len, e);
}

static int check_header_guard(struct pl_image *img, uint64_t at, const uint8_t *buf, size_t len,
                              struct pl_err *e)
{
    const struct pl_probe_change change = { .off = at, .bytes = buf, .len = len };
    const uint64_t tail = img->layer.size - PL_MIN(img->layer.size, PL_PROBE_TAIL);
    const struct pl_driver *looks_like;

    if (!img->guard_header || (at >= PL_PROBE_HEAD && at + len <= tail))
        return 0;
    if (pl_probe_file(img->file, &change, &looks_like, e) < 0)
        return -1;
    if (!looks_like)
        return 0;
    pl_fail(e, PL_E_POLICY, "%s: a write to its %s bytes would make this raw image look like %s",
            img->path, at < PL_PROBE_HEAD ? "first" : "last", looks_like->name);
    return pl_hint(e, "its format was guessed; -f raw permits the write");
}

/* Fills guest [at, end) of fresh room with the old bytes. */
static int fill(struct pl_image *img, const struct pl_place *place, uint64_t at, uint64_t end,
                struct pl_err *e)
{
    PL_FREE uint8_t *old = NULL;

    if (at >= end)
        return 0;
    old = pl_buffer(end - at);
    if (!old)
        return pl_fail(e, PL_E_NOMEM, "no memory for %" PRIu64 " bytes", end - at);
    if (pl_read_unlocked(img, at, old, end - at, e) < 0)
        return -1;
    if (place->zeroed && pl_is_zero(old, end - at))
        return 0;
    return pl_storage_write(place->st, place->off + (at - place->at), old, end - at, e);
}

/* Puts buf, guest [at, at + len), into the place, which covers it, and links fresh room. */
static int put(struct pl_image *img, const struct pl_place *place, uint64_t at, const uint8_t *buf,
               size_t len, struct pl_err *e)
{
    if (place->fresh && (fill(img, place, place->at, at, e) < 0 ||
                         fill(img, place, at + len, place->at + place->len, e) < 0))
        return -1;
    if (pl_storage_write(place->st, place->off + (at - place->at), buf, len, e) < 0)
        return -1;
    if (img->settles)
        pl_storage_settle(place->st, place->off + (at - place->at), len);
    return 0;
}

/* Writes a prefix of [at, at + len); *done bytes. */
static int write_some(struct pl_image *img, uint64_t at, const uint8_t *buf, size_t len,
                      size_t *done, struct pl_err *e)
{
    const uint64_t granule = img->layer.granule;
    const uint64_t from = pl_round_down(at, granule);
    const uint64_t to = PL_MIN(pl_round_up(at + len, granule), img->layer.size);
    struct pl_place place;

    if (img->driver->allocate(img->layer.state, from, to - from, &place, e) < 0)
        return -1;
    *done = PL_MIN(len, place.at + place.len - at);
    if (place.fresh)
        pl_make_room_ahead(img, &place);
    if (put(img, &place, at, buf, *done, e) < 0) {
        if (place.fresh && img->driver->cancel)
            img->driver->cancel(img->layer.state, &place);
        return -1;
    }
    if (place.fresh && img->driver->link(img->layer.state, &place, e) < 0) {
        img->broken = true;
        return -1;
    }
    return 0;
}

static int write_runs(struct pl_image *img, uint64_t at, const uint8_t *buf, size_t len,
                      struct pl_err *e)
{
    while (len > 0) {
        size_t done;

        if (write_some(img, at, buf, len, &done, e) < 0)
            return pl_within(e, "%s: writing at guest address 0x%" PRIx64, img->path, at);
        at += done;
        buf += done;
        len -= done;
    }
    return 0;
}

int pl_write(struct pl_image *img, uint64_t at, const void *buf, size_t len, struct pl_err *e)
{
    struct pl_range range;
    int result;

    if (check_writable(img, at, len, e) < 0)
        return -1;
    if (!img->driver->allocate)
        return pl_no_slot(img, "writing", e);
    take_range(img, &range, at, len);
    result = check_header_guard(img, at, buf, len, e);
    if (result == 0)
        result = write_runs(img, at, buf, len, e);
    pl_range_drop(&img->ranges, &range);
    return result;
}

/* Writes zeros where the guest sees something else. */
static int write_zeros(struct pl_image *img, uint64_t at, uint64_t len, struct pl_err *e)
{
    PL_FREE uint8_t *zeros = NULL;

    while (len > 0) {
        struct pl_located located;
        uint64_t piece;

        if (pl_locate(img, at, len, &located, e) < 0)
            return -1;
        piece = PL_MIN(len, located.extent.len);
        if (located.extent.state != PL_ZERO) {
            piece = PL_MIN(piece, ZERO_PIECE);
            if (!zeros && !(zeros = calloc(1, ZERO_PIECE)))
                return pl_fail(e, PL_E_NOMEM, "no memory for a buffer of zeros");
            if (write_runs(img, at, zeros, piece, e) < 0)
                return -1;
        }
        at += piece;
        len -= piece;
    }
    return 0;
}

/* The granule aligned part of [at, at + len): the end of the disk counts as aligned. */
static bool aligned_part(const struct pl_image *img, uint64_t at, uint64_t len, uint64_t *from,
                         uint64_t *to)
{
    const uint64_t granule = img->layer.granule;

    *from = pl_round_up(at, granule);
    *to = at + len == img->layer.size ? at + len : pl_round_down(at + len, granule);
    return *from < *to;
}

static int zero_range(struct pl_image *img, uint64_t at, uint64_t len, bool unmap, struct pl_err *e)
{
    uint64_t from, to;
    int result = 1;

    if (!img->driver->zero || !aligned_part(img, at, len, &from, &to))
        return write_zeros(img, at, len, e);
    if (write_zeros(img, at, from - at, e) < 0 || write_zeros(img, to, at + len - to, e) < 0)
        return -1;
    result = img->driver->zero(img->layer.state, from, to - from, unmap, e);
    if (result < 0)
        return pl_within(e, "%s: zeroing at guest address 0x%" PRIx64, img->path, from);
    return result == 0 ? 0 : write_zeros(img, from, to - from, e);
}

int pl_zero(struct pl_image *img, uint64_t at, uint64_t len, bool unmap, struct pl_err *e)
{
    struct pl_range range;
    int result;

    if (check_writable(img, at, len, e) < 0)
        return -1;
    if (!img->driver->allocate)
        return pl_no_slot(img, "writing", e);
    take_range(img, &range, at, len);
    result = zero_range(img, at, len, unmap, e);
    pl_range_drop(&img->ranges, &range);
    return result;
}

typedef int range_slot(void *state, uint64_t at, uint64_t len, struct pl_err *e);

/* Has the driver give the room of the whole granules in the range back. */
static int give_back(struct pl_image *img, range_slot *slot, uint64_t at, uint64_t len,
                     struct pl_err *e)
{
    uint64_t from, to;
    struct pl_range range;
    int result;

    if (!aligned_part(img, at, len, &from, &to))
        return 0;
    take_range(img, &range, from, to - from);
    result = slot(img->layer.state, from, to - from, e);
    pl_range_drop(&img->ranges, &range);
    return result < 0
               ? pl_within(e, "%s: giving back room at guest address 0x%" PRIx64, img->path, from)
               : 0;
}

int pl_discard(struct pl_image *img, uint64_t at, uint64_t len, struct pl_err *e)
{
    if (check_writable(img, at, len, e) < 0)
        return -1;
    return img->driver->discard ? give_back(img, img->driver->discard, at, len, e) : 0;
}

int pl_forget(struct pl_image *img, uint64_t at, uint64_t len, struct pl_err *e)
{
    if (check_writable(img, at, len, e) < 0)
        return -1;
    if (!img->driver->forget)
        return pl_no_slot(img, "emptying", e);
    return give_back(img, img->driver->forget, at, len, e);
}

int pl_flush(struct pl_image *img, struct pl_err *e)
{
    if (!img->writable || !img->driver->flush)
        return 0;
    if (img->broken)
        return check_writable(img, 0, 0, e);
    return img->driver->flush(img->layer.state, e) < 0 ? pl_within(e, "%s: flushing", img->path)
                                                       : 0;
}
