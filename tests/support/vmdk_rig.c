#include "tests/support/vmdk_rig.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/codec/codec.h"

int extent_open(struct extent_rig *rig, struct pl_err *e)
{
    const struct vmdk_extent_args args = {
        .file = rig->st,
        .size = rig->size,
        .writable = !rig->read_only,
        .check_only = rig->check_only,
        .has_parent = rig->parent,
        .cache_bytes = rig->cache_bytes,
        .report = rig->report,
    };

    rig->x = (struct vmdk_extent){ 0 };
    return vmdk_sparse_open(&args, &rig->x, e);
}

void extent_close(struct extent_rig *rig)
{
    rig->x.ops->close(rig->x.state);
    rig->x = (struct vmdk_extent){ 0 };
}

static void read_parent(const struct extent_rig *rig, uint64_t at, uint8_t *buf, uint64_t len)
{
    uint64_t have = at < rig->parent_len ? PL_MIN(len, rig->parent_len - at) : 0;

    if (have)
        memcpy(buf, rig->parent + at, have);
    memset(buf + have, 0, len - have);
}

static int read_packed(const struct pl_extent *x, uint64_t at, uint8_t *buf, uint64_t len,
                       struct pl_err *e)
{
    PL_FREE uint8_t *packed = malloc(x->packed_len), *unit = malloc(x->unit_len);
    struct pl_codec_state *codec;
    int r;

    if (pl_storage_read_padded(x->st, x->off, packed, x->packed_len, e) < 0 ||
        pl_codec_open(x->codec, 0, &codec, e) < 0)
        return -1;
    r = pl_unpack(codec, packed, x->packed_len, unit, x->unit_len, e);
    pl_codec_close(codec);
    if (r == 0)
        memcpy(buf, unit + (at - x->unit_at), len);
    return r;
}

int extent_read(struct extent_rig *rig, uint64_t at, void *buf, uint64_t len, struct pl_err *e)
{
    for (uint8_t *p = buf; len;) {
        struct pl_extent x;
        int r = 0;

        if (rig->x.ops->map(rig->x.state, at, len, &x, e) < 0)
            return -1;
        if (x.len < 1 || x.len > len)
            return pl_fail(e, PL_E_INVALID, "map gave a run of %llu bytes",
                           (unsigned long long)x.len);
        if (x.state == PL_PARENT)
            read_parent(rig, at, p, x.len);
        else if (x.state == PL_ZERO)
            memset(p, 0, x.len);
        else if (x.state == PL_DATA)
            r = pl_storage_read_padded(x.st, x.off, p, x.len, e);
        else
            r = read_packed(&x, at, p, x.len, e);
        if (r < 0)
            return -1;
        at += x.len;
        p += x.len;
        len -= x.len;
    }
    return 0;
}

/* Fills guest [at, end) of fresh room with what the guest sees there. */
static int fill(struct extent_rig *rig, const struct pl_place *place, uint64_t at, uint64_t end,
                struct pl_err *e)
{
    PL_FREE uint8_t *old = NULL;

    if (at >= end)
        return 0;
    old = malloc(end - at);
    if (extent_read(rig, at, old, end - at, e) < 0)
        return -1;
    /* Zeros that are there already are not written: the extent must mean it. */
    if (place->zeroed && !old[0] && !memcmp(old, old + 1, end - at - 1))
        return 0;
    return pl_storage_write(place->st, place->off + (at - place->at), old, end - at, e);
}

static int write_some(struct extent_rig *rig, uint64_t at, const uint8_t *buf, uint64_t len,
                      uint64_t *done, struct pl_err *e)
{
    uint64_t granule = rig->x.granule, from = pl_round_down(at, granule);
    uint64_t to = PL_MIN(pl_round_up(at + len, granule), rig->x.size);
    struct pl_place place;

    if (rig->x.ops->allocate(rig->x.state, from, to - from, &place, e) < 0)
        return -1;
    if (place.at != from || !place.len || place.len > to - from)
        return pl_fail(e, PL_E_INVALID, "allocate gave a wrong range");
    *done = PL_MIN(len, place.at + place.len - at);
    if ((place.fresh && (fill(rig, &place, from, at, e) < 0 ||
                         fill(rig, &place, at + *done, place.at + place.len, e) < 0)) ||
        pl_storage_write(place.st, place.off + (at - from), buf, *done, e) < 0) {
        if (place.fresh)
            rig->x.ops->cancel(rig->x.state, &place);
        return -1;
    }
    return place.fresh ? rig->x.ops->link(rig->x.state, &place, e) : 0;
}

int extent_write(struct extent_rig *rig, uint64_t at, const void *buf, uint64_t len,
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

int extent_zero(struct extent_rig *rig, uint64_t at, uint64_t len, bool unmap, struct pl_err *e)
{
    int r = rig->x.ops->zero(rig->x.state, at, len, unmap, e);
    PL_FREE uint8_t *zeros = NULL;

    if (r != 1)
        return r;
    zeros = calloc(1, len);
    return extent_write(rig, at, zeros, len, e);
}

int extent_check(struct extent_rig *rig, enum pl_repair repair, struct pl_check_result *result,
                 struct pl_err *e)
{
    *result = (struct pl_check_result){ 0 };
    return rig->x.ops->check(rig->x.state, repair, rig->report, result, e);
}
