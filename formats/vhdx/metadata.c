/* metadata.c - the items of the metadata region. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/scope.h"
#include "formats/vhdx/vhdx.h"

/* What is known of an item while the table is read. */
struct item {
    const char *name;
    const uint8_t *guid;
    uint32_t len_min, len_max;
    uint64_t off; /* in the file */
    uint32_t len;
    bool found;
};

enum {
    FILE_PARAMETERS,
    DISK_SIZE,
    DISK_ID,
    LOGICAL_SECTOR,
    PHYSICAL_SECTOR,
    PARENT_LOCATOR,
    ITEMS
};

#define ITEM(item_name, item_guid, min, max)                                                       \
    {                                                                                              \
        .name = (item_name), .guid = (item_guid), .len_min = (min), .len_max = (max)               \
    }

static int check_place(const struct vhdx *v, const struct vhdx_metadata_entry *entry,
                       const struct item *item, struct pl_err *e)
{
    if (entry->Length < item->len_min || entry->Length > item->len_max)
        return pl_fail(e, PL_E_CORRUPT,
                       "metadata item %s: %" PRIu32 " bytes (wanted: %" PRIu32 " to %" PRIu32 ")",
                       item->name, entry->Length, item->len_min, item->len_max);
    if (entry->Offset < VHDX_METADATA_TABLE_BYTES ||
        !pl_inside(entry->Offset, entry->Length, v->metadata.len))
        return pl_fail(e, PL_E_CORRUPT,
                       "metadata item %s: [0x%" PRIx32 ", +0x%" PRIx32 ") is not inside its region "
                       "of 0x%" PRIx64 " bytes",
                       item->name, entry->Offset, entry->Length, v->metadata.len);
    return 0;
}

static int add_item(const struct vhdx *v, const struct vhdx_metadata_entry *entry,
                    struct item *items, struct pl_err *e)
{
    char guid[PL_UUID_TEXT];

    for (unsigned i = 0; i < ITEMS && !(entry->Flags & VHDX_ITEM_IS_USER); i++) {
        struct item *item = &items[i];

        if (memcmp(entry->ItemId, item->guid, 16) != 0)
            continue;
        if (item->found)
            return pl_fail(e, PL_E_CORRUPT, "metadata: there are two items %s", item->name);
        if (check_place(v, entry, item, e) < 0)
            return -1;
        item->found = true;
        item->off = v->metadata.off + entry->Offset;
        item->len = entry->Length;
        return 0;
    }
    if (!(entry->Flags & VHDX_ITEM_IS_REQUIRED))
        return 0;
    return pl_fail(e, PL_E_UNSUPPORTED,
                   "metadata item %s is required to read the image, but not known",
                   vhdx_guid_text(entry->ItemId, guid));
}

static int find_items(const struct vhdx *v, struct item *items, struct pl_err *e)
{
    PL_FREE uint8_t *raw = malloc(VHDX_METADATA_TABLE_BYTES);
    uint16_t count;

    if (!raw)
        return pl_fail(e, PL_E_NOMEM, "metadata: no memory");
    if (pl_storage_read(v->view, v->metadata.off, raw, VHDX_METADATA_TABLE_BYTES, e) < 0)
        return pl_within(e, "metadata");
    count = load_le16(raw + 10);
    if (memcmp(raw, "metadata", 8) != 0)
        return pl_fail(e, PL_E_CORRUPT, "metadata: the table at 0x%" PRIx64 " has no signature",
                       v->metadata.off);
    if (count > VHDX_METADATA_ENTRIES_MAX)
        return pl_fail(e, PL_E_CORRUPT, "metadata: %u entries (limit: %d)", count,
                       VHDX_METADATA_ENTRIES_MAX);
    for (unsigned i = 0; i < count; i++) {
        struct vhdx_metadata_entry entry;

        pl_fields_decode(vhdx_metadata_entry_fields,
                         raw + VHDX_METADATA_ENTRIES_AT + i * VHDX_METADATA_ENTRY_BYTES,
                         VHDX_METADATA_ENTRY_BYTES, &entry);
        if (add_item(v, &entry, items, e) < 0)
            return -1;
    }
    for (unsigned i = 0; i < PARENT_LOCATOR; i++)
        if (!items[i].found)
            return pl_fail(e, PL_E_CORRUPT, "metadata: the item %s is missing", items[i].name);
    return 0;
}

