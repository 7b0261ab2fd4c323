/* vhdx.c - opens and closes a VHDX file, and ties the parts into the driver.
 *
 * Opening replays the log and checks what later calls rely on: headers, region table, metadata, and
 * that the BAT's region has room for all its entries.  The entries are checked when they are used.
 */
#include "formats/vhdx/vhdx.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"

/* Memory for cached sectors: BAT entries for 16 TiB of disk with blocks of 32 MiB. */
#define CACHE_BYTES (4 * PL_MIB)
#define SLOTS_MIN (VHDX_CHANGES_MAX + VHDX_RESERVE_MAX) /* changed ones stay until a commit */

static void vhdx_close(void *state)
{
    struct vhdx *v = state;

    if (!v)
        return;
    pl_table_cache_free(v->tables);
    if (v->view != v->file)
        pl_storage_close(v->view, NULL);
    free(v->others);
    free(v->parent_name);
    free(v->dirty);
    free(v->freed);
    pl_lock_destroy(&v->lock);
    free(v);
}

static int make_cache(struct vhdx *v, uint32_t bytes, struct pl_err *e)
{
    const uint32_t slots = (uint32_t)PL_MAX((bytes ? bytes : CACHE_BYTES) / VHDX_SECTOR, SLOTS_MIN);

    v->dirty = v->writable ? calloc(v->dirty_max, sizeof *v->dirty) : NULL;
    if (v->writable && !v->dirty)
        return pl_fail(e, PL_E_NOMEM, "no memory to open it");
    return pl_table_cache_create(v->view, VHDX_SECTOR, slots, &v->tables, e);
}

static int load(struct vhdx *v, const struct pl_open_args *args, struct pl_err *e)
{
    if (args->file->sequential)
        return pl_fail(e, PL_E_UNSUPPORTED, "a pipe cannot hold a VHDX image");
    if (args->file->device && args->writable)
        return pl_fail(e, PL_E_UNSUPPORTED,
                       "a VHDX image on a block device can only be read: it cannot grow there");
    if (vhdx_read_headers(v, e) < 0 || vhdx_replay(v, e) < 0)
        return -1;
    v->file_end = pl_storage_size(v->view);
    if (v->file_end > VHDX_FILE_MAX)
        return pl_fail(e, PL_E_LIMIT, "a file of %" PRIu64 " bytes is too big", v->file_end);
    if (vhdx_read_regions(v, e) < 0 || vhdx_read_metadata(v, e) < 0)
        return -1;
    return make_cache(v, args->cache_bytes, e);
}

/* "uuid:" and the text of an identifier; null: no memory. */
static char *identity_of(const struct pl_uuid *uuid)
{
    char text[PL_UUID_TEXT], *identity;

    return asprintf(&identity, "uuid:%s", pl_uuid_format(uuid, text)) < 0 ? NULL : identity;
}

/* What the parent may be known by. */
static char *parent_identity_of(const struct vhdx *v)
{
    char first[PL_UUID_TEXT], second[PL_UUID_TEXT], *identity;

    if (pl_uuid_is_null(&v->parent_linkage2))
        return identity_of(&v->parent_linkage);
    return asprintf(&identity, "uuid:%s uuid:%s", pl_uuid_format(&v->parent_linkage, first),
                    pl_uuid_format(&v->parent_linkage2, second)) < 0
               ? NULL
               : identity;
}

static int fill_layer(const struct vhdx *v, struct pl_layer *layer, struct pl_err *e)
{
    struct pl_uuid own;

    pl_uuid_load_guid(&own, v->header.DataWriteGuid);
    layer->size = v->size;
    layer->granule = v->sector_size;
    layer->cluster_size = v->block_size;
    layer->sparse_new = true;
    layer->identity = identity_of(&own);
    if (v->has_parent) {
        layer->parent_name = v->parent_name ? strdup(v->parent_name) : NULL;
        layer->parent_format = strdup("vhdx");
        layer->parent_identity = parent_identity_of(v);
    }
    if (!layer->identity || (v->parent_name && !layer->parent_name) ||
        (v->has_parent && (!layer->parent_format || !layer->parent_identity)))
        return pl_fail(e, PL_E_NOMEM, "no memory to open it");
    return 0;
}

static int vhdx_open(const struct pl_open_args *args, struct pl_layer *layer, struct pl_err *e)
{
    struct vhdx *v = calloc(1, sizeof *v);

    if (!v)
        return pl_fail(e, PL_E_NOMEM, "no memory to open it");
    pl_lock_init(&v->lock);
    v->file = v->view = args->file;
    v->report = args->report;
    v->writable = args->writable;
    v->keeps_content = args->keeps_content;
    v->direct = args->created;
    v->dirty_max = VHDX_CHANGES_MAX;
    if (load(v, args, e) < 0 || fill_layer(v, layer, e) < 0) {
        vhdx_close(v);
        return -1;
    }
    layer->state = v;
    return 0;
}

static void vhdx_flags(void *state, struct pl_image_flags *flags)
{
    const struct vhdx *v = state;

    flags->dirty = v->replayed;
}

extern const struct pl_driver pl_vhdx;
const struct pl_driver pl_vhdx = {
    .name = "vhdx",
    .create_options = vhdx_create_options,
    .spec = "[MS-VHDX] Virtual Hard Disk v2 (VHDX) File Format",
    .probe = vhdx_probe,
    .open = vhdx_open,
    .map = vhdx_map,
    .close = vhdx_close,
    .allocate = vhdx_allocate,
    .link = vhdx_link,
    .cancel = vhdx_cancel,
    .zero = vhdx_zero,
    .discard = vhdx_discard,
    .forget = vhdx_forget,
    .flush = vhdx_flush,
    .seal = vhdx_seal,
    .create = vhdx_create,
    .resize = vhdx_resize,
    .compact = vhdx_compact,
    .set_parent = vhdx_set_parent,
    .check = vhdx_check,
    .measure = vhdx_measure,
    .info = vhdx_info,
    .flags = vhdx_flags,
};
