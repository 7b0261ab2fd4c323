/* check.c - whether footers, header and BAT are sound: the driver's check.
 *
 * A check is one look.  A repair looks, mends, and looks again.  Room for a block that no entry
 * names and that the host keeps is a leak; closing gaps gives it back. */
#include "formats/vhd/check.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/base/scope.h"

/* Whether one more finding is told. */
static bool tells(struct vhd_check *c)
{
    if (!c->tell || c->told > TOLD_MAX)
        return false;
    if (c->told++ < TOLD_MAX)
        return true;
    pl_warn(c->report, "further defects are only counted");
    return false;
}

static void corrupt(struct vhd_check *c, const char *what)
{
    c->result.corruptions++;
    if (tells(c))
        pl_warn(c->report, "%s", what);
}

static void look_at_metadata(struct vhd_check *c) PL_NEEDS(&c->v->lock)
{
    if (c->v->at_end == VHD_NONE)
        corrupt(c, "the footer at the end of the file is missing");
    if (c->v->at_end == VHD_BAD_CHECKSUM)
        corrupt(c, "the checksum of the footer is wrong");
    if (c->v->fixed)
        return;
    if (c->v->at_start == VHD_NONE)
        corrupt(c, "the copy of the footer at the start of the file is missing");
    if (c->v->at_start == VHD_BAD_CHECKSUM)
        corrupt(c, "the checksum of the footer's copy is wrong");
    if (c->v->copies_differ)
        corrupt(c, "the footer's copy at the start of the file is stale");
    if (c->v->header_damaged)
        corrupt(c, "the checksum of the header is wrong");
}

/* Entries that point at no room for a block, and those behind the end of the disk. */
static void look_at_entries(struct vhd_check *c) PL_NEEDS(&c->v->lock)
{
    const uint64_t blocks = vhd_blocks(c->v);

    for (uint32_t i = 0; i < c->v->header.max_table_entries; i++) {
        const char *what;

        if (c->v->bat[i] == VHD_UNUSED)
            continue;
        what = vhd_bad_place(c->v, i, c->v->bat[i]);
        c->result.corruptions += what != NULL;
        c->result.allocated_clusters += i < blocks;
        if (what && tells(c))
            pl_warn(c->report, "BAT entry %" PRIu32 ": the block at 0x%" PRIx64 " runs into %s", i,
                    (uint64_t)c->v->bat[i] * VHD_SECTOR, what);
        if (i >= blocks && !what) {
            c->result.leaks++;
            if (tells(c))
                pl_warn(c->report, "BAT entry %" PRIu32 " is behind the end of the disk", i);
        }
    }
}

/* Bytes of [from, to) that the host keeps; what was given back to it is not wasted. */
static int kept_bytes(struct vhd_check *c, uint64_t from, uint64_t to, uint64_t *kept,
                      struct pl_err *e)
{
    *kept = 0;
    while (from < to) {
        uint64_t len = to - from;
        bool hole;

        if (pl_storage_map(c->v->file, from, &len, &hole, e) < 0)
            return -1;
        *kept += hole ? 0 : len;
        from += len;
    }
    return 0;
}

/* Counts the blocks that would fit into a gap. */
static int look_at_gap(struct vhd_check *c, uint64_t from, uint64_t to, struct pl_err *e)
{
    const uint64_t bytes = vhd_block_bytes(c->v), place = vhd_block_place(c->v, from);
    uint64_t kept, blocks;

    if (to < place + bytes)
        return 0;
    if (kept_bytes(c, place, to, &kept, e) < 0)
        return -1;
    blocks = kept / bytes;
    c->result.leaks += blocks;
    if (blocks && tells(c))
        pl_warn(c->report, "[0x%" PRIx64 ", +0x%" PRIx64 ") belongs to no block", from, to - from);
    return 0;
}

