/* create.c - writes new images, to the letter of the specification: regions and metadata items with
 * their Required flags, everything aligned to MiB.
 *
 *   1 MiB   log, metadata region, BAT region, blocks
 *
 * The BAT of a dynamic disk is all zeros and stays a hole of the file. */
#include "formats/vhdx/create.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/scope.h"

#define CREATOR "platter"
#define ITEMS_AT VHDX_METADATA_TABLE_BYTES
#define ITEMS_MAX 6
#define BAT_BUFFER (256 * PL_KIB)

/* A new image while it is written. */
struct creation {
    const struct pl_create_args *args;
    struct vhdx_request request;
    struct vhdx v; /* layout and sizes only */
    uint64_t data; /* where blocks begin */
    uint8_t *locator;
    uint32_t locator_len;
};

/* A random identifier, or one that follows from what the image is. */
static void make_guid(const struct creation *c, const char *what, uint8_t *raw)
{
    const struct vhdx_request *r = &c->request;
    struct pl_uuid uuid;
    char name[200];
    int len;

    if (c->args->reproducible) {
        len = snprintf(name, sizeof name, "vhdx %s %" PRIu64 " %" PRIu64 " %" PRIu32 " %d %.60s",
                       what, r->size, r->block_size, r->sector_size, r->fixed,
                       c->args->parent.identity ? c->args->parent.identity : "");
        pl_uuid_from_name(&uuid, name, (size_t)len);
    } else {
        pl_uuid_random(&uuid);
    }
    pl_uuid_store_guid(raw, &uuid);
}

static int write_identifier(const struct creation *c, struct pl_err *e)
{
    uint8_t raw[VHDX_CREATOR_AT + VHDX_CREATOR_BYTES] = VHDX_SIGNATURE;

    for (size_t i = 0; i < sizeof CREATOR - 1; i++)
        store_le16(raw + VHDX_CREATOR_AT + 2 * i, (uint16_t)CREATOR[i]);
    return pl_storage_write(c->args->file, 0, raw, sizeof raw, e);
}

static int write_headers(const struct creation *c, struct pl_err *e)
{
    uint8_t raw[VHDX_HEADER_BYTES];
    struct vhdx_header header = {
        .Signature = "head",
        .Version = VHDX_VERSION,
        .LogVersion = VHDX_LOG_VERSION,
        .LogLength = (uint32_t)c->v.log.len,
        .LogOffset = c->v.log.off,
    };

    make_guid(c, "file", header.FileWriteGuid);
    make_guid(c, "data", header.DataWriteGuid);
    for (unsigned i = 0; i < 2; i++) {
        header.SequenceNumber = i + 1;
        vhdx_encode_header(&header, raw);
        if (pl_storage_write(c->args->file, VHDX_HEADER_AT(i), raw, sizeof raw, e) < 0)
            return -1;
    }
    return 0;
}

static void put_region(uint8_t *raw, unsigned i, const uint8_t *guid, struct vhdx_range place)
{
    struct vhdx_region_entry entry = {
        .FileOffset = place.off,
        .Length = (uint32_t)place.len,
        .Required = VHDX_REGION_REQUIRED,
    };

    memcpy(entry.Guid, guid, sizeof entry.Guid);
    pl_fields_encode(vhdx_region_entry_fields, &entry,
                     raw + VHDX_REGION_ENTRIES_AT + i * VHDX_REGION_ENTRY_BYTES,
                     VHDX_REGION_ENTRY_BYTES);
}

static int write_regions(const struct creation *c, struct pl_err *e)
{
    PL_FREE uint8_t *raw = calloc(1, VHDX_REGION_TABLE_BYTES);

    if (!raw)
        return pl_fail(e, PL_E_NOMEM, "no memory for a region table");
    memcpy(raw, "regi", 4);
    store_le32(raw + 8, 2);
    put_region(raw, 0, vhdx_guid_bat, c->v.bat);
    put_region(raw, 1, vhdx_guid_metadata, c->v.metadata);
    vhdx_seal_sum(raw, VHDX_REGION_TABLE_BYTES);
    if (pl_storage_write(c->args->file, VHDX_REGION_TABLE_AT(0), raw, VHDX_REGION_TABLE_BYTES, e) <
        0)
        return -1;
    return pl_storage_write(c->args->file, VHDX_REGION_TABLE_AT(1), raw, VHDX_REGION_TABLE_BYTES,
                            e);
}

/* The metadata table and its items, while they are put together. */
struct metadata {
    uint8_t *raw;
    uint32_t len; /* so far */
    uint16_t count;
};

static void add_item(struct metadata *m, const uint8_t *guid, uint32_t flags, const void *bytes,
                     uint32_t len)
{
    struct vhdx_metadata_entry entry = {
        .Offset = m->len,
        .Length = len,
        .Flags = flags | VHDX_ITEM_IS_REQUIRED,
    };

    memcpy(entry.ItemId, guid, sizeof entry.ItemId);
    pl_fields_encode(vhdx_metadata_entry_fields, &entry,
                     m->raw + VHDX_METADATA_ENTRIES_AT + m->count * VHDX_METADATA_ENTRY_BYTES,
                     VHDX_METADATA_ENTRY_BYTES);
    memcpy(m->raw + m->len, bytes, len);
    m->len += len;
    store_le16(m->raw + 10, ++m->count);
}

