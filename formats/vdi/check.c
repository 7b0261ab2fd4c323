/* check.c - whether the map is sound, and its mending.
 *
 * A corruption is an entry whose block is past the end of the file or in another block's place, and
 * a count in the header that would lead VirtualBox or QEMU to put a new block over one that is
 * there, or to refuse the image.  A leak is a place that no block has.
 *
 * Mending: an entry past the end becomes free, a block in another's place gets a place and a copy
 * of its own, the count is set right; then leaks go by compacting the file. */
#include <inttypes.h>

#include "core/base/checked.h"
#include "formats/vdi/vdi.h"

struct check {
    struct vdi *v;
    const struct pl_report *report;
    struct pl_check_result result;
    struct vdi_room seen; /* while mending: places that a block had before */
    uint64_t blocks;      /* of the disk */
};

static bool count_is_wrong(const struct vdi_header *h, const struct vdi_findings *found)
{
    return h->allocated < found->end || h->allocated > h->blocks;
}

/* A pass that looks; `tell`: says what it finds. */
static int look(struct check *c, bool tell, struct pl_err *e) PL_NEEDS(&c->v->lock)
{
    const struct vdi_header *h = &c->v->header;
    struct vdi_findings found;
    uint64_t counted;

    c->blocks = vdi_blocks_of(h, h->disk_size);
    if (vdi_scan(c->v, tell ? c->report : NULL, &found, e) < 0)
        return -1;
    counted = PL_MAX(found.end, PL_MIN(h->allocated, h->blocks));
    c->result = (struct pl_check_result){
        .corruptions = found.outside + found.shared + count_is_wrong(h, &found),
        .leaks = counted - found.used + found.beyond,
        .image_end_offset = vdi_place_offset(c->v, found.end),
        .has_allocation = true,
        .total_clusters = c->blocks,
        .allocated_clusters = found.used + found.shared,
        .fragmented_clusters = found.fragmented,
    };
    if (tell && count_is_wrong(h, &found))
        pl_warn(c->report,
                "header: %" PRIu32 " of %" PRIu32 " blocks are said to be allocated, but the "
                "first free place is %" PRIu64,
                h->allocated, h->blocks, found.end);
    if (tell && c->result.leaks)
        pl_warn(c->report, "%" PRIu64 " places in the file are no block's", c->result.leaks);
    return 0;
}

/* Gives a block a copy of its own. */
static int move_apart(struct vdi *v, uint64_t index, uint32_t place, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    uint64_t to, got;

    if (vdi_take_places(v, 1, v->header.blocks, &to, &got, e) < 0 ||
        pl_storage_copy(v->file, vdi_place_offset(v, to), v->file, vdi_place_offset(v, place),
                        v->stride, e) < 0)
        return -1;
    return vdi_change_entry(v, index, (uint32_t)to, e);
}

static int free_outside(void *ctx, uint64_t index, uint32_t entry, struct pl_err *e) PL_UNCHECKED;
static int free_outside(void *ctx, uint64_t index, uint32_t entry, struct pl_err *e)
{
    struct check *c = ctx;

    if (!vdi_is_place(entry) || index >= c->blocks ||
        vdi_place_inside(c->v, index, entry, c->v->file_end))
        return 0;
    pl_warn(c->report, "block map: entry %" PRIu64 " is made free", index);
    return vdi_change_entry(c->v, index, VDI_BLOCK_FREE, e);
}

static int part_shared(void *ctx, uint64_t index, uint32_t entry, struct pl_err *e) PL_UNCHECKED;
static int part_shared(void *ctx, uint64_t index, uint32_t entry, struct pl_err *e)
{
    struct check *c = ctx;
    bool again;

    if (!vdi_is_place(entry) || index >= c->blocks)
        return 0;
    if (vdi_mark_place(&c->seen, entry, &again, e) < 0)
        return -1;
    if (!again)
        return 0;
    pl_warn(c->report, "block map: the block of entry %" PRIu64 " gets a place of its own", index);
    return move_apart(c->v, index, entry, e);
}

/* Sets the count of the header; the room is known. */
static int mend_count(struct vdi *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    struct vdi_findings found;

    if (vdi_write_back(v, true, e) < 0 || vdi_scan(v, NULL, &found, e) < 0)
        return -1;
    if (!count_is_wrong(&v->header, &found))
        return 0;
    v->header.allocated = (uint32_t)found.end;
    return vdi_switch_header(v, e);
}

/* Entries past the end go first: places that are taken make the file longer. */
static int mend(struct check *c, struct pl_err *e) PL_NEEDS(&c->v->lock)
{
    int result;

    if (vdi_walk(c->v, 0, c->v->header.blocks, free_outside, c, e) < 0 ||
        vdi_write_back(c->v, true, e) < 0)
        return -1;
    result = vdi_walk(c->v, 0, c->v->header.blocks, part_shared, c, e);
    vdi_forget_room(&c->seen);
    return result < 0 ? -1 : mend_count(c->v, e);
}

/* Entries behind the disk's end, which a shrink that was cut short has left. */
static int drop_beyond(void *ctx, uint64_t index, uint32_t entry, struct pl_err *e) PL_UNCHECKED;
static int drop_beyond(void *ctx, uint64_t index, uint32_t entry, struct pl_err *e)
{
    struct vdi *v = ctx;

    return vdi_is_place(entry) ? vdi_change_entry(v, index, VDI_BLOCK_FREE, e) : 0;
}

static int mend_leaks(struct check *c, struct pl_err *e) PL_NEEDS(&c->v->lock)
{
    uint64_t freed;

    if (vdi_walk(c->v, c->blocks, c->v->header.blocks - c->blocks, drop_beyond, c->v, e) < 0 ||
        vdi_write_back(c->v, true, e) < 0)
        return -1;
    return vdi_close_gaps(c->v, c->report, &freed, e);
}

static uint64_t less(uint64_t before, uint64_t now)
{
    return before > now ? before - now : 0;
}

static int repair_image(struct check *c, enum pl_repair repair, struct pl_err *e)
    PL_NEEDS(&c->v->lock)
{
    struct pl_check_result first;

    if (look(c, false, e) < 0)
        return -1;
    first = c->result;
    if (first.corruptions && repair == PL_REPAIR_ALL && (mend(c, e) < 0 || look(c, false, e) < 0))
        return -1;
    /* Places may hold what an entry should point at: nothing is moved over them before the entries
     * are mended.  The count alone may still be wrong then: with gaps it can be more than there are
     * blocks. */
    if (c->result.leaks && (!c->result.corruptions || repair == PL_REPAIR_ALL) &&
        mend_leaks(c, e) < 0)
        return -1;
    if (look(c, true, e) < 0)
        return -1;
    c->result.corruptions_fixed = less(first.corruptions, c->result.corruptions);
    c->result.leaks_fixed = less(first.leaks, c->result.leaks);
    return 0;
}

int vdi_check(void *state, enum pl_repair repair, const struct pl_report *report,
              struct pl_check_result *result, struct pl_err *e)
{
    struct check c = { .v = state, .report = report };
    int r;

    PL_LOCKED(&c.v->lock);
    if (repair != PL_REPAIR_NONE && vdi_check_writable(c.v, e) < 0)
        return -1;
    if (c.v->writable && vdi_write_back(c.v, true, e) < 0)
        return -1;
    r = repair == PL_REPAIR_NONE ? look(&c, true, e) : repair_image(&c, repair, e);
    if (r == 0)
        *result = c.result;
    return r;
}
