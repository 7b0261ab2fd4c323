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

#define COPY_AT_ONCE (16 * PL_MIB)
#define PREALLOCATE_AT_ONCE (256 * PL_MIB)
#define TABLE_SECTORS (VHDX_REGION_TABLE_BYTES / VHDX_SECTOR)
#define CHANGES_MAX (2 + 2 * TABLE_SECTORS)

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

/* ---- the log entry that shows the change ---- */

/* Sectors that are changed together, and their new bytes. */
struct batch {
    struct vhdx_change changes[CHANGES_MAX];
    uint32_t count;
};

static void add_sectors(struct batch *b, uint64_t off, const uint8_t *bytes, uint64_t sectors)
{
    for (uint64_t i = 0; i < sectors; i++)
        b->changes[b->count++] =
            (struct vhdx_change){ .off = off + i * VHDX_SECTOR, .bytes = bytes + i * VHDX_SECTOR };
}

/* Writes the batch through the log, then in its place. */
static int publish(struct vhdx *v, const struct batch *b, struct pl_err *e) PL_NEEDS(&v->lock)
{
    if (vhdx_log_write(v, b->changes, b->count, e) < 0)
        return -1;
    for (uint32_t i = 0; i < b->count; i++)
        if (pl_storage_write(v->file, b->changes[i].off, b->changes[i].bytes, VHDX_SECTOR, e) < 0) {
            v->broken = true;
            return -1;
        }
    return 0;
}

/* The sectors of the item Virtual Disk Size with another value. */
static int add_size(const struct vhdx *v, uint64_t size, uint8_t *bytes, struct batch *b,
                    struct pl_err *e)
{
    const uint64_t in = v->size_item % VHDX_SECTOR, off = v->size_item - in;
    const uint64_t sectors = in + 8 > VHDX_SECTOR ? 2 : 1;

    if (pl_storage_read(v->file, off, bytes, sectors * VHDX_SECTOR, e) < 0)
        return pl_within(e, "metadata");
    store_le64(bytes + in, size);
    add_sectors(b, off, bytes, sectors);
    return 0;
}

/* Both copies of the region table with another place for the BAT. */
static int add_region(struct vhdx *v, struct vhdx_range bat, uint8_t *bytes, struct batch *b,
                      struct pl_err *e)
{
    bool sound = false;

    for (unsigned copy = 0; copy < 2 && !sound; copy++)
        if (vhdx_load_region_table(v, copy, bytes, &sound, e) < 0)
            return -1;
    if (!sound)
        return pl_fail(e, PL_E_CORRUPT, "region table: both copies are damaged");
    for (uint32_t i = 0; i < load_le32(bytes + 8); i++) { /* was checked */
        uint8_t *entry = bytes + VHDX_REGION_ENTRIES_AT + i * VHDX_REGION_ENTRY_BYTES;

        if (memcmp(entry, vhdx_guid_bat, 16) != 0)
            continue;
        store_le64(entry + 16, bat.off);
        store_le32(entry + 24, (uint32_t)bat.len);
    }
    vhdx_seal_sum(bytes, VHDX_REGION_TABLE_BYTES);
    add_sectors(b, VHDX_REGION_TABLE_AT(0), bytes, TABLE_SECTORS);
    add_sectors(b, VHDX_REGION_TABLE_AT(1), bytes, TABLE_SECTORS);
    return 0;
}

/* Shows the size, and the BAT's region where that is another one. */
static int show(struct vhdx *v, uint64_t size, struct vhdx_range bat, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    PL_FREE uint8_t *item = malloc(2 * VHDX_SECTOR);
    PL_FREE uint8_t *table = malloc(VHDX_REGION_TABLE_BYTES);
    struct vhdx_range old = v->bat;
    struct batch batch = { .count = 0 };

    if (!item || !table)
        return pl_fail(e, PL_E_NOMEM, "no memory to resize");
    if (add_size(v, size, item, &batch, e) < 0 ||
        (bat.off != v->bat.off && add_region(v, bat, table, &batch, e) < 0) ||
        publish(v, &batch, e) < 0)
        return -1;
    v->size = size;
    v->bat = bat;
    if (bat.off == old.off)
        return 0;
    pl_table_cache_drop(v->tables, old.off, old.len);
    if (pl_storage_discard(v->file, old.off, old.len, NULL) < 0)
        return 0; /* the host may ignore or refuse it */
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

/* Copies the BAT; holes stay holes. */
static int copy_bat(struct vhdx *v, uint64_t to, struct pl_err *e)
{
    uint64_t piece;

    for (uint64_t done = 0; done < v->bat.len; done += piece) {
        bool hole;

        piece = PL_MIN(v->bat.len - done, COPY_AT_ONCE);
        if (pl_storage_map(v->file, v->bat.off + done, &piece, &hole, e) < 0 ||
            (!hole &&
             pl_storage_copy(v->file, to + done, v->file, v->bat.off + done, piece, e) < 0))
            return pl_within(e, "BAT");
    }
    return 0;
}

/* A region with room for the entries of a disk of that size. */
static int need_bat(struct vhdx *v, uint64_t size, struct vhdx_range *bat, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    const uint64_t bytes = 8 * vhdx_bat_entries(v, size);

    *bat = v->bat;
    if (bytes <= bat->len)
        return 0;
    bat->len = pl_round_up(bytes, VHDX_UNIT);
    if (vhdx_new_table_room(v, bat->len, &bat->off, e) < 0 || vhdx_cover_file(v, e) < 0)
        return -1;
    return copy_bat(v, bat->off, e);
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
        vhdx_commit(v, e) < 0 || need_bat(v, size, &bat, e) < 0)
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
