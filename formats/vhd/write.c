/* write.c - room for guest bytes: blocks at the end of the file, and the bits of their sectors.
 *
 * A block that allocate makes shows nothing yet: with a parent no bit is set, without one its data
 * are zeros and its sectors in place from the start.  So only sectors with a clear bit are fresh
 * room, which link shows by their bits. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "formats/vhd/change.h"

/* With so many blocks that wait to become free the file does not grow for new ones. */
#define PENDING_MAX 16

/* Blocks of that size at most are tiny: their bitmaps are written so many bytes of the file at a
 * time. */
#define AHEAD_BLOCK_MAX (16 * PL_KIB)
#define AHEAD_BYTES (128 * PL_KIB)

#define SLICE VHD_SECTOR
#define SLICE_SECTORS (8 * SLICE)

static int slice_of(struct vhd *v, uint64_t off, uint8_t **bytes, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    const int r = pl_table_cache_get(v->bitmaps, off, bytes, e);

    if (r <= 0)
        return r;
    if (vhd_write_back(v, e) < 0)
        return -1;
    return pl_table_cache_get(v->bitmaps, off, bytes, e);
}

/* ---- new blocks ---- */

int vhd_append_room(struct vhd *v, uint64_t *off, struct pl_err *e)
{
    const uint64_t at = vhd_block_place(v, v->end), end = at + vhd_block_bytes(v);

    if (end / VHD_SECTOR >= VHD_UNUSED)
        return pl_fail(e, PL_E_LIMIT, "the file cannot grow over 2 TiB, which BAT entries reach");
    if (vhd_make_room(v, end, e) < 0)
        return -1;
    v->end = end;
    *off = at;
    return 0;
}

/* Room that may hold anything up to byte offset `dirty_to`, which the caller must zero. */
static int find_room(struct vhd *v, uint64_t *off, uint64_t *dirty_to, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    if (!v->free_count && v->pending_count >= PENDING_MAX && vhd_settle(v, e) < 0)
        return -1;
    if (v->free_count) {
        *off = (uint64_t)v->free[--v->free_count] * VHD_SECTOR;
        *dirty_to = UINT64_MAX;
        return 0;
    }
    if (vhd_append_room(v, off, e) < 0)
        return -1;
    *dirty_to = v->zero_from;
    return 0;
}

/* How many blocks from that at `off` on, the last one before v->end, get their bitmaps at once. */
static uint64_t blocks_ahead(const struct vhd *v, uint64_t off, uint64_t stride)
{
    const uint64_t bytes = vhd_block_bytes(v);

    if (v->block_size > AHEAD_BLOCK_MAX || off + bytes != v->end || v->end > v->footer_at)
        return 1;
    return PL_MIN((v->footer_at - v->end) / stride + 1, AHEAD_BYTES / stride);
}

/* The bitmap of a new block; those of the tiny blocks that will be next are written with it, and
 * zeros between them. */
static int write_new_bitmap(struct vhd *v, uint64_t off, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t next = vhd_block_place(v, off + vhd_block_bytes(v));
    const uint64_t stride = next - off, count = blocks_ahead(v, off, stride);
    PL_FREE uint8_t *bytes = NULL;

    if (off == v->ahead_at && off < v->ahead_end) {
        v->ahead_at = next;
        return 0;
    }
    if (count == 1)
        return pl_storage_write(v->file, off, v->new_bitmap, v->bitmap_size, e);
    bytes = calloc(count, stride);
    if (!bytes)
        return pl_fail(e, PL_E_NOMEM, "no memory for sector bitmaps");
    for (uint64_t i = 0; i < count; i++)
        memcpy(bytes + i * stride, v->new_bitmap, v->bitmap_size);
    if (pl_storage_write(v->file, off, bytes, (count - 1) * stride + v->bitmap_size, e) < 0)
        return -1;
    v->ahead_at = next;
    v->ahead_end = off + count * stride;
    return 0;
}

int vhd_make_block(struct vhd *v, uint64_t index, struct pl_err *e)
{
    uint64_t off, data, dirty_to;

    if (find_room(v, &off, &dirty_to, e) < 0)
        return -1;
    data = off + v->bitmap_size;
    dirty_to = PL_MIN(dirty_to, data + v->block_size);
    if (!v->has_parent && dirty_to > data && pl_storage_zero(v->file, data, dirty_to - data, e) < 0)
        return -1;
    pl_table_cache_drop(v->bitmaps, off, v->bitmap_size);
    if (write_new_bitmap(v, off, e) < 0)
        return pl_within(e, "sector bitmap");
    /* The rest of the block comes next, as a rule. */
    pl_table_cache_insert(v->bitmaps, off, v->new_bitmap, pl_table_cache_epoch(v->bitmaps));
    vhd_set_entry(v, index, (uint32_t)(off / VHD_SECTOR));
    return 0;
}

/* ---- allocate ---- */

/* Whether the sector at guest address `at`, in a block that exists, is in the block, and the bytes
 * from `at` on of which that is true. */
