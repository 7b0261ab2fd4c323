/* flush.c - the order in which changes reach the disk; see the steps at the top of vhd.h. */
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "formats/vhd/change.h"

/* The file grows by so many blocks, so many bytes at most, and so many where blocks are tiny, so
 * that not each block needs a footer and a sync. */
#define BLOCKS_AHEAD 8
#define BYTES_AHEAD (32 * PL_MIB)
#define BYTES_AHEAD_MIN (256 * PL_KIB)

#define ENTRIES_PER_SECTOR (VHD_SECTOR / 4)

int vhd_sync(struct vhd *v, struct pl_err *e)
{
    if (pl_storage_flush(v->file, e) == 0)
        return 0;
    v->broken = true; /* the host may have dropped what it could not write */
    return -1;
}

int vhd_write_footer(struct vhd *v, uint64_t at, struct pl_err *e)
{
    vhd_encode_footer(&v->footer, v->raw_footer);
    if (pl_storage_write(v->file, at, v->raw_footer, VHD_FOOTER_BYTES, e) < 0)
        return pl_within(e, at ? "footer" : "copy of the footer");
    return 0;
}

int vhd_write_footers(struct vhd *v, struct pl_err *e)
{
    if (vhd_write_footer(v, v->footer_at, e) == 0 && vhd_sync(v, e) == 0 &&
        vhd_write_footer(v, 0, e) == 0 && vhd_sync(v, e) == 0)
        return 0;
    v->broken = true;
    return -1;
}

int vhd_make_room(struct vhd *v, uint64_t end, struct pl_err *e)
{
    const uint64_t step = vhd_block_place(v, end) + vhd_block_bytes(v) - end;
    const uint64_t blocks = PL_MIN(BLOCKS_AHEAD - 1, BYTES_AHEAD / step);
    uint64_t to = end + step * PL_MAX(blocks, BYTES_AHEAD_MIN / step);

    if (end <= v->footer_at)
        return 0;
    if (vhd_write_footer(v, to, NULL) < 0) {
        to = end; /* there may be room for that */
        if (vhd_write_footer(v, to, e) < 0)
            return -1;
    }
    if (vhd_sync(v, e) < 0)
        return -1;
    v->zero_from = v->footer_at + VHD_FOOTER_BYTES;
    v->footer_at = to;
    return 0;
}

int vhd_trim(struct vhd *v, struct pl_err *e)
{
    v->ahead_at = v->ahead_end = 0;
    if (v->footer_at == v->end)
        return 0;
    if (vhd_write_footer(v, v->end, e) < 0 || vhd_sync(v, e) < 0)
        return -1;
    /* Threads that write to blocks they were given stay below v->end. */
    if (pl_storage_resize(v->file, v->end + VHD_FOOTER_BYTES, e) < 0) {
        v->broken = true;
        return -1;
    }
    v->footer_at = v->end;
    v->zero_from = v->end + VHD_FOOTER_BYTES;
    return 0;
}

/* ---- BAT ---- */

void vhd_set_entry(struct vhd *v, uint64_t index, uint32_t sector)
{
    v->bat[index] = sector;
    v->bat_dirty[index / ENTRIES_PER_SECTOR] = 1;
}

/* One sector of the BAT, or what there is of the last one. */
static int write_bat_sector(struct vhd *v, uint64_t sector, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t first = sector * ENTRIES_PER_SECTOR;
    const uint64_t count = PL_MIN(v->header.max_table_entries - first, ENTRIES_PER_SECTOR);
    uint8_t raw[VHD_SECTOR];

    for (uint64_t i = 0; i < count; i++)
        store_be32(raw + 4 * i, v->bat[first + i]);
    if (pl_storage_write(v->file, v->header.table_offset + 4 * first, raw, 4 * (size_t)count, e) <
        0)
        return pl_within(e, "BAT");
    return 0;
}

static uint64_t bat_sectors(const struct vhd *v)
{
    return pl_div_up(v->header.max_table_entries, ENTRIES_PER_SECTOR);
}

