/* open.c - opens a disk: its descriptor, then the extents that it names. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/base/uuid.h"
#include "formats/vmdk/create.h"
#include "formats/vmdk/rewrite.h"
#include "formats/vmdk/vmdk.h"

/* ---- the descriptor ---- */

static int read_text(struct vmdk *v, struct pl_err *e)
{
    const uint64_t size = pl_storage_size(v->file);
    const size_t len = (size_t)PL_MIN(size, VMDK_DESCRIPTOR_MAX + 1u);
    char *text = calloc(1, len + 1);

    if (!text)
        return pl_fail(e, PL_E_NOMEM, "no memory for a descriptor of %zu bytes", len);
    if (pl_storage_read(v->file, 0, text, len, e) < 0) {
        free(text);
        return -1;
    }
    if (vmdk_descriptor_parse(text, len, &v->descriptor, e) < 0)
        return -1;
    if (v->descriptor.line_count > 0)
        return 0;
    return pl_fail(e, PL_E_CORRUPT, "descriptor: it has no extent lines");
}

/* The descriptor inside a sparse file; it may have none. */
static int read_embedded(struct vmdk *v, struct pl_err *e)
{
    char *text;
    struct vmdk_descriptor *d = &v->descriptor;

    if (vmdk_sparse_descriptor(v->file, &text, e) < 0)
        return -1;
    if (!text) {
        pl_warn(v->report, "%s: it has no descriptor: it may be only a part of a disk",
                v->file->name);
        return 0;
    }
    if (vmdk_descriptor_parse(text, strlen(text), d, e) < 0 ||
        vmdk_sparse_descriptor_place(v->file, &v->text_off, &v->text_room, e) < 0)
        return -1;
    if (d->line_count == 1)
        return 0;
    return pl_fail(e, d->line_count ? PL_E_UNSUPPORTED : PL_E_CORRUPT,
                   "descriptor: %zu extents in a file that holds one", d->line_count);
}

/* ---- what is asked of it more than once ---- */

/* Host devices are what these kinds of disks are made of. */
static bool is_of_device(const char *create_type)
{
    static const char *const types[] = { "fullDevice",       "partitionedDevice",
                                         "custom",           "vmfsRaw",
                                         "vmfsRDM",          "vmfsRDMP",
                                         "vmfsRawDeviceMap", "vmfsPassthroughRawDeviceMap" };

    for (size_t i = 0; i < PL_COUNT(types); i++)
        if (strcasecmp(create_type, types[i]) == 0)
            return true;
    return false;
}

/* An identifier as VirtualBox writes it; null where there is none. */
static struct pl_uuid read_uuid(const struct vmdk *v, const char *key)
{
    PL_FREE char *text = vmdk_descriptor_value(&v->descriptor, key);
    struct pl_uuid uuid;

    if (!text || pl_uuid_parse(text, &uuid, NULL) < 0)
        uuid = (struct pl_uuid){ 0 };
    return uuid;
}

void vmdk_read_parent_facts(struct vmdk *v)
{
    v->parent_uuid = read_uuid(v, "ddb.uuid.parent");
    v->has_parent = v->descriptor.parent_cid != VMDK_CID_NONE || !pl_uuid_is_null(&v->parent_uuid);
}

static void read_facts(struct vmdk *v)
{
    if (!v->descriptor.text)
        v->descriptor.parent_cid = VMDK_CID_NONE;
    v->uuid = read_uuid(v, "ddb.uuid.image");
    vmdk_read_parent_facts(v);
    v->encoding = vmdk_descriptor_value(&v->descriptor, "encoding");
    v->create_type = vmdk_descriptor_value(&v->descriptor, "createType");
    v->of_device = v->create_type && is_of_device(v->create_type);
}

/* ---- parts ---- */

const struct vmdk_line *vmdk_line_of(const struct vmdk *v, const struct vmdk_part *part)
{
    return part->line == VMDK_NO_LINE ? NULL : &v->descriptor.lines[part->line];
}

int vmdk_within(const struct vmdk *v, const struct vmdk_part *part, struct pl_err *e)
{
    const struct vmdk_line *line = vmdk_line_of(v, part);

    if (!line || part->extent.file == v->file)
        return -1;
    if (!line->name)
        return pl_within(e, "extent %zu", part->line + 1);
    return pl_within(e, "extent %zu ('%s')", part->line + 1, line->name);
}

