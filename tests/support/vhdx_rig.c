#include "tests/support/vhdx_rig.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/base/zero.h"

int vhdx_rig_create(struct vhdx_rig *rig, const char *options, uint64_t size, struct pl_err *e)
{
    struct pl_options *list = pl_options_new();
    const struct pl_create_args args = {
        .file = rig->st,
        .size = size,
        .parent_name = rig->parent ? "parent" : NULL,
        .parent_identity = rig->parent ? VHDX_RIG_PARENT : NULL,
        .options = list,
        .report = rig->report,
    };
    int r = *options ? pl_options_add(list, options, e) : 0;

    if (r == 0)
        r = pl_vhdx.create(&args, e);
    if (r == 0)
        r = pl_options_check_all_known(list, pl_vhdx.name, e);
    pl_options_free(list);
    return r;
}

static void free_texts(struct vhdx_rig *rig)
{
    free(rig->layer.parent_name);
    free(rig->layer.parent_format);
    free(rig->layer.identity);
    free(rig->layer.parent_identity);
    rig->layer = (struct pl_layer){ 0 };
}

int vhdx_rig_open(struct vhdx_rig *rig, struct pl_err *e)
{
    const struct pl_open_args args = {
        .file = rig->st,
        .writable = !rig->read_only,
        .check_only = rig->check_only,
        .cache_bytes = rig->cache_bytes,
        .report = rig->report,
    };

    rig->layer = (struct pl_layer){ 0 };
    if (pl_vhdx.open(&args, &rig->layer, e) == 0)
        return 0;
    free_texts(rig);
    return -1;
}

void vhdx_rig_close(struct vhdx_rig *rig)
{
    pl_vhdx.close(rig->layer.state);
    free_texts(rig);
}

static void read_parent(const struct vhdx_rig *rig, uint64_t at, uint8_t *buf, uint64_t len)
{
    const uint64_t have = at < rig->parent_len ? PL_MIN(len, rig->parent_len - at) : 0;

    if (have)
        memcpy(buf, rig->parent + at, have);
    memset(buf + have, 0, len - have);
}

int vhdx_rig_read(struct vhdx_rig *rig, uint64_t at, void *buf, uint64_t len, struct pl_err *e)
{
    for (uint8_t *p = buf; len;) {
        struct pl_extent x;

        if (pl_vhdx.map(rig->layer.state, at, len, &x, e) < 0)
            return -1;
        if (x.len < 1 || x.len > len || x.state == PL_PACKED)
            return pl_fail(e, PL_E_INVALID, "map gave a run of %llu bytes in state %d",
                           (unsigned long long)x.len, x.state);
        if (x.state == PL_PARENT)
            read_parent(rig, at, p, x.len);
        else if (x.state == PL_ZERO)
            memset(p, 0, x.len);
        else if (pl_storage_read_padded(x.st, x.off, p, x.len, e) < 0)
            return -1;
        at += x.len;
        p += x.len;
        len -= x.len;
    }
    return 0;
}

/* Fills guest [at, end) of fresh room with what the guest sees there. */
static int fill(struct vhdx_rig *rig, const struct pl_place *place, uint64_t at, uint64_t end,
                struct pl_err *e)
{
    PL_FREE uint8_t *old = NULL;

    if (at >= end)
        return 0;
    old = malloc(end - at);
    if (vhdx_rig_read(rig, at, old, end - at, e) < 0)
        return -1;
    /* Zeros that are there already are not written: the driver must mean it. */
    if (place->zeroed && pl_is_zero(old, end - at))
        return 0;
    return pl_storage_write(place->st, place->off + (at - place->at), old, end - at, e);
}

static int write_some(struct vhdx_rig *rig, uint64_t at, const uint8_t *buf, uint64_t len,
                      uint64_t *done, struct pl_err *e)
{
    const uint64_t granule = rig->layer.granule, from = pl_round_down(at, granule);
    const uint64_t to = PL_MIN(pl_round_up(at + len, granule), rig->layer.size);
    struct pl_place place;

    if (pl_vhdx.allocate(rig->layer.state, from, to - from, &place, e) < 0)
        return -1;
    if (place.at != from || !place.len || place.len > to - from)
        return pl_fail(e, PL_E_INVALID, "allocate gave a wrong range");
    *done = PL_MIN(len, place.at + place.len - at);
    if ((place.fresh && (fill(rig, &place, from, at, e) < 0 ||
                         fill(rig, &place, at + *done, place.at + place.len, e) < 0)) ||
        pl_storage_write(place.st, place.off + (at - from), buf, *done, e) < 0) {
        pl_vhdx.cancel(rig->layer.state, &place);
        return -1;
    }
    return place.fresh ? pl_vhdx.link(rig->layer.state, &place, e) : 0;
}

int vhdx_rig_write(struct vhdx_rig *rig, uint64_t at, const void *buf, uint64_t len,
                   struct pl_err *e)
{
    for (const uint8_t *p = buf; len;) {
        uint64_t done = 0;

        if (write_some(rig, at, p, len, &done, e) < 0)
            return -1;
        at += done;
        p += done;
        len -= done;
    }
    return 0;
}

int vhdx_rig_zero(struct vhdx_rig *rig, uint64_t at, uint64_t len, bool unmap, struct pl_err *e)
{
    PL_FREE uint8_t *zeros = NULL;
    const int r = pl_vhdx.zero(rig->layer.state, at, len, unmap, e);

    if (r <= 0)
        return r;
    zeros = calloc(1, len);
    return vhdx_rig_write(rig, at, zeros, len, e);
}

int vhdx_rig_finish(struct vhdx_rig *rig, struct pl_err *e)
{
    const int result =
        pl_vhdx.flush(rig->layer.state, e) < 0 ? -1 : pl_vhdx.seal(rig->layer.state, e);

    vhdx_rig_close(rig);
    return result;
}

int vhdx_rig_resize(struct vhdx_rig *rig, uint64_t size, struct pl_err *e)
{
    if (pl_vhdx.resize(rig->layer.state, size, true, PL_PREALLOC_OFF, e) < 0)
        return -1;
    rig->layer.size = size;
    return 0;
}

int vhdx_rig_check(struct vhdx_rig *rig, enum pl_repair repair, struct pl_check_result *result,
                   struct pl_err *e)
{
    *result = (struct pl_check_result){ 0 };
    return pl_vhdx.check(rig->layer.state, repair, rig->report, result, e);
}
