/* Random changes to VHDX images of many shapes, against a model of the disk in memory; in the end
 * qemu-img must find the images that it knows sound and the same content in them.
 *
 * RANDOM_SEED and RANDOM_STEPS in the environment choose another run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/storage/memory.h"
#include "tests/support/env.h"
#include "tests/support/images.h"
#include "tests/support/qcow2_rig.h"
#include "tests/support/vhdx_rig.h"

static const struct shape {
    const char *name;
    const char *options;
    uint64_t size;
    unsigned steps;
    bool parent, resize, strange; /* qemu-img cannot read it */
    uint32_t sector, cache_bytes;
} shapes[] = {
    { "blocks of 1 MiB", "block_size=1M", 12 * PL_MIB, 1200, .resize = true, .sector = 512 },
    { "blocks of 1 MiB, the smallest cache", "block_size=1M", 12 * PL_MIB, 800, .sector = 512,
      .cache_bytes = 1 },
    { "blocks of 8 MiB", "block_size=8M", 21 * PL_MIB, 600, .resize = true, .sector = 512 },
    { "fixed", "block_size=1M,subformat=fixed", 8 * PL_MIB, 800, .resize = true, .sector = 512 },
    { "sectors of 4096 bytes", "block_size=1M,logical_sector_size=4096", 8 * PL_MIB, 800,
      .strange = true, .resize = true, .sector = 4096 },
    { "blocks that say that they are zeros", "block_size=1M,block_state_zero=on", 8 * PL_MIB, 600,
      .sector = 512 },
    { "over a parent", "block_size=1M", 10 * PL_MIB, 1200, .parent = true, .resize = true,
      .strange = true, .sector = 512 },
    { "over a parent, blocks of 4 MiB, the smallest cache", "block_size=4M", 18 * PL_MIB, 800,
      .parent = true, .strange = true, .sector = 512, .cache_bytes = 1 },
    { "over a parent, sectors of 4096 bytes", "block_size=2M,logical_sector_size=4096", 10 * PL_MIB,
      800, .parent = true, .resize = true, .strange = true, .sector = 4096 },
};

struct run {
    const struct shape *shape;
    struct vhdx_rig rig;
    uint8_t *model, *buf, *parent;
    uint64_t size, room; /* of the disk; bytes of the buffers */
    uint64_t random;
};

static uint64_t below(struct run *r, uint64_t n)
{
    return n ? rig_random(&r->random) % n : 0;
}

static void fill_random(struct run *r, uint64_t len)
{
    for (uint64_t i = 0; i < len; i += 8) {
        const uint64_t value = rig_random(&r->random);

        memcpy(r->buf + i, &value, 8);
    }
}

/* Sectors, or whole blocks; mostly few. */
static void choose(struct run *r, uint64_t *at, uint64_t *len)
{
    const uint64_t unit = below(r, 4) ? r->shape->sector : r->rig.layer.cluster_size;
    const uint64_t units = 1 + below(r, unit > 4096 ? 2 : 64);

    *at = pl_round_down(below(r, r->size), unit);
    *len = PL_MIN(units * unit, r->size - *at);
}

static void do_write(struct run *r)
{
    uint64_t at, len;

    choose(r, &at, &len);
    if (below(r, 3) == 0 && len > 2 * r->shape->sector) { /* not of whole sectors */
        at += below(r, 500);
        len -= 500 + below(r, 500);
    }
    fill_random(r, len);
    OK(vhdx_rig_write(&r->rig, at, r->buf, len, &e));
    memcpy(r->model + at, r->buf, len);
}

static void do_zero(struct run *r)
{
    uint64_t at, len;

    choose(r, &at, &len);
    OK(vhdx_rig_zero(&r->rig, at, len, below(r, 2), &e));
    memset(r->model + at, 0, len);
}

/* Discards may be skipped; what they did must read as zeros, never as the parent. */
static void do_discard(struct run *r)
{
    uint64_t at, len;

    choose(r, &at, &len);
    OK(pl_vhdx.discard(r->rig.layer.state, at, len, &e));
    OK(vhdx_rig_read(&r->rig, at, r->buf, len, &e));
    for (uint64_t i = 0; i < len; i++)
        if (r->buf[i] != r->model[at + i] && r->buf[i])
            fail_msg("a discard put bytes at 0x%llx", (unsigned long long)(at + i));
    memcpy(r->model + at, r->buf, len);
}

/* Room that is asked for, written to and given back. */
static void do_cancel(struct run *r)
{
    struct pl_place place;
    uint64_t at, len;

    choose(r, &at, &len);
    OK(pl_vhdx.allocate(r->rig.layer.state, at, len, &place, &e));
    if (!place.fresh)
        return;
    fill_random(r, PL_MIN(place.len, 4096));
    OK(pl_storage_write(place.st, place.off, r->buf, PL_MIN(place.len, 4096), &e));
    pl_vhdx.cancel(r->rig.layer.state, &place);
}

static void compare(struct run *r)
{
    OK(vhdx_rig_read(&r->rig, 0, r->buf, r->size, &e));
    for (uint64_t i = 0; i < r->size; i++)
        if (r->buf[i] != r->model[i])
            fail_msg("byte 0x%llx is %02x instead of %02x", (unsigned long long)i, r->buf[i],
                     r->model[i]);
}

