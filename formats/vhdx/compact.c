/* compact.c - makes the file shorter: blocks that are all zeros lose their room, the others move to
 * the front, the end is cut off; what is free before it becomes holes.
 *
 * Room is written to only when nothing on disk points at it: what was dropped first is committed
 * before blocks move, and what they leave is at the end.  Regions stay where they are. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/scope.h"
#include "core/base/zero.h"
#include "formats/vhdx/check.h"

struct compaction {
    struct vhdx *v;
    const struct pl_report *report;
    uint8_t *buf; /* a MiB */
    struct vhdx_tally tally;
    uint32_t *owners;   /* for each MiB of the file: 1 + the index of the block that begins
                                 there, 0: none does */
    uint64_t first_gap; /* no MiB before this one is free */
};

/* ---- blocks that are zeros ---- */

/* Whether all bytes of a block are zero. */
static int is_zero_block(struct compaction *c, uint64_t off, bool *zero, struct pl_err *e)
{
    const uint64_t end = PL_MIN(off + c->v->block_size, pl_storage_size(c->v->file));

    *zero = true;
    while (off < end && *zero) {
        uint64_t len = end - off;
        bool hole;

        if (pl_storage_map(c->v->file, off, &len, &hole, e) < 0)
            return -1;
        if (!hole) {
            len = PL_MIN(len, PL_MIB);
            if (pl_storage_read(c->v->file, off, c->buf, len, e) < 0)
                return -1;
            *zero = pl_is_zero(c->buf, len);
        }
        off += len;
    }
    return 0;
}

static int drop_if_zero(void *ctx, const struct vhdx_item *item, struct pl_err *e) PL_UNCHECKED;
static int drop_if_zero(void *ctx, const struct vhdx_item *item, struct pl_err *e)
{
    struct compaction *c = ctx;
    const bool partial = VHDX_BAT_STATE(item->entry) == VHDX_PARTIALLY_PRESENT;
    bool drop = false;

    if (pl_check_cancelled(c->report, e) < 0)
        return -1;
    if (item->bitmap || !vhdx_is_present(item->entry) || c->v->keep_blocks)
        return 0;
    if (partial ? vhdx_is_bare(c->v, item->block, &drop, e) < 0
                : is_zero_block(c, VHDX_BAT_OFFSET(item->entry), &drop, e) < 0)
        return -1;
    if (!drop)
        return 0;
    if (vhdx_reserve(c->v, 1, e) < 0)
        return -1;
    return vhdx_set_entry(c->v, item->index, partial ? VHDX_NOT_PRESENT : VHDX_ZERO, e);
}

/* ---- moving ---- */

static int note_owner(void *ctx, const struct vhdx_item *item, struct pl_err *e) PL_UNCHECKED;
static int note_owner(void *ctx, const struct vhdx_item *item, struct pl_err *e)
{
    struct compaction *c = ctx;
    const uint64_t unit = VHDX_BAT_OFFSET(item->entry) / VHDX_UNIT;

    (void)e;
    /* the tally found all places sound and apart; indexes are below 2^27 */
    if (vhdx_is_present(item->entry) && unit < c->tally.units)
        c->owners[unit] = (uint32_t)item->index + 1;
    return 0;
}

/* The first run of `count` free MiB that ends at or before `limit`; false: there is none. */
static bool find_gap(struct compaction *c, uint64_t count, uint64_t limit, uint64_t *unit)
{
    uint64_t run = 0;

    while (c->first_gap < limit && vhdx_tally_has(&c->tally, c->first_gap))
        c->first_gap++;
    for (uint64_t i = c->first_gap; i < limit; i++) {
        run = vhdx_tally_has(&c->tally, i) ? 0 : run + 1;
        if (run == count) {
            *unit = i + 1 - count;
            return true;
        }
    }
    return false;
}

/* Copies a block and changes its entry. */
static int move(struct compaction *c, uint64_t index, uint64_t from, uint64_t to, uint64_t len,
                struct pl_err *e) PL_NEEDS(&c->v->lock)
{
    uint64_t entry = 0;

