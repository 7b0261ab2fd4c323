/* vhd.c - the VHD driver: probing, opening and closing; the table of its parts. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/scope.h"
#include "formats/vhd/change.h"
#include "formats/vhd/create.h"

/* Bitmaps kept: those of 8 GiB in blocks of 2 MiB. */
#define CACHE_BYTES_DEFAULT (2u << 20)
#define CACHE_SLOTS_MIN 16u

/* ---- probing ---- */

static bool has_cookie(const uint8_t *bytes)
{
    return memcmp(bytes, VHD_COOKIE, 8) == 0;
}

static bool has_footer(const struct pl_probe *probe)
{
    return probe->tail && (has_cookie(probe->tail) || has_cookie(probe->tail + 1));
}

static bool is_named_vhd(const char *name)
{
    static const char *const endings[] = { ".vhd", ".vpc", ".avhd" };
    const char *dot = strrchr(name, '.');

    for (size_t i = 0; dot && i < PL_COUNT(endings); i++)
        if (strcasecmp(dot, endings[i]) == 0)
            return true;
    return false;
}

/* The footer of a fixed disk could be the last sector of any raw one: the name must say it too. */
static bool vhd_probe(const struct pl_probe *probe)
{
    if (probe->len >= 8 && has_cookie(probe->head))
        return true;
    return has_footer(probe) && is_named_vhd(probe->name);
}

/* ---- opening ---- */

static void vhd_close(void *state)
{
    struct vhd *v = state;

    pl_table_cache_free(v->bitmaps);
    pl_lock_destroy(&v->lock);
    free(v->bat);
    free(v->bat_dirty);
    free(v->free);
    free(v->pending);
    free(v->new_bitmap);
    free(v);
}

static int check_fixed(const struct vhd *v, struct pl_err *e)
{
    if (v->size <= v->footer_at)
        return 0;
    pl_fail(e, PL_E_CORRUPT,
            "a fixed disk of %" PRIu64 " bytes, but only %" PRIu64 " lie before the footer",
            v->size, v->footer_at);
    return pl_hint(e, "the copy may be incomplete; compare its size with the original");
}

static int open_tables(struct vhd *v, const struct pl_open_args *args, struct pl_err *e)
{
    const uint32_t bytes = args->cache_bytes ? args->cache_bytes : CACHE_BYTES_DEFAULT;

    if (vhd_read_header(v, args->check_only, e) < 0 || vhd_read_bat(v, e) < 0)
        return -1;
    if (v->writable) {
        v->bat_dirty = calloc(pl_div_up(v->header.max_table_entries, VHD_SECTOR / 4) + 1, 1);
        if (!v->bat_dirty)
            return pl_fail(e, PL_E_NOMEM, "BAT: no memory");
    }
    return pl_table_cache_create(v->file, VHD_SECTOR, PL_MAX(bytes / VHD_SECTOR, CACHE_SLOTS_MIN),
                                 &v->bitmaps, e);
}

/* "WORD:" and the identifier; null: no memory. */
static char *identity_of(const uint8_t raw[16])
{
    struct pl_uuid uuid;
    char text[PL_UUID_TEXT], *word;

    memcpy(uuid.byte, raw, sizeof uuid.byte);
    return asprintf(&word, "uuid:%s", pl_uuid_format(&uuid, text)) < 0 ? NULL : word;
}

static bool is_null_id(const uint8_t raw[16])
{
    static const uint8_t none[16];

    return memcmp(raw, none, sizeof none) == 0;
}

/* How children know it: by its identifier, and by its time, which tells that it was changed. */
static int set_identity(const struct vhd *v, struct pl_layer *layer, struct pl_err *e)
{
    PL_FREE char *word = identity_of(v->footer.unique_id);

    if (is_null_id(v->footer.unique_id))
        return 0;
    if (!word || asprintf(&layer->identity, "%s time:%" PRIu32, word, v->footer.time_stamp) < 0) {
        layer->identity = NULL;
        return pl_fail(e, PL_E_NOMEM, "no memory for its identity");
    }
    return 0;
}

