/* compact.c - a shorter file: the last blocks move into gaps before them, and the file is cut.
 *
 * A gap is free on disk before anything moves into it, and a block that moved leaves its old place
 * to nobody, so all copies may be made before the first entry changes.  Gaps shorter than a block
 * stay. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/scope.h"
#include "core/base/zero.h"
#include "formats/vhd/change.h"

/* Blocks that are copied before their entries are written. */
#define MOVES_AT_ONCE 64

/* The state of one run. */
struct compact {
    struct vhd *v;
    struct vhd_block *blocks; /* by place */
    size_t count;             /* those that were not moved */
    struct vhd_gaps gaps;
};

/* Moves the last block, if there is a gap before it.  1: there is none. */
static int move_last(struct compact *c, struct pl_err *e) PL_NEEDS(&c->v->lock)
{
    const struct vhd_block *block = &c->blocks[c->count - 1];
    const uint64_t from = (uint64_t)block->sector * VHD_SECTOR;
    uint64_t to;

    if (!vhd_gaps_next(&c->gaps, from, &to))
        return 1;
    pl_table_cache_drop(c->v->bitmaps, to, c->v->bitmap_size);
    if (pl_storage_copy(c->v->file, to, c->v->file, from, vhd_block_bytes(c->v), e) < 0)
        return pl_within(e, "moving block %" PRIu32, block->index);
    vhd_set_entry(c->v, block->index, (uint32_t)(to / VHD_SECTOR));
    c->count--;
    return 0;
}

static int move_all(struct compact *c, const struct pl_report *report, struct pl_err *e)
    PL_NEEDS(&c->v->lock)
{
    const size_t total = c->count;
    int r = 0;

    for (size_t moved = 0; r == 0 && c->count > 0; moved++) {
        if (moved % MOVES_AT_ONCE == 0) {
            if (pl_check_cancelled(report, e) < 0 || vhd_write_back(c->v, e) < 0)
                return -1;
            pl_progress(report, total - c->count, total);
        }
        r = move_last(c, e);
    }
    return r < 0 ? -1 : 0;
}

/* Whether no sector is in the block. */
static int is_empty(struct vhd *v, uint64_t off, bool *empty, struct pl_err *e)
{
    PL_FREE uint8_t *bits = malloc(v->bitmap_size);

    if (!bits)
        return pl_fail(e, PL_E_NOMEM, "no memory for a sector bitmap");
    if (pl_storage_read(v->file, off, bits, v->bitmap_size, e) < 0)
        return pl_within(e, "sector bitmap");
    *empty = pl_is_zero(bits, pl_div_up(v->block_size / VHD_SECTOR, 8));
    return 0;
}

/* Gives blocks up that say nothing. */
static int drop_empty(struct vhd *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    for (uint32_t i = 0; i < v->header.max_table_entries; i++) {
        bool empty = false;

        if (v->bat[i] != VHD_UNUSED && is_empty(v, (uint64_t)v->bat[i] * VHD_SECTOR, &empty, e) < 0)
            return -1;
        if (empty && vhd_drop_block(v, i, e) < 0)
            return -1;
    }
    return vhd_settle(v, e);
}

static int run(struct compact *c, const struct pl_report *report, struct pl_err *e)
    PL_NEEDS(&c->v->lock)
{
    int r;

    if (vhd_begin_change(c->v, e) < 0 || vhd_settle(c->v, e) < 0 || drop_empty(c->v, e) < 0 ||
        vhd_sorted_blocks(c->v, &c->blocks, &c->count, e) < 0 ||
        vhd_gaps_begin(&c->gaps, c->v, c->blocks, c->count, e) < 0)
        return -1;
    c->v->free_count = 0; /* gaps like any other */
    r = move_all(c, report, e);
    /* what was moved stays moved, also when somebody said stop */
    if (c->v->broken || vhd_settle(c->v, r < 0 ? NULL : e) < 0)
        return -1;
    c->v->end = vhd_end_of_blocks(c->v);
    return vhd_trim(c->v, r < 0 ? NULL : e) < 0 || r < 0 ? -1 : 0;
}

/* Unchecked: c.v->lock is v->lock. */
PL_UNCHECKED int vhd_close_gaps(struct vhd *v, const struct pl_report *report, struct pl_err *e)
{
    struct compact c = { .v = v };
    const int r = run(&c, report, e);

    free(c.blocks);
    vhd_gaps_end(&c.gaps);
    return r;
}

int vhd_compact(void *state, const struct pl_report *report, uint64_t *freed, struct pl_err *e)
{
    struct vhd *v = state;
    uint64_t before, after;
    int r;

    *freed = 0;
    PL_LOCKED(&v->lock);
    if (vhd_check_writable(v, e) < 0)
        return -1;
    if (v->fixed)
        return 0;
    before = pl_storage_size(v->file);
    r = vhd_close_gaps(v, report, e);
    after = pl_storage_size(v->file);
    *freed = before > after ? before - after : 0;
    return r;
}
