/* new_descriptor.c - writes the descriptor of a new disk, in the style of VMware's and QEMU's. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/base/text.h"
#include "formats/vmdk/create.h"
#include "formats/vmdk/parent.h"

/* What the disk will be known by. */
struct identity {
    uint32_t cid;
    struct pl_uuid uuid;
    uint8_t long_id[12]; /* in front of the CID */
    struct vmdk_parent_id parent;
};

/* ATA disks: 16 heads of 63 sectors.  SCSI disks: as the BIOS of a BusLogic or LSI Logic adapter
 * translates them, by size. */
struct vmdk_geometry vmdk_geometry_for(const char *adapter, uint64_t size)
{
    struct vmdk_geometry g = { .heads = 16, .sectors = 63 };
    const uint64_t sectors = size / VMDK_SECTOR;

    if (strcasecmp(adapter, "ide") != 0) {
        const bool small = size < PL_GIB, middle = size < 2 * PL_GIB;

        g.heads = small ? 64 : middle ? 128 : 255;
        g.sectors = middle ? 32 : 63;
    }
    g.cylinders = PL_MAX(sectors / (g.heads * g.sectors), 1u);
    if (g.heads == 16)
        g.cylinders = PL_MIN(g.cylinders, VMDK_IDE_CYLINDERS_MAX);
    return g;
}

/* What decides an identity that is to be the same each time. */
static char *request_text(const struct vmdk_request *r, const struct pl_create_args *args)
{
    char *text;

    return asprintf(&text, "vmdk %" PRIu64 " %d %" PRIu64 " %d %s %s %s %s", r->size,
                    (int)r->subformat, r->grain_size, r->zeroed_grain, r->adapter, r->hw_version,
                    r->tools_version, args->parent.identity ? args->parent.identity : "") < 0
               ? NULL
               : text;
}

static int choose_identity(const struct vmdk_request *r, const struct pl_create_args *args,
                           struct identity *id, struct pl_err *e)
{
    PL_FREE char *text = request_text(r, args);
    struct pl_uuid long_id;

    if (!text)
        return pl_fail(e, PL_E_NOMEM, "no memory for a descriptor");
    if (!args->reproducible) {
        pl_uuid_random(&id->uuid);
        pl_uuid_random(&long_id);
        memcpy(id->long_id, long_id.byte, sizeof id->long_id);
        return vmdk_new_cid(VMDK_CID_NONE, 8, &id->cid, e);
    }
    pl_uuid_from_name(&id->uuid, text, strlen(text));
    pl_uuid_from_name(&long_id, id->uuid.byte, sizeof id->uuid.byte);
    memcpy(id->long_id, long_id.byte, sizeof id->long_id);
    id->cid = load_be32(long_id.byte + 12) & INT32_MAX; /* not one of those with a meaning */
    return 0;
}

static const char *create_type(enum vmdk_subformat subformat)
{
    static const char *const types[] = {
        [VMDK_MONOLITHIC_SPARSE] = "monolithicSparse",
        [VMDK_MONOLITHIC_FLAT] = "monolithicFlat",
        [VMDK_TWO_GB_SPARSE] = "twoGbMaxExtentSparse",
        [VMDK_TWO_GB_FLAT] = "twoGbMaxExtentFlat",
        [VMDK_STREAM_OPTIMIZED] = "streamOptimized",
        [VMDK_VMFS_DISK] = "vmfs",
        [VMDK_VMFS_SPARSE] = "vmfsSparse",
    };

    return types[subformat];
}

static void put_head(FILE *out, const struct vmdk_request *r, const struct pl_create_args *args,
                     const struct identity *id)
{
    fprintf(out,
            "# Disk DescriptorFile\n"
            "version=1\n"
            "encoding=\"UTF-8\"\n"
            "CID=%08" PRIx32 "\n"
            "parentCID=%08" PRIx32 "\n"
            "createType=\"%s\"\n",
            id->cid, id->parent.cid, create_type(r->subformat));
    if (args->parent.name)
        fprintf(out, "parentFileNameHint=\"%s\"\n", args->parent.name);
}

