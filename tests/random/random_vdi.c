/* Random changes to VDI images of many shapes, against a model of the disk in memory; in the end
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

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/storage/memory.h"
#include "tests/support/drive.h"
#include "tests/support/env.h"
#include "tests/support/images.h"
#include "tests/support/qcow2_rig.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)

extern const struct pl_driver pl_vdi;

static const struct shape {
    const char *name;
    const char *options;
    uint64_t size;
    unsigned steps;
    bool parent, old;
    uint32_t extra; /* bytes in front of each block */
    uint32_t cache_bytes;
} shapes[] = {
    { "blocks of 512 bytes", "block_size=512", 256 * KIB, 2500, .parent = false },
    { "blocks of 4 KiB, a cache of 4 slices", "block_size=4k", 3 * MIB, 2500, .cache_bytes = 1 },
    { "blocks of 4 KiB over a parent", "block_size=4k", 3 * MIB, 2500, .parent = true },
    { "blocks of 64 KiB over a parent, a cache of 4 slices", "block_size=64k", 6 * MIB, 1500,
      .parent = true, .cache_bytes = 1 },
    { "static, blocks of 4 KiB", "block_size=4k,static=on", 2 * MIB, 2000, .parent = false },
    { "the defaults", "", 12 * MIB, 600, .parent = false },
    { "static", "static=on", 8 * MIB, 400, .parent = false },
    { "bytes in front of each block", "block_size=4k", 2 * MIB, 2000, .extra = 512 },
    { "the old header", "block_size=4k", 2 * MIB, 2000, .old = true },
};

struct run {
    const struct shape *shape;
    struct drive drive;
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
        uint64_t value = rig_random(&r->random);

        memcpy(r->buf + i, &value, PL_MIN(8, len - i));
    }
}

/* Sectors, or whole blocks; mostly few. */
static void choose(struct run *r, uint64_t *at, uint64_t *len)
{
    const uint64_t unit = below(r, 2) ? r->drive.layer.cluster_size : 512;
    const uint64_t units = 1 + below(r, below(r, 4) ? 4 : 40);

    *at = pl_round_down(below(r, r->size), unit);
    *len = PL_MIN(units * unit, r->size - *at);
    if (below(r, 60) == 0)
        *len = PL_MIN(r->size - *at, 4 * MIB);
}

static void choose_granules(struct run *r, uint64_t *at, uint64_t *len)
{
    const uint64_t granule = r->drive.layer.granule;
    uint64_t end;

    choose(r, at, len);
    end = PL_MIN(pl_round_up(*at + *len, granule), r->size);
    *at = pl_round_down(*at, granule);
    *len = end - *at;
}

static void do_write(struct run *r)
{
    uint64_t at, len;

    choose(r, &at, &len);
    fill_random(r, len);
    OK(drive_write(&r->drive, at, r->buf, len, &e));
    memcpy(r->model + at, r->buf, len);
}

static void do_zero(struct run *r)
{
    uint64_t at, len;

    choose_granules(r, &at, &len);
    if (below(r, 2))
        OK(drive_zero(&r->drive, at, len, below(r, 2), &e));
    else
        OK(pl_vdi.discard(r->drive.layer.state, at, len, &e));
    memset(r->model + at, 0, len);
}

/* Room that is asked for, written to and given back. */
static void do_cancel(struct run *r)
{
    struct pl_place place;
    uint64_t at, len;

    choose_granules(r, &at, &len);
    OK(pl_vdi.allocate(r->drive.layer.state, at, len, &place, &e));
    if (!place.fresh)
        return;
    fill_random(r, place.len);
    OK(pl_storage_write(place.st, place.off, r->buf, place.len, &e));
    pl_vdi.cancel(r->drive.layer.state, &place);
}

static void compare(struct run *r)
{
    OK(drive_read(&r->drive, 0, r->buf, r->size, &e));
    for (uint64_t i = 0; i < r->size; i++)
        if (r->buf[i] != r->model[i])
            fail_msg("byte 0x%llx is %02x instead of %02x", (unsigned long long)i, r->buf[i],
                     r->model[i]);
}

static void check_sound(struct run *r, bool leaks)
{
    struct pl_check_result result;

    OK(pl_vdi.flush(r->drive.layer.state, &e));
    OK(drive_check(&r->drive, PL_REPAIR_NONE, &result, &e));
    if (result.corruptions || (leaks && result.leaks) || result.check_errors)
        fail_msg("check: %llu corruptions, %llu leaks", (unsigned long long)result.corruptions,
                 (unsigned long long)result.leaks);
}

static void do_compact(struct run *r)
{
    uint64_t freed;

    OK(pl_vdi.compact(r->drive.layer.state, NULL, &freed, &e));
    check_sound(r, true);
    compare(r);
}

