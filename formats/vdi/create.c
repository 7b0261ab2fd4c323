/* create.c - new VDI images, laid out as VirtualBox does: map and data area at multiples of 1 MiB
 * (of the block, where that is smaller). */
#include "formats/vdi/create.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/buffer.h"
#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/vdi/vdi.h"

#define ALIGN_MAX PL_MIB
#define PIECE PL_MIB

static const char file_info[] = "<<< platter VirtualBox Disk Image >>>\n";

const struct pl_option_help vdi_create_options[] = {
    { "size", "size", "Virtual disk size" },
    { "backing_file", "str", "Name of the parent, a VDI image in the same folder" },
    { "backing_fmt", "str", "Format of the parent: vdi" },
    { "static", "bool (on/off)", "Every block has its place in the file from the start" },
    { "block_size", "size", "Bytes of a block: a power of two from 512 to 256M, 1M by default" },
    { "preallocation", "str",
      "Room made ahead, which makes the image static: off, metadata, falloc (reserved), full "
      "(zeros written)" },
    { "uuid", "str", "Its UUID, instead of a new one" },
    { NULL, NULL, NULL },
};

int vdi_read_request(const struct pl_options *options, bool has_parent, struct vdi_request *request,
                     struct pl_err *e)
{
    static const char *const preallocs[] = { "off", "metadata", "falloc", "full", NULL };
    static const enum pl_prealloc prealloc_values[] = { PL_PREALLOC_OFF, PL_PREALLOC_METADATA,
                                                        PL_PREALLOC_FALLOC, PL_PREALLOC_FULL };
    uint64_t block_size = VDI_BLOCK_DEFAULT;
    unsigned prealloc = 0;

    *request = (struct vdi_request){ .uuid = pl_options_text(options, "uuid") };
    if (pl_options_bool(options, "static", &request->fixed, e) < 0 ||
        pl_options_size(options, "block_size", &block_size, e) < 0 ||
        pl_options_choice(options, "preallocation", preallocs, &prealloc, e) < 0)
        return -1;
    if (!pl_is_pow2(block_size) || block_size < VDI_BLOCK_MIN || block_size > VDI_BLOCK_MAX)
        return pl_fail(e, PL_E_INVALID,
                       "option 'block_size': %" PRIu64 " is no power of two from 512 to 256M",
                       block_size);
    request->block_size = (uint32_t)block_size;
    request->prealloc = prealloc_values[prealloc];
    request->fixed = request->fixed || request->prealloc != PL_PREALLOC_OFF;
    if (request->fixed && has_parent)
        return pl_fail(e, PL_E_INVALID, "options: a static image cannot have a parent");
    return 0;
}

int vdi_plan(const struct vdi_request *request, uint64_t size, struct vdi_header *h,
             struct pl_err *e)
{
    const uint64_t align = PL_MIN(request->block_size, ALIGN_MAX);
    uint64_t blocks, map, data;

    if (size > PL_OFFSET_MAX / 2)
        return pl_fail(e, PL_E_LIMIT, "a disk of %" PRIu64 " bytes is too big", size);
    size = pl_round_up(size, VDI_GEOMETRY_SECTOR);
    blocks = pl_div_up(size, request->block_size);
    map = pl_round_up(VDI_PREHEADER_BYTES + VDI_HEADER1PLUS_BYTES, align);
    data = blocks <= UINT32_MAX / 4 ? pl_round_up(map + 4 * blocks, align) : UINT64_MAX;
    if (data > UINT32_MAX) {
        pl_fail(e, PL_E_LIMIT,
                "a disk of %" PRIu64 " bytes has %" PRIu64 " blocks of %" PRIu32
                " bytes, too many for the format",
                size, blocks, request->block_size);
        return pl_hint(e, "a larger -o block_size= makes less of them");
    }
    *h = (struct vdi_header){
        .signature = VDI_SIGNATURE,
        .version = VDI_VERSION,
        .header_bytes = VDI_HEADER1PLUS_BYTES,
        .type = request->fixed ? VDI_TYPE_FIXED : VDI_TYPE_NORMAL,
        .map_offset = (uint32_t)map,
        .data_offset = (uint32_t)data,
        .sector_size = VDI_GEOMETRY_SECTOR,
        .lchs_sector_size = VDI_GEOMETRY_SECTOR,
        .disk_size = size,
        .block_size = request->block_size,
        .blocks = (uint32_t)blocks,
        .allocated = request->fixed ? (uint32_t)blocks : 0,
    };
    memcpy(h->file_info, file_info, sizeof file_info);
    return 0;
}