static int put_extents(FILE *out, const struct vmdk_request *r, const struct pl_storage *file,
                       struct pl_err *e)
{
    static const char *const types[] = {
        [VMDK_MONOLITHIC_SPARSE] = "SPARSE", [VMDK_MONOLITHIC_FLAT] = "FLAT",
        [VMDK_TWO_GB_SPARSE] = "SPARSE",     [VMDK_TWO_GB_FLAT] = "FLAT",
        [VMDK_STREAM_OPTIMIZED] = "SPARSE",  [VMDK_VMFS_DISK] = "VMFS",
        [VMDK_VMFS_SPARSE] = "VMFSSPARSE",
    };
    const bool stream = r->subformat == VMDK_STREAM_OPTIMIZED;

    fputs("\n# Extent description\n", out);
    for (uint64_t i = 0; i < r->extents; i++) {
        PL_FREE char *name = vmdk_extent_name(r, file, i);

        if (!name)
            return pl_fail(e, PL_E_NOMEM, "no memory for a file name");
        if (vmdk_check_name(name, e) < 0)
            return -1;
        fprintf(out, "%s %" PRIu64 " %s \"%s\"%s\n", stream ? "RDONLY" : "RW",
                vmdk_extent_size(r, i) / VMDK_SECTOR, types[r->subformat], name,
                strcmp(types[r->subformat], "FLAT") == 0 ? " 0" : "");
    }
    return 0;
}

static void put_database(FILE *out, const struct vmdk_request *r, const struct identity *id)
{
    const struct vmdk_geometry g = vmdk_geometry_for(r->adapter, r->size);
    char uuid[PL_UUID_TEXT], long_id[2 * sizeof id->long_id + 1];

    fprintf(out,
            "\n# The Disk Data Base\n"
            "#DDB\n\n"
            "ddb.virtualHWVersion = \"%s\"\n"
            "ddb.geometry.cylinders = \"%" PRIu64 "\"\n"
            "ddb.geometry.heads = \"%u\"\n"
            "ddb.geometry.sectors = \"%u\"\n"
            "ddb.adapterType = \"%s\"\n"
            "ddb.toolsVersion = \"%s\"\n",
            r->hw_version, g.cylinders, g.heads, g.sectors, r->adapter, r->tools_version);
    if (r->subformat == VMDK_VMFS_DISK && r->prealloc == PL_PREALLOC_OFF)
        fputs("ddb.thinProvisioned = \"1\"\n", out);
    fprintf(out,
            "ddb.longContentID = \"%s%08" PRIx32 "\"\n"
            "ddb.uuid.image = \"%s\"\n",
            pl_format_hex(id->long_id, sizeof id->long_id, long_id), id->cid,
            pl_uuid_format(&id->uuid, uuid));
    if (id->parent.uuid[0])
        fprintf(out, "ddb.uuid.parent = \"%s\"\n", id->parent.uuid);
}

int vmdk_new_descriptor(const struct vmdk_request *r, const struct pl_create_args *args,
                        char **text, struct pl_err *e)
{
    struct identity id = { 0 };
    size_t len;
    FILE *out;
    int result;

    if (choose_identity(r, args, &id, e) < 0 || vmdk_read_parent(&args->parent, &id.parent, e) < 0)
        return -1;
    *text = NULL;
    out = open_memstream(text, &len);
    if (!out)
        return pl_fail(e, PL_E_NOMEM, "no memory for a descriptor");
    put_head(out, r, args, &id);
    result = put_extents(out, r, args->file, e);
    put_database(out, r, &id);
    if (fclose(out) != 0 && result == 0)
        result = pl_fail(e, PL_E_NOMEM, "no memory for a descriptor");
    if (result == 0 && vmdk_is_embedded(r->subformat) && len >= VMDK_DESCRIPTOR_ROOM)
        result = pl_fail(e, PL_E_LIMIT, "a descriptor of %zu bytes is too long (limit: %u)", len,
                         VMDK_DESCRIPTOR_ROOM);
    if (result < 0)
        free(pl_take(*text));
    return result;
}
