/* sparse_repair.c - mends what a check found.
 *
 * New tables and grains go to the end of the file, and everything reaches the disk in the order of
 * sparse.h, so a crash in between leaves an extent that is no worse than before. */
#include <inttypes.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "formats/vmdk/sparse_check.h"

/* The copy that is sound becomes the only one: one write of the header. */
int vmdk_mend_directories(struct vmdk_check *c, struct pl_err *e)
{
    struct vmdk_sparse *s = c->s;

    if (!s->directory[0]) {
        s->header.gdOffset = s->header.rgdOffset;
        s->directory[0] = s->directory[1];
    }
    s->directory[1] = 0;
    s->header.rgdOffset = 0;
    s->header.flags &= ~VMDK_FLAG_REDUNDANT;
    return vmdk_write_first_sector(c->s, e);
}

int vmdk_copy_table(struct vmdk_sparse *s, uint64_t from, uint64_t to, struct pl_err *e)
{
    uint8_t copy[VMDK_SECTOR], *sector;

    for (uint64_t at = 0; at < vmdk_table_bytes(s); at += sizeof copy) {
        if (vmdk_sector(s, s->table_cache, from + at, &sector, e) < 0)
            return -1;
        memcpy(copy, sector, sizeof copy);
        if (vmdk_sector_new(s, s->table_cache, to + at, &sector, e) < 0)
            return -1;
        memcpy(sector, copy, sizeof copy);
    }
    return 0;
}

int vmdk_mend_table(struct vmdk_check *c, uint64_t index, const bool sound[VMDK_COPIES],
                    struct pl_err *e)
{
    struct vmdk_sparse *s = c->s;

    for (unsigned copy = 0; copy < VMDK_COPIES; copy++) {
        uint64_t from = 0, to = 0;

        if (sound[copy] || !s->directory[copy])
            continue;
        if (sound[!copy] && s->directory[!copy] &&
            vmdk_find_table(c->s, !copy, index, true, &from, e) < 0)
            return -1;
        if (from && (vmdk_append_room(c->s, vmdk_table_bytes(s), &to, e) < 0 ||
                     vmdk_copy_table(c->s, from, to, e) < 0))
            return -1;
        if (vmdk_set_table(c->s, copy, index, to, e) < 0)
            return -1;
    }
    return 0;
}

int vmdk_mend_entry(struct vmdk_check *c, unsigned copy, uint64_t grain, uint32_t entry,
                    struct pl_err *e)
{
    struct vmdk_sparse *s = c->s;
    uint64_t table, at;
    uint8_t *sector;

    if (vmdk_find_table(c->s, copy, grain >> s->table_bits, true, &table, e) < 0)
        return -1;
    at = table + (grain & (s->table_entries - 1)) * VMDK_ENTRY_BYTES;
    if (vmdk_sector(c->s, s->table_cache, at, &sector, e) < 0)
        return -1;
    store_le32(sector + at % VMDK_SECTOR, entry);
    pl_table_cache_dirty(s->table_cache, at);
    return 0;
}

int vmdk_mend_shared(struct vmdk_check *c, uint64_t grain, uint32_t *entry, struct pl_err *e)
{
    struct vmdk_sparse *s = c->s;
    const uint32_t len = vmdk_grain_len(s, grain);
    uint64_t off, room = s->grain_size;
    bool zeroed;

    /* What this session freed may be what the other entry shows. */
    s->free.count = 0;
    if (vmdk_take_room(c->s, &off, &room, &zeroed, e) < 0 ||
        pl_storage_copy(s->file, off, s->file, vmdk_entry_offset(*entry), len, e) < 0)
        return -1;
    *entry = (uint32_t)(off / VMDK_SECTOR);
    return 0;
}