/* Blocks one after the other, by place; `end` is that of what came before. */
static int look_at_block(struct vhd_check *c, const struct vhd_block *block, uint64_t *end,
                         bool overlaps, struct pl_err *e)
{
    const uint64_t off = (uint64_t)block->sector * VHD_SECTOR;

    if (overlaps) {
        c->result.corruptions++;
        if (tells(c))
            pl_warn(c->report, "block %" PRIu32 " at 0x%" PRIx64 " overlaps the one before it",
                    block->index, off);
    }
    if (look_at_gap(c, *end, off, e) < 0)
        return -1;
    *end = PL_MAX(*end, off + vhd_block_bytes(c->v));
    return 0;
}

/* The end of what is no block before byte offset `off`: gaps end there too. */
static uint64_t own_end(const struct vhd *v, uint64_t from, uint64_t off)
{
    for (unsigned i = 0; i < v->own_count; i++)
        if (v->own[i].off < off)
            from = PL_MAX(from, v->own[i].off + v->own[i].len);
    return from;
}

static int look_at_places(struct vhd_check *c, struct pl_err *e) PL_NEEDS(&c->v->lock)
{
    PL_FREE struct vhd_block *list = NULL;
    uint64_t end = 0, last = 0; /* last: the end of the last block */
    size_t count;

    if (vhd_sorted_blocks(c->v, &list, &count, e) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        const uint64_t off = (uint64_t)list[i].sector * VHD_SECTOR;

        if (vhd_bad_place(c->v, list[i].index, list[i].sector))
            continue;
        end = own_end(c->v, end, off);
        if (look_at_block(c, &list[i], &end, off < last, e) < 0)
            return -1;
        c->result.fragmented_clusters += i > 0 && list[i].index < list[i - 1].index;
        last = end;
    }
    end = own_end(c->v, end, UINT64_MAX);
    c->result.image_end_offset = end;
    return end < c->v->footer_at ? look_at_gap(c, end, c->v->footer_at, e) : 0;
}

static int look(struct vhd_check *c, struct pl_err *e) PL_NEEDS(&c->v->lock)
{
    c->result = (struct pl_check_result){ 0 };
    look_at_metadata(c);
    if (c->v->fixed) {
        c->result.image_end_offset = c->v->footer_at;
        return 0;
    }
    c->result.has_allocation = true;
    c->result.total_clusters = vhd_blocks(c->v);
    look_at_entries(c);
    return look_at_places(c, e);
}

static uint64_t less(uint64_t before, uint64_t now)
{
    return before > now ? before - now : 0;
}

static int look_and_mend(struct vhd_check *c, enum pl_repair repair, struct pl_err *e)
    PL_NEEDS(&c->v->lock)
{
    struct pl_check_result first;

    if (look(c, e) < 0)
        return -1;
    first = c->result;
    c->tell = true;
    if (repair == PL_REPAIR_ALL && first.corruptions && vhd_mend(c, e) < 0)
        return -1;
    if (first.leaks && (repair == PL_REPAIR_ALL || !first.corruptions) &&
        vhd_close_gaps(c->v, c->report, e) < 0)
        return -1;
    if (look(c, e) < 0)
        return -1;
    c->result.corruptions_fixed = less(first.corruptions, c->result.corruptions);
    c->result.leaks_fixed = less(first.leaks, c->result.leaks);
    return 0;
}

int vhd_check(void *state, enum pl_repair repair, const struct pl_report *report,
              struct pl_check_result *result, struct pl_err *e)
{
    struct vhd_check c = { .v = state, .report = report, .tell = repair == PL_REPAIR_NONE };

    PL_LOCKED(&c.v->lock);
    if (repair != PL_REPAIR_NONE && vhd_check_writable(c.v, e) < 0)
        return -1;
    if (c.v->begun && vhd_settle(c.v, e) < 0)
        return -1;
    if (repair == PL_REPAIR_NONE ? look(&c, e) < 0 : look_and_mend(&c, repair, e) < 0)
        return -1;
    *result = c.result;
    return 0;
}
