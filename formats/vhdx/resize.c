/* resize.c - a larger or a smaller virtual disk.
 *
 * Growing: what the file has behind the old end is zeroed or forgotten, a BAT that is too small for
 * its region is copied into a new one at the end of the file; then one entry of the log shows size
 * and region.  Shrinking: the size first, then the blocks behind it go.  A crash in between leaves
 * entries behind the end, which growing forgets. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/scope.h"
#include "formats/vhdx/vhdx.h"

#define PREALLOCATE_AT_ONCE (256 * PL_MIB)

static int check_request(const struct vhdx *v, uint64_t size, bool shrink, struct pl_err *e)
{
    if (size < v->size && !shrink) {
        pl_fail(e, PL_E_INVALID,
                "shrinking from %" PRIu64 " to %" PRIu64 " bytes would lose what lies behind",
                v->size, size);
        return pl_hint(e, "shrink file systems and partitions first, then use --shrink");
    }
    if (size % v->sector_size)
        return pl_fail(e, PL_E_INVALID,
                       "the new size of %" PRIu64 " bytes is no multiple of the sector of %" PRIu32,
                       size, v->sector_size);
    if (size > VHDX_DISK_MAX)
        return pl_fail(e, PL_E_LIMIT,
                       "%" PRIu64 " bytes are more than the format's limit of 64 TiB", size);
    return 0;
}

/* Shows the size, and the BAT's region where that is another one, at once. */
static int show(struct vhdx *v, uint64_t size, struct vhdx_range bat, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    uint8_t bytes[8];

    store_le64(bytes, size);
    if (vhdx_put(v, v->size_item, bytes, sizeof bytes, e) < 0) {
        v->broken = true; /* a part of it waits in memory */
        return pl_within(e, "metadata");
    }
    if (vhdx_commit_bat(v, bat, e) < 0)
        return -1;
    v->size = size;
    vhdx_use_bat(v, bat);
    return 0;
}

/* ---- growing ---- */

/* Makes the bytes of the last block that lie behind the end zeros. */
static int zero_tail(struct vhdx *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t inside = v->size & (v->block_size - 1);
    const uint64_t block = v->size >> v->block_bits;
    uint64_t entry;

    if (inside == 0)
        return 0;
    if (vhdx_entry(v, vhdx_payload_index(v, block), &entry, e) < 0 ||
        vhdx_check_payload(v, entry, block, v->file_end, e) < 0)
        return -1;
    if (!vhdx_is_present(entry))
        return 0;
    return pl_storage_zero(v->file, VHDX_BAT_OFFSET(entry) + inside, v->block_size - inside, e);
}

/* Index of the entry of the last chunk's sector bitmap; UINT64_MAX: there is none. */
static uint64_t last_bitmap(const struct vhdx *v, uint64_t size)
{
    if (!v->has_parent || size == 0)
        return UINT64_MAX;
    return vhdx_bitmap_index(v, vhdx_blocks(v, size) - 1);
}

static int grow(struct vhdx *v, uint64_t size, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t first = vhdx_payload_index(v, vhdx_blocks(v, v->size));
    const uint64_t end = PL_MIN(vhdx_bat_entries(v, size), v->bat.len / 8);
    struct vhdx_range bat;

    if (zero_tail(v, e) < 0 || vhdx_clear_entries(v, first, end, last_bitmap(v, v->size), e) < 0 ||
        vhdx_commit(v, e) < 0 || vhdx_need_bat(v, vhdx_bat_entries(v, size), &bat, e) < 0)
        return -1;
    return show(v, size, bat, e);
}

/* ---- shrinking ---- */

static int cut_file(struct vhdx *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    struct vhdx_tally tally;
    int result;

    if (vhdx_tally_make(v, &tally, e) < 0)
        return -1;
    /* a damaged image keeps its length */
    result =
        vhdx_tally_blocks(v, &tally, NULL) < 0 ? 0 : vhdx_cut_file(v, vhdx_tally_end(&tally), e);
    vhdx_tally_free(&tally);
    return result;
}

static int shrink_to(struct vhdx *v, uint64_t size, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t first = vhdx_payload_index(v, vhdx_blocks(v, size));
    const uint64_t end = vhdx_bat_entries(v, v->size);

    if (vhdx_commit(v, e) < 0 || show(v, size, v->bat, e) < 0 ||
        vhdx_clear_entries(v, first, end, last_bitmap(v, size), e) < 0 || vhdx_commit(v, e) < 0)
        return -1;
    return cut_file(v, e);
}

/* ---- room ahead of data ---- */

static int preallocate(struct vhdx *v, uint64_t at, uint64_t end, enum pl_prealloc how,
                       struct pl_err *e)
{
    while (at < end) {
        struct pl_place place;

        if (vhdx_allocate(v, at, PL_MIN(end - at, PREALLOCATE_AT_ONCE), &place, e) < 0)
            return -1;
        if (place.fresh && ((how != PL_PREALLOC_OFF &&
                             pl_storage_preallocate(place.st, place.off, place.len, how, e) < 0) ||
                            vhdx_link(v, &place, e) < 0)) {
            vhdx_cancel(v, &place);
            return pl_within(e, "preallocation");
        }
        at += place.len;
    }
    return 0;
}

static int change_size(struct vhdx *v, uint64_t size, bool shrink, struct pl_err *e)
{
    PL_LOCKED(&v->lock);
    if (vhdx_check_writable(v, e) < 0 || check_request(v, size, shrink, e) < 0)
        return -1;
    if (size == v->size)
        return 0;
    if (vhdx_begin_change(v, e) < 0)
        return -1;
    return size > v->size ? grow(v, size, e) : shrink_to(v, size, e);
}

int vhdx_resize(void *state, uint64_t size, bool shrink, enum pl_prealloc prealloc,
                struct pl_err *e)
{
    struct vhdx *v = state;
    const uint64_t old = v->size;

    if (change_size(v, size, shrink, e) < 0)
        return -1;
    if (size > old && (v->keep_blocks || prealloc != PL_PREALLOC_OFF) &&
        preallocate(v, pl_round_up(old, v->block_size), size, prealloc, e) < 0)
        return -1;
    return vhdx_flush(v, e);
}
