/* Random changes to VHD images of many shapes, against a model of the disk in memory; in the end
 * qemu-img must find the same content in those that have no parent.
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

extern const struct pl_driver pl_vhd;

#define VHD_UNIT UINT64_C(512) /* a sector */
#define FILE_LIMIT (144 << 20)
#define PARENT_ID "uuid:00112233-4455-6677-8899-aabbccddeeff time:5"

static const struct shape {
    const char *name;
    const char *options;
    uint64_t size;
    unsigned steps;
    bool parent, sparse_bitmaps;
    uint32_t cache_bytes;
} shapes[] = {
    { "the defaults", "", 24 * PL_MIB, 800, .parent = false },
    { "the defaults over a parent", "", 24 * PL_MIB, 800, .parent = true },
    { "blocks of 4 KiB", "block_size=4k", 3 * PL_MIB, 2000, .parent = false },
    { "blocks of 4 KiB over a parent, a cache of 16 slices", "block_size=4k", 3 * PL_MIB, 2000,
      .parent = true, .cache_bytes = 1 },
    { "blocks of 64 KiB, their bitmaps sparse", "block_size=64k", 3 * PL_MIB, 1500,
      .sparse_bitmaps = true },
    { "blocks of 8 MiB over a parent, a cache of 16 slices", "block_size=8M", 20 * PL_MIB, 500,
      .parent = true, .cache_bytes = 1 },
    { "fixed", "subformat=fixed", 3 * PL_MIB, 1500, .parent = false },
};

/* One image, its model, and where the numbers come from. */
struct run {
    const struct shape *shape;
    struct rig rig;
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
    const uint64_t value = rig_random(&r->random);

    for (uint64_t i = 0; i < len; i++)
        r->buf[i] = (uint8_t)((value >> 8 * (i % 8)) ^ (i >> 9));
}

/* A range, mostly of few sectors, sometimes of whole blocks, of any bytes if `odd`. */
static void choose(struct run *r, bool odd, uint64_t *at, uint64_t *len)
{
    const uint64_t block = PL_MAX(r->rig.layer.cluster_size, VHD_UNIT);
    const uint64_t units[] = { VHD_UNIT, VHD_UNIT, block, odd ? 1 : VHD_UNIT };
    const uint64_t unit = units[below(r, 4)];
    const uint64_t most = 1 + (below(r, 4) ? 3 : 64) * (unit == 1 ? 50 : 1);
    const uint64_t wanted = (1 + below(r, most)) * unit;

    *at = pl_round_down(below(r, r->size), unit);
    *len = PL_MIN(wanted, r->size - *at);
}

static void compare(struct run *r)
{
    OK(rig_read(&r->rig, 0, r->buf, r->size, &e));
    for (uint64_t i = 0; i < r->size; i++)
        if (r->buf[i] != r->model[i])
            fail_msg("byte 0x%llx is %02x instead of %02x", (unsigned long long)i, r->buf[i],
                     r->model[i]);
}

static void do_write(struct run *r)
{
    uint64_t at, len;

    choose(r, true, &at, &len);
    fill_random(r, len);
    OK(rig_write(&r->rig, at, r->buf, len, &e));
    memcpy(r->model + at, r->buf, len);
}

static void do_zero(struct run *r)
{
    uint64_t at, len;

    choose(r, false, &at, &len);
    OK(rig_zero(&r->rig, at, len, below(r, 2), &e));
    memset(r->model + at, 0, len);
}

/* Discards may be skipped; what they did must read as zeros, never as the parent. */
static void do_discard(struct run *r)
{
    uint64_t at, len;

    choose(r, false, &at, &len);
    OK(pl_vhd.discard(r->rig.layer.state, at, len, &e));
    OK(rig_read(&r->rig, at, r->buf, len, &e));
    for (uint64_t i = 0; i < len; i++)
        if (r->buf[i] != r->model[at + i] && r->buf[i])
            fail_msg("a discard put bytes at 0x%llx", (unsigned long long)(at + i));
    memcpy(r->model + at, r->buf, len);
}

/* As the core does: what a parent has behind the old end must not show. */
static void do_resize(struct run *r)
{
    const uint64_t sectors = r->shape->size / 2 / VHD_UNIT;
    const uint64_t size = (sectors + below(r, 2 * sectors)) * VHD_UNIT, old = r->size;

    OK(pl_vhd.resize(r->rig.layer.state, size, true, PL_PREALLOC_OFF, &e));
    r->rig.layer.size = r->size = size;
    if (size > old) {
        memset(r->model + old, 0, size - old);
        if (r->parent)
            OK(rig_zero(&r->rig, old, size - old, false, &e));
    }
    compare(r);
}

static void do_compact(struct run *r)
{
    const uint64_t before = pl_storage_size(r->rig.st);
    struct pl_check_result result;
    uint64_t freed;

    OK(pl_vhd.flush(r->rig.layer.state, &e));
    OK(pl_vhd.compact(r->rig.layer.state, NULL, &freed, &e));
    assert_true(pl_storage_size(r->rig.st) <= before);
    OK(rig_check(&r->rig, PL_REPAIR_NONE, &result, &e));
    assert_int_equal(result.leaks, 0);
    compare(r);
}

