/* footer.c - the footer, its copy at the start of the file, and what it says about the disk's size.
 *
 * The footer at the end of the file counts.  The copy takes its place where it is missing or
 * damaged, as after a crash of the writer; and where the two are of different disks, because then
 * what lies at the end of the file may have been written by a guest. */
#include <inttypes.h>
#include <string.h>

#include "core/base/bytes.h"
#include "formats/vhd/vhd.h"

#define FIELD(type, at, name) PL_FIELD(struct vhd_footer, type, at, name)

const struct pl_field vhd_footer_fields[] = {
    FIELD(PL_BYTES, 0, cookie),
    FIELD(PL_BE32, 8, features),
    FIELD(PL_BE32, 12, file_format_version),
    FIELD(PL_BE64, 16, data_offset),
    FIELD(PL_BE32, 24, time_stamp),
    FIELD(PL_BYTES, 28, creator_application),
    FIELD(PL_BE32, 32, creator_version),
    FIELD(PL_BYTES, 36, creator_host_os),
    FIELD(PL_BE64, 40, original_size),
    FIELD(PL_BE64, 48, current_size),
    FIELD(PL_BE16, 56, cylinders),
    FIELD(PL_U8, 58, heads),
    FIELD(PL_U8, 59, sectors_per_track),
    FIELD(PL_BE32, 60, disk_type),
    FIELD(PL_BE32, VHD_CHECKSUM_AT, checksum),
    FIELD(PL_BYTES, 68, unique_id),
    FIELD(PL_U8, 84, saved_state),
    { 0 },
};

uint32_t vhd_checksum(const uint8_t *raw, size_t len, size_t checksum_at)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < len; i++)
        if (i < checksum_at || i >= checksum_at + 4)
            sum += raw[i];
    return ~sum;
}

enum vhd_found vhd_decode_footer(const uint8_t *raw, size_t len, struct vhd_footer *footer)
{
    if (len < VHD_OLD_FOOTER_BYTES || memcmp(raw, VHD_COOKIE, 8) != 0)
        return VHD_NONE;
    pl_fields_decode(vhd_footer_fields, raw, len, footer);
    return footer->checksum == vhd_checksum(raw, len, VHD_CHECKSUM_AT) ? VHD_GOOD
                                                                       : VHD_BAD_CHECKSUM;
}

void vhd_encode_footer(const struct vhd_footer *footer, uint8_t *raw)
{
    pl_fields_encode(vhd_footer_fields, footer, raw, VHD_FOOTER_BYTES);
    store_be32(raw + VHD_CHECKSUM_AT, vhd_checksum(raw, VHD_FOOTER_BYTES, VHD_CHECKSUM_AT));
}

/* ---- size and geometry ---- */

uint64_t vhd_geometry_size(const struct vhd_footer *footer)
{
    return (uint64_t)footer->cylinders * footer->heads * footer->sectors_per_track * VHD_SECTOR;
}

/* Virtual PC and Virtual Server show the guest the geometry, and qemu-img without force_size makes
 * such disks; Hyper-V and everybody else mean the current size. */
static bool means_geometry(const struct vhd_footer *footer)
{
    static const char creators[][5] = { "vpc ", "vs  ", "qemu" };
    const uint64_t size = vhd_geometry_size(footer);

    if (size == 0 || size == VHD_GEOMETRY_SECTORS_MAX * VHD_SECTOR)
        return false;
    for (size_t i = 0; i < PL_COUNT(creators); i++)
        if (memcmp(footer->creator_application, creators[i], 4) == 0)
            return true;
    return false;
}

uint64_t vhd_virtual_size(const struct vhd_footer *footer)
{
    if (means_geometry(footer))
        return vhd_geometry_size(footer);
    return pl_round_down(footer->current_size, VHD_SECTOR);
}

void vhd_set_geometry(struct vhd_footer *footer, uint64_t size)
{
    const uint64_t sectors = PL_MIN(size / VHD_SECTOR, VHD_GEOMETRY_SECTORS_MAX);
    uint64_t track = 17, tracks = sectors / track; /* tracks: cylinders times heads */
    uint64_t heads = PL_MAX((tracks + 1023) / 1024, UINT64_C(4));

    if (sectors >= (uint64_t)VHD_CYLINDERS_MAX * VHD_HEADS_MAX * 63) {
        track = VHD_TRACK_MAX;
        heads = VHD_HEADS_MAX;
        tracks = sectors / track;
    } else {
        if (tracks >= heads * 1024 || heads > 16) {
            track = 31;
            heads = 16;
            tracks = sectors / track;
        }
        if (tracks >= heads * 1024) {
            track = 63;
            tracks = sectors / track;
        }
    }
    footer->cylinders = (uint16_t)(tracks / heads);
    footer->heads = (uint8_t)heads;
    footer->sectors_per_track = (uint8_t)track;
}

/* ---- which one counts ---- */

static bool has_header(const struct vhd_footer *footer)
{
    return footer->disk_type == VHD_DYNAMIC || footer->disk_type == VHD_DIFFERENCING;
}