int vhdx_derive(struct vhdx *v, struct pl_err *e)
{
    if (!pl_is_pow2(v->block_size) || v->block_size < VHDX_BLOCK_SIZE_MIN ||
        v->block_size > VHDX_BLOCK_SIZE_MAX)
        return pl_fail(e, PL_E_CORRUPT,
                       "metadata: a block size of %" PRIu32 " bytes is not a power of two from "
                       "1 MiB to 256 MiB",
                       v->block_size);
    if (v->sector_size != 512 && v->sector_size != 4096)
        return pl_fail(e, PL_E_CORRUPT,
                       "metadata: logical sectors of %" PRIu32 " bytes (wanted: 512 or 4096)",
                       v->sector_size);
    if (v->physical_sector_size != 512 && v->physical_sector_size != 4096)
        return pl_fail(e, PL_E_CORRUPT,
                       "metadata: physical sectors of %" PRIu32 " bytes (wanted: 512 or 4096)",
                       v->physical_sector_size);
    if (v->size > VHDX_DISK_MAX)
        return pl_fail(e, PL_E_LIMIT,
                       "metadata: a disk of %" PRIu64 " bytes is larger than the format's limit of "
                       "64 TiB",
                       v->size);
    if (v->size % v->sector_size)
        return pl_fail(e, PL_E_CORRUPT,
                       "metadata: a disk of %" PRIu64 " bytes has no whole number of sectors of "
                       "%" PRIu32 " bytes",
                       v->size, v->sector_size);
    v->block_bits = pl_log2(v->block_size);
    v->chunk_bits = pl_log2(VHDX_BITMAP_BITS * v->sector_size / v->block_size);
    return 0;
}

static int check_bat(const struct vhdx *v, struct pl_err *e)
{
    const uint64_t entries = vhdx_bat_entries(v, v->size); /* 2^26 and a few at most */

    if (entries * 8 > v->bat.len)
        return pl_fail(e, PL_E_CORRUPT,
                       "BAT: a disk of %" PRIu64 " bytes needs %" PRIu64 " entries, but its region "
                       "of %" PRIu64 " bytes has room for %" PRIu64,
                       v->size, entries, v->bat.len, v->bat.len / 8);
    return 0;
}

static int read_parent(struct vhdx *v, const struct item *item, struct pl_err *e)
{
    PL_FREE uint8_t *raw = NULL;

    if (!v->has_parent)
        return 0;
    if (!item->found)
        return pl_fail(e, PL_E_CORRUPT, "metadata: the item %s is missing", item->name);
    raw = malloc(item->len);
    if (!raw)
        return pl_fail(e, PL_E_NOMEM, "metadata item %s: no memory", item->name);
    if (pl_storage_read(v->view, item->off, raw, item->len, e) < 0 ||
        vhdx_read_locator(v, raw, item->len, e) < 0)
        return pl_within(e, "metadata item %s", item->name);
    return 0;
}

static int read_values(struct vhdx *v, const struct item *items, struct pl_err *e)
{
    uint8_t raw[5][16] = { 0 };
    uint32_t flags;

    for (unsigned i = 0; i < PARENT_LOCATOR; i++)
        if (pl_storage_read(v->view, items[i].off, raw[i], items[i].len, e) < 0)
            return pl_within(e, "metadata item %s", items[i].name);
    flags = load_le32(raw[FILE_PARAMETERS] + 4);
    v->block_size = load_le32(raw[FILE_PARAMETERS]);
    v->keep_blocks = flags & VHDX_LEAVE_BLOCKS_ALLOCATED;
    v->has_parent = flags & VHDX_HAS_PARENT;
    v->size = load_le64(raw[DISK_SIZE]);
    v->size_item = items[DISK_SIZE].off;
    v->parameters_item = items[FILE_PARAMETERS].off;
    v->sector_size = load_le32(raw[LOGICAL_SECTOR]);
    v->physical_sector_size = load_le32(raw[PHYSICAL_SECTOR]);
    memcpy(v->disk_id, raw[DISK_ID], sizeof v->disk_id);
    return 0;
}

int vhdx_read_metadata(struct vhdx *v, struct pl_err *e)
{
    struct item items[ITEMS] = {
        [FILE_PARAMETERS] = ITEM("File Parameters", vhdx_guid_file_parameters, 8, 8),
        [DISK_SIZE] = ITEM("Virtual Disk Size", vhdx_guid_disk_size, 8, 8),
        [DISK_ID] = ITEM("Virtual Disk ID", vhdx_guid_disk_id, 16, 16),
        [LOGICAL_SECTOR] = ITEM("Logical Sector Size", vhdx_guid_logical_sector, 4, 4),
        [PHYSICAL_SECTOR] = ITEM("Physical Sector Size", vhdx_guid_physical_sector, 4, 4),
        [PARENT_LOCATOR] = ITEM("Parent Locator", vhdx_guid_parent_locator,
                                VHDX_LOCATOR_HEADER_BYTES, VHDX_LOCATOR_BYTES_MAX),
    };

    if (find_items(v, items, e) < 0 || read_values(v, items, e) < 0 || vhdx_derive(v, e) < 0 ||
        check_bat(v, e) < 0)
        return -1;
    return read_parent(v, &items[PARENT_LOCATOR], e);
}
