/* check.c - looks for defects: damaged copies, entries that cannot be right, two blocks in one
 * place, room that nobody uses.
 *
 * The format keeps no list of what is free: MiB that nobody owns are lost only where they hold
 * bytes, since holes of the file take no room on the host. */
#include "formats/vhdx/check.h"

#include <inttypes.h>

/* Tells one finding and counts it. */
static void found(struct vhdx_check *c, const struct pl_err *what)
{
    c->result.corruptions++;
    if (c->tell)
        pl_warn(c->report, "%s", what->msg);
}

static void count_block(struct vhdx_check *c, uint64_t off) PL_NEEDS(&c->v->lock)
{
    if (c->result.allocated_clusters++ > 0 && off != c->next)
        c->result.fragmented_clusters++;
    c->next = off + c->v->block_size;
}

/* Whether the place of a block is its own. */
static int check_owner(struct vhdx_check *c, const struct vhdx_item *item, uint64_t len,
                       struct pl_err *e) PL_NEEDS(&c->v->lock)
{
    const uint64_t off = VHDX_BAT_OFFSET(item->entry);
    struct pl_err what;

    if (vhdx_tally_take(&c->tally, off, len))
        return 0;
    if (c->mend)
        return vhdx_mend_overlap(c, item, e);
    pl_fail(&what, PL_E_CORRUPT,
            "BAT entry 0x%016" PRIx64 " of %s %" PRIu64 ": its place belongs to another block too",
            item->entry, item->bitmap ? "the sector bitmap for block" : "block", item->block);
    found(c, &what);
    return 0;
}

static int check_bitmap_entry(struct vhdx_check *c, const struct vhdx_item *item, struct pl_err *e)
    PL_NEEDS(&c->v->lock)
{
    struct pl_err what;
    uint64_t off;

    if (!c->v->has_parent)
        return 0; /* such entries are not looked at */
    if (vhdx_check_bitmap(c->v, item->entry, item->block >> c->v->chunk_bits, c->v->file_end, &off,
                          &what) < 0) {
        if (c->mend)
            return vhdx_mend_place(c, item, e);
        found(c, &what);
        return 0;
    }
    return off ? check_owner(c, item, VHDX_BITMAP_BLOCK_BYTES, e) : 0;
}

/* A partial block needs its sector bitmap. */
static int check_partial(struct vhdx_check *c, const struct vhdx_item *item, struct pl_err *e)
    PL_NEEDS(&c->v->lock)
{
    struct pl_err what;
    uint64_t off;

    if (VHDX_BAT_STATE(item->entry) != VHDX_PARTIALLY_PRESENT)
        return 0;
    if (vhdx_bitmap(c->v, item->block, &off, &what) == 0 && off)
        return 0;
    if (c->mend)
        return vhdx_mend_place(c, item, e);
    pl_fail(&what, PL_E_CORRUPT,
            "block %" PRIu64 " is partially present, but has no sound sector bitmap", item->block);
    found(c, &what);
    return 0;
}

static int check_payload(struct vhdx_check *c, const struct vhdx_item *item, struct pl_err *e)
    PL_NEEDS(&c->v->lock)
{
    struct pl_err what;

    if (vhdx_check_payload(c->v, item->entry, item->block, c->v->file_end, &what) < 0) {
        if (c->mend)
            return vhdx_mend_place(c, item, e);
        found(c, &what);
        return 0;
    }
    if (!vhdx_is_present(item->entry))
        return 0;
    count_block(c, VHDX_BAT_OFFSET(item->entry));
    if (check_partial(c, item, e) < 0)
        return -1;
    return check_owner(c, item, c->v->block_size, e);
}

static int check_entry(void *ctx, const struct vhdx_item *item, struct pl_err *e) PL_UNCHECKED;
static int check_entry(void *ctx, const struct vhdx_item *item, struct pl_err *e)
{
    struct vhdx_check *c = ctx;

    if (pl_check_cancelled(c->report, e) < 0)
        return -1;
    return item->bitmap ? check_bitmap_entry(c, item, e) : check_payload(c, item, e);
}

static int check_copies(struct vhdx_check *c, struct pl_err *e) PL_NEEDS(&c->v->lock)
{
    struct pl_err what;

    if (c->mend)
        return c->v->damaged_headers || c->v->damaged_regions ? vhdx_mend_copies(c->v, e) : 0;
    if (c->v->damaged_headers) {
        pl_fail(&what, PL_E_CORRUPT, "one of the two headers is damaged");
        found(c, &what);
    }
    if (c->v->damaged_regions) {
        pl_fail(&what, PL_E_CORRUPT, "one of the two region tables is damaged");
        found(c, &what);
    }
    return 0;
}

/* One pass; the caller frees the tally. */
static int pass(struct vhdx_check *c, struct pl_err *e) PL_NEEDS(&c->v->lock)
{
    vhdx_tally_free(&c->tally);
    if (vhdx_tally_make(c->v, &c->tally, e) < 0)
        return -1;
    c->result = (struct pl_check_result){
        .has_allocation = true,
        .total_clusters = vhdx_blocks(c->v, c->v->size),
    };
    if (check_copies(c, e) < 0 || vhdx_walk(c->v, check_entry, c, e) < 0)
        return -1;
    c->result.image_end_offset = vhdx_tally_end(&c->tally);
    return vhdx_count_leaks(c->v, &c->tally, &c->result.leaks, e);
}

/* Mends, in one pass for the tables and then, when all is sound, for lost room. */
static int mend(struct vhdx_check *c, enum pl_repair repair, struct pl_err *e) PL_NEEDS(&c->v->lock)
{
    if (vhdx_begin_repair(c->v, e) < 0)
        return -1;
    if (repair == PL_REPAIR_ALL && c->result.corruptions) {
        c->mend = true;
        if (vhdx_new_content(c->v, e) < 0 || pass(c, e) < 0 || vhdx_commit(c->v, e) < 0)
            return -1;
        c->mend = false;
        if (pass(c, e) < 0)
            return -1;
    }
    if (c->result.corruptions || !c->result.leaks)
        return 0;
    return vhdx_mend_leaks(c->v, &c->tally, e) < 0 ? -1 : pass(c, e);
}

static int check(struct vhdx_check *c, enum pl_repair repair, struct pl_err *e)
    PL_NEEDS(&c->v->lock)
{
    struct pl_check_result first;

    if (pass(c, e) < 0)
        return -1;
    first = c->result;
    if (repair == PL_REPAIR_NONE || !(first.corruptions || first.leaks))
        return 0;
    if (mend(c, repair, e) < 0)
        return -1;
    c->result.corruptions_fixed =
        first.corruptions - PL_MIN(first.corruptions, c->result.corruptions);
    c->result.leaks_fixed = first.leaks - PL_MIN(first.leaks, c->result.leaks);
    return 0;
}

int vhdx_check(void *state, enum pl_repair repair, const struct pl_report *report,
               struct pl_check_result *result, struct pl_err *e)
{
    struct vhdx_check c = { .v = state, .report = report, .tell = true };
    int r;

    PL_LOCKED(&c.v->lock);
    if (repair != PL_REPAIR_NONE && vhdx_check_writable(c.v, e) < 0)
        return -1;
    if (c.v->changed && vhdx_commit(c.v, e) < 0)
        return -1;
    r = check(&c, repair, e);
    vhdx_tally_free(&c.tally);
    if (r == 0)
        *result = c.result;
    return r;
}