static void do_reopen(struct run *r)
{
    struct pl_check_result result;

    OK(pl_vhd.flush(r->rig.layer.state, &e));
    OK(rig_check(&r->rig, PL_REPAIR_NONE, &result, &e));
    if (result.corruptions || result.check_errors)
        fail_msg("check: %llu corruptions", (unsigned long long)result.corruptions);
    rig_close(&r->rig);
    OK(rig_open(&r->rig, &e));
    assert_int_equal(r->rig.layer.size, r->size);
    compare(r);
}

/* Clears bits of sectors that hold zeros, as VirtualBox leaves them: their content is not to be
 * looked at. */
static void make_sparse(struct run *r)
{
    struct pl_extent x;

    for (uint64_t at = 0; at < r->size; at += VHD_UNIT) {
        const uint64_t inside = at % r->rig.layer.cluster_size, sector = inside / VHD_UNIT;
        uint8_t byte;

        OK(pl_vhd.map(r->rig.layer.state, at, VHD_UNIT, &x, &e));
        if (x.state != PL_DATA || sector % 3)
            continue;
        OK(pl_storage_read(x.st, x.off - inside - VHD_UNIT + sector / 8, &byte, 1, &e));
        byte &= (uint8_t) ~(0x80 >> sector % 8);
        OK(pl_storage_write(x.st, x.off - inside - VHD_UNIT + sector / 8, &byte, 1, &e));
        memset(r->model + at, 0, VHD_UNIT);
    }
}

static void step(struct run *r)
{
    const uint64_t n = below(r, 1000);

    if (n < 4)
        do_resize(r);
    else if (n < 8)
        do_compact(r);
    else if (n < 16)
        do_reopen(r);
    else if (n < 600)
        do_write(r);
    else if (n < 800)
        do_zero(r);
    else if (n < 950)
        do_discard(r);
    else
        OK(pl_vhd.flush(r->rig.layer.state, &e));
}

static void begin(struct run *r)
{
    r->size = r->shape->size;
    r->room = 2 * r->size;
    r->model = calloc(1, r->room);
    r->buf = malloc(r->room);
    r->rig.driver = &pl_vhd;
    r->rig.parent_format = "vhd";
    r->rig.parent_identity = PARENT_ID;
    r->rig.cache_bytes = r->shape->cache_bytes;
    OK(pl_memory_storage(NULL, 0, FILE_LIMIT, &r->rig.st, &e));
    if (r->shape->parent) {
        r->rig.parent_len = r->size;
        r->rig.parent = r->parent = malloc(r->size);
        fill_random(r, r->size);
        memcpy(r->parent, r->buf, r->size);
        memcpy(r->model, r->buf, r->size);
    }
    OK(rig_create(&r->rig, r->shape->options, r->size, &e));
    OK(rig_open(&r->rig, &e));
    if (!r->shape->sparse_bitmaps)
        return;
    for (unsigned i = 0; i < 20; i++)
        do_write(r);
    OK(pl_vhd.flush(r->rig.layer.state, &e));
    make_sparse(r);
    rig_close(&r->rig);
    OK(rig_open(&r->rig, &e));
    compare(r);
}

/* qemu-img looks neither at parents nor at bitmaps. */
static void ask_qemu_img(struct run *r)
{
    char *image = test_tmp("image.vhd"), *raw = test_tmp("model.raw");
    FILE *file = fopen(raw, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(r->model, 1, r->size, file), r->size);
    fclose(file);
    OK(rig_dump(r->rig.st, image, &e));
    assert_int_equal(run_quietly("qemu-img compare -f vpc -F raw '%s' '%s'", image, raw), 0);
    free(image);
    free(raw);
}

static void end(struct run *r)
{
    OK(pl_vhd.flush(r->rig.layer.state, &e));
    do_reopen(r);
    rig_close(&r->rig);
    if (!r->parent && !r->shape->sparse_bitmaps && has_program("qemu-img"))
        ask_qemu_img(r);
    pl_storage_close(r->rig.st, NULL);
    free(r->model);
    free(r->buf);
    free(r->parent);
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 0) : otherwise;
}

static void random_shape(void **state)
{
    const struct shape *shape = *state;
    struct run r = { .shape = shape, .random = number_from("RANDOM_SEED", 1) };
    const uint64_t steps = number_from("RANDOM_STEPS", shape->steps);

    begin(&r);
    for (uint64_t n = 0; n < steps; n++)
        step(&r);
    end(&r);
}

int main(void)
{
    struct CMUnitTest tests[PL_COUNT(shapes)];

    for (size_t i = 0; i < PL_COUNT(shapes); i++)
        tests[i] = (struct CMUnitTest){ .name = shapes[i].name,
                                        .test_func = random_shape,
                                        .initial_state = (void *)&shapes[i] };
    return _cmocka_run_group_tests("random_vhd", tests, PL_COUNT(shapes), NULL, NULL);
}