static int make_parts(struct vmdk *v, size_t count, struct pl_err *e)
{
    v->parts = calloc(count, sizeof *v->parts);
    if (!v->parts)
        return pl_fail(e, PL_E_NOMEM, "no memory for %zu extents", count);
    v->count = count;
    return 0;
}

struct vmdk_extent_args vmdk_extent_args(const struct vmdk *v, const struct pl_open_args *args)
{
    return (struct vmdk_extent_args){
        .writable = args->writable,
        .check_only = args->check_only,
        .has_parent = v->has_parent,
        .cache_bytes = args->cache_bytes,
        .report = args->report,
    };
}

/* The file itself is the one extent. */
static int open_single(struct vmdk *v, const struct pl_open_args *args, struct pl_err *e)
{
    struct vmdk_extent_args how = vmdk_extent_args(v, args);
    struct vmdk_part *part;

    if (make_parts(v, 1, e) < 0)
        return -1;
    part = v->parts;
    part->line = v->descriptor.line_count ? 0 : VMDK_NO_LINE;
    how.file = v->file;
    how.size = v->descriptor.sectors * VMDK_SECTOR;
    if (vmdk_sparse_open(&how, &part->extent, e) < 0)
        return -1;
    part->extent.file = v->file;
    return 0;
}

/* A new stream cannot be read back: what it is follows from what was asked for. */
static int open_new_stream(struct vmdk *v, const struct pl_open_args *args, struct pl_err *e)
{
    struct vmdk_sparse_new what;
    char *text = NULL;

    if (vmdk_describe_stream(args->created, &what, &text, e) < 0)
        return -1;
    if (!v->file->sequential) { /* then it can: its random numbers are the right ones */
        free(pl_take(text));
        if (vmdk_sparse_descriptor(v->file, &text, e) < 0)
            return -1;
    }
    if (!text)
        return pl_fail(e, PL_E_CORRUPT, "the new stream has no descriptor");
    if (vmdk_descriptor_parse(text, strlen(text), &v->descriptor, e) < 0)
        return -1;
    read_facts(v);
    what.descriptor = v->descriptor.text;
    if (make_parts(v, 1, e) < 0 || vmdk_stream_open_new(v->file, &what, &v->parts->extent, e) < 0)
        return -1;
    v->parts->extent.file = v->file;
    return 0;
}

/* Writing does not enter changes there, so that a backup that counts on it would miss them. */
static void warn_of_change_tracking(const struct vmdk *v)
{
    PL_FREE char *name = vmdk_descriptor_value(&v->descriptor, "changeTrackPath");

    if (name)
        pl_warn(v->report, "changes are not recorded in the change tracking file '%s'", name);
}

static int make_writable(struct vmdk *v, struct pl_err *e)
{
    if (vmdk_check_writable(v, e) < 0 || vmdk_bring_home(v, e) < 0)
        return -1;
    warn_of_change_tracking(v);
    return 0;
}

/* ---- the layer ---- */

static int open_described(struct vmdk *v, const struct pl_open_args *args, struct pl_err *e)
{
    if (read_text(v, e) < 0)
        return -1;
    read_facts(v);
    if (make_parts(v, v->descriptor.line_count, e) < 0)
        return -1;
    return vmdk_open_parts(v, args, e);
}

static int open_sparse(struct vmdk *v, const struct pl_open_args *args, struct pl_err *e)
{
    if (read_embedded(v, e) < 0)
        return -1;
    read_facts(v);
    return open_single(v, args, e);
}

static int open_cowd(struct vmdk *v, const struct pl_open_args *args, struct pl_err *e)
{
    pl_warn(v->report, "%s: an extent without its descriptor: it may be only a part of a disk",
            v->file->name);
    read_facts(v);
    return open_single(v, args, e);
}

static int open_by_content(struct vmdk *v, const struct pl_open_args *args, struct pl_err *e)
{
    uint8_t head[4096];

    if (args->created && vmdk_creates_stream(args->created))
        return open_new_stream(v, args, e);
    if (v->file->sequential)
        return pl_fail(e, PL_E_UNSUPPORTED, "a pipe cannot hold a vmdk image");
    if (pl_storage_read_padded(v->file, 0, head, sizeof head, e) < 0)
        return -1;
    if (load_le32(head) == VMDK_MAGIC)
        return open_sparse(v, args, e);
    if (load_le32(head) == VMDK_COWD_MAGIC)
        return open_cowd(v, args, e);
    if (vmdk_descriptor_probe(head, sizeof head))
        return open_described(v, args, e);
    return pl_fail(e, PL_E_FORMAT, "not a vmdk file: neither a descriptor nor an extent");
}