static int write_bat(struct vhd *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint8_t *dirty = v->bat_dirty, *end = dirty + bat_sectors(v);

    while (dirty < end && (dirty = memchr(dirty, 1, (size_t)(end - dirty)))) {
        const uint64_t sector = (uint64_t)(dirty - v->bat_dirty);

        if (write_bat_sector(v, sector, e) < 0)
            return -1;
        v->bat_dirty[sector] = 0;
        dirty++;
    }
    return 0;
}

int vhd_write_back(struct vhd *v, struct pl_err *e)
{
    const uint64_t sectors = bat_sectors(v);

    if (!pl_table_cache_is_dirty(v->bitmaps) &&
        !(sectors && memchr(v->bat_dirty, 1, (size_t)sectors)))
        return 0;
    if (vhd_sync(v, e) < 0 || write_bat(v, e) < 0)
        return -1;
    return pl_table_cache_write_back(v->bitmaps, e);
}

/* ---- blocks that nothing points at any more ---- */

static int make_list_room(uint32_t **list, size_t *room, size_t count, struct pl_err *e)
{
    const size_t more = *room ? 2 * *room : 64;
    uint32_t *longer;

    if (count < *room)
        return 0;
    longer = reallocarray(*list, more, sizeof *longer);
    if (!longer)
        return pl_fail(e, PL_E_NOMEM, "no memory for a list of %zu blocks", more);
    *list = longer;
    *room = more;
    return 0;
}

int vhd_add_free(struct vhd *v, uint32_t sector, struct pl_err *e)
{
    if (make_list_room(&v->free, &v->free_room, v->free_count, e) < 0)
        return -1;
    v->free[v->free_count++] = sector;
    return 0;
}

int vhd_drop_block(struct vhd *v, uint64_t index, struct pl_err *e)
{
    if (make_list_room(&v->pending, &v->pending_room, v->pending_count, e) < 0)
        return -1;
    v->pending[v->pending_count++] = v->bat[index];
    vhd_set_entry(v, index, VHD_UNUSED);
    return 0;
}

/* Whether something that is no block has bytes of [from, to). */
static bool is_owned(const struct vhd *v, uint64_t from, uint64_t to)
{
    for (unsigned i = 0; i < v->own_count; i++)
        if (from < v->own[i].off + v->own[i].len && v->own[i].off < to)
            return true;
    return false;
}

/* Tells the host of room that became free: of neighbours together, with what is between them and
 * too short for a block, so that it gives back their pages. */
static void discard_pending(const struct vhd *v) PL_NEEDS(&v->lock)
{
    const uint64_t bytes = vhd_block_bytes(v);

    for (size_t i = 0; i < v->pending_count;) {
        const uint64_t from = (uint64_t)v->pending[i] * VHD_SECTOR;
        uint64_t end = from + bytes;

        for (i++; i < v->pending_count; i++) {
            const uint64_t next = (uint64_t)v->pending[i] * VHD_SECTOR;

            if (next < end || next - end >= v->align || is_owned(v, end, next))
                break;
            end = next + bytes;
        }
        /* the host may refuse it: the room is free in the image anyway */
        if (pl_storage_discard(v->file, from, end - from, NULL) < 0)
            continue;
    }
}

static int by_sector(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* Step 4.  A block that cannot be put on the list is leaked. */
static void free_pending(struct vhd *v) PL_NEEDS(&v->lock)
{
    if (v->pending_count == 0)
        return;
    qsort(v->pending, v->pending_count, sizeof *v->pending, by_sector);
    discard_pending(v);
    for (; v->pending_count; v->pending_count--)
        if (vhd_add_free(v, v->pending[v->pending_count - 1], NULL) < 0)
            continue;
}

int vhd_settle(struct vhd *v, struct pl_err *e)
{
    if (vhd_write_back(v, e) < 0 || vhd_sync(v, e) < 0)
        return -1;
    free_pending(v);
    return 0;
}

int vhd_flush(void *state, struct pl_err *e)
{
    struct vhd *v = state;

    PL_LOCKED(&v->lock);
    if (!v->writable)
        return 0;
    if (v->broken)
        return vhd_check_writable(v, e);
    if (v->fixed)
        return v->file->sequential ? 0 : vhd_sync(v, e);
    if (!v->begun)
        return 0;
    if (vhd_settle(v, e) < 0 || (v->growing && vhd_show_size(v, e) < 0))
        return -1;
    return vhd_trim(v, e);
}