/* One of the two. */
struct candidate {
    struct vhd_footer footer;
    uint8_t raw[VHD_FOOTER_BYTES];
};

/* The footer at the end, and where it is. */
static int look_at_end(struct vhd *v, struct candidate *end, struct pl_err *e)
{
    const uint64_t size = pl_storage_size(v->file);
    uint8_t *raw = end->raw;

    v->footer_at = size;
    v->at_end = VHD_NONE;
    if (size < VHD_FOOTER_BYTES)
        return 0;
    if (pl_storage_read(v->file, size - VHD_FOOTER_BYTES, raw, VHD_FOOTER_BYTES, e) < 0)
        return pl_within(e, "footer");
    v->at_end = vhd_decode_footer(raw, VHD_FOOTER_BYTES, &end->footer);
    if (v->at_end != VHD_NONE) {
        v->footer_at = size - VHD_FOOTER_BYTES;
        return 0;
    }
    v->at_end = vhd_decode_footer(raw + 1, VHD_OLD_FOOTER_BYTES, &end->footer);
    if (v->at_end == VHD_NONE)
        return 0;
    v->footer_at = size - VHD_OLD_FOOTER_BYTES;
    memmove(raw, raw + 1, VHD_OLD_FOOTER_BYTES);
    raw[VHD_OLD_FOOTER_BYTES] = 0;
    return 0;
}

/* The copy at the start: only dynamic and differencing disks have one, the first sector of others
 * is the guest's. */
static int look_at_start(struct vhd *v, struct candidate *start, struct pl_err *e)
{
    if (pl_storage_read_padded(v->file, 0, start->raw, VHD_FOOTER_BYTES, e) < 0)
        return pl_within(e, "copy of the footer");
    v->at_start = vhd_decode_footer(start->raw, VHD_FOOTER_BYTES, &start->footer);
    if (v->at_start != VHD_NONE && !has_header(&start->footer))
        v->at_start = VHD_NONE;
    return 0;
}

static bool same_disk(const struct vhd_footer *a, const struct vhd_footer *b)
{
    return memcmp(a->unique_id, b->unique_id, sizeof a->unique_id) == 0;
}

/* Whether the one at the end counts. */
static bool end_counts(const struct vhd *v, const struct vhd_footer *end,
                       const struct vhd_footer *start)
{
    if (v->at_end != VHD_GOOD)
        return false;
    return !has_header(end) || v->at_start != VHD_GOOD || same_disk(end, start);
}

static int refuse_footer(const struct vhd *v, struct pl_err *e)
{
    if (v->at_end == VHD_NONE && v->at_start == VHD_NONE)
        return pl_fail(e, PL_E_FORMAT, "not a VHD file: no footer at its end");
    pl_fail(e, PL_E_CORRUPT, "footer: its checksum is wrong, and there is no good copy of it");
    return pl_hint(e, "platter check -r all writes a new one if all else is sound");
}

static int check_footer(const struct vhd_footer *footer, struct pl_err *e)
{
    if (footer->file_format_version >> 16 != VHD_VERSION >> 16)
        return pl_fail(e, PL_E_UNSUPPORTED, "footer: unknown file_format_version 0x%08" PRIx32,
                       footer->file_format_version);
    if (footer->disk_type != VHD_FIXED && !has_header(footer))
        return pl_fail(e, PL_E_UNSUPPORTED, "footer: unknown disk_type %" PRIu32,
                       footer->disk_type);
    if (vhd_virtual_size(footer) > PL_OFFSET_MAX - VHD_SECTOR)
        return pl_fail(e, PL_E_LIMIT, "footer: a disk of %" PRIu64 " bytes is too big",
                       vhd_virtual_size(footer));
    return 0;
}

/* The one that counts; null: none does. */
static const struct candidate *choose(const struct vhd *v, const struct candidate *end,
                                      const struct candidate *start, bool tolerant)
{
    if (end_counts(v, &end->footer, &start->footer))
        return end;
    if (v->at_start == VHD_GOOD)
        return start;
    if (tolerant && v->at_end != VHD_NONE)
        return end;
    return tolerant && v->at_start != VHD_NONE ? start : NULL;
}

int vhd_find_footer(struct vhd *v, bool tolerant, struct pl_err *e)
{
    struct candidate end, start;
    const struct candidate *chosen;

    if (look_at_end(v, &end, e) < 0 || look_at_start(v, &start, e) < 0)
        return -1;
    chosen = choose(v, &end, &start, tolerant);
    if (!chosen)
        return refuse_footer(v, e);
    v->footer = chosen->footer;
    memcpy(v->raw_footer, chosen->raw, VHD_FOOTER_BYTES);
    if (v->at_end == VHD_GOOD && !same_disk(&end.footer, &v->footer)) {
        v->at_end = VHD_NONE; /* of another disk */
        v->footer_at = pl_storage_size(v->file);
    }
    v->copies_differ = v->at_end == VHD_GOOD && v->at_start == VHD_GOOD &&
                       memcmp(end.raw, start.raw, VHD_FOOTER_BYTES) != 0;
    return check_footer(&v->footer, e);
}
