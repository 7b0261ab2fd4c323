/* create.c - new VHD files.
 *
 * The disk gets its exact size, and the creator that says so to all readers: qemu-img up to version
 * 10 takes the geometry for the size of any other that is not on its list.  Data are aligned to
 * pages in the file, as Windows does since version 8. */
#include "formats/vhd/create.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/bytes.h"
#include "core/base/scope.h"
#include "formats/vhd/change.h"

#define CREATOR_VERSION UINT32_C(0x00050003)
#define HOST_WINDOWS "Wi2k"

/* Smaller blocks than 512 KiB are for tests of readers; Windows makes them of 512 KiB or 2 MiB. */
#define NEW_BLOCK_MIN (4 * PL_KIB)

#define BAT_AT (VHD_HEADER_AT + VHD_HEADER_BYTES)
#define BAT_PIECE 65536u

const struct pl_option_help vhd_create_options[] = {
    { "size", "size", "Virtual disk size" },
    { "backing_file", "str", "File name of the parent, a VHD" },
    { "backing_fmt", "str", "Format of the parent: vhd" },
    { "subformat", "str", "dynamic or fixed" },
    { "block_size", "size", "Guest bytes of a block: 2M, or a power of two from 4K to 256M" },
    { "force_size", "bool (on/off)", "Keep the exact size (default), or round it to a geometry" },
    { "align", "size", "Round the size up to a multiple of this, such as 1M for Azure" },
    { NULL, NULL, NULL },
};

/* ---- what is asked for ---- */

static int read_options(const struct pl_options *options, struct vhd_request *r, uint64_t *align,
                        struct pl_err *e)
{
    static const char *const subformats[] = { "dynamic", "fixed", NULL };
    uint64_t block_size = VHD_BLOCK_DEFAULT;
    unsigned subformat = 0;
    bool exact = true;

    *align = VHD_SECTOR;
    if (pl_options_choice(options, "subformat", subformats, &subformat, e) < 0 ||
        pl_options_size(options, "block_size", &block_size, e) < 0 ||
        pl_options_bool(options, "force_size", &exact, e) < 0 ||
        pl_options_size(options, "align", align, e) < 0)
        return -1;
    if (!pl_is_pow2(block_size) || block_size < NEW_BLOCK_MIN || block_size > VHD_BLOCK_MAX)
        return pl_fail(e, PL_E_INVALID,
                       "option 'block_size': %" PRIu64 " is not a power of two from 4K to 256M",
                       block_size);
    if (*align == 0 || *align % VHD_SECTOR || *align > VHD_SIZE_MAX)
        return pl_fail(e, PL_E_INVALID, "option 'align': %" PRIu64 " is no multiple of 512",
                       *align);
    if (!exact && pl_options_text(options, "align"))
        return pl_fail(e, PL_E_INVALID, "options: align and force_size=off exclude each other");
    r->fixed = subformat == 1;
    r->geometry = !exact;
    r->block_size = (uint32_t)block_size;
    return 0;
}

/* The least size of a geometry that is not below `size`; too large disks have none of their own. */
static uint64_t round_to_geometry(uint64_t size)
{
    struct vhd_footer footer;

    if (size > VHD_GEOMETRY_SECTORS_MAX * VHD_SECTOR)
        return size;
    for (uint64_t wanted = size;; wanted += VHD_SECTOR) {
        vhd_set_geometry(&footer, wanted);
        if (vhd_geometry_size(&footer) >= size)
            return vhd_geometry_size(&footer);
    }
}

int vhd_check_size(const struct vhd_request *r, struct pl_err *e)
{
    const uint64_t blocks = pl_div_up(r->size, r->block_size);

    if (r->size > VHD_SIZE_MAX) {
        pl_fail(e, PL_E_LIMIT, "a disk of %" PRIu64 " bytes; a VHD holds up to 2040 GiB", r->size);
        return pl_hint(e, "VHDX (-O vhdx) holds up to 64 TiB");
    }
    if (!r->fixed &&
        (blocks > VHD_ENTRIES_MAX || vhd_file_bytes(r, blocks) / VHD_SECTOR >= VHD_UNUSED)) {
        pl_fail(e, PL_E_LIMIT,
                "a disk of %" PRIu64 " bytes is too big for blocks of %" PRIu32 " bytes", r->size,
                r->block_size);
        return pl_hint(e, "block_size=2M allows 2040 GiB");
    }
    return 0;
}

int vhd_read_request(const struct pl_options *options, uint64_t size, bool has_parent,
                     struct vhd_request *r, struct pl_err *e)
{
    uint64_t align;

    *r = (struct vhd_request){ 0 };
    if (read_options(options, r, &align, e) < 0)
        return -1;
    if (r->fixed && has_parent)
        return pl_fail(e, PL_E_INVALID, "options: a fixed VHD cannot have a backing file");
    r->size = size; /* what is far too large needs no rounding */
    if (size <= VHD_SIZE_MAX)
        r->size = pl_round_up(size, align);
    if (r->geometry)
        r->size = round_to_geometry(r->size);
    return vhd_check_size(r, e);
}

/* ---- the parts of the file ---- */

uint64_t vhd_file_bytes(const struct vhd_request *r, uint64_t blocks)
{
    const uint64_t entries = pl_div_up(r->size, r->block_size);
    const uint64_t before = BAT_AT + pl_round_up(4 * entries, VHD_SECTOR);
    struct vhd v = { .header = { .block_size = r->block_size } };

    if (r->fixed)
        return r->size;
    if (blocks == 0)
        return before;
    vhd_derive(&v);
    return vhd_block_place(&v, before) + (blocks - 1) * pl_round_up(vhd_block_bytes(&v), v.align) +
           vhd_block_bytes(&v);
}

