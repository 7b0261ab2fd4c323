/* zero.c - blocks that read as zeros, or as the parent's again, and room given back.
 *
 * A block that is no longer needed becomes one of state ZERO, which reads as zeros with and without
 * a parent.  An image that is to leave its blocks allocated (a fixed one) keeps them: their bytes
 * are zeroed in place.  So are parts of blocks. */
#include "formats/vhdx/vhdx.h"

/* A part of one block. */
struct part {
    uint64_t block;
    uint64_t at, len; /* guest range */
    bool whole;       /* all of the block that is inside the disk */
    uint64_t entry;
};

static int load_part(struct vhdx *v, uint64_t at, uint64_t end, struct part *part, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    const uint64_t inside = at & (v->block_size - 1);

    part->block = at >> v->block_bits;
    part->at = at;
    part->len = PL_MIN(end - at, v->block_size - inside);
    part->whole = inside == 0 && (part->len == v->block_size || at + part->len == v->size);
    if (vhdx_reserve(v, 1, e) < 0 ||
        vhdx_entry(v, vhdx_payload_index(v, part->block), &part->entry, e) < 0)
        return -1;
    return vhdx_check_payload(v, part->entry, part->block, v->file_end, e);
}

/* Whether the bytes of the part are all in this file. */
static bool is_full(const struct part *part)
{
    return VHDX_BAT_STATE(part->entry) == VHDX_FULLY_PRESENT;
}

static int zero_in_place(struct vhdx *v, const struct part *part, struct pl_err *e)
{
    const uint64_t off = VHDX_BAT_OFFSET(part->entry) + (part->at & (v->block_size - 1));

    return pl_storage_zero(v->file, off, part->len, e);
}

/* The block has no room any more; `state` is what it becomes. */
static int drop_block(struct vhdx *v, const struct part *part, enum vhdx_block_state state,
                      struct pl_err *e) PL_NEEDS(&v->lock)
{
    if (vhdx_set_entry(v, vhdx_payload_index(v, part->block), state, e) < 0)
        return -1;
    if (vhdx_is_present(part->entry))
        vhdx_free_room(v, VHDX_BAT_OFFSET(part->entry));
    return 0;
}

/* 1: zeros must be written. */
static int zero_part(struct vhdx *v, const struct part *part, bool unmap, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    if (!vhdx_is_present(part->entry)) {
        if (!v->has_parent || VHDX_BAT_STATE(part->entry) != VHDX_NOT_PRESENT)
            return 0;
        return part->whole ? drop_block(v, part, VHDX_ZERO, e) : 1;
    }
    if (!unmap)
        return 1;
    if (part->whole && !v->keep_blocks)
        return drop_block(v, part, VHDX_ZERO, e);
    return is_full(part) ? zero_in_place(v, part, e) : 1;
}

int vhdx_zero(void *state, uint64_t at, uint64_t len, bool unmap, struct pl_err *e)
{
    struct vhdx *v = state;
    const uint64_t end = at + len;
    int result = 0;

    PL_LOCKED(&v->lock);
    if (vhdx_begin_change(v, e) < 0)
        return -1;
    while (at < end) {
        struct part part;
        int here;

        if (load_part(v, at, end, &part, e) < 0)
            return -1;
        here = zero_part(v, &part, unmap, e);
        if (here < 0)
            return -1;
        result |= here;
        at += part.len;
    }
    return result;
}

int vhdx_discard(void *state, uint64_t at, uint64_t len, struct pl_err *e)
{
    struct vhdx *v = state;
    const uint64_t end = at + len;

    PL_LOCKED(&v->lock);
    if (vhdx_begin_change(v, e) < 0)
        return -1;
    while (at < end) {
        struct part part;

        if (load_part(v, at, end, &part, e) < 0)
            return -1;
        if (vhdx_is_present(part.entry) && (is_full(&part) || (part.whole && !v->keep_blocks)) &&
            zero_part(v, &part, true, e) < 0)
            return -1;
        at += part.len;
    }
    return 0;
}

/* ---- forget ---- */

/* A block that is not partially present becomes that, with all sectors; room for it is made where
 * it has none. */
static int make_partial(struct vhdx *v, const struct part *part, uint64_t bitmap, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    uint64_t off = VHDX_BAT_OFFSET(part->entry), got;

    if (!vhdx_is_present(part->entry) && vhdx_new_room(v, 1, &off, &got, e) < 0)
        return -1;
    if (vhdx_set_bits(v, bitmap, part->block << v->block_bits, v->block_size, true, e) < 0)
        return -1;
    return vhdx_set_entry(v, vhdx_payload_index(v, part->block), off | VHDX_PARTIALLY_PRESENT, e);
}

/* Clears the bits of the part; the block is not there any more when none is left. */
static int forget_sectors(struct vhdx *v, const struct part *part, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    uint64_t bitmap;
    bool bare = false;

    if (vhdx_reserve(v, 2 + vhdx_bitmap_sectors(v), e) < 0 ||
        vhdx_need_bitmap(v, part->block, &bitmap, e) < 0)
        return -1;
    if (VHDX_BAT_STATE(part->entry) != VHDX_PARTIALLY_PRESENT &&
        make_partial(v, part, bitmap, e) < 0)
        return -1;
    if (vhdx_set_bits(v, bitmap, part->at, part->len, false, e) < 0 ||
        vhdx_is_bare(v, part->block, &bare, e) < 0)
        return -1;
    return bare ? drop_block(v, part, VHDX_NOT_PRESENT, e) : 0;
}

static int forget_part(struct vhdx *v, const struct part *part, struct pl_err *e) PL_NEEDS(&v->lock)
{
    if (VHDX_BAT_STATE(part->entry) == VHDX_NOT_PRESENT)
        return 0;
    if (part->whole && !v->keep_blocks)
        return drop_block(v, part, VHDX_NOT_PRESENT, e);
    if (v->has_parent)
        return forget_sectors(v, part, e);
    return is_full(part) ? zero_in_place(v, part, e) : 0;
}

int vhdx_forget(void *state, uint64_t at, uint64_t len, struct pl_err *e)
{
    struct vhdx *v = state;
    const uint64_t end = at + len;

    PL_LOCKED(&v->lock);
    if (vhdx_begin_change(v, e) < 0)
        return -1;
    while (at < end) {
        struct part part;

        if (load_part(v, at, end, &part, e) < 0 || forget_part(v, &part, e) < 0)
            return -1;
        at += part.len;
    }
    return 0;
}