static void check_sound(struct run *r)
{
    struct pl_check_result result;

    OK(pl_vhdx.flush(r->rig.layer.state, &e));
    OK(vhdx_rig_check(&r->rig, PL_REPAIR_NONE, &result, &e));
    if (result.corruptions || result.check_errors)
        fail_msg("check: %llu corruptions", (unsigned long long)result.corruptions);
}

static void do_resize(struct run *r)
{
    const uint64_t size =
        pl_round_up(r->shape->size / 2 + below(r, r->shape->size), r->shape->sector);

    if (!r->shape->resize)
        return;
    OK(vhdx_rig_resize(&r->rig, size, &e));
    if (size > r->size)
        memset(r->model + r->size, 0, size - r->size);
    r->size = size;
    compare(r);
}

static void do_reopen(struct run *r)
{
    check_sound(r);
    OK(vhdx_rig_finish(&r->rig, &e));
    OK(vhdx_rig_open(&r->rig, &e));
    assert_int_equal(r->rig.layer.size, r->size);
    compare(r);
}

static void do_compact(struct run *r)
{
    struct pl_check_result result;
    uint64_t freed;

    OK(pl_vhdx.compact(r->rig.layer.state, NULL, &freed, &e));
    compare(r);
    OK(vhdx_rig_check(&r->rig, PL_REPAIR_LEAKS, &result, &e));
    assert_int_equal(result.leaks, 0);
    assert_int_equal(result.corruptions, 0);
    compare(r);
}

static void step(struct run *r)
{
    const uint64_t n = below(r, 1000);

    if (n < 550)
        do_write(r);
    else if (n < 720)
        do_zero(r);
    else if (n < 880)
        do_discard(r);
    else if (n < 940)
        do_cancel(r);
    else if (n < 980)
        OK(pl_vhdx.flush(r->rig.layer.state, &e));
    else if (n < 988)
        do_reopen(r);
    else if (n < 994)
        do_resize(r);
    else
        do_compact(r);
}

/* ---- beside qemu-img ---- */

static void compare_with_qemu(struct run *r)
{
    char *image = test_tmp("image"), *raw = test_tmp("raw"), *model = test_tmp("model");
    FILE *file = fopen(model, "wb");
    struct pl_err e;

    assert_non_null(file);
    assert_int_equal(fwrite(r->model, 1, r->size, file), r->size);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rig_dump(r->rig.st, image, &e), 0);
    assert_int_equal(run_quietly("qemu-img check -f vhdx %s", image), 0);
    assert_int_equal(run_quietly("qemu-img convert -f vhdx -O raw %s %s", image, raw), 0);
    assert_int_equal(run_quietly("cmp %s %s", raw, model), 0);
    free(image);
    free(raw);
    free(model);
}

/* ---- the runs ---- */

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 0) : otherwise;
}

static void begin(struct run *r)
{
    r->size = r->shape->size;
    r->room = 2 * r->size;
    r->model = calloc(1, r->room);
    r->buf = calloc(1, r->room);
    OK(pl_memory_storage(NULL, 0, SIZE_MAX / 2, &r->rig.st, &e));
    if (r->shape->parent) {
        /* Shorter than the disk ever is, so that growing never lays it bare. */
        r->rig.parent_len = r->size / 2 - 1536;
        r->parent = malloc(r->rig.parent_len);
        fill_random(r, r->rig.parent_len);
        memcpy(r->parent, r->buf, r->rig.parent_len);
        memcpy(r->model, r->buf, r->rig.parent_len);
        r->rig.parent = r->parent;
    }
    r->rig.cache_bytes = r->shape->cache_bytes;
    OK(vhdx_rig_create(&r->rig, r->shape->options, r->size, &e));
    OK(vhdx_rig_open(&r->rig, &e));
}

static void end(struct run *r)
{
    compare(r);
    check_sound(r);
    OK(vhdx_rig_finish(&r->rig, &e));
    if (!has_program("qemu-img"))
        print_message("# skip: no qemu-img to compare with\n");
    else if (!r->shape->strange)
        compare_with_qemu(r);
    pl_storage_close(r->rig.st, NULL);
    free(r->model);
    free(r->buf);
    free(r->parent);
}

static void run_shape(void **state)
{
    struct run r = { .shape = *state };
    const uint64_t steps = number_from("RANDOM_STEPS", r.shape->steps);

    r.random = number_from("RANDOM_SEED", 1);
    print_message("# RANDOM_SEED=%llu\n", (unsigned long long)r.random);
    begin(&r);
    for (uint64_t i = 0; i < steps; i++)
        step(&r);
    end(&r);
}

int main(void)
{
    struct CMUnitTest tests[PL_COUNT(shapes)];

    for (size_t i = 0; i < PL_COUNT(shapes); i++)
        tests[i] = (struct CMUnitTest){ .name = shapes[i].name,
                                        .test_func = run_shape,
                                        .initial_state = (void *)&shapes[i] };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
