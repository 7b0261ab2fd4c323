/* header.c - pre-header and header of all versions.
 *
 * What is checked here is what later calls rely on: the block size, that the map has an entry for
 * every block and lies between header and data, inside the file.  Entries are checked when they are
 * used. */
#include <inttypes.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "formats/vdi/vdi.h"

#define FIELD(type, at, name) PL_FIELD(struct vdi_header, type, at, name)

static const struct pl_field preheader_fields[] = {
    FIELD(PL_BYTES, 0, file_info),
    FIELD(PL_LE32, 64, signature),
    FIELD(PL_LE32, 68, version),
    { 0 },
};

static const struct pl_field header0_fields[] = {
    FIELD(PL_LE32, 72, type),          FIELD(PL_LE32, 76, flags),
    FIELD(PL_BYTES, 80, comment),      FIELD(PL_LE32, 348, sector_size),
    FIELD(PL_LE64, 352, disk_size),    FIELD(PL_LE32, 360, block_size),
    FIELD(PL_LE32, 364, blocks),       FIELD(PL_LE32, 368, allocated),
    FIELD(PL_BYTES, 372, image_uuid),  FIELD(PL_BYTES, 388, modification_uuid),
    FIELD(PL_BYTES, 404, parent_uuid), { 0 },
};

static const struct pl_field header1_fields[] = {
    FIELD(PL_LE32, 72, header_bytes),
    FIELD(PL_LE32, 76, type),
    FIELD(PL_LE32, 80, flags),
    FIELD(PL_BYTES, 84, comment),
    FIELD(PL_LE32, 340, map_offset),
    FIELD(PL_LE32, 344, data_offset),
    FIELD(PL_LE32, 360, sector_size),
    FIELD(PL_LE64, 368, disk_size),
    FIELD(PL_LE32, 376, block_size),
    FIELD(PL_LE32, 380, block_extra),
    FIELD(PL_LE32, 384, blocks),
    FIELD(PL_LE32, 388, allocated),
    FIELD(PL_BYTES, 392, image_uuid),
    FIELD(PL_BYTES, 408, modification_uuid),
    FIELD(PL_BYTES, 424, parent_uuid),
    FIELD(PL_BYTES, 440, parent_modification_uuid),
    FIELD(PL_LE32, 468, lchs_sector_size),
    { 0 },
};

bool vdi_is_old(const struct vdi_header *h)
{
    return VDI_MAJOR(h->version) == 0;
}

uint64_t vdi_blocks_of(const struct vdi_header *h, uint64_t size)
{
    return pl_div_up(size, h->block_size);
}

/* Bytes of pre-header and header; what else they may have is unknown and left alone. */
static size_t known_bytes(const struct vdi_header *h)
{
    if (vdi_is_old(h))
        return VDI_HEADER0_END;
    return VDI_PREHEADER_BYTES + PL_MIN(h->header_bytes, VDI_HEADER1PLUS_BYTES);
}

size_t vdi_encode_header(const struct vdi_header *h, uint8_t raw[static VDI_HEADER_SECTOR])
{
    const size_t len = known_bytes(h);

    pl_fields_encode(preheader_fields, h, raw, len);
    pl_fields_encode(vdi_is_old(h) ? header0_fields : header1_fields, h, raw, len);
    return len;
}

int vdi_write_header(struct vdi *v, struct pl_err *e)
{
    const size_t len = vdi_encode_header(&v->header, v->raw);

    if (pl_storage_write(v->file, 0, v->raw, len, e) < 0)
        return -1;
    v->header_dirty = false;
    return 0;
}

static int read_fields(struct vdi *v, struct pl_err *e)
{
    struct vdi_header *h = &v->header;

    if (pl_storage_read_padded(v->file, 0, v->raw, sizeof v->raw, e) < 0)
        return -1;
    pl_fields_decode(preheader_fields, v->raw, sizeof v->raw, h);
    if (h->signature != VDI_SIGNATURE)
        return pl_fail(e, PL_E_FORMAT,
                       "not a VDI file: signature 0x%08" PRIx32 " instead of 0x%08" PRIx32,
                       h->signature, VDI_SIGNATURE);
    if (VDI_MAJOR(h->version) > 1)
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "header: version %" PRIu32 ".%" PRIu32 "; 0.x and 1.x are known",
                       VDI_MAJOR(h->version), VDI_MINOR(h->version));
    if (vdi_is_old(h)) {
        pl_fields_decode(header0_fields, v->raw, VDI_HEADER0_END, h);
        return 0;
    }
    h->header_bytes = load_le32(v->raw + VDI_PREHEADER_BYTES);
    if (h->header_bytes < VDI_HEADER1_BYTES)
        return pl_fail(e, PL_E_CORRUPT, "header: cbHeader %" PRIu32 " is less than %d",
                       h->header_bytes, VDI_HEADER1_BYTES);
    pl_fields_decode(header1_fields, v->raw, known_bytes(h), h);
    return 0;
}

/* Where an old header puts map and data. */
static int place_old_map(struct vdi_header *h, struct pl_err *e)
{
    const uint64_t data = VDI_HEADER0_END + 4 * (uint64_t)h->blocks;

    if (data > UINT32_MAX)
        return pl_fail(e, PL_E_LIMIT, "header: cBlocks %" PRIu32 " is too much", h->blocks);
    h->map_offset = VDI_HEADER0_END;
    h->data_offset = (uint32_t)data;
    return 0;
}

