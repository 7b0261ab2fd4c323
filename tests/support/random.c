/* random.c - see random.h. */
#include "tests/support/random.h"

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
#include "tests/support/env.h"

#define SECTOR UINT64_C(512)
#define LONG_RANGE (4 * PL_MIB)

static uint64_t below(struct random_run *r, uint64_t n)
{
    return run_below(&r->base, n);
}

void random_fill(struct random_run *r, uint64_t len)
{
    const uint64_t kind = below(r, 4);
    uint64_t value = rig_random(&r->base.random);

    for (uint64_t i = 0; i < len; i++) {
        if (kind == 0 && i % 8 == 0)
            value = rig_random(&r->base.random);
        r->base.buf[i] = (uint8_t)(value >> 8 * (i % 8)) ^ (uint8_t)(kind == 1 ? i >> 9 : 0);
    }
}

void random_compare(struct random_run *r)
{
    const uint64_t size = r->base.rig.layer.size;
    const uint8_t *buf = r->base.buf;
    struct pl_err e;

    must(rig_read(&r->base.rig, 0, r->base.buf, size, &e), &e);
    if (memcmp(buf, r->model, size) == 0)
        return;
    for (uint64_t i = 0; i < size; i++)
        if (buf[i] != r->model[i])
            fail_msg("byte 0x%llx is %02x instead of %02x", (unsigned long long)i, buf[i],
                     r->model[i]);
}

static void check_sound(struct random_run *r, enum pl_repair repair, bool leaks)
{
    struct pl_check_result result;
    struct pl_err e;

    must(rig_flush(&r->base.rig, &e), &e);
    must(rig_check(&r->base.rig, repair, &result, &e), &e);
    if (result.corruptions || result.corruptions_fixed || result.check_errors ||
        (leaks && (result.leaks || result.leaks_fixed)))
        fail_msg("check: %llu corruptions, %llu leaks",
                 (unsigned long long)(result.corruptions + result.corruptions_fixed),
                 (unsigned long long)(result.leaks + result.leaks_fixed));
}

void random_check_sound(struct random_run *r, bool leaks)
{
    check_sound(r, PL_REPAIR_NONE, leaks);
}

/* ---- steps ---- */

/* Mostly few sectors, or blocks; sometimes much, as far as the end; of any bytes if `odd`. */
static void choose(struct random_run *r, bool odd, uint64_t *at, uint64_t *len)
{
    const uint64_t block = PL_MAX(r->base.rig.layer.cluster_size, SECTOR);
    const bool large = block >= PL_MIB, blocks = below(r, large ? 4 : 2) == 0;
    const uint64_t most = blocks && large ? 2 : below(r, 4) ? 4 : 64;

    run_choose(&r->base, blocks ? block : SECTOR, most, at, len);
    if (below(r, 60) == 0)
        *len = PL_MIN(r->base.rig.layer.size - *at, LONG_RANGE);
    if (odd && *len > 2 * SECTOR && below(r, 4) == 0) {
        *at += below(r, SECTOR);
        *len -= SECTOR + below(r, SECTOR);
    }
}

static void choose_granules(struct random_run *r, uint64_t *at, uint64_t *len)
{
    choose(r, false, at, len);
    run_round_out(&r->base, at, len);
}

void random_write(struct random_run *r)
{
    struct pl_err e;
    uint64_t at, len;

    choose(r, true, &at, &len);
    random_fill(r, len);
    must(rig_write(&r->base.rig, at, r->base.buf, len, &e), &e);
    memcpy(r->model + at, r->base.buf, len);
}

static void write_packed(struct random_run *r)
{
    struct pl_err e;
    uint64_t at, len;

    run_choose(&r->base, r->base.rig.layer.cluster_size, 12, &at, &len);
    random_fill(r, len);
    must(rig_write_packed(&r->base.rig, at, r->base.buf, len, &e), &e);
    memcpy(r->model + at, r->base.buf, len);
}

static void zero(struct random_run *r)
{
    struct pl_err e;
    uint64_t at, len;

    choose_granules(r, &at, &len);
    must(rig_zero(&r->base.rig, at, len, below(r, 2), &e), &e);
    memset(r->model + at, 0, len);
}

/* Discards may be skipped; what they did must read as zeros, never as the parent. */
static void discard(struct random_run *r)
{
    struct rig *rig = &r->base.rig;
    const uint8_t *buf = r->base.buf;
    struct pl_err e;
    uint64_t at, len;

    choose_granules(r, &at, &len);
    must(rig->driver->discard(rig->layer.state, at, len, &e), &e);
    must(rig_read(rig, at, r->base.buf, len, &e), &e);
    for (uint64_t i = 0; i < len; i++)
        if (buf[i] && (buf[i] != r->model[at + i] || r->base.format->discards_all))
            fail_msg("a discard left bytes at 0x%llx", (unsigned long long)(at + i));
    memcpy(r->model + at, buf, len);
}

