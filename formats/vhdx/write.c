/* write.c - room for guest bytes, and the BAT entries and bits that show it.
 *
 * The granule is a sector, however large blocks are: a new block reads as zeros, so one that was
 * written in part is linked as fully present where the rest of it read as zeros before, and as
 * partially present where a parent shows through. */
#include <inttypes.h>

#include "formats/vhdx/vhdx.h"

/* Blocks that one place may take: what is looked at must not be looked at again for each. */
#define PLACE_BLOCKS_MAX 4096

/* What a block needs so that it can be written to. */
enum need { NOTHING, BLOCK, BITS };

struct spot {
    enum need need;
    uint64_t off; /* of the block, unless it needs one */
    uint64_t len; /* guest bytes from the address asked for that need the same, within the block */
};

/* Looks at guest [at, at + len), within one block. */
static int look_at(struct vhdx *v, uint64_t at, uint64_t len, struct spot *out, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    const uint64_t block = at >> v->block_bits;
    uint64_t entry, bitmap;
    bool set;

    if (vhdx_entry(v, vhdx_payload_index(v, block), &entry, e) < 0 ||
        vhdx_check_payload(v, entry, block, v->file_end, e) < 0)
        return -1;
    *out = (struct spot){ .need = BLOCK, .off = VHDX_BAT_OFFSET(entry), .len = len };
    if (!vhdx_is_present(entry))
        return 0;
    out->need = NOTHING;
    if (VHDX_BAT_STATE(entry) == VHDX_FULLY_PRESENT)
        return 0;
    if (vhdx_bitmap(v, block, &bitmap, e) < 0)
        return -1;
    if (!bitmap)
        return pl_fail(e, PL_E_CORRUPT,
                       "block %" PRIu64 " is partially present, but has no sector bitmap", block);
    out->len = pl_round_up(at % v->sector_size + len, v->sector_size);
    if (vhdx_bits(v, bitmap, at - at % v->sector_size, &out->len, &set, e) < 0)
        return -1;
    out->len = PL_MIN(out->len - at % v->sector_size, len);
    if (!set)
        out->need = BITS;
    return 0;
}

/* How much of [at, at + len) is like its first part; blocks that are there lie one after the
 * other. */
static int like_run(struct vhdx *v, uint64_t at, uint64_t len, struct spot *first, uint64_t *run,
                    struct pl_err *e) PL_NEEDS(&v->lock)
{
    for (*run = 0; *run < len && *run >> v->block_bits < PLACE_BLOCKS_MAX;) {
        const uint64_t here = at + *run;
        const uint64_t inside = here & (v->block_size - 1);
        const uint64_t piece = PL_MIN(len - *run, v->block_size - inside);
        struct spot spot;

        if (look_at(v, here, piece, &spot, e) < 0)
            return *run ? 0 : -1;
        if (*run == 0)
            *first = spot;
        else if (spot.need != first->need ||
                 (spot.need != BLOCK &&
                  spot.off + inside != first->off + (at & (v->block_size - 1)) + *run))
            return 0;
        *run += spot.len;
        if (spot.len < piece)
            return 0;
    }
    return 0;
}

static int check_granules(const struct vhdx *v, uint64_t at, uint64_t *len, struct pl_err *e)
{
    const uint64_t whole = at + *len == v->size ? *len : pl_round_down(*len, v->sector_size);

    if (at % v->sector_size || !whole)
        return pl_fail(e, PL_E_INVALID,
                       "new room for [0x%" PRIx64 ", +0x%" PRIx64 ") was asked for, which is no "
                       "whole number of sectors of %" PRIu32 " bytes",
                       at, *len, v->sector_size);
    *len = whole;
    return 0;
}

static int make_place(struct vhdx *v, uint64_t at, uint64_t len, struct pl_place *out,
                      struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t inside = at & (v->block_size - 1);
    struct spot first = { .need = NOTHING };
    uint64_t blocks;

    if (like_run(v, at, len, &first, &len, e) < 0)
        return -1;
    *out = (struct pl_place){ .at = at, .st = v->file, .fresh = first.need != NOTHING };
    if (out->fresh && check_granules(v, at, &len, e) < 0)
        return -1;
    if (first.need == BLOCK) {
        if (vhdx_new_room(v, pl_div_up(inside + len, v->block_size), &first.off, &blocks, e) < 0)
            return -1;
        len = PL_MIN(len, (blocks << v->block_bits) - inside);
        out->zeroed = true;
        out->token = 1;
    }
    out->off = first.off + inside;
    out->len = len;
    return 0;
}