static void add_items(const struct creation *c, struct metadata *m)
{
    const struct vhdx *v = &c->v;
    uint8_t raw[16];

    store_le32(raw, v->block_size);
    store_le32(raw + 4, (v->keep_blocks ? VHDX_LEAVE_BLOCKS_ALLOCATED : 0) |
                            (v->has_parent ? VHDX_HAS_PARENT : 0));
    add_item(m, vhdx_guid_file_parameters, 0, raw, 8);
    store_le64(raw, v->size);
    add_item(m, vhdx_guid_disk_size, VHDX_ITEM_IS_VIRTUAL_DISK, raw, 8);
    store_le32(raw, v->sector_size);
    add_item(m, vhdx_guid_logical_sector, VHDX_ITEM_IS_VIRTUAL_DISK, raw, 4);
    store_le32(raw, v->physical_sector_size);
    add_item(m, vhdx_guid_physical_sector, VHDX_ITEM_IS_VIRTUAL_DISK, raw, 4);
    make_guid(c, "disk", raw);
    add_item(m, vhdx_guid_disk_id, VHDX_ITEM_IS_VIRTUAL_DISK, raw, 16);
    if (v->has_parent)
        add_item(m, vhdx_guid_parent_locator, 0, c->locator, c->locator_len);
}

static int write_metadata(const struct creation *c, struct pl_err *e)
{
    struct metadata m = { .len = ITEMS_AT };
    PL_FREE uint8_t *raw = calloc(1, ITEMS_AT + 64 + VHDX_LOCATOR_BYTES_MAX);

    if (!raw)
        return pl_fail(e, PL_E_NOMEM, "no memory for metadata");
    m.raw = raw;
    memcpy(raw, "metadata", 8);
    add_items(c, &m);
    return pl_storage_write(c->args->file, c->v.metadata.off, raw, m.len, e);
}

/* The entry of a payload block of a new image. */
static uint64_t new_entry(const struct creation *c, uint64_t block)
{
    if (!c->request.fixed)
        return VHDX_ZERO;
    return (c->data + (block << c->v.block_bits)) | VHDX_FULLY_PRESENT;
}

/* Fills the BAT where it is not all zeros. */
static int write_bat(const struct creation *c, struct pl_err *e)
{
    const uint64_t blocks = vhdx_blocks(&c->v, c->v.size);
    const uint64_t per_chunk = UINT64_C(1) << c->v.chunk_bits;
    const uint64_t entries = vhdx_bat_entries(&c->v, c->v.size);
    PL_FREE uint8_t *raw = malloc(BAT_BUFFER);
    uint64_t block = 0;

    if (!raw)
        return pl_fail(e, PL_E_NOMEM, "no memory for the BAT");
    for (uint64_t done = 0; done < entries;) {
        const uint64_t count = PL_MIN(entries - done, BAT_BUFFER / 8);

        for (uint64_t i = 0; i < count; i++) {
            const bool payload = (done + i) % (per_chunk + 1) != per_chunk && block < blocks;

            store_le64(raw + 8 * i, payload ? new_entry(c, block) : 0);
            block += payload;
        }
        if (pl_storage_write(c->args->file, c->v.bat.off + 8 * done, raw, 8 * count, e) < 0)
            return -1;
        done += count;
    }
    return 0;
}

/* The room of a fixed disk. */
static int make_room(const struct creation *c, struct pl_err *e)
{
    const uint64_t len = vhdx_blocks(&c->v, c->v.size) << c->v.block_bits;

    if (!c->request.fixed)
        return 0;
    if (pl_storage_resize(c->args->file, c->data + len, e) < 0)
        return -1;
    if (c->request.prealloc == PL_PREALLOC_OFF)
        return 0;
    return pl_storage_preallocate(c->args->file, c->data, len, c->request.prealloc, e);
}

static int make_locator(struct creation *c, struct pl_err *e)
{
    struct pl_uuid linkage;

    if (vhdx_read_linkage(&c->args->parent, &linkage, e) < 0)
        return -1;
    return vhdx_make_locator(c->args->parent.name, &linkage, &c->locator, &c->locator_len, e);
}

/* The file identifier last: until then the file is no image. */
static int write_image(const struct creation *c, struct pl_err *e)
{
    if (pl_storage_resize(c->args->file, c->data, e) < 0 || make_room(c, e) < 0)
        return -1;
    if ((c->request.fixed || c->request.zero_state) && write_bat(c, e) < 0)
        return -1;
    if (write_metadata(c, e) < 0 || write_regions(c, e) < 0 || write_headers(c, e) < 0)
        return -1;
    return write_identifier(c, e);
}

int vhdx_create(const struct pl_create_args *args, struct pl_err *e)
{
    struct creation c = { .args = args };
    int result;

    if (args->file->sequential)
        return pl_fail(e, PL_E_UNSUPPORTED, "a VHDX image cannot be written to a pipe");
    if (args->file->device)
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "a VHDX image grows: a block device cannot hold a new one");
    if (vhdx_read_request(args->options, args->size, args->parent.name, &c.request, e) < 0 ||
        vhdx_plan(&c.request, &c.v, &c.data, e) < 0)
        return -1;
    if (c.request.has_parent && make_locator(&c, e) < 0)
        return -1;
    result = write_image(&c, e);
    free(c.locator);
    return result;
}