static int check_sizes(const struct vdi_header *h, struct pl_err *e)
{
    if (!pl_is_pow2(h->block_size) || h->block_size < VDI_BLOCK_MIN ||
        h->block_size > VDI_BLOCK_MAX)
        return pl_fail(e, PL_E_CORRUPT,
                       "header: cbBlock %" PRIu32 " is no power of two from %" PRIu32
                       " to %" PRIu32,
                       h->block_size, VDI_BLOCK_MIN, VDI_BLOCK_MAX);
    if (h->block_extra && (!pl_is_pow2(h->block_extra) || h->block_extra > VDI_BLOCK_MAX))
        return pl_fail(e, PL_E_CORRUPT,
                       "header: cbBlockExtra %" PRIu32 " is no power of two up to %" PRIu32,
                       h->block_extra, VDI_BLOCK_MAX);
    if (h->disk_size > PL_OFFSET_MAX - VDI_GEOMETRY_SECTOR)
        return pl_fail(e, PL_E_LIMIT, "header: a disk of %" PRIu64 " bytes is too big",
                       h->disk_size);
    if (vdi_blocks_of(h, h->disk_size) > h->blocks)
        return pl_fail(e, PL_E_CORRUPT,
                       "header: a disk of %" PRIu64 " bytes has %" PRIu64
                       " blocks, but the block map only %" PRIu32 " entries",
                       h->disk_size, vdi_blocks_of(h, h->disk_size), h->blocks);
    return 0;
}

int vdi_check_geometry(const struct vdi_header *h, struct pl_err *e)
{
    const uint64_t map_end = h->map_offset + 4 * (uint64_t)h->blocks;

    if (check_sizes(h, e) < 0)
        return -1;
    if (h->map_offset < known_bytes(h) || h->map_offset % 4)
        return pl_fail(e, PL_E_CORRUPT,
                       "header: offBlocks 0x%" PRIx32 " is inside the header, or odd",
                       h->map_offset);
    if (h->data_offset < map_end)
        return pl_fail(e, PL_E_CORRUPT,
                       "header: offData 0x%" PRIx32 " is inside the block map, which ends at "
                       "0x%" PRIx64,
                       h->data_offset, map_end);
    return 0;
}

static int check_parent(const struct vdi_header *h, struct pl_err *e)
{
    static const uint8_t none[16];
    const bool named = memcmp(h->parent_uuid, none, sizeof none) != 0;
    const bool wanted = h->type == VDI_TYPE_UNDO || h->type == VDI_TYPE_DIFF;

    if (wanted && !named)
        return pl_fail(e, PL_E_CORRUPT,
                       "header: a differencing image whose parent UUID is all zeros");
    if (named && !wanted)
        return pl_fail(e, PL_E_CORRUPT,
                       "header: it has a parent UUID, but its type %" PRIu32 " has no parent",
                       h->type);
    return 0;
}

static int check_header(const struct vdi_header *h, uint64_t file_size, struct pl_err *e)
{
    if (h->type < VDI_TYPE_NORMAL || h->type > VDI_TYPE_DIFF)
        return pl_fail(e, PL_E_CORRUPT, "header: unknown image type %" PRIu32, h->type);
    if ((h->sector_size && h->sector_size != VDI_GEOMETRY_SECTOR) ||
        (h->lchs_sector_size && h->lchs_sector_size != VDI_GEOMETRY_SECTOR))
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "header: sectors of %" PRIu32 " and %" PRIu32 " bytes instead of %d",
                       h->sector_size, h->lchs_sector_size, VDI_GEOMETRY_SECTOR);
    if (vdi_check_geometry(h, e) < 0 || check_parent(h, e) < 0)
        return -1;
    if (!pl_inside(h->map_offset, 4 * (uint64_t)h->blocks, file_size))
        return pl_fail(e, PL_E_CORRUPT,
                       "block map: %" PRIu32 " entries at 0x%" PRIx32
                       " are past the end of the file (0x%" PRIx64 ")",
                       h->blocks, h->map_offset, file_size);
    return 0;
}

int vdi_read_header(struct vdi *v, struct pl_err *e)
{
    struct vdi_header *h = &v->header;

    if (v->file_end < VDI_HEADER0_END)
        return pl_fail(e, PL_E_CORRUPT, "header: the file ends inside it, after %" PRIu64 " bytes",
                       v->file_end);
    if (read_fields(v, e) < 0)
        return -1;
    if (vdi_is_old(h) && place_old_map(h, e) < 0)
        return -1;
    if (check_header(h, v->file_end, e) < 0)
        return -1;
    /* Guests see whole sectors; QEMU rounds up too, VirtualBox down. */
    h->disk_size = pl_round_up(h->disk_size, VDI_GEOMETRY_SECTOR);
    v->has_parent = h->type == VDI_TYPE_UNDO || h->type == VDI_TYPE_DIFF;
    v->block_bits = pl_log2(h->block_size);
    v->stride = (uint64_t)h->block_extra + h->block_size;
    return 0;
}