/* What the parts are, as a whole. */
static void derive(struct vmdk *v)
{
    v->granule = 1;
    for (size_t i = 0; i < v->count; i++) {
        v->size += v->parts[i].extent.size;
        v->granule = PL_MAX(v->granule, v->parts[i].extent.granule);
    }
}

static int set_texts(const struct vmdk *v, struct pl_layer *layer, struct pl_err *e)
{
    const struct vmdk_descriptor *d = &v->descriptor;
    char uuid[PL_UUID_TEXT], cid[16] = "";
    const bool has_uuid = !pl_uuid_is_null(&v->uuid);
    int result = 0;

    if (d->has_cid)
        snprintf(cid, sizeof cid, "cid:%08" PRIx32, d->cid);
    if (d->has_cid || has_uuid)
        result = asprintf(&layer->identity, "%s%s%s%s", cid, d->has_cid && has_uuid ? " " : "",
                          has_uuid ? "uuid:" : "", has_uuid ? pl_uuid_format(&v->uuid, uuid) : "");
    if (result >= 0 && d->parent_cid != VMDK_CID_NONE)
        result = asprintf(&layer->parent_identity, "cid:%08" PRIx32, d->parent_cid);
    else if (result >= 0 && v->has_parent) /* VirtualBox's differencing images have no name */
        result =
            asprintf(&layer->parent_identity, "uuid:%s", pl_uuid_format(&v->parent_uuid, uuid));
    if (result >= 0 && d->parent_cid != VMDK_CID_NONE)
        layer->parent_name = vmdk_descriptor_value(d, "parentFileNameHint");
    if (result >= 0 && v->has_parent)
        layer->parent_format = strdup("vmdk");
    return result < 0 ? pl_fail(e, PL_E_NOMEM, "no memory for names") : 0;
}

/* The texts are in the layer already. */
static void fill_layer(struct vmdk *v, struct pl_layer *layer)
{
    const struct vmdk_extent *only = &v->parts->extent;

    layer->state = v;
    layer->size = v->size;
    layer->granule = PL_MAX(v->granule, VMDK_SECTOR);
    layer->cluster_size = v->granule > 1 ? v->granule : 0;
    layer->sparse_new = true;
    if (v->count > 1)
        return;
    layer->codec = only->codec;
    layer->unit_len = only->unit_len;
    layer->packed_head = only->packed_head;
    layer->packed_align = only->packed_align;
    layer->packed_only = only->packed_only;
}

int vmdk_open(const struct pl_open_args *args, struct pl_layer *layer, struct pl_err *e)
{
    struct vmdk *v = calloc(1, sizeof *v);

    if (!v)
        return pl_fail(e, PL_E_NOMEM, "no memory to open it");
    v->file = args->file;
    v->report = args->report;
    v->fresh = args->created;
    v->keeps_content = args->keeps_content;
    v->maker = args->maker;
    v->cache_bytes = args->cache_bytes;
    pl_lock_init(&v->cid_lock);
    *layer = (struct pl_layer){ 0 };
    if (open_by_content(v, args, e) < 0) {
        vmdk_close(v);
        return -1;
    }
    derive(v);
    if (set_texts(v, layer, e) < 0 ||
        (args->writable && !args->check_only && make_writable(v, e) < 0)) {
        vmdk_close(v); /* the core frees the texts */
        return -1;
    }
    fill_layer(v, layer);
    return 0;
}

void vmdk_close(void *state)
{
    struct vmdk *v = state;

    for (size_t i = 0; i < v->count; i++)
        if (v->parts[i].extent.ops)
            v->parts[i].extent.ops->close(v->parts[i].extent.state);
    for (size_t i = 0; i < v->count; i++)
        if (v->parts[i].extent.owned)
            pl_storage_close(v->parts[i].extent.file, NULL);
    vmdk_descriptor_free(&v->descriptor);
    pl_lock_destroy(&v->cid_lock);
    free(v->encoding);
    free(v->create_type);
    free(v->parts);
    free(v);
}