static int fill_parent(struct vhd *v, struct pl_layer *layer, struct pl_err *e)
{
    const struct vhd_header *h = &v->header;

    if (vhd_read_parent_name(v, &layer->parent_name, e) < 0)
        return -1;
    if (!is_null_id(h->parent_unique_id) &&
        !(layer->parent_identity = identity_of(h->parent_unique_id)))
        return pl_fail(e, PL_E_NOMEM, "no memory for its parent's identity");
    if (h->parent_time_stamp &&
        asprintf(&layer->parent_revision, "time:%" PRIu32, h->parent_time_stamp) < 0) {
        layer->parent_revision = NULL;
        return pl_fail(e, PL_E_NOMEM, "no memory for its parent's time");
    }
    layer->parent_format = strdup("vhd");
    if (!layer->parent_format)
        return pl_fail(e, PL_E_NOMEM, "no memory for its parent's format");
    if (layer->parent_name || layer->parent_identity)
        return 0;
    return pl_fail(e, PL_E_CORRUPT, "a differencing disk that says nothing about its parent");
}

/* What changes the footers was interrupted between the one at the end and its copy.  Done again, it
 * finds the end's right and has nothing to do. */
static int finish_footers(struct vhd *v, const struct pl_open_args *args, struct pl_err *e)
{
    PL_LOCKED(&v->lock);
    if (!args->writable || args->check_only || v->file->device || v->at_end != VHD_GOOD)
        return 0;
    return vhd_mend_footers(v, e);
}

static int read_file(struct vhd *v, const struct pl_open_args *args, struct pl_layer *layer,
                     struct pl_err *e)
{
    if (vhd_find_footer(v, args->check_only, e) < 0)
        return -1;
    v->size = vhd_virtual_size(&v->footer);
    v->fixed = v->footer.disk_type == VHD_FIXED;
    v->has_parent = v->footer.disk_type == VHD_DIFFERENCING;
    if (v->fixed ? check_fixed(v, e) < 0 : open_tables(v, args, e) < 0)
        return -1;
    if (v->at_end != VHD_GOOD)
        pl_warn(args->report, "%s: the footer at its end is missing or damaged; its copy is used",
                v->file->name);
    if (v->has_parent && fill_parent(v, layer, e) < 0)
        return -1;
    return set_identity(v, layer, e) < 0 ? -1 : finish_footers(v, args, e);
}

/* A fixed disk that goes through a pipe: nothing can be read back, but it was just created. */
static int open_pipe(struct vhd *v, const struct pl_create_args *created, struct pl_err *e)
{
    struct vhd_request request;

    if (!created)
        return pl_fail(e, PL_E_UNSUPPORTED, "a pipe cannot be read as a VHD image");
    if (vhd_read_request(created->options, created->size, false, &request, e) < 0)
        return -1;
    vhd_new_footer(created, &request, &v->footer);
    v->fixed = true;
    v->size = v->footer_at = request.size;
    return 0;
}

static int vhd_open(const struct pl_open_args *args, struct pl_layer *layer, struct pl_err *e)
{
    struct vhd *v;

    v = calloc(1, sizeof *v);
    if (!v)
        return pl_fail(e, PL_E_NOMEM, "no memory to open it");
    pl_lock_init(&v->lock);
    v->file = args->file;
    v->report = args->report;
    v->writable = args->writable;
    *layer = (struct pl_layer){ 0 };
    if (args->file->sequential ? open_pipe(v, args->created, e) < 0
                               : read_file(v, args, layer, e) < 0) {
        vhd_close(v);
        return -1;
    }
    layer->state = v;
    layer->size = v->size;
    layer->granule = v->fixed ? 1 : VHD_SECTOR;
    layer->cluster_size = v->block_size;
    layer->plain = v->fixed;
    layer->sparse_new = true;
    return 0;
}

static const char *const aliases[] = { "vpc", NULL };

extern const struct pl_driver pl_vhd;
const struct pl_driver pl_vhd = {
    .name = "vhd",
    .aliases = aliases,
    .spec = "Microsoft, Virtual Hard Disk Image Format Specification 1.0",
    .streams = true,
    .probe = vhd_probe,
    .perhaps = has_footer,
    .open = vhd_open,
    .map = vhd_map,
    .close = vhd_close,
    .allocate = vhd_allocate,
    .link = vhd_link,
    .zero = vhd_zero,
    .discard = vhd_discard,
    .forget = vhd_forget,
    .flush = vhd_flush,
    .finish = vhd_finish,
    .create_options = vhd_create_options,
    .block_size = VHD_BLOCK_DEFAULT,
    .create = vhd_create,
    .resize = vhd_resize,
    .compact = vhd_compact,
    .set_parent = vhd_set_parent,
    .check = vhd_check,
    .measure = vhd_measure,
    .info = vhd_info,
};