/* The model takes over what the parent has where the image says nothing. */
static void take_unsaid(struct random_run *r)
{
    const uint64_t size = r->base.rig.layer.size;
    const struct rig *rig = &r->base.rig;
    struct pl_extent x;
    struct pl_err e;

    for (uint64_t at = 0; at < size; at += x.len) {
        const uint64_t have = at < rig->parent_len ? rig->parent_len - at : 0;

        must(rig->driver->map(rig->layer.state, at, size - at, &x, &e), &e);
        if (x.state != PL_PARENT)
            continue;
        memset(r->model + at, 0, x.len);
        if (have)
            memcpy(r->model + at, rig->parent + at, PL_MIN(have, x.len));
    }
}

/* What is forgotten is the parent's, or zeros. */
static void forget(struct random_run *r)
{
    const struct rig *rig = &r->base.rig;
    struct pl_err e;
    uint64_t at, len, have;

    choose_granules(r, &at, &len);
    must(rig->driver->forget(rig->layer.state, at, len, &e), &e);
    have = at < rig->parent_len ? PL_MIN(len, rig->parent_len - at) : 0;
    memset(r->model + at, 0, len);
    if (have)
        memcpy(r->model + at, rig->parent + at, have);
}

/* Room that is asked for, written to and given back. */
static void cancel(struct random_run *r)
{
    const struct rig *rig = &r->base.rig;
    const struct pl_driver *driver = rig->driver;
    struct pl_place place;
    struct pl_err e;
    uint64_t at, len;

    choose_granules(r, &at, &len);
    must(driver->allocate(rig->layer.state, at, len, &place, &e), &e);
    /* A raw data file would show what the map hides. */
    if (place.fresh && !rig->data) {
        len = PL_MIN(place.len, 4096);
        random_fill(r, len);
        must(pl_storage_write(place.st, place.off, r->base.buf, len, &e), &e);
    }
    if (place.fresh && driver->cancel)
        driver->cancel(rig->layer.state, &place);
    if (!r->base.shape->packed)
        return;
    at = pl_round_down(at, rig->layer.cluster_size);
    len = 100 + below(r, 300);
    must(driver->allocate_packed(rig->layer.state, at, (uint32_t)len, &place, &e), &e);
    driver->cancel(rig->layer.state, &place);
}

/* The space that a grown disk has over a parent is zeroed, so there is no use in room for it. */
static void resize(struct random_run *r)
{
    const struct image_shape *shape = r->base.shape;
    const bool within = shape->no_growth || r->base.format->grows_only;
    const uint64_t old = r->base.rig.layer.size;
    const uint64_t size =
        run_choose_size(&r->base, shape->size / 2, within ? shape->size : 3 * shape->size / 2);
    enum pl_prealloc how = run_choose_prealloc(&r->base);
    struct pl_err e;

    if (size > old && r->base.rig.parent)
        how = PL_PREALLOC_OFF;
    must(rig_resize(&r->base.rig, size, how, &e), &e);
    if (size > old)
        memset(r->model + old, 0, size - old);
    must(run_hide_parent(&r->base, old, &e), &e);
    random_compare(r);
}

static void compact(struct random_run *r)
{
    struct rig *rig = &r->base.rig;
    struct pl_err e;
    uint64_t before = UINT64_MAX, freed;

    if (below(r, 2)) {
        must(rig_flush(rig, &e), &e);
        before = pl_storage_size(rig->st);
    }
    must(rig->driver->compact(rig->layer.state, NULL, &freed, &e), &e);
    assert_true(pl_storage_size(rig->st) <= before);
    random_check_sound(r, true);
    random_compare(r);
}

static void reopen(struct random_run *r)
{
    const uint64_t size = r->base.rig.layer.size;
    struct rig *rig = &r->base.rig;
    struct pl_err e;

    check_sound(r, below(r, 2) ? PL_REPAIR_ALL : PL_REPAIR_NONE, r->format->leaks_nothing);
    if (below(r, 2)) {
        must(rig_finish(rig, &e), &e);
    } else {
        must(rig_flush(rig, &e), &e);
        rig_close(rig);
    }
    must(rig_open(rig, &e), &e);
    assert_int_equal(rig->layer.size, size);
    random_compare(r);
}

/* What the image says stays, all else is the new parent's; an image that loses its parent may say
 * more afterwards.  As the core does, the image is opened again before it is written over a parent
 * that it did not have. */
static void change_parent(struct random_run *r, enum run_parent which)
{
    struct rig *rig = &r->base.rig;
    const bool had_none = !rig->parent;
    struct pl_err e;

    run_use_parent(&r->base, rig, which);
    take_unsaid(r);
    must(run_set_parent(&r->base, which, &e), &e);
    random_compare(r);
    if (had_none || below(r, 2))
        reopen(r);
}

static void flush(struct random_run *r)
{
    struct pl_err e;

    must(rig_flush(&r->base.rig, &e), &e);
}

/* The rare steps; n below 40. */
static void rare_step(struct random_run *r, uint64_t n)
{
    const struct image_shape *shape = r->base.shape;

    if (n < 8)
        reopen(r);
    else if (n < 10 && r->format->own_step)
        r->format->own_step(r);
    else if (n < 16 && (r->base.format->compacts || shape->compact))
        compact(r);
    else if (n < 22 && (r->format->resizes || shape->resize))
        resize(r);
    else if (n >= 22 && n < 28 && run_changes_parent(&r->base))
        change_parent(r, (enum run_parent)below(r, RUN_PARENTS));
    else
        flush(r);
}

