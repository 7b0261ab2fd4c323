/* rig.c - see rig.h. */
#include "tests/support/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/base/zero.h"
#include "core/codec/codec.h"
#include "core/storage/alias.h"
#include "core/storage/memory.h"
#include "tests/support/env.h"

void must(int result, const struct pl_err *e)
{
    if (result < 0)
        fail_msg("%s", e->msg);
}

uint64_t rig_below(uint64_t *state, uint64_t n)
{
    return n ? rig_random(state) % n : 0;
}

uint64_t rig_random(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static int make_data_file(const struct pl_create_args *args, const char *name,
                          struct pl_storage **out, struct pl_err *e)
{
    struct rig *rig = args->ctx;

    (void)name;
    return pl_alias_storage(rig->data, out, e);
}

static int open_data_file(const struct pl_open_args *args, const char *name,
                          struct pl_storage **out, struct pl_err *e)
{
    struct rig *rig = args->ctx;

    (void)name;
    return pl_alias_storage(rig->data, out, e);
}

int rig_create(struct rig *rig, const char *options, uint64_t size, struct pl_err *e)
{
    struct pl_options *list = pl_options_new();
    struct pl_create_args args = {
        .file = rig->st,
        .size = size,
        .parent.name = rig->parent ? "parent" : NULL,
        .parent.format = rig->parent ? rig->parent_format : NULL,
        .parent.identity = rig->parent ? rig->parent_identity : NULL,
        .options = list,
        .report = rig->report,
        .create_file = make_data_file,
        .ctx = rig,
    };
    int r = *options ? pl_options_add(list, options, e) : 0;

    if (r == 0)
        r = rig->driver->create(&args, e);
    if (r == 0)
        r = pl_options_check_all_known(list, rig->driver->name, e);
    pl_options_free(list);
    return r;
}

int rig_open(struct rig *rig, struct pl_err *e)
{
    const struct pl_open_args args = {
        .file = rig->st,
        .writable = !rig->read_only,
        .check_only = rig->check_only,
        .cache_bytes = rig->cache_bytes,
        .report = rig->report,
        .open_file = open_data_file,
        .ctx = rig,
    };

    rig->layer = (struct pl_layer){ 0 };
    if (rig->driver->open(&args, &rig->layer, e) == 0)
        return 0;
    rig_free_texts(&rig->layer);
    return -1;
}

void rig_free_texts(struct pl_layer *layer)
{
    free(layer->parent_name);
    free(layer->parent_format);
    free(layer->identity);
    free(layer->parent_identity);
    free(layer->parent_revision);
    layer->parent_name = layer->parent_format = NULL;
    layer->identity = layer->parent_identity = layer->parent_revision = NULL;
}

void rig_close(struct rig *rig)
{
    rig->driver->close(rig->layer.state);
    rig_free_texts(&rig->layer);
    rig->layer = (struct pl_layer){ 0 };
}

int rig_flush(struct rig *rig, struct pl_err *e)
{
    return rig->driver->flush(rig->layer.state, e);
}

int rig_finish(struct rig *rig, struct pl_err *e)
{
    int result = rig_flush(rig, e);

    if (result == 0 && rig->driver->seal)
        result = rig->driver->seal(rig->layer.state, e);
    rig_close(rig);
    return result;
}

static void read_parent(const struct rig *rig, uint64_t at, uint8_t *buf, uint64_t len)
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

int rig_read(struct rig *rig, uint64_t at, void *buf, uint64_t len, struct pl_err *e)
{
    for (uint8_t *p = buf; len;) {
        struct pl_extent x;
        int r = 0;

        if (rig->driver->map(rig->layer.state, at, len, &x, e) < 0)
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
static int fill(struct rig *rig, const struct pl_place *place, uint64_t at, uint64_t end,
                struct pl_err *e)
{
    PL_FREE uint8_t *old = NULL;

    if (at >= end)
        return 0;
    old = malloc(end - at);
    if (rig_read(rig, at, old, end - at, e) < 0)
        return -1;
    /* Zeros that are there already are not written: the driver must mean it. */
    if (place->zeroed && pl_is_zero(old, end - at))
        return 0;
    return pl_storage_write(place->st, place->off + (at - place->at), old, end - at, e);
}

static int write_some(struct rig *rig, uint64_t at, const uint8_t *buf, uint64_t len,
                      uint64_t *done, struct pl_err *e)
{
    uint64_t granule = rig->layer.granule, from = pl_round_down(at, granule);
    uint64_t to = PL_MIN(pl_round_up(at + len, granule), rig->layer.size);
    struct pl_place place;

    if (rig->driver->allocate(rig->layer.state, from, to - from, &place, e) < 0)
        return -1;
    if (place.at != from || !place.len || place.len > to - from)
        return pl_fail(e, PL_E_INVALID, "allocate gave a wrong range");
    *done = PL_MIN(len, place.at + place.len - at);
    if ((place.fresh && (fill(rig, &place, from, at, e) < 0 ||
                         fill(rig, &place, at + *done, place.at + place.len, e) < 0)) ||
        pl_storage_write(place.st, place.off + (at - from), buf, *done, e) < 0) {
        if (place.fresh && rig->driver->cancel)
            rig->driver->cancel(rig->layer.state, &place);
        return -1;
    }
    return place.fresh ? rig->driver->link(rig->layer.state, &place, e) : 0;
}

int rig_write(struct rig *rig, uint64_t at, const void *buf, uint64_t len, struct pl_err *e)
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

int rig_zero(struct rig *rig, uint64_t at, uint64_t len, bool unmap, struct pl_err *e)
{
    const int r = rig->driver->zero(rig->layer.state, at, len, unmap, e);
    PL_FREE uint8_t *zeros = NULL;

    if (r <= 0)
        return r;
    zeros = calloc(1, len);
    return rig_write(rig, at, zeros, len, e);
}

static int write_unit(struct rig *rig, struct pl_codec_state *codec, uint64_t at,
                      const uint8_t *unit, uint8_t *packed, struct pl_err *e)
{
    size_t packed_len = rig->layer.unit_len - 1;
    uint64_t len = PL_MIN(rig->layer.unit_len, rig->layer.size - at);
    struct pl_place place;
    int r = pl_pack(codec, unit, rig->layer.unit_len, packed, &packed_len, e);

    if (r != 0)
        return r < 0 ? -1 : rig_write(rig, at, unit, len, e);
    if (rig->driver->allocate_packed(rig->layer.state, at, (uint32_t)packed_len, &place, e) < 0)
        return -1;
    if (pl_storage_write(place.st, place.off, packed, packed_len, e) < 0) {
        rig->driver->cancel(rig->layer.state, &place);
        return -1;
    }
    return rig->driver->link(rig->layer.state, &place, e);
}

int rig_write_packed(struct rig *rig, uint64_t at, const void *buf, uint64_t len, struct pl_err *e)
{
    uint32_t unit = rig->layer.unit_len;
    PL_FREE uint8_t *packed = malloc(unit), *plain = malloc(unit);
    struct pl_codec_state *codec;
    int r = 0;

    if (pl_codec_open(rig->layer.codec, 0, &codec, e) < 0)
        return -1;
    for (const uint8_t *p = buf; len && r == 0;) {
        uint64_t n = PL_MIN(len, unit);

        memcpy(plain, p, n);
        memset(plain + n, 0, unit - n);
        r = write_unit(rig, codec, at, plain, packed, e);
        at += n;
        p += n;
        len -= n;
    }
    pl_codec_close(codec);
    return r;
}

int rig_resize(struct rig *rig, uint64_t size, enum pl_prealloc how, struct pl_err *e)
{
    if (rig->driver->resize(rig->layer.state, size, true, how, e) < 0)
        return -1;
    rig->layer.size = size;
    return 0;
}

int rig_check(struct rig *rig, enum pl_repair repair, struct pl_check_result *result,
              struct pl_err *e)
{
    *result = (struct pl_check_result){ 0 };
    return rig->driver->check(rig->layer.state, repair, rig->report, result, e);
}

int rig_dump(struct pl_storage *st, const char *path, struct pl_err *e)
{
    uint64_t size = pl_storage_size(st);
    PL_FREE uint8_t *bytes = malloc(size ? size : 1);
    FILE *file = fopen(path, "wb");
    bool good;

    if (!file)
        return pl_fail(e, PL_E_SYS, "%s cannot be written", path);
    good = pl_storage_read(st, 0, bytes, size, e) == 0 && fwrite(bytes, 1, size, file) == size;
    return fclose(file) == 0 && good ? 0 : -1;
}

int rig_load(const char *path, size_t limit, struct pl_storage **out, struct pl_err *e)
{
    FILE *file = fopen(path, "rb");
    PL_FREE uint8_t *bytes = NULL;
    size_t len = 0;

    if (!file)
        return pl_fail(e, PL_E_NOT_FOUND, "%s cannot be read", path);
    if (fseek(file, 0, SEEK_END) == 0 && ftell(file) >= 0) {
        len = (size_t)ftell(file);
        rewind(file);
        bytes = malloc(len ? len : 1);
        len = fread(bytes, 1, len, file);
    }
    fclose(file);
    return pl_memory_storage(bytes, len, limit, out, e);
}

int rig_take_snapshot(struct pl_storage **st, const char *name, size_t limit, struct pl_err *e)
{
    PL_FREE char *path = test_tmp("snapshot");
    char command[4000];

    if (rig_dump(*st, path, e) < 0)
        return -1;
    pl_storage_close(*st, NULL);
    *st = NULL;
    snprintf(command, sizeof command, "qemu-img snapshot -c %s %s", name, path);
    if (system(command) != 0)
        return pl_fail(e, PL_E_SYS, "qemu-img took no snapshot");
    return rig_load(path, limit, st, e);
}
