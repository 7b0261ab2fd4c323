/* zero.c - ranges that read as zeros, or as the parent's again, and room given back.
 *
 * Without a parent a block that does not exist reads as zeros.  With one there is no way to say
 * "zeros" but a block that holds them.  Parts of a block are zeroed in their place: some readers do
 * not look at the bits of a disk without a parent. */
#include <inttypes.h>

#include "formats/vhd/change.h"

/* Whether the part [at, at + len) of one block is all of it that is inside the disk. */
static bool is_whole(const struct vhd *v, uint64_t at, uint64_t len)
{
    return at % v->block_size == 0 && (len == v->block_size || at + len == v->size);
}

/* What happens to the part [at, at + len) of one block. */
static int zero_part(struct vhd *v, uint64_t at, uint64_t len, bool unmap, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    const uint64_t index = at >> v->block_bits, inside = at & (v->block_size - 1);
    uint64_t off;

    if (!v->has_parent && v->bat[index] == VHD_UNUSED)
        return 0;
    if (!v->has_parent && unmap && is_whole(v, at, len))
        return vhd_drop_block(v, index, e);
    if (v->bat[index] == VHD_UNUSED && vhd_make_block(v, index, e) < 0)
        return -1;
    if (vhd_place(v, index, &off, e) < 0 ||
        pl_storage_zero(v->file, off + v->bitmap_size + inside, len, e) < 0)
        return -1;
    return v->has_parent ? vhd_set_bits(v, at, len, true, e) : 0;
}

/* The part becomes the parent's; without one, zeros.  A block that has no sector is none. */
static int forget_part(struct vhd *v, uint64_t at, uint64_t len, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    const uint64_t index = at >> v->block_bits;
    bool bare = false;

    if (!v->has_parent)
        return zero_part(v, at, len, true, e);
    if (v->bat[index] == VHD_UNUSED)
        return 0;
    if (is_whole(v, at, len))
        return vhd_drop_block(v, index, e);
    if (vhd_set_bits(v, at, len, false, e) < 0 || vhd_is_bare(v, index, &bare, e) < 0)
        return -1;
    return bare ? vhd_drop_block(v, index, e) : 0;
}

/* What is done with a range. */
enum action { ZERO, UNMAP, FORGET };

/* Does that to each block of [at, at + len). */
static int do_blocks(struct vhd *v, uint64_t at, uint64_t len, enum action action, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    for (const uint64_t end = at + len; at < end;) {
        const uint64_t next = pl_round_down(at, v->block_size) + v->block_size;
        const uint64_t piece = PL_MIN(end, next) - at;

        if (action == FORGET ? forget_part(v, at, piece, e) < 0
                             : zero_part(v, at, piece, action == UNMAP, e) < 0)
            return -1;
        at += piece;
    }
    return 0;
}

static int check_range(const struct vhd *v, uint64_t at, uint64_t len, struct pl_err *e)
{
    if (pl_inside(at, len, v->size))
        return 0;
    return pl_fail(e, PL_E_LIMIT, "[0x%" PRIx64 ", +0x%" PRIx64 ") is outside the disk", at, len);
}

int vhd_zero(void *state, uint64_t at, uint64_t len, bool unmap, struct pl_err *e)
{
    struct vhd *v = state;

    PL_LOCKED(&v->lock);
    if (vhd_begin_change(v, e) < 0 || check_range(v, at, len, e) < 0)
        return -1;
    if (!v->fixed)
        return do_blocks(v, at, len, unmap ? UNMAP : ZERO, e);
    /* the storage gives blocks back as it likes: reserved ones must stay */
    return unmap ? pl_storage_zero(v->file, at, len, e) : 1;
}

int vhd_discard(void *state, uint64_t at, uint64_t len, struct pl_err *e)
{
    struct vhd *v = state;
    uint64_t from, to;

    PL_LOCKED(&v->lock);
    if (vhd_begin_change(v, e) < 0 || check_range(v, at, len, e) < 0)
        return -1;
    if (v->fixed)
        return pl_storage_zero(v->file, at, len, e);
    from = pl_round_up(at, v->block_size);
    to = at + len == v->size ? v->size : pl_round_down(at + len, v->block_size);
    if (v->has_parent || from >= to) /* nothing that could be given back */
        return 0;
    return do_blocks(v, from, to - from, UNMAP, e);
}

int vhd_forget(void *state, uint64_t at, uint64_t len, struct pl_err *e)
{
    struct vhd *v = state;

    PL_LOCKED(&v->lock);
    if (vhd_begin_change(v, e) < 0 || check_range(v, at, len, e) < 0)
        return -1;
    return v->fixed ? pl_storage_zero(v->file, at, len, e) : do_blocks(v, at, len, FORGET, e);
}