int vhdx_allocate(void *state, uint64_t at, uint64_t len, struct pl_place *out, struct pl_err *e)
{
    struct vhdx *v = state;

    PL_LOCKED(&v->lock);
    if (vhdx_begin_change(v, e) < 0)
        return -1;
    if (!len || !pl_inside(at, len, v->size))
        return pl_fail(e, PL_E_LIMIT, "[0x%" PRIx64 ", +0x%" PRIx64 ") is outside the disk", at,
                       len);
    return make_place(v, at, len, out, e);
}

int vhdx_need_bitmap(struct vhdx *v, uint64_t block, uint64_t *off, struct pl_err *e)
{
    if (vhdx_bitmap(v, block, off, e) < 0)
        return -1;
    if (*off)
        return 0;
    if (vhdx_new_table_room(v, VHDX_BITMAP_BLOCK_BYTES, off, e) < 0)
        return -1;
    return vhdx_set_entry(v, vhdx_bitmap_index(v, block), *off | VHDX_FULLY_PRESENT, e);
}

/* Shows guest [at, at + len), a part of a block that had no place, at `off`, the block's. */
static int link_new(struct vhdx *v, uint64_t at, uint64_t len, uint64_t entry, uint64_t off,
                    struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t block = at >> v->block_bits;
    const uint64_t start = block << v->block_bits;
    const uint64_t whole = PL_MIN(v->block_size, v->size - start);
    uint64_t bitmap;

    if (len < whole && v->has_parent && VHDX_BAT_STATE(entry) == VHDX_NOT_PRESENT) {
        if (vhdx_need_bitmap(v, block, &bitmap, e) < 0 ||
            vhdx_set_bits(v, bitmap, start, v->block_size, false, e) < 0 ||
            vhdx_set_bits(v, bitmap, at, len, true, e) < 0)
            return -1;
        return vhdx_set_entry(v, vhdx_payload_index(v, block), off | VHDX_PARTIALLY_PRESENT, e);
    }
    return vhdx_set_entry(v, vhdx_payload_index(v, block), off | VHDX_FULLY_PRESENT, e);
}

/* The same for any block; [at, at + len) is within it. */
static int link_part(struct vhdx *v, uint64_t at, uint64_t len, uint64_t off, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    const uint64_t block = at >> v->block_bits;
    uint64_t entry, bitmap;

    if (vhdx_reserve(v, 2 + vhdx_bitmap_sectors(v), e) < 0 ||
        vhdx_entry(v, vhdx_payload_index(v, block), &entry, e) < 0)
        return -1;
    if (!vhdx_is_present(entry))
        return link_new(v, at, len, entry, off, e);
    if (VHDX_BAT_OFFSET(entry) != off)
        return pl_fail(e, PL_E_INVALID, "block %" PRIu64 " got another place meanwhile", block);
    if (VHDX_BAT_STATE(entry) == VHDX_FULLY_PRESENT)
        return 0;
    if (vhdx_bitmap(v, block, &bitmap, e) < 0)
        return -1;
    return vhdx_set_bits(v, bitmap, at, len, true, e);
}

int vhdx_link(void *state, const struct pl_place *place, struct pl_err *e)
{
    struct vhdx *v = state;
    const uint64_t end = place->at + place->len;
    uint64_t piece;

    PL_LOCKED(&v->lock);
    if (vhdx_begin_change(v, e) < 0)
        return -1;
    for (uint64_t at = place->at; at < end; at += piece) {
        const uint64_t inside = at & (v->block_size - 1);

        piece = PL_MIN(end - at, v->block_size - inside);
        if (link_part(v, at, piece, place->off + (at - place->at) - inside, e) < 0) {
            /* What was linked already must not be given back by cancel. */
            v->broken = v->broken || at != place->at;
            return -1;
        }
    }
    return 0;
}

void vhdx_cancel(void *state, const struct pl_place *place)
{
    struct vhdx *v = state;
    const uint64_t start = place->off - (place->at & (v->block_size - 1));

    PL_LOCKED(&v->lock);
    if (!place->token || v->broken)
        return;
    for (uint64_t off = start; off < place->off + place->len; off += v->block_size)
        vhdx_free_room(v, off);
}
