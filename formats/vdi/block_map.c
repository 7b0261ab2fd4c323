/* block_map.c - where blocks are: entries of the map, through a bounded cache.
 *
 * vdi_map copies what it needs of a slice and decodes it without the lock.  A slice that is not
 * cached is read without the lock too; when entries changed meanwhile it is read again, in the end
 * under the lock.  One call covers at most one slice: 1 GiB of disk with blocks of 1 MiB. */
#include <inttypes.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "formats/vdi/vdi.h"

/* Entries for 1 TiB of disk with blocks of 1 MiB. */
#define CACHE_BYTES (4 * PL_MIB)
#define SLOTS_MIN 4
/* A cache smaller than this has slices of a sector, so that there are still some. */
#define CACHE_SMALL (64 * PL_KIB)
#define SLICE_MIN 512

/* Reads of a slice that lost a race with a change before the lock is held for one. */
#define RACES_MAX 4

/* Places so far behind twice cBlocks are accepted: growing from very few blocks takes some. */
#define STRAY_MAX 64

/* A copy of consecutive entries. */
struct view {
    uint64_t index; /* block of the first one */
    uint32_t count;
    uint64_t end; /* no place of the file reaches beyond this byte offset */
    uint8_t bytes[VDI_SLICE_MAX];
};

bool vdi_is_place(uint32_t entry)
{
    return entry < VDI_BLOCK_ZERO;
}

uint64_t vdi_place_offset(const struct vdi *v, uint64_t place)
{
    /* at most 2^32 places of 2^29 bytes */
    return v->header.data_offset + place * v->stride;
}

uint64_t vdi_block_len(const struct vdi *v, uint64_t index)
{
    return PL_MIN(v->header.block_size, v->header.disk_size - (index << v->block_bits));
}

bool vdi_place_inside(const struct vdi *v, uint64_t index, uint32_t place, uint64_t end)
{
    const uint64_t off = vdi_place_offset(v, place) + v->header.block_extra;
    const uint64_t len = vdi_block_len(v, index);

    /* Some writers end the file with the last byte that the disk has. */
    return place < 2 * (uint64_t)v->header.blocks + STRAY_MAX &&
           pl_inside(off, pl_round_down(len - 1, VDI_GEOMETRY_SECTOR) + 1, end);
}

int vdi_check_place(const struct vdi *v, uint64_t index, uint32_t place, uint64_t end,
                    struct pl_err *e)
{
    if (vdi_place_inside(v, index, place, end))
        return 0;
    return pl_fail(e, PL_E_CORRUPT,
                   "block map: entry %" PRIu64 " (0x%" PRIx32 "): its block at 0x%" PRIx64
                   " is past the end of the file (0x%" PRIx64 ")",
                   index, place, vdi_place_offset(v, place), end);
}

int vdi_open_map(struct vdi *v, struct pl_err *e)
{
    const uint64_t bytes = v->cache_bytes ? v->cache_bytes : CACHE_BYTES;

    v->slice = bytes < CACHE_SMALL ? SLICE_MIN : VDI_SLICE_MAX;
    if (vdi_map_storage(v->file, v->header.map_offset, v->header.blocks, &v->map_storage, e) < 0)
        return -1;
    return pl_table_cache_create(v->map_storage, v->slice,
                                 (uint32_t)PL_MAX(bytes / v->slice, SLOTS_MIN), &v->cache, e);
}

void vdi_close_map(struct vdi *v)
{
    pl_table_cache_free(v->cache);
    pl_storage_close(v->map_storage, NULL);
    v->cache = NULL;
    v->map_storage = NULL;
}

/* ---- looking ---- */

static void fill_view(const struct vdi *v, const uint8_t *slice, struct view *view)
{
    const uint32_t skip = (uint32_t)(4 * view->index & (v->slice - 1));

    view->count = PL_MIN(view->count, (v->slice - skip) / 4);
    memmove(view->bytes, slice + skip, 4 * (size_t)view->count);
}

/* Reads a slice with the lock dropped. */
static int read_meanwhile(struct vdi *v, uint64_t at, uint8_t *slice, struct pl_err *e)
    PL_NEEDS(&v->lock);
static int read_meanwhile(struct vdi *v, uint64_t at, uint8_t *slice, struct pl_err *e)
{
    int result;

    pl_lock_drop(&v->lock);
    result = pl_storage_read(v->map_storage, at, slice, v->slice, e);
    pl_lock_take(&v->lock);
    return result;
}

/* 1: the slice was read, but entries changed meanwhile. */
static int try_view(struct vdi *v, bool hold, struct view *view, struct pl_err *e)
    PL_NEEDS(&v->lock);