/* Seconds since the epoch of VHD; 0 where the file must come out the same every time. */
static uint32_t time_now(const struct pl_create_args *args)
{
    const int64_t now = (int64_t)time(NULL) - VHD_EPOCH;

    return args->reproducible || now < 0 ? 0 : (uint32_t)now;
}

static void set_unique_id(const struct pl_create_args *args, struct vhd_footer *footer)
{
    struct pl_uuid uuid;
    uint8_t raw[VHD_FOOTER_BYTES + 256] = { 0 };

    if (args->reproducible) {
        vhd_encode_footer(footer, raw);
        if (args->parent.identity)
            strncpy((char *)raw + VHD_FOOTER_BYTES, args->parent.identity, 255);
        pl_uuid_from_name(&uuid, raw, sizeof raw);
    } else {
        pl_uuid_random(&uuid);
    }
    memcpy(footer->unique_id, uuid.byte, sizeof uuid.byte);
}

void vhd_new_footer(const struct pl_create_args *args, const struct vhd_request *r,
                    struct vhd_footer *footer)
{
    *footer = (struct vhd_footer){
        .features = VHD_FEATURE_RESERVED,
        .file_format_version = VHD_VERSION,
        .data_offset = r->fixed ? VHD_NO_OFFSET : VHD_HEADER_AT,
        .time_stamp = time_now(args),
        .creator_version = CREATOR_VERSION,
        .original_size = r->size,
        .current_size = r->size,
        .disk_type = r->fixed            ? VHD_FIXED
                     : args->parent.name ? VHD_DIFFERENCING
                                         : VHD_DYNAMIC,
    };
    memcpy(footer->cookie, VHD_COOKIE, 8);
    memcpy(footer->creator_application, r->geometry ? VHD_CREATOR_GEOMETRY : VHD_CREATOR_EXACT, 4);
    memcpy(footer->creator_host_os, HOST_WINDOWS, 4);
    vhd_set_geometry(footer, r->size);
    set_unique_id(args, footer);
}

static void fill_header(const struct vhd_request *r, struct vhd_header *header)
{
    *header = (struct vhd_header){
        .data_offset = VHD_NO_OFFSET,
        .table_offset = BAT_AT,
        .header_version = VHD_VERSION,
        .max_table_entries = (uint32_t)pl_div_up(r->size, r->block_size),
        .block_size = r->block_size,
    };
    memcpy(header->cookie, VHD_HEADER_COOKIE, 8);
}

/* ---- writing ---- */

static int write_empty_bat(struct pl_storage *file, uint64_t bytes, struct pl_err *e)
{
    PL_FREE uint8_t *raw = malloc(BAT_PIECE);

    if (!raw)
        return pl_fail(e, PL_E_NOMEM, "BAT: no memory");
    memset(raw, 0xff, BAT_PIECE);
    for (uint64_t done = 0; done < bytes; done += BAT_PIECE)
        if (pl_storage_write(file, BAT_AT + done, raw, (size_t)PL_MIN(bytes - done, BAT_PIECE), e) <
            0)
            return pl_within(e, "BAT");
    return 0;
}

/* The header, and the locators from byte offset *end on, which moves behind them. */
static int write_header(const struct pl_create_args *args, struct vhd_header *header, uint64_t *end,
                        struct pl_err *e)
{
    struct vhd_name names[VHD_NAMES];
    uint8_t raw[VHD_HEADER_BYTES] = { 0 };
    int result;

    if (vhd_describe_parent(&args->parent, header, names, e) < 0)
        return -1;
    result = vhd_write_names(args->file, names, *end, raw, e);
    *end += vhd_names_bytes(names);
    vhd_free_names(names);
    if (result < 0)
        return -1;
    pl_fields_encode(vhd_header_fields, header, raw, sizeof raw);
    vhd_seal_header(raw);
    return pl_storage_write(args->file, VHD_HEADER_AT, raw, sizeof raw, e);
}

static int write_dynamic(const struct pl_create_args *args, const struct vhd_request *r,
                         const struct vhd_footer *footer, struct pl_err *e)
{
    struct vhd_header header;
    uint8_t raw[VHD_FOOTER_BYTES] = { 0 };
    uint64_t end = vhd_file_bytes(r, 0);

    fill_header(r, &header);
    vhd_encode_footer(footer, raw);
    if (write_empty_bat(args->file, end - BAT_AT, e) < 0 ||
        write_header(args, &header, &end, e) < 0 ||
        pl_storage_write(args->file, end, raw, sizeof raw, e) < 0)
        return -1;
    return pl_storage_write(args->file, 0, raw, sizeof raw, e);
}

static int write_fixed(const struct pl_create_args *args, const struct vhd_footer *footer,
                       struct pl_err *e)
{
    uint8_t raw[VHD_FOOTER_BYTES] = { 0 };

    vhd_encode_footer(footer, raw);
    return pl_storage_write(args->file, footer->current_size, raw, sizeof raw, e);
}

int vhd_create(const struct pl_create_args *args, struct pl_err *e)
{
    struct vhd_request request;
    struct vhd_footer footer;

    if (vhd_read_request(args->options, args->size, args->parent.name, &request, e) < 0)
        return -1;
    if (args->file->device)
        return pl_fail(e, PL_E_UNSUPPORTED, "a VHD image cannot be put on a block device");
    if (args->file->sequential && request.fixed)
        return 0; /* the footer comes last */
    if (args->file->sequential) {
        pl_fail(e, PL_E_UNSUPPORTED, "a dynamic VHD image cannot be written to a pipe");
        return pl_hint(e, "-o subformat=fixed can");
    }
    vhd_new_footer(args, &request, &footer);
    return request.fixed ? write_fixed(args, &footer, e)
                         : write_dynamic(args, &request, &footer, e);
}
