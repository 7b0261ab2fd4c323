/* repair.c - mends what check found.  Entries change through the log, as all do. */
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "core/base/zero.h"
#include "formats/vhdx/check.h"

int vhdx_mend_place(struct vhdx_check *c, const struct vhdx_item *item, struct pl_err *e)
{
    if (vhdx_reserve(c->v, 1, e) < 0)
        return -1;
    return vhdx_set_entry(c->v, item->index, VHDX_NOT_PRESENT, e);
}

int vhdx_mend_overlap(struct vhdx_check *c, const struct vhdx_item *item, struct pl_err *e)
{
    const uint64_t len = item->bitmap ? VHDX_BITMAP_BLOCK_BYTES : c->v->block_size;
    const uint64_t old = VHDX_BAT_OFFSET(item->entry);
    uint64_t off;

    if (vhdx_reserve(c->v, 1, e) < 0 || vhdx_new_table_room(c->v, len, &off, e) < 0 ||
        vhdx_cover_file(c->v, e) < 0 ||
        pl_storage_copy(c->v->file, off, c->v->file, old, PL_MIN(len, off - old), e) < 0)
        return -1;
    return vhdx_set_entry(c->v, item->index, off | VHDX_BAT_STATE(item->entry), e);
}

/* Both copies of the region table become what the sound one says. */
static int mend_region_tables(struct vhdx *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    PL_FREE uint8_t *raw = malloc(VHDX_REGION_TABLE_BYTES);
    unsigned sound_copy = 0;
    bool sound = false;

    if (!raw)
        return pl_fail(e, PL_E_NOMEM, "no memory for a region table");
    for (unsigned copy = 0; copy < 2 && !sound; copy++) {
        if (vhdx_load_region_table(v, copy, raw, &sound, e) < 0)
            return -1;
        sound_copy = copy;
    }
    if (!sound)
        return pl_fail(e, PL_E_CORRUPT, "region table: both copies are damaged");
    if (pl_storage_write(v->file, VHDX_REGION_TABLE_AT(!sound_copy), raw, VHDX_REGION_TABLE_BYTES,
                         e) < 0)
        return -1;
    v->damaged_regions = 0;
    return vhdx_sync(v, e);
}

int vhdx_mend_copies(struct vhdx *v, struct pl_err *e)
{
    /* a header goes over the copy that does not count: the damaged one */
    if (v->damaged_headers && vhdx_write_header(v, e) < 0)
        return -1;
    v->damaged_headers = 0;
    return v->damaged_regions ? mend_region_tables(v, e) : 0;
}

/* ---- room that nobody owns ---- */

/* The next run of MiB without an owner from *unit on. */
static bool next_gap(const struct vhdx_tally *tally, uint64_t *unit, uint64_t *count)
{
    const uint64_t end = tally->units;

    while (*unit < end && vhdx_tally_has(tally, *unit))
        ++*unit;
    for (*count = 0; *unit + *count < end && !vhdx_tally_has(tally, *unit + *count);)
        ++*count;
    return *count > 0;
}

/* How many MiB of a gap have bytes that are not zero. */
static int count_bytes(struct vhdx *v, uint64_t unit, uint64_t count, uint8_t *buf, uint64_t *leaks,
                       struct pl_err *e)
{
    const uint64_t size = pl_storage_size(v->view);

    for (uint64_t off = unit * VHDX_UNIT, end = off + count * VHDX_UNIT; off < end && off < size;) {
        uint64_t len = PL_MIN(end, size) - off;
        bool hole;

        if (pl_storage_map(v->view, off, &len, &hole, e) < 0)
            return -1;
        if (!hole) {
            len = PL_MIN(len, VHDX_UNIT - off % VHDX_UNIT);
            if (pl_storage_read(v->view, off, buf, len, e) < 0)
                return -1;
            if (!pl_is_zero(buf, len)) {
                ++*leaks;
                len = VHDX_UNIT - off % VHDX_UNIT; /* one is enough for this MiB */
            }
        }
        off += len;
    }
    return 0;
}

int vhdx_count_leaks(struct vhdx *v, const struct vhdx_tally *tally, uint64_t *leaks,
                     struct pl_err *e)
{
    PL_FREE uint8_t *buf = malloc(VHDX_UNIT);
    uint64_t count;

    if (!buf)
        return pl_fail(e, PL_E_NOMEM, "no memory to look at room that is not used");
    *leaks = 0;
    for (uint64_t unit = 0; next_gap(tally, &unit, &count); unit += count)
        if (count_bytes(v, unit, count, buf, leaks, e) < 0)
            return -1;
    return 0;
}

int vhdx_mend_leaks(struct vhdx *v, const struct vhdx_tally *tally, struct pl_err *e)
{
    uint64_t count;

    for (uint64_t unit = 0; next_gap(tally, &unit, &count); unit += count)
        if (pl_storage_zero(v->file, unit * VHDX_UNIT, count * VHDX_UNIT, e) < 0)
            return -1;
    return vhdx_cut_file(v, vhdx_tally_end(tally), e);
}
