/* new_bat.c - another region for the BAT: a longer one, or one whose entries all change at once.
 *
 * The copy is made where nothing is; then one commit changes the region tables, and whatever has to
 * change with them. */
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/scope.h"
#include "formats/vhdx/vhdx.h"

#define COPY_AT_ONCE (16 * PL_MIB)

/* Holes stay holes. */
static int copy_bytes(struct vhdx *v, uint64_t to, struct pl_err *e)
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

/* A copy at the end of the file, of `len` bytes, which are not less than it has. */
static int copy_to(struct vhdx *v, uint64_t len, struct vhdx_range *bat, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    bat->len = len;
    if (vhdx_new_table_room(v, len, &bat->off, e) < 0 || vhdx_cover_file(v, e) < 0)
        return -1;
    return copy_bytes(v, bat->off, e);
}

int vhdx_need_bat(struct vhdx *v, uint64_t entries, struct vhdx_range *bat, struct pl_err *e)
{
    const uint64_t bytes = 8 * entries;

    *bat = v->bat;
    return bytes <= bat->len ? 0 : copy_to(v, pl_round_up(bytes, VHDX_UNIT), bat, e);
}

int vhdx_copy_bat(struct vhdx *v, struct vhdx_range *bat, struct pl_err *e)
{
    return copy_to(v, v->bat.len, bat, e);
}

/* Both copies of the region table. */
static int put_region(struct vhdx *v, struct vhdx_range bat, struct pl_err *e) PL_NEEDS(&v->lock)
{
    PL_FREE uint8_t *table = malloc(VHDX_REGION_TABLE_BYTES);
    bool sound = false;

    if (!table)
        return pl_fail(e, PL_E_NOMEM, "no memory for a region table");
    for (unsigned copy = 0; copy < 2 && !sound; copy++)
        if (vhdx_load_region_table(v, copy, table, &sound, e) < 0)
            return -1;
    if (!sound)
        return pl_fail(e, PL_E_CORRUPT, "region table: both copies are damaged");
    for (uint32_t i = 0; i < load_le32(table + 8); i++) { /* was checked */
        uint8_t *entry = table + VHDX_REGION_ENTRIES_AT + i * VHDX_REGION_ENTRY_BYTES;

        if (memcmp(entry, vhdx_guid_bat, 16) != 0)
            continue;
        store_le64(entry + 16, bat.off);
        store_le32(entry + 24, (uint32_t)bat.len);
    }
    vhdx_seal_sum(table, VHDX_REGION_TABLE_BYTES);
    for (unsigned copy = 0; copy < 2; copy++)
        if (vhdx_put(v, VHDX_REGION_TABLE_AT(copy), table, VHDX_REGION_TABLE_BYTES, e) < 0)
            return pl_within(e, "region table");
    return 0;
}

static int commit(struct vhdx *v, struct vhdx_range bat, struct pl_err *e) PL_NEEDS(&v->lock)
{
    if (bat.off != v->bat.off && put_region(v, bat, e) < 0)
        return -1;
    return vhdx_commit(v, e);
}

int vhdx_commit_bat(struct vhdx *v, struct vhdx_range bat, struct pl_err *e)
{
    if (commit(v, bat, e) == 0)
        return 0;
    v->broken = true; /* what is changed in memory must not come with the next commit */
    return -1;
}

void vhdx_use_bat(struct vhdx *v, struct vhdx_range bat)
{
    const struct vhdx_range old = v->bat;

    if (bat.off == old.off)
        return;
    v->bat = bat;
    v->damaged_regions = 0;
    pl_table_cache_drop(v->tables, VHDX_REGION_TABLE_AT(0), 2 * VHDX_REGION_TABLE_BYTES);
    pl_table_cache_drop(v->tables, old.off, old.len);
    if (pl_storage_zero(v->file, old.off, old.len, NULL) < 0)
        return; /* room that compact finds */
}

int vhdx_bring_bat_back(struct vhdx *v, struct vhdx_range place, struct pl_err *e)
{
    const struct vhdx_range from = v->bat;

    if (from.off == place.off)
        return 0;
    if (copy_bytes(v, place.off, e) < 0 || vhdx_commit_bat(v, place, e) < 0)
        return -1;
    vhdx_use_bat(v, place);
    return from.off + from.len == v->file_end ? vhdx_cut_file(v, from.off, e) : 0;
}