    /* sectors of a bitmap that wait for a commit are in memory alone */
    if (vhdx_reserve(c->v, 1, e) < 0 || (len < c->v->block_size && vhdx_commit(c->v, e) < 0) ||
        vhdx_entry(c->v, index, &entry, e) < 0)
        return -1;
    if (pl_storage_copy(c->v->file, to, c->v->file, from, len, e) < 0)
        return -1;
    pl_table_cache_drop(c->v->tables, from, len);
    pl_table_cache_drop(c->v->tables, to, len);
    return vhdx_set_entry(c->v, index, to | VHDX_BAT_STATE(entry), e);
}

static bool is_bitmap(const struct vhdx *v, uint64_t index)
{
    const uint64_t per_chunk = (UINT64_C(1) << v->chunk_bits) + 1;

    return index % per_chunk == per_chunk - 1;
}

/* Moves the block that begins at MiB `unit` to the front, if there is room. */
static int move_one(struct compaction *c, uint64_t unit, struct pl_err *e) PL_NEEDS(&c->v->lock)
{
    const uint64_t index = c->owners[unit] - 1;
    const uint64_t len = is_bitmap(c->v, index) ? VHDX_BITMAP_BLOCK_BYTES : c->v->block_size;
    uint64_t to;

    if (!find_gap(c, len / VHDX_UNIT, unit, &to))
        return 0;
    if (move(c, index, unit * VHDX_UNIT, to * VHDX_UNIT, len, e) < 0)
        return -1;
    vhdx_tally_drop(&c->tally, unit * VHDX_UNIT, len);
    return vhdx_tally_take(&c->tally, to * VHDX_UNIT, len)
               ? 0
               : pl_fail(e, PL_E_CORRUPT, "a gap was none");
}

static int move_all(struct compaction *c, struct pl_err *e) PL_NEEDS(&c->v->lock)
{
    if (vhdx_tally_make(c->v, &c->tally, e) < 0 || vhdx_tally_blocks(c->v, &c->tally, e) < 0)
        return -1;
    c->owners = calloc(c->tally.units + 1, sizeof *c->owners);
    if (!c->owners)
        return pl_fail(e, PL_E_NOMEM, "no memory for a map of the file");
    if (vhdx_walk(c->v, note_owner, c, e) < 0)
        return -1;
    for (uint64_t unit = c->tally.units; unit > 0 && c->first_gap < unit; unit--) {
        if (!c->owners[unit - 1])
            continue;
        if (pl_check_cancelled(c->report, e) < 0 || move_one(c, unit - 1, e) < 0)
            return -1;
        pl_progress(c->report, c->tally.units - unit, c->tally.units);
    }
    return vhdx_commit(c->v, e);
}

static int compact(struct compaction *c, struct pl_err *e) PL_NEEDS(&c->v->lock)
{
    if (vhdx_begin_upkeep(c->v, e) < 0 || vhdx_commit(c->v, e) < 0 ||
        vhdx_walk(c->v, drop_if_zero, c, e) < 0 || vhdx_commit(c->v, e) < 0)
        return -1;
    c->v->freed_count = c->v->reusable_count = 0; /* the tally knows */
    if (move_all(c, e) < 0)
        return -1;
    /* what blocks left in front of a region is no end that could be cut off */
    return vhdx_mend_leaks(c->v, &c->tally, e) < 0 ? -1 : vhdx_sync(c->v, e);
}

int vhdx_compact(void *state, const struct pl_report *report, uint64_t *freed, struct pl_err *e)
{
    struct compaction c = { .v = state, .report = report };
    PL_FREE uint8_t *buf = malloc(PL_MIB);
    uint64_t before, after;
    int result;

    PL_LOCKED(&c.v->lock);
    if (!buf)
        return pl_fail(e, PL_E_NOMEM, "no memory to compact");
    c.buf = buf;
    before = pl_storage_size(c.v->file);
    result = compact(&c, e);
    vhdx_tally_free(&c.tally);
    free(c.owners);
    after = pl_storage_size(c.v->file);
    *freed = before > after ? before - after : 0;
    return result;
}