static void do_resize(struct run *r)
{
    const uint64_t most = r->shape->old ? r->shape->size : 3 * r->shape->size / 2;
    const uint64_t size =
        pl_round_up(r->shape->size / 2 + below(r, most - r->shape->size / 2), 512);

    OK(drive_resize(&r->drive, size, below(r, 4) ? PL_PREALLOC_OFF : PL_PREALLOC_METADATA, &e));
    if (size > r->size)
        memset(r->model + r->size, 0, size - r->size);
    r->size = size;
    compare(r);
}

static void do_reopen(struct run *r)
{
    check_sound(r, false);
    drive_close(&r->drive);
    OK(drive_open(&r->drive, &e));
    assert_int_equal(r->drive.layer.size, r->size);
    compare(r);
}

static void step(struct run *r)
{
    const uint64_t n = below(r, 1000);

    if (n < 550)
        do_write(r);
    else if (n < 880)
        do_zero(r);
    else if (n < 940)
        do_cancel(r);
    else if (n < 980)
        OK(pl_vdi.flush(r->drive.layer.state, &e));
    else if (n < 986)
        do_reopen(r);
    else if (n < 992)
        do_compact(r);
    else
        do_resize(r);
}

/* Makes the new, empty image one with bytes in front of its blocks. */
static void add_extra(struct run *r)
{
    uint8_t raw[4];

    store_le32(raw, r->shape->extra);
    OK(pl_storage_write(r->drive.st, 380, raw, 4, &e));
}

/* An empty image with the header of version 0.2. */
static void make_old(struct run *r)
{
    const uint32_t blocks = (uint32_t)(r->shape->size / 4096);
    uint8_t *raw = malloc(420 + 4 * blocks);

    memset(raw, 0, 420);
    memset(raw + 420, 0xff, 4 * blocks);
    store_le32(raw + 64, 0xbeda107f);
    store_le32(raw + 68, 2);
    store_le32(raw + 72, 1);
    store_le64(raw + 352, r->shape->size);
    store_le32(raw + 360, 4096);
    store_le32(raw + 364, blocks);
    memset(raw + 372, 0x5a, 32);
    OK(pl_storage_resize(r->drive.st, 0, &e));
    OK(pl_storage_write(r->drive.st, 0, raw, 420 + 4 * blocks, &e));
    free(raw);
}

static void begin(struct run *r)
{
    r->size = r->shape->size;
    r->room = 2 * r->size + 8;
    r->model = calloc(1, r->room);
    r->buf = calloc(1, r->room);
    r->drive = (struct drive){
        .driver = &pl_vdi,
        .parent_identity = "uuid:00112233-4455-6677-8899-aabbccddeeff",
        .cache_bytes = r->shape->cache_bytes,
    };
    OK(pl_memory_storage(NULL, 0, SIZE_MAX / 2, &r->drive.st, &e));
    if (r->shape->parent) {
        r->drive.parent_len = r->size / 2 - 1536; /* so that growing never lays it bare */
        r->parent = malloc(r->drive.parent_len);
        fill_random(r, r->drive.parent_len);
        memcpy(r->parent, r->buf, r->drive.parent_len);
        memcpy(r->model, r->buf, r->drive.parent_len);
        r->drive.parent = r->parent;
    }
    OK(drive_create(&r->drive, r->shape->options, r->size, &e));
    if (r->shape->extra)
        add_extra(r);
    if (r->shape->old)
        make_old(r);
    OK(drive_open(&r->drive, &e));
}

/* qemu-img reads blocks of 1 MiB and no parents. */
static void compare_with_qemu(struct run *r)
{
    char *image = test_tmp("image"), *model = test_tmp("model");
    FILE *file = fopen(model, "wb");

    OK(rig_dump(r->drive.st, image, &e));
    assert_int_equal(fwrite(r->model, 1, r->size, file), r->size);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(run_quietly("qemu-img check -f vdi %s", image), 0);
    assert_int_equal(run_quietly("qemu-img compare -f vdi -F raw %s %s", image, model), 0);
    free(image);
    free(model);
}

static void end(struct run *r)
{
    compare(r);
    do_compact(r);
    drive_close(&r->drive);
    if (!strstr(r->shape->options, "block_size")) {
        if (rig_has_program("qemu-img"))
            compare_with_qemu(r);
        else
            print_message("# skip: no qemu-img to compare with\n");
    }
    pl_storage_close(r->drive.st, NULL);
    free(r->model);
    free(r->buf);
    free(r->parent);
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 0) : otherwise;
}

static void run_shape(void **state)
{
    struct run r = { .shape = *state };
    const uint64_t seed = number_from("RANDOM_SEED", 1),
                   steps = number_from("RANDOM_STEPS", r.shape->steps);

    print_message("# RANDOM_SEED=%llu\n", (unsigned long long)seed);
    r.random = seed;
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
