/* repair.c - mends what check finds, in this order: entries without room, footers, header, blocks
 * in one place.  What is read as zeros afterwards is told. */
#include <inttypes.h>

#include "core/base/scope.h"
#include "formats/vhd/check.h"

/* Blocks that are made out of one place may enlarge the file by its size and that much. */
#define GROWTH_MAX (1024 * PL_MIB)

/* A block of which only the end is missing keeps its start: the file becomes longer. */
static void mend_entry(struct vhd_check *c, uint32_t index) PL_NEEDS(&c->v->lock)
{
    const uint64_t off = (uint64_t)c->v->bat[index] * VHD_SECTOR;
    const char *what = vhd_bad_place(c->v, index, c->v->bat[index]);

    if (!what)
        return;
    if (what == vhd_past_end && off + c->v->bitmap_size < c->v->footer_at) {
        if (c->told++ < TOLD_MAX)
            pl_warn(c->report, "block %" PRIu32 " was cut off: its end reads as zeros now", index);
        return;
    }
    if (c->told++ < TOLD_MAX)
        pl_warn(c->report, "block %" PRIu32 " is lost: it %s now", index,
                c->v->has_parent ? "shows its parent's content" : "reads as zeros");
    vhd_set_entry(c->v, index, VHD_UNUSED);
}

static int mend_header(struct vhd *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    if (!v->header_damaged)
        return 0;
    if (vhd_write_header(v, e) < 0)
        return -1;
    v->header_damaged = false;
    return 0;
}

/* Copies a block to a place of its own. */
static int move_away(struct vhd *v, const struct vhd_block *block, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    uint64_t to;

    if (vhd_append_room(v, &to, e) < 0)
        return -1;
    pl_table_cache_drop(v->bitmaps, to, v->bitmap_size);
    if (pl_storage_copy(v->file, to, v->file, (uint64_t)block->sector * VHD_SECTOR,
                        vhd_block_bytes(v), e) < 0)
        return pl_within(e, "moving block %" PRIu32, block->index);
    vhd_set_entry(v, block->index, (uint32_t)(to / VHD_SECTOR));
    return 0;
}

/* A BAT of nonsense must not make a huge file of a small one. */
static int check_growth(const struct vhd *v, size_t blocks, struct pl_err *e)
{
    const uint64_t now = pl_storage_size(v->file);

    if (blocks <= (2 * now + GROWTH_MAX) / vhd_block_bytes(v))
        return 0;
    pl_fail(e, PL_E_CORRUPT, "BAT: %zu blocks in a file of %" PRIu64 " bytes", blocks, now);
    return pl_hint(e, "too many lie in one place for a repair that makes sense");
}

static int part_blocks(struct vhd_check *c, struct pl_err *e) PL_NEEDS(&c->v->lock)
{
    PL_FREE struct vhd_block *list = NULL;
    uint64_t end = 0;
    size_t count;

    if (vhd_sorted_blocks(c->v, &list, &count, e) < 0 || check_growth(c->v, count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        const uint64_t off = (uint64_t)list[i].sector * VHD_SECTOR;

        if (off >= end) {
            end = off + vhd_block_bytes(c->v);
            continue;
        }
        pl_warn(c->report, "block %" PRIu32 " overlapped another one: it is a copy now",
                list[i].index);
        if (move_away(c->v, &list[i], e) < 0)
            return -1;
    }
    return 0;
}

int vhd_mend(struct vhd_check *c, struct pl_err *e)
{
    uint64_t end;

    if (c->v->fixed)
        return vhd_mend_footers(c->v, e);
    for (uint32_t i = 0; i < c->v->header.max_table_entries; i++)
        if (c->v->bat[i] != VHD_UNUSED)
            mend_entry(c, i);
    end = vhd_end_of_blocks(c->v);
    if (c->v->footer_at < end) {
        c->v->footer_at = end;
        c->v->at_end = VHD_NONE;
    }
    if (vhd_mend_footers(c->v, e) < 0 || mend_header(c->v, e) < 0)
        return -1;
    c->v->end = end;
    c->v->zero_from = c->v->footer_at + VHD_FOOTER_BYTES;
    if (part_blocks(c, e) < 0)
        return -1;
    return vhd_settle(c->v, e) < 0 || vhd_begin_change(c->v, e) < 0 ? -1 : vhd_trim(c->v, e);
}
