/* header.c - the dynamic header: where the BAT is, how large blocks are, whose child it is. */
#include <inttypes.h>
#include <string.h>

#include "core/base/bytes.h"
#include "formats/vhd/vhd.h"

/* Data of blocks are aligned like that in the file: pages of the host and sectors of its disks. */
#define DATA_ALIGN 4096u

#define FIELD(type, at, name) PL_FIELD(struct vhd_header, type, at, name)

const struct pl_field vhd_header_fields[] = {
    FIELD(PL_BYTES, 0, cookie),
    FIELD(PL_BE64, 8, data_offset),
    FIELD(PL_BE64, 16, table_offset),
    FIELD(PL_BE32, 24, header_version),
    FIELD(PL_BE32, 28, max_table_entries),
    FIELD(PL_BE32, 32, block_size),
    FIELD(PL_BE32, VHD_HEADER_CHECKSUM_AT, checksum),
    FIELD(PL_BYTES, 40, parent_unique_id),
    FIELD(PL_BE32, 56, parent_time_stamp),
    FIELD(PL_BYTES, 64, parent_unicode_name),
    { 0 },
};

void vhd_seal_header(uint8_t *raw)
{
    store_be32(raw + VHD_HEADER_CHECKSUM_AT,
               vhd_checksum(raw, VHD_HEADER_BYTES, VHD_HEADER_CHECKSUM_AT));
}

static int check_sizes(const struct vhd *v, struct pl_err *e)
{
    const struct vhd_header *h = &v->header;
    const uint64_t file_size = pl_storage_size(v->file);
    const uint64_t bytes = UINT64_C(4) * h->max_table_entries;

    if (!pl_is_pow2(h->block_size) || h->block_size < VHD_BLOCK_MIN ||
        h->block_size > VHD_BLOCK_MAX)
        return pl_fail(e, PL_E_CORRUPT,
                       "header: block_size %" PRIu32 " is not a power of two from %u to %u",
                       h->block_size, VHD_BLOCK_MIN, VHD_BLOCK_MAX);
    if (pl_div_up(v->size, h->block_size) > h->max_table_entries)
        return pl_fail(e, PL_E_CORRUPT,
                       "header: %" PRIu32 " blocks of %" PRIu32
                       " bytes are too few for a disk of %" PRIu64 " bytes",
                       h->max_table_entries, h->block_size, v->size);
    if (h->max_table_entries > VHD_ENTRIES_MAX)
        return pl_fail(e, PL_E_LIMIT, "header: max_table_entries %" PRIu32 " exceeds %u",
                       h->max_table_entries, VHD_ENTRIES_MAX);
    if (!pl_inside(h->table_offset, bytes, file_size))
        return pl_fail(e, PL_E_CORRUPT,
                       "BAT: [0x%" PRIx64 ", +0x%" PRIx64 ") is past the end of the file "
                       "(0x%" PRIx64 ")",
                       h->table_offset, bytes, file_size);
    return 0;
}

/* Copy of the footer, header and BAT must lie apart. */
static int check_overlaps(const struct vhd *v, struct pl_err *e)
{
    for (unsigned i = 0; i < v->own_count; i++)
        for (unsigned k = 0; k < i; k++)
            if (v->own[i].off < v->own[k].off + v->own[k].len &&
                v->own[k].off < v->own[i].off + v->own[i].len)
                return pl_fail(e, PL_E_CORRUPT, "%s at 0x%" PRIx64 " overlaps %s at 0x%" PRIx64,
                               v->own[i].what, v->own[i].off, v->own[k].what, v->own[k].off);
    return 0;
}

static int check_header(struct vhd *v, const uint8_t *raw, bool tolerant, struct pl_err *e)
{
    const struct vhd_header *h = &v->header;
    const uint32_t sum = vhd_checksum(raw, VHD_HEADER_BYTES, VHD_HEADER_CHECKSUM_AT);

    if (memcmp(h->cookie, VHD_HEADER_COOKIE, 8) != 0)
        return pl_fail(e, PL_E_CORRUPT, "header: no cookie '%s' at 0x%" PRIx64, VHD_HEADER_COOKIE,
                       v->footer.data_offset);
    v->header_damaged = h->checksum != sum;
    if (v->header_damaged && !tolerant)
        return pl_fail(e, PL_E_CORRUPT,
                       "header: its checksum is 0x%08" PRIx32 ", its bytes give 0x%08" PRIx32,
                       h->checksum, sum);
    if (h->header_version >> 16 != VHD_VERSION >> 16)
        return pl_fail(e, PL_E_UNSUPPORTED, "header: unknown header_version 0x%08" PRIx32,
                       h->header_version);
    return check_sizes(v, e);
}

void vhd_derive(struct vhd *v)
{
    const uint32_t bits = v->header.block_size / VHD_SECTOR;

    v->block_size = v->header.block_size;
    v->block_bits = pl_log2(v->block_size);
    v->bitmap_size = (uint32_t)pl_round_up(pl_div_up(bits, 8), VHD_SECTOR);
    v->align = PL_MIN(DATA_ALIGN, v->block_size);
}

int vhd_read_header(struct vhd *v, bool tolerant, struct pl_err *e)
{
    const uint64_t file_size = pl_storage_size(v->file), at = v->footer.data_offset;
    uint8_t raw[VHD_HEADER_BYTES];

    if (!pl_inside(at, sizeof raw, file_size))
        return pl_fail(e, PL_E_CORRUPT,
                       "header: [0x%" PRIx64 ", +0x%zx) is past the end of the file (0x%" PRIx64
                       ")",
                       at, sizeof raw, file_size);
    if (pl_storage_read(v->file, at, raw, sizeof raw, e) < 0)
        return pl_within(e, "header");
    pl_fields_decode(vhd_header_fields, raw, sizeof raw, &v->header);
    if (check_header(v, raw, tolerant, e) < 0)
        return -1;
    vhd_derive(v);
    v->own[0] = (struct vhd_own){ "the copy of the footer", 0, VHD_FOOTER_BYTES };
    v->own[1] = (struct vhd_own){ "the header", at, VHD_HEADER_BYTES };
    v->own[VHD_OWN_BAT] = (struct vhd_own){ "the BAT", v->header.table_offset,
                                            UINT64_C(4) * v->header.max_table_entries };
    v->own_count = 3;
    return check_overlaps(v, e);
}