/* ---- identifiers ---- */

/* Of a new image that must come out the same each time; its content counts when it is finished. */
static void derive(struct pl_uuid *uuid, const char *what, const struct vdi_header *h)
{
    char name[120];
    const int len = snprintf(name, sizeof name, "vdi %s %" PRIu64 " %" PRIu32 " %" PRIu32, what,
                             h->disk_size, h->block_size, h->type);

    pl_uuid_from_name(uuid, name, (size_t)len);
}

static int set_uuids(const struct pl_create_args *args, const struct vdi_request *request,
                     struct vdi_header *h, struct pl_err *e)
{
    struct pl_uuid image, modification;

    pl_uuid_random(&image);
    pl_uuid_random(&modification);
    if (args->reproducible) {
        derive(&image, "image", h);
        derive(&modification, "modification", h);
    }
    if (request->uuid && pl_uuid_parse(request->uuid, &image, e) < 0)
        return pl_within(e, "option 'uuid'");
    pl_uuid_store_guid(h->image_uuid, &image);
    pl_uuid_store_guid(h->modification_uuid, &modification);
    return 0;
}

/* ---- the file ---- */

static int write_map(struct pl_storage *file, const struct vdi_header *h, struct pl_err *e)
{
    const uint64_t bytes = 4 * (uint64_t)h->blocks;
    PL_FREE uint8_t *piece = pl_buffer(PL_MIN(bytes, PIECE));

    if (!piece)
        return pl_fail(e, PL_E_NOMEM, "block map: no memory to write it");
    memset(piece, 0xff, PL_MIN(bytes, PIECE)); /* VDI_BLOCK_FREE */
    for (uint64_t done = 0; done < bytes;) {
        const uint64_t n = PL_MIN(bytes - done, PIECE);

        for (uint64_t i = 0; h->type == VDI_TYPE_FIXED && i < n / 4; i++)
            store_le32(piece + 4 * i, (uint32_t)(done / 4 + i));
        if (pl_storage_write(file, h->map_offset + done, piece, n, e) < 0)
            return -1;
        done += n;
    }
    return 0;
}

static int write_image(const struct pl_create_args *args, const struct vdi_header *h,
                       enum pl_prealloc how, struct pl_err *e)
{
    const uint64_t data = h->allocated * (uint64_t)h->block_size;
    uint8_t raw[VDI_HEADER_SECTOR] = { 0 };
    struct pl_storage *file = args->file;

    if (pl_storage_zero(file, 0, h->map_offset, e) < 0 || write_map(file, h, e) < 0)
        return -1;
    if (!file->device && pl_storage_resize(file, h->data_offset + data, e) < 0)
        return -1;
    if (data && (how == PL_PREALLOC_FALLOC || how == PL_PREALLOC_FULL) &&
        pl_storage_preallocate(file, h->data_offset, data, how, e) < 0)
        return -1;
    /* The header last: until then the file is no image. */
    if (file->device && pl_storage_flush(file, e) < 0)
        return -1;
    return pl_storage_write(file, 0, raw, vdi_encode_header(h, raw), e);
}

int vdi_create(const struct pl_create_args *args, struct pl_err *e)
{
    struct vdi_request request;
    struct vdi_header h;

    if (args->file->sequential)
        return pl_fail(e, PL_E_UNSUPPORTED, "a VDI image cannot be written to a pipe");
    if (vdi_read_request(args->options, args->parent.name, &request, e) < 0 ||
        vdi_plan(&request, args->size, &h, e) < 0 ||
        (args->parent.name && vdi_name_parent(&h, &args->parent, args->report, e) < 0) ||
        set_uuids(args, &request, &h, e) < 0)
        return -1;
    return write_image(args, &h, request.prealloc, e);
}
