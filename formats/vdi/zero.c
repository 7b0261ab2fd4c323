/* zero.c - ranges that become zeros, and blocks that the image says nothing of any more.
 *
 * A whole block can lose its place: the entry then says free, or zero where those are to hide a
 * parent.  A part of a block, and a block of a static image, keeps its place and gets zeros there;
 * the host may take the room of those back. */
#include <inttypes.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "formats/vdi/vdi.h"

/* What is left to do. */
struct span {
    uint64_t at, end; /* guest range */
    bool clear;       /* whole blocks lose their place ... */
    uint32_t mark;    /* ... and become that */
};

/* Zeros at the place of one block, up to guest address `to`. */
static int zero_place(struct vdi *v, struct span *s, uint32_t place, uint64_t to, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    const uint64_t in = s->at & (v->header.block_size - 1);
    const uint64_t off = vdi_place_offset(v, place) + v->header.block_extra + in;
    int result;

    if (vdi_check_place(v, s->at >> v->block_bits, place, v->file_end, e) < 0)
        return -1;
    /* The block stays where it is: the range is the caller's. */
    pl_lock_drop(&v->lock);
    result = pl_storage_zero(v->file, off, to - s->at, e);
    pl_lock_take(&v->lock);
    s->at = to;
    return result;
}

/* A whole block that needs no place. */
static int clear_block(struct vdi *v, uint64_t index, uint8_t *p, uint32_t mark, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    const uint32_t entry = load_le32(p);

    if (entry == mark || (!v->has_parent && !vdi_is_place(entry)))
        return 0;
    vdi_set_entry(v, index, p, mark);
    return vdi_is_place(entry) ? vdi_free_later(v, entry, 1, e) : 0;
}

/* The blocks that one slice describes, or up to the first that gets zeros in its place. */
static int zero_slice(struct vdi *v, struct span *s, struct pl_err *e) PL_NEEDS(&v->lock)
{
    uint8_t *entries;
    uint32_t count;

    if (vdi_entries(v, s->at >> v->block_bits, &entries, &count, e) < 0)
        return -1;
    for (; count && s->at < s->end; count--, entries += 4) {
        const uint64_t index = s->at >> v->block_bits, from = index << v->block_bits;
        const uint64_t to = PL_MIN(s->end, from + v->header.block_size);
        const bool whole = s->at == from && to == from + vdi_block_len(v, index);
        const uint32_t entry = load_le32(entries);

        if (vdi_is_place(entry) && !(whole && s->clear))
            return zero_place(v, s, entry, to, e);
        if (whole && clear_block(v, index, entries, s->mark, e) < 0)
            return -1;
        s->at = to;
    }
    return 0;
}

static int zero_span(struct vdi *v, struct span s, struct pl_err *e)
{
    PL_LOCKED(&v->lock);
    if (vdi_begin_change(v, e) < 0)
        return -1;
    while (s.at < s.end)
        if (zero_slice(v, &s, e) < 0)
            return -1;
    return 0;
}

static int check_range(const struct vdi *v, uint64_t at, uint64_t len, struct pl_err *e)
{
    if (!pl_inside(at, len, v->header.disk_size))
        return pl_fail(e, PL_E_LIMIT, "[0x%" PRIx64 ", +0x%" PRIx64 ") is outside the disk", at,
                       len);
    return 0;
}

int vdi_zero(void *state, uint64_t at, uint64_t len, bool unmap, struct pl_err *e)
{
    struct vdi *v = state;
    const bool fixed = v->header.type == VDI_TYPE_FIXED;

    if (fixed && !unmap) /* the storage gives blocks back as it likes: reserved ones must stay */
        return 1;
    if (check_range(v, at, len, e) < 0)
        return -1;
    return zero_span(v,
                     (struct span){ .at = at,
                                    .end = at + len,
                                    .clear = unmap && !fixed,
                                    .mark = v->has_parent ? VDI_BLOCK_ZERO : VDI_BLOCK_FREE },
                     e);
}

int vdi_discard(void *state, uint64_t at, uint64_t len, struct pl_err *e)
{
    return vdi_zero(state, at, len, true, e);
}

/* Without a parent a part of a block that is zeros is the same as one that is not there. */
int vdi_forget(void *state, uint64_t at, uint64_t len, struct pl_err *e)
{
    struct vdi *v = state;
    const uint32_t block = v->header.block_size;

    if (v->header.type == VDI_TYPE_FIXED)
        return pl_fail(e, PL_E_UNSUPPORTED, "every block of a static image has its place");
    if (check_range(v, at, len, e) < 0)
        return -1;
    if (v->has_parent && (at % block || (len % block && at + len != v->header.disk_size)))
        return pl_fail(e, PL_E_INVALID,
                       "[0x%" PRIx64 ", +0x%" PRIx64 ") is no whole number of blocks of %" PRIu32
                       " bytes",
                       at, len, block);
    return zero_span(
        v, (struct span){ .at = at, .end = at + len, .clear = true, .mark = VDI_BLOCK_FREE }, e);
}
