#include "tests/support/drive.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/base/zero.h"

int drive_create(struct drive *d, const char *options, uint64_t size, struct pl_err *e)
{
    struct pl_options *list = pl_options_new();
    const struct pl_create_args args = {
        .file = d->st,
        .size = size,
        .parent_name = d->parent ? "parent" : NULL,
        .parent_identity = d->parent ? d->parent_identity : NULL,
        .options = list,
        .report = d->report,
    };
    int r = *options ? pl_options_add(list, options, e) : 0;

    if (r == 0)
        r = d->driver->create(&args, e);
    if (r == 0)
        r = pl_options_check_all_known(list, d->driver->name, e);
    pl_options_free(list);
    return r;
}

static void free_texts(struct drive *d)
{
    free(d->layer.parent_name);
    free(d->layer.parent_format);
    free(d->layer.identity);
    free(d->layer.parent_identity);
    free(d->layer.parent_revision);
    d->layer = (struct pl_layer){ 0 };
}

int drive_open(struct drive *d, struct pl_err *e)
{
    const struct pl_open_args args = {
        .file = d->st,
        .writable = !d->read_only,
        .check_only = d->check_only,
        .cache_bytes = d->cache_bytes,
        .report = d->report,
    };

    d->layer = (struct pl_layer){ 0 };
    if (d->driver->open(&args, &d->layer, e) == 0)
        return 0;
    free_texts(d);
    return -1;
}

void drive_close(struct drive *d)
{
    d->driver->close(d->layer.state);
    free_texts(d);
}

static void read_parent(const struct drive *d, uint64_t at, uint8_t *buf, uint64_t len)
{
    const uint64_t have = at < d->parent_len ? PL_MIN(len, d->parent_len - at) : 0;

    if (have)
        memcpy(buf, d->parent + at, have);
    memset(buf + have, 0, len - have);
}

int drive_read(struct drive *d, uint64_t at, void *buf, uint64_t len, struct pl_err *e)
{
    for (uint8_t *p = buf; len;) {
        struct pl_extent x;

        if (d->driver->map(d->layer.state, at, len, &x, e) < 0)
            return -1;
        if (x.len < 1 || x.len > len || x.state == PL_PACKED)
            return pl_fail(e, PL_E_INVALID, "map gave a run of %llu bytes in state %d",
                           (unsigned long long)x.len, x.state);
        if (x.state == PL_PARENT)
            read_parent(d, at, p, x.len);
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
static int fill(struct drive *d, const struct pl_place *place, uint64_t at, uint64_t end,
                struct pl_err *e)
{
    PL_FREE uint8_t *old = NULL;

    if (at >= end)
        return 0;
    old = malloc(end - at);
    if (drive_read(d, at, old, end - at, e) < 0)
        return -1;
    /* Zeros that are there already are not written: the driver must mean it. */
    if (place->zeroed && pl_is_zero(old, end - at))
        return 0;
    return pl_storage_write(place->st, place->off + (at - place->at), old, end - at, e);
}

static int write_some(struct drive *d, uint64_t at, const uint8_t *buf, uint64_t len,
                      uint64_t *done, struct pl_err *e)
{
    const uint64_t granule = d->layer.granule, from = pl_round_down(at, granule);
    const uint64_t to = PL_MIN(pl_round_up(at + len, granule), d->layer.size);
    struct pl_place place;

    if (d->driver->allocate(d->layer.state, from, to - from, &place, e) < 0)
        return -1;
    if (place.at != from || !place.len || place.len > to - from)
        return pl_fail(e, PL_E_INVALID, "allocate gave a wrong range");
    *done = PL_MIN(len, place.at + place.len - at);
    if ((place.fresh && (fill(d, &place, from, at, e) < 0 ||
                         fill(d, &place, at + *done, place.at + place.len, e) < 0)) ||
        pl_storage_write(place.st, place.off + (at - from), buf, *done, e) < 0) {
        d->driver->cancel(d->layer.state, &place);
        return -1;
    }
    return place.fresh ? d->driver->link(d->layer.state, &place, e) : 0;
}

int drive_write(struct drive *d, uint64_t at, const void *buf, uint64_t len, struct pl_err *e)
{
    for (const uint8_t *p = buf; len;) {
        uint64_t done = 0;

        if (write_some(d, at, p, len, &done, e) < 0)
            return -1;
        at += done;
        p += done;
        len -= done;
    }
    return 0;
}

int drive_zero(struct drive *d, uint64_t at, uint64_t len, bool unmap, struct pl_err *e)
{
    PL_FREE uint8_t *zeros = NULL;
    const int r = d->driver->zero(d->layer.state, at, len, unmap, e);

    if (r <= 0)
        return r;
    zeros = calloc(1, len);
    return drive_write(d, at, zeros, len, e);
}

int drive_resize(struct drive *d, uint64_t size, enum pl_prealloc how, struct pl_err *e)
{
    if (d->driver->resize(d->layer.state, size, true, how, e) < 0)
        return -1;
    d->layer.size = size;
    return 0;
}

int drive_check(struct drive *d, enum pl_repair repair, struct pl_check_result *result,
                struct pl_err *e)
{
    *result = (struct pl_check_result){ 0 };
    return d->driver->check(d->layer.state, repair, d->report, result, e);
}
