/* compact.c - the first places for the blocks that there are, and a file that ends behind them.
 *
 * A block behind free places is copied into the first of them, synced, then its entry changes; only
 * when all entries are on disk the header's count goes down, and then the file is cut.  The disk's
 * content does not change, so neither does the modification UUID.
 *
 * The same happens to gaps that were made since the image was opened, when it is closed: readers
 * that count the blocks, such as qemu-img check, take cBlocksAllocated for wrong while there are
 * gaps, and writers that take it for the next place must not find a lower one. */
#include <inttypes.h>

#include "core/base/checked.h"
#include "formats/vdi/vdi.h"

struct gaps {
    struct vdi *v;
    const struct pl_report *report;
    uint64_t places; /* that are needed */
    uint64_t moved, to_move;
};

/* Moves one block, if it is behind the places that are needed. */
static int move_block(void *ctx, uint64_t index, uint32_t entry, struct pl_err *e) PL_UNCHECKED;
static int move_block(void *ctx, uint64_t index, uint32_t entry, struct pl_err *e)
{
    struct gaps *g = ctx;
    struct vdi *v = g->v;
    uint64_t to;
    bool again;

    if (!vdi_is_place(entry) || entry < g->places)
        return 0;
    if (pl_check_cancelled(g->report, e) < 0)
        return -1;
    to = vdi_lowest_unused(v);
    if (to >= g->places)
        return pl_fail(e, PL_E_CORRUPT, "block map: it changed while the image was compacted");
    if (vdi_mark_place(&v->room, to, &again, e) < 0 ||
        pl_storage_copy(v->file, vdi_place_offset(v, to), v->file, vdi_place_offset(v, entry),
                        v->stride, e) < 0)
        return -1;
    pl_progress(g->report, ++g->moved * v->stride, g->to_move * v->stride);
    return vdi_change_entry(v, index, (uint32_t)to, e);
}

/* Cuts the file, and remembers that the first `places` places are used and no more. */
static int cut_file(struct vdi *v, uint64_t places, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t end = vdi_place_offset(v, places);
    bool again;

    vdi_forget_room(&v->room);
    for (uint64_t i = 0; i < places; i++)
        if (vdi_mark_place(&v->room, i, &again, e) < 0)
            return -1;
    if (v->header.allocated != places) {
        v->header.allocated = (uint32_t)places;
        if (vdi_switch_header(v, e) < 0)
            return -1;
    }
    v->looked = true;
    if (v->file->device)
        return 0;
    if (pl_storage_size(v->file) > end && pl_storage_resize(v->file, end, e) < 0)
        return -1;
    v->file_end = PL_MIN(v->file_end, end);
    return 0;
}

int vdi_close_gaps(struct vdi *v, const struct pl_report *report, uint64_t *freed, struct pl_err *e)
{
    const uint64_t before = pl_storage_size(v->file);
    struct gaps g = { .v = v, .report = report };
    struct vdi_findings found;

    if (vdi_scan(v, NULL, &found, e) < 0)
        return -1;
    if (found.outside || found.shared)
        return vdi_refuse_map(&found, e);
    g.places = found.used;
    g.to_move = found.end - found.used; /* at most */
    if (found.end > found.used &&
        (vdi_walk(v, 0, vdi_blocks_of(&v->header, v->header.disk_size), move_block, &g, e) < 0 ||
         vdi_write_back(v, true, e) < 0))
        return -1;
    if (cut_file(v, g.places, e) < 0)
        return -1;
    *freed = before - PL_MIN(before, pl_storage_size(v->file));
    return vdi_sync(v, e);
}

int vdi_compact(void *state, const struct pl_report *report, uint64_t *freed, struct pl_err *e)
{
    struct vdi *v = state;

    PL_LOCKED(&v->lock);
    if (vdi_check_writable(v, e) < 0 || vdi_write_back(v, true, e) < 0)
        return -1;
    return vdi_close_gaps(v, report, freed, e);
}

/* Whether the places without a block are no more than this session has made. */
static int has_own_gaps(struct vdi *v, bool *own, struct pl_err *e) PL_NEEDS(&v->lock)
{
    struct vdi_findings found;

    if (vdi_scan(v, NULL, &found, e) < 0)
        return -1;
    *own = !found.outside && !found.shared && found.end - found.used <= v->given_back &&
           v->header.allocated > found.used;
    return 0;
}

int vdi_seal(void *state, struct pl_err *e)
{
    struct vdi *v = state;
    uint64_t freed;
    bool own = false;

    PL_LOCKED(&v->lock);
    if (!v->writable || v->broken || v->fresh || !v->given_back)
        return 0;
    if (has_own_gaps(v, &own, e) == 0 && (!own || vdi_close_gaps(v, NULL, &freed, e) == 0))
        v->given_back = 0;
    /* With its gaps the image is right, too: the host may have no room to fill them. */
    return v->broken ? -1 : 0;
}
