/* map.c - where guest addresses are: BAT entries and sector bitmaps.
 *
 * map copies the piece of a bitmap that it needs and looks at it without the lock.  A piece that is
 * not cached is read without the lock too; when tables changed meanwhile it is read again, in the
 * end under the lock.  One call covers one piece of a bitmap (4096 sectors) at most, or any number
 * of blocks that do not exist. */
#include <string.h>

#include "formats/vhd/vhd.h"

#define SLICE VHD_SECTOR          /* bytes of a bitmap looked at together ... */
#define SLICE_SECTORS (8 * SLICE) /* ... and the sectors that they describe */

/* Reads of a slice that lost a race with a change before the lock is held for one. */
#define RACES_MAX 4

/* A copy of the part of a bitmap that describes one guest address. */
struct view {
    uint64_t index; /* of the block */
    uint32_t first; /* the block's sector at which the slice starts */
    bool exists;    /* the block has an entry; else the rest is not set: */
    uint64_t off;   /* byte offset of the block's bitmap in the file */
    uint8_t bytes[SLICE];
};

uint32_t vhd_bit_run(const uint8_t *bits, uint32_t first, uint32_t last, bool *set)
{
    const uint8_t same = bits[first / 8] >> (7 - first % 8) & 1 ? 0xff : 0;
    uint32_t i = first;

    *set = same;
    while (i < last) {
        if (i % 8 == 0 && bits[i / 8] == same)
            i += 8;
        else if ((bits[i / 8] ^ same) >> (7 - i % 8) & 1)
            break;
        else
            i++;
    }
    return PL_MIN(i, last) - first;
}

/* Looks in the cache, or reads the slice, the lock dropped meanwhile unless `hold`.  1: it was
 * read, but tables changed meanwhile. */
static int try_view(struct vhd *v, struct view *view, bool hold, struct pl_err *e)
    PL_NEEDS(&v->lock) PL_UNCHECKED;
static int try_view(struct vhd *v, struct view *view, bool hold, struct pl_err *e)
{
    const uint64_t at = view->off + view->first / 8;
    const uint8_t *slice = pl_table_cache_peek(v->bitmaps, at);
    const uint64_t epoch = pl_table_cache_epoch(v->bitmaps);
    int result;

    if (slice) {
        memcpy(view->bytes, slice, SLICE);
        return 0;
    }
    if (!hold)
        pl_lock_drop(&v->lock);
    result = pl_storage_read_padded(v->file, at, view->bytes, SLICE, e);
    if (!hold)
        pl_lock_take(&v->lock);
    if (result < 0)
        return pl_within(e, "sector bitmap");
    if (epoch != pl_table_cache_epoch(v->bitmaps))
        return 1;
    pl_table_cache_insert(v->bitmaps, at, view->bytes, epoch);
    return 0;
}

static int load_view(struct vhd *v, struct view *view, struct pl_err *e) PL_NEEDS(&v->lock)
{
    int result = 1;

    for (unsigned races = 0; result == 1; races++) {
        view->exists = v->bat[view->index] != VHD_UNUSED;
        if (!view->exists)
            return 0;
        if (vhd_place(v, view->index, &view->off, e) < 0)
            return -1;
        result = try_view(v, view, races >= RACES_MAX, e);
    }
    return result;
}

/* Blocks from `index` on, at most up to `last`, that do not exist. */
static uint64_t missing_run(const struct vhd *v, uint64_t index, uint64_t last)
{
    uint64_t i = index;

    while (i <= last && v->bat[i] == VHD_UNUSED)
        i++;
    return i - index;
}

static int map_block(struct vhd *v, uint64_t at, uint64_t len, struct pl_extent *out,
                     struct pl_err *e)
{
    const uint32_t inside = (uint32_t)(at & (v->block_size - 1)), sector = inside / VHD_SECTOR;
    struct view view = { .index = at >> v->block_bits,
                         .first = (uint32_t)pl_round_down(sector, SLICE_SECTORS) };
    uint32_t last = PL_MIN(v->block_size / VHD_SECTOR - view.first, SLICE_SECTORS), run;
    bool set;

    PL_LOCKED(&v->lock);
    if (load_view(v, &view, e) < 0)
        return -1;
    *out = (struct pl_extent){ .state = PL_PARENT };
    if (!view.exists) {
        const uint64_t count = missing_run(v, view.index, (at + len - 1) >> v->block_bits);

        out->len = PL_MIN(len, (count << v->block_bits) - inside);
        return 0;
    }
    run = vhd_bit_run(view.bytes, sector - view.first, last, &set);
    out->len = PL_MIN(len, (uint64_t)run * VHD_SECTOR - inside % VHD_SECTOR);
    if (!set && v->has_parent)
        return 0;
    out->state = set ? PL_DATA : PL_ZERO;
    out->allocated = !set;
    out->st = v->file;
    out->off = view.off + v->bitmap_size + inside;
    return 0;
}

int vhd_map(void *state, uint64_t at, uint64_t len, struct pl_extent *out, struct pl_err *e)
{
    struct vhd *v = state;

    return v->fixed ? vhd_fixed_map(v, at, len, out, e) : map_block(v, at, len, out, e);
}