static int try_view(struct vdi *v, bool hold, struct view *view, struct pl_err *e)
{
    const uint64_t at = pl_round_down(4 * view->index, v->slice);
    const uint8_t *slice = pl_table_cache_peek(v->cache, at);
    uint64_t epoch;
    int result;

    if (slice) {
        fill_view(v, slice, view);
        return 0;
    }
    epoch = pl_table_cache_epoch(v->cache);
    result = hold ? pl_storage_read(v->map_storage, at, view->bytes, v->slice, e)
                  : read_meanwhile(v, at, view->bytes, e);
    if (result < 0)
        return -1;
    if (epoch != pl_table_cache_epoch(v->cache))
        return 1;
    pl_table_cache_insert(v->cache, at, view->bytes, epoch);
    fill_view(v, view->bytes, view);
    return 0;
}

static int load_view(struct vdi *v, struct view *view, struct pl_err *e)
{
    int result = 1;

    PL_LOCKED(&v->lock);
    for (unsigned races = 0; result == 1; races++) {
        view->end = v->file_end;
        result = try_view(v, races >= RACES_MAX, view, e);
    }
    return result;
}

uint32_t vdi_run(const struct vdi *v, uint64_t index, const uint8_t *entries, uint32_t count,
                 uint64_t end)
{
    const uint32_t first = load_le32(entries);
    const bool placed = vdi_is_place(first);
    uint32_t run = 1;

    if (placed && v->header.block_extra)
        return 1;
    while (run < count) {
        const uint32_t entry = load_le32(entries + 4 * (size_t)run);

        if (entry != (placed ? first + run : first) ||
            (placed && !vdi_place_inside(v, index + run, entry, end)))
            break;
        run++;
    }
    return run;
}

/* Blocks with a place.  In a static image, which has most of its places for nothing, holes of the
 * file are zeros that need no look. */
static int set_data(const struct vdi *v, struct pl_extent *out, struct pl_err *e)
{
    const uint64_t size = pl_storage_size(v->file);
    uint64_t len = out->len;
    bool hole = true;

    out->st = v->file;
    out->state = PL_DATA;
    if (v->header.type != VDI_TYPE_FIXED)
        return 0;
    if (out->off < size) { /* else the file will be made longer at the next flush */
        len = PL_MIN(len, size - out->off);
        if (pl_storage_map(v->file, out->off, &len, &hole, e) < 0)
            return -1;
    }
    out->len = len;
    out->state = hole ? PL_ZERO : PL_DATA;
    out->allocated = hole;
    return 0;
}

int vdi_map(void *state, uint64_t at, uint64_t len, struct pl_extent *out, struct pl_err *e)
{
    struct vdi *v = state;
    const uint64_t inside = at & (v->header.block_size - 1);
    const uint64_t blocks = pl_div_up(inside + len, v->header.block_size);
    struct view view; /* not cleared: its bytes are many */
    uint32_t first;
    uint64_t run;

    view.index = at >> v->block_bits;
    view.count = (uint32_t)PL_MIN(blocks, v->slice / 4);
    if (load_view(v, &view, e) < 0)
        return -1;
    first = load_le32(view.bytes);
    *out = (struct pl_extent){ .state = first == VDI_BLOCK_ZERO ? PL_ZERO : PL_PARENT };
    if (vdi_is_place(first)) {
        if (vdi_check_place(v, view.index, first, view.end, e) < 0)
            return -1;
        out->off = vdi_place_offset(v, first) + v->header.block_extra + inside;
    }
    run = vdi_run(v, view.index, view.bytes, view.count, view.end);
    out->len = PL_MIN(len, (run << v->block_bits) - inside);
    return vdi_is_place(first) ? set_data(v, out, e) : 0;
}

/* ---- changing ---- */

int vdi_entries(struct vdi *v, uint64_t index, uint8_t **entries, uint32_t *count, struct pl_err *e)
{
    const uint32_t skip = (uint32_t)(4 * index & (v->slice - 1));
    int result = pl_table_cache_get(v->cache, 4 * index, entries, e);

    if (result == 1 && vdi_write_back(v, false, e) < 0)
        return -1;
    if (result == 1)
        result = pl_table_cache_get(v->cache, 4 * index, entries, e);
    if (result != 0)
        return -1;
    *entries += skip;
    *count = (uint32_t)PL_MIN((v->slice - skip) / 4, v->header.blocks - index);
    return 0;
}

void vdi_set_entry(struct vdi *v, uint64_t index, uint8_t *entry, uint32_t value)
{
    store_le32(entry, value);
    pl_table_cache_dirty(v->cache, 4 * index);
}

int vdi_change_entry(struct vdi *v, uint64_t index, uint32_t value, struct pl_err *e)
{
    uint8_t *entry;
    uint32_t count;

    if (vdi_entries(v, index, &entry, &count, e) < 0)
        return -1;
    vdi_set_entry(v, index, entry, value);
    return 0;
}