static int look_at_bits(struct vhd *v, uint64_t at, bool *set, uint64_t *len, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    const uint32_t inside = (uint32_t)(at & (v->block_size - 1)), sector = inside / VHD_SECTOR;
    const uint32_t first = (uint32_t)pl_round_down(sector, SLICE_SECTORS);
    const uint32_t last = PL_MIN(v->block_size / VHD_SECTOR - first, SLICE_SECTORS);
    uint8_t *bits;
    uint64_t off;

    if (vhd_place(v, at >> v->block_bits, &off, e) < 0 ||
        slice_of(v, off + first / 8, &bits, e) < 0)
        return -1;
    *len =
        (uint64_t)vhd_bit_run(bits, sector - first, last, set) * VHD_SECTOR - inside % VHD_SECTOR;
    return 0;
}

static int check_fresh(const struct vhd *v, uint64_t at, uint64_t *len, struct pl_err *e)
{
    if (at + *len != v->size)
        *len = pl_round_down(*len, VHD_SECTOR);
    if (at % VHD_SECTOR == 0 && *len > 0)
        return 0;
    return pl_fail(e, PL_E_INVALID, "new room at 0x%" PRIx64 " for less than a sector", at);
}

static int allocate(struct vhd *v, uint64_t at, uint64_t len, struct pl_place *out,
                    struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t index = at >> v->block_bits, inside = at & (v->block_size - 1);
    bool set = !v->has_parent;
    uint64_t same = len;

    len = PL_MIN(len, v->block_size - inside);
    if (v->bat[index] == VHD_UNUSED) {
        if (vhd_make_block(v, index, e) < 0)
            return -1;
    } else if (look_at_bits(v, at, &set, &same, e) < 0) {
        return -1;
    }
    len = PL_MIN(len, same);
    if (!set && check_fresh(v, at, &len, e) < 0)
        return -1;
    *out = (struct pl_place){
        .at = at,
        .len = len,
        .st = v->file,
        .off = (uint64_t)v->bat[index] * VHD_SECTOR + v->bitmap_size + inside,
        .fresh = !set,
    };
    return 0;
}

int vhd_allocate(void *state, uint64_t at, uint64_t len, struct pl_place *out, struct pl_err *e)
{
    struct vhd *v = state;

    PL_LOCKED(&v->lock);
    if (vhd_begin_change(v, e) < 0)
        return -1;
    if (!len || !pl_inside(at, len, v->size))
        return pl_fail(e, PL_E_LIMIT, "[0x%" PRIx64 ", +0x%" PRIx64 ") is outside the disk", at,
                       len);
    if (!v->fixed)
        return allocate(v, at, len, out, e);
    *out = (struct pl_place){ .at = at, .len = len, .st = v->file, .off = at };
    return 0;
}

/* ---- link ---- */

static void set_run(uint8_t *bits, uint32_t first, uint32_t last, bool set)
{
    for (uint32_t i = first; i < last;) {
        const uint8_t bit = (uint8_t)(0x80 >> i % 8);

        if (i % 8 == 0 && last - i >= 8) {
            bits[i / 8] = set ? 0xff : 0;
            i += 8;
        } else {
            bits[i / 8] = (uint8_t)(set ? bits[i / 8] | bit : bits[i / 8] & ~bit);
            i++;
        }
    }
}

int vhd_set_bits(struct vhd *v, uint64_t at, uint64_t len, bool set, struct pl_err *e)
{
    const uint32_t inside = (uint32_t)(at & (v->block_size - 1));
    const uint32_t last = (uint32_t)pl_div_up(inside + len, VHD_SECTOR);
    uint64_t off;

    if (vhd_place(v, at >> v->block_bits, &off, e) < 0)
        return -1;
    for (uint32_t i = inside / VHD_SECTOR; i < last;) {
        const uint32_t first = (uint32_t)pl_round_down(i, SLICE_SECTORS);
        const uint32_t stop = PL_MIN(last, first + SLICE_SECTORS);
        uint8_t *bits;

        if (slice_of(v, off + first / 8, &bits, e) < 0)
            return -1;
        set_run(bits, i - first, stop - first, set);
        pl_table_cache_dirty(v->bitmaps, off + first / 8);
        i = stop;
    }
    return 0;
}

int vhd_is_bare(struct vhd *v, uint64_t index, bool *bare, struct pl_err *e)
{
    const uint64_t start = index << v->block_bits;
    uint64_t run;
    bool set = false;

    for (uint64_t inside = 0; inside < v->block_size && !set; inside += run)
        if (look_at_bits(v, start + inside, &set, &run, e) < 0)
            return -1;
    *bare = !set;
    return 0;
}

int vhd_link(void *state, const struct pl_place *place, struct pl_err *e)
{
    struct vhd *v = state;

    PL_LOCKED(&v->lock);
    if (vhd_check_writable(v, e) < 0)
        return -1;
    if (vhd_set_bits(v, place->at, place->len, true, e) == 0)
        return 0;
    v->broken = true;
    return -1;
}