static void step(struct random_run *r)
{
    const uint64_t n = below(r, 1000);

    if (n < 40)
        rare_step(r, n);
    else if (n < 500 || (n < 650 && !r->base.shape->packed))
        random_write(r);
    else if (n < 650)
        write_packed(r);
    else if (n < 790)
        zero(r);
    else if (n >= 890 && n < 940 && r->base.format->forgets && r->base.shape->parent)
        forget(r);
    else if (n < 940)
        discard(r);
    else
        cancel(r);
}

/* ---- beside qemu-img ---- */

void random_write_file(const char *name, const uint8_t *bytes, uint64_t len)
{
    PL_FREE char *path = test_tmp(name);
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void dump(struct pl_storage *st, const char *name)
{
    PL_FREE char *path = test_tmp(name);
    struct pl_err e;

    must(rig_dump(st, path, &e), &e);
}

static void compare_with_qemu(struct random_run *r)
{
    const char *format = r->format->qemu;
    PL_FREE char *folder = test_tmp(".");

    dump(r->base.rig.st, "image");
    random_write_file("model", r->model, r->size);
    if (r->base.rig.data)
        dump(r->base.rig.data, "data");
    if (r->format->write_parents)
        r->format->write_parents(r);
    else if (r->base.parent)
        random_write_file("parent", r->base.parent, r->base.parent_len);
    if (r->format->qemu_check)
        assert_int_equal(run_quietly("cd '%s' && qemu-img check -f %s image", folder, format), 0);
    assert_int_equal(run_quietly("cd '%s' && qemu-img convert -f %s -O raw image raw &&"
                                 " cmp raw model",
                                 folder, format),
                     0);
    if (r->format->finish)
        r->format->finish(r);
}

/* ---- the runs ---- */

static void make_parent(struct random_run *r)
{
    const uint64_t size = r->base.shape->size;
    const uint64_t len = r->format->short_parent ? size / 2 - 1536 : size;

    run_make_parents(&r->base, len);
    if (r->base.other) {
        random_fill(r, len);
        memcpy(r->base.other, r->base.buf, len);
    }
    random_fill(r, len);
    memcpy(r->base.parent, r->base.buf, len);
    memcpy(r->model, r->base.buf, len);
}

/* A disk that can only grow begins small. */
static void begin(struct random_run *r)
{
    const struct image_shape *shape = r->base.shape;
    const bool small = r->base.format->grows_only && shape->resize;
    const uint64_t size = small ? pl_round_down(shape->size / 5, SECTOR) : shape->size;
    struct pl_err e;

    run_begin(&r->base, r->format->file_limit ? r->format->file_limit : SIZE_MAX / 2);
    r->model = calloc(1, 2 * shape->size + PL_MIB);
    if (shape->parent)
        make_parent(r);
    must(rig_create(&r->base.rig, shape->options, size, &e), &e);
    if (r->format->prepare)
        r->format->prepare(r);
    must(rig_open(&r->base.rig, &e), &e);
    random_compare(r);
}

/* qemu-img knows no parents of some formats: it reads what lost its own. */
static bool loses_parent(const struct random_run *r)
{
    const struct image_shape *shape = r->base.shape;

    return r->format->readable_orphans && !shape->sector && run_changes_parent(&r->base);
}

static void end(struct random_run *r)
{
    struct pl_err e;

    if (loses_parent(r))
        change_parent(r, RUN_NO_PARENT);
    r->size = r->base.rig.layer.size;
    random_compare(r);
    random_check_sound(r, r->format->leaks_nothing);
    if (r->base.format->compacts)
        compact(r);
    must(rig_finish(&r->base.rig, &e), &e);
    if (r->format->qemu && (!r->base.shape->unreadable || loses_parent(r))) {
        if (has_program("qemu-img"))
            compare_with_qemu(r);
        else
            print_message("# skip: no qemu-img to compare with\n");
    }
    run_end(&r->base);
    free(r->model);
}

static void random_shape(void **state)
{
    const struct image_case *c = *state;
    const struct random_format *format = c->frame;
    const uint64_t seed = test_number("RANDOM_SEED", 1);
    const uint64_t steps = test_number("RANDOM_STEPS", c->shape->steps);

    for (unsigned i = 0; i < PL_MAX(format->runs, 1); i++) {
        struct random_run r = { .format = format };

        print_message("# RANDOM_SEED=%llu\n", (unsigned long long)(seed + i));
        r.base.format = &format->image;
        r.base.shape = c->shape;
        r.base.random = seed + i;
        begin(&r);
        for (uint64_t n = 0; n < steps; n++)
            step(&r);
        end(&r);
    }
}

int random_tests(const struct random_format *format, const struct image_shape *shapes, size_t count)
{
    return run_shape_tests(format, format->image.group, "", random_shape, shapes, count, NULL);
}
