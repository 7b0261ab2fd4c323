/* vdi.c - opens and closes a VDI file, and ties the parts into the driver.
 *
 * An image over a parent knows the parent by its UUID alone: the core looks for it in the folder.
 * VirtualBox, which has a list of all media, accepts a parent that was modified since; so do we,
 * with a warning. */
#include "formats/vdi/vdi.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"

static bool vdi_probe(const struct pl_probe *probe)
{
    return probe->len >= VDI_PREHEADER_BYTES &&
           load_le32(probe->head + VDI_SIGNATURE_AT) == VDI_SIGNATURE;
}

static void vdi_close(void *state)
{
    struct vdi *v = state;

    vdi_close_map(v);
    vdi_forget_room(&v->room);
    free(v->freed);
    pl_lock_destroy(&v->lock);
    free(v);
}

/* "uuid:...", or null: the bytes are all zeros. */
static int add_word(char **words, const char *name, const uint8_t raw[static 16], struct pl_err *e)
{
    char text[PL_UUID_TEXT], *joined;
    struct pl_uuid uuid;

    pl_uuid_load_guid(&uuid, raw);
    if (pl_uuid_is_null(&uuid))
        return 0;
    if (asprintf(&joined, "%s%s%s:%s", *words ? *words : "", *words ? " " : "", name,
                 pl_uuid_format(&uuid, text)) < 0)
        return pl_fail(e, PL_E_NOMEM, "no memory for its UUIDs");
    free(*words);
    *words = joined;
    return 0;
}

static int set_identity(const struct vdi_header *h, struct pl_layer *layer, struct pl_err *e)
{
    if (add_word(&layer->identity, "uuid", h->image_uuid, e) < 0 ||
        add_word(&layer->identity, "modification", h->modification_uuid, e) < 0 ||
        add_word(&layer->parent_identity, "uuid", h->parent_uuid, e) < 0 ||
        add_word(&layer->parent_revision, "modification", h->parent_modification_uuid, e) < 0)
        return -1;
    return 0;
}

/* While the image is being made its parent has a name too. */
static int set_parent_name(const struct pl_create_args *created, struct pl_layer *layer,
                           struct pl_err *e)
{
    if (!created || !created->parent.name)
        return 0;
    layer->parent_name = strdup(created->parent.name);
    return layer->parent_name ? 0 : pl_fail(e, PL_E_NOMEM, "no memory for its parent's name");
}

static void set_created(struct vdi *v, const struct pl_create_args *created)
{
    v->fresh = created;
    v->derive_modification = created && created->reproducible;
    v->derive_image = v->derive_modification && !pl_options_text(created->options, "uuid");
}

static int load(struct vdi *v, const struct pl_open_args *args, struct pl_layer *layer,
                struct pl_err *e)
{
    if (v->file_end > PL_OFFSET_MAX - VDI_BLOCK_MAX)
        return pl_fail(e, PL_E_LIMIT, "a file of %" PRIu64 " bytes is too big", v->file_end);
    if (vdi_read_header(v, e) < 0 || vdi_open_map(v, e) < 0)
        return -1;
    set_created(v, args->created);
    *layer = (struct pl_layer){
        .state = v,
        .size = v->header.disk_size,
        .granule = v->has_parent ? v->header.block_size : VDI_GEOMETRY_SECTOR,
        .cluster_size = v->header.block_size,
        /* a static image shows what the device had before */
        .sparse_new = !(v->file->device && v->header.type == VDI_TYPE_FIXED),
    };
    return set_identity(&v->header, layer, e) < 0 ? -1 : set_parent_name(args->created, layer, e);
}

static int vdi_open(const struct pl_open_args *args, struct pl_layer *layer, struct pl_err *e)
{
    struct vdi *v;

    if (args->file->sequential)
        return pl_fail(e, PL_E_UNSUPPORTED, "a pipe cannot hold a VDI image");
    v = calloc(1, sizeof *v);
    if (!v)
        return pl_fail(e, PL_E_NOMEM, "no memory to open it");
    pl_lock_init(&v->lock);
    v->file = args->file;
    v->report = args->report;
    v->writable = args->writable;
    v->cache_bytes = args->cache_bytes;
    v->keeps_content = args->keeps_content;
    v->file_end = pl_storage_size(v->file);
    if (load(v, args, layer, e) < 0) {
        vdi_close(v);
        return -1;
    }
    return 0;
}

extern const struct pl_driver pl_vdi;
const struct pl_driver pl_vdi = {
    .name = "vdi",
    .spec = "VirtualBox, Storage/VDICore.h",
    .create_options = vdi_create_options,
    .block_size = VDI_BLOCK_DEFAULT,
    .probe = vdi_probe,
    .open = vdi_open,
    .map = vdi_map,
    .close = vdi_close,
    .allocate = vdi_allocate,
    .link = vdi_link,
    .cancel = vdi_cancel,
    .zero = vdi_zero,
    .discard = vdi_discard,
    .forget = vdi_forget,
    .flush = vdi_flush,
    .seal = vdi_seal,
    .finish = vdi_finish,
    .create = vdi_create,
    .resize = vdi_resize,
    .compact = vdi_compact,
    .set_parent = vdi_set_parent,
    .check = vdi_check,
    .measure = vdi_measure,
    .info = vdi_info,
};
