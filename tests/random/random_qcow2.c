/* Random changes to qcow2 images of many shapes, against a model of the disk in memory; in the end
 * qemu-img must find the image sound and the same content in it.
 *
 * RANDOM_SEED and RANDOM_STEPS in the environment choose another run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/storage/memory.h"
#include "tests/support/env.h"
#include "tests/support/qcow2_rig.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)

static const struct shape {
    const char *name;
    const char *options;
    uint64_t size;
    unsigned steps;
    bool parent, packed, data_file, snapshots;
    uint32_t cache_bytes;
} shapes[] = {
    { "clusters of 512 bytes", "cluster_size=512", 3 * MIB, 3000, .packed = true },
    { "clusters of 512 bytes, counts of 64 bits, a cache of 16 slices",
      "cluster_size=512,refcount_bits=64", 3 * MIB, 3000, .packed = true, .cache_bytes = 1 },
    { "clusters of 512 bytes, counts of 1 bit", "cluster_size=512,refcount_bits=1", 3 * MIB, 3000,
      .packed = true },
    { "clusters of 4 KiB, counts of 2 bits, over a parent", "cluster_size=4k,refcount_bits=2",
      6 * MIB, 3000, .parent = true, .packed = true },
    { "clusters of 4 KiB, counts of 4 bits, zstd",
      "cluster_size=4k,refcount_bits=4,compression_type=zstd", 6 * MIB, 3000, .packed = true },
    { "version 2", "compat=0.10,cluster_size=4k", 6 * MIB, 3000, .packed = true },
    { "version 2 over a parent, a cache of 16 slices", "compat=0.10,cluster_size=2k", 6 * MIB, 3000,
      .parent = true, .packed = true, .cache_bytes = 1 },
    { "the defaults", "", 24 * MIB, 1500, .packed = true },
    { "the defaults over a parent", "", 24 * MIB, 1500, .parent = true, .packed = true },
    { "clusters of 2 MiB, counts of 32 bits", "cluster_size=2M,refcount_bits=32", 40 * MIB, 400,
      .packed = true },
    { "extended L2 entries", "cluster_size=16k,extended_l2=on", 8 * MIB, 3000, .packed = true },
    { "extended L2 entries over a parent, counts of 8 bits, a cache of 16 slices",
      "cluster_size=16k,extended_l2=on,refcount_bits=8", 8 * MIB, 3000, .parent = true,
      .packed = true, .cache_bytes = 1 },
    { "snapshots", "cluster_size=4k", 6 * MIB, 2000, .packed = true, .snapshots = true },
    { "snapshots and extended L2 entries, a cache of 16 slices", "cluster_size=16k,extended_l2=on",
      6 * MIB, 2000, .packed = true, .snapshots = true, .cache_bytes = 1 },
    { "an external data file", "cluster_size=4k,data_file=data", 6 * MIB, 2000, .data_file = true },
    { "a raw external data file", "cluster_size=4k,data_file=data,data_file_raw=on", 6 * MIB, 2000,
      .data_file = true },
    { "an external data file and extended L2 entries",
      "cluster_size=16k,extended_l2=on,data_file=data", 6 * MIB, 2000, .data_file = true },
};

#define SNAPSHOTS_MAX 4

/* One image, its model, and where the numbers come from. */
struct run {
    const struct shape *shape;
    struct rig rig;
    uint8_t *model, *buf, *parent;
    uint64_t size, room; /* of the disk; bytes of the buffers */
    uint64_t random;
    /* What the disk held when a snapshot was taken, and how long it was. */
    uint8_t *frozen[SNAPSHOTS_MAX];
    uint64_t frozen_size[SNAPSHOTS_MAX];
    unsigned frozen_count;
};

static uint64_t below(struct run *r, uint64_t n)
{
    return n ? rig_random(&r->random) % n : 0;
}

static void must(int result, const struct pl_err *e)
{
    if (result < 0)
        fail_msg("%s", e->msg);
}

/* Bytes that compress, some of them well. */
static void fill_random(struct run *r, uint64_t len)
{
    uint64_t kind = below(r, 4), value = rig_random(&r->random);

    for (uint64_t i = 0; i < len; i++) {
        if (kind == 0 && i % 8 == 0)
            value = rig_random(&r->random);
        r->buf[i] = (uint8_t)(value >> 8 * (i % 8)) ^ (uint8_t)(kind == 1 ? i >> 9 : 0);
    }
}

/* A range of sectors, mostly short, sometimes of whole clusters, sometimes to the end of the disk.
 */
static void choose(struct run *r, uint64_t *at, uint64_t *len)
{
    uint64_t cluster = r->rig.layer.cluster_size, unit = below(r, 2) ? cluster : 512;
    uint64_t units = 1 + below(r, below(r, 4) ? 4 : 64);

    *at = pl_round_down(below(r, r->size), unit);
    *len = PL_MIN(units * unit, r->size - *at);
    if (below(r, 60) == 0)
        *len = PL_MIN(r->size - *at, 4 * MIB);
}

/* The same, of whole granules. */
static void choose_granules(struct run *r, uint64_t *at, uint64_t *len)
{
    uint64_t granule = r->rig.layer.granule, end;

    choose(r, at, len);
    end = PL_MIN(pl_round_up(*at + *len, granule), r->size);
    *at = pl_round_down(*at, granule);
    *len = end - *at;
}

static void do_write(struct run *r)
{
    struct pl_err e;
    uint64_t at, len;

    choose(r, &at, &len);
    fill_random(r, len);
    must(rig_write(&r->rig, at, r->buf, len, &e), &e);
    memcpy(r->model + at, r->buf, len);
}

static void do_write_packed(struct run *r)
{
    uint64_t cluster = r->rig.layer.cluster_size, units = 1 + below(r, 12), at, len;
    struct pl_err e;

    at = pl_round_down(below(r, r->size), cluster);
    len = PL_MIN(units * cluster, r->size - at);
    fill_random(r, len);
    must(rig_write_packed(&r->rig, at, r->buf, len, &e), &e);
    memcpy(r->model + at, r->buf, len);
}

static void do_zero(struct run *r)
{
    bool unmap = below(r, 2);
    struct pl_err e;
    uint64_t at, len;
    int result;

    choose_granules(r, &at, &len);
    result = pl_qcow2.zero(r->rig.layer.state, at, len, unmap, &e);
    must(result, &e);
    if (result == 0)
        memset(r->model + at, 0, len);
    else
        assert_true(r->rig.parent != NULL);
}

/* Discards may be skipped; what they did must read as zeros, never as the parent. */
static void do_discard(struct run *r)
{
    struct pl_err e;
    uint64_t at, len;

    choose_granules(r, &at, &len);
    must(pl_qcow2.discard(r->rig.layer.state, at, len, &e), &e);
    must(rig_read(&r->rig, at, r->buf, len, &e), &e);
    for (uint64_t i = 0; i < len; i++)
        if (r->buf[i] != r->model[at + i] && r->buf[i])
            fail_msg("a discard put bytes at 0x%llx", (unsigned long long)(at + i));
    memcpy(r->model + at, r->buf, len);
}

/* Room that is asked for and given back. */
static void do_cancel(struct run *r)
{
    struct pl_place place;
    struct pl_err e;
    uint64_t at, len;

    choose_granules(r, &at, &len);
    must(pl_qcow2.allocate(r->rig.layer.state, at, len, &place, &e), &e);
    if (place.fresh)
        pl_qcow2.cancel(r->rig.layer.state, &place);
    if (!r->shape->packed)
        return;
    at = pl_round_down(at, r->rig.layer.cluster_size);
    must(
        pl_qcow2.allocate_packed(r->rig.layer.state, at, 100 + (uint32_t)below(r, 300), &place, &e),
        &e);
    pl_qcow2.cancel(r->rig.layer.state, &place);
}

static void compare(struct run *r)
{
    struct pl_err e;

    must(rig_read(&r->rig, 0, r->buf, r->size, &e), &e);
    for (uint64_t i = 0; i < r->size; i++)
        if (r->buf[i] != r->model[i])
            fail_msg("byte 0x%llx is %02x instead of %02x", (unsigned long long)i, r->buf[i],
                     r->model[i]);
}

static void do_resize(struct run *r)
{
    uint64_t size = pl_round_up(r->shape->size / 2 + below(r, r->shape->size), 512);
    enum pl_prealloc how = below(r, 4) ? PL_PREALLOC_OFF : PL_PREALLOC_METADATA;
    struct pl_err e;

    if (size > r->size && r->rig.parent)
        how = PL_PREALLOC_OFF;
    must(pl_qcow2.resize(r->rig.layer.state, size, true, how, &e), &e);
    if (size > r->size)
        memset(r->model + r->size, 0, size - r->size);
    r->rig.layer.size = r->size = size;
    compare(r);
}

static void check_sound(struct run *r)
{
    struct pl_check_result result;
    struct pl_err e;

    must(pl_qcow2.flush(r->rig.layer.state, &e), &e);
    must(rig_check(&r->rig, PL_REPAIR_NONE, &result, &e), &e);
    if (result.corruptions || result.leaks || result.check_errors)
        fail_msg("check: %llu corruptions, %llu leaks", (unsigned long long)result.corruptions,
                 (unsigned long long)result.leaks);
}

static void do_reopen(struct run *r)
{
    struct pl_err e;

    check_sound(r);
    rig_close(&r->rig);
    must(rig_open(&r->rig, &e), &e);
    assert_int_equal(r->rig.layer.size, r->size);
    compare(r);
}

static void do_snapshot(struct run *r)
{
    unsigned n = r->frozen_count;
    char name[20];
    struct pl_err e;

    if (!r->shape->snapshots || n == SNAPSHOTS_MAX || !rig_has_program("qemu-img"))
        return;
    check_sound(r);
    rig_close(&r->rig);
    snprintf(name, sizeof name, "frozen%u", n);
    must(rig_take_snapshot(&r->rig.st, name, SIZE_MAX / 2, &e), &e);
    must(rig_open(&r->rig, &e), &e);
    r->frozen[n] = malloc(r->size);
    memcpy(r->frozen[n], r->model, r->size);
    r->frozen_size[n] = r->size;
    r->frozen_count++;
}

static void do_flush(struct run *r)
{
    struct pl_err e;

    must(pl_qcow2.flush(r->rig.layer.state, &e), &e);
}

static void step(struct run *r)
{
    uint64_t n = below(r, 1000);

    if (n < 450)
        do_write(r);
    else if (n < 600)
        r->shape->packed ? do_write_packed(r) : do_write(r);
    else if (n < 750)
        do_zero(r);
    else if (n < 900)
        do_discard(r);
    else if (n < 960)
        do_cancel(r);
    else if (n < 990)
        do_flush(r);
    else if (n < 994)
        do_reopen(r);
    else if (n < 996)
        do_snapshot(r);
    else
        do_resize(r);
}

/* ---- beside qemu-img ---- */

static int run_command(const char *fmt, ...) PL_PRINTF(1, 2);
static int run_command(const char *fmt, ...)
{
    char command[4000];
    va_list args;

    va_start(args, fmt);
    vsnprintf(command, sizeof command, fmt, args);
    va_end(args);
    return system(command);
}

static void write_file(const char *path, const uint8_t *bytes, uint64_t len)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void compare_snapshots(struct run *r, const char *image, const char *raw, const char *model)
{
    for (unsigned i = 0; i < r->frozen_count; i++) {
        write_file(model, r->frozen[i], r->frozen_size[i]);
        assert_int_equal(
            run_command("qemu-img convert -f qcow2 -l snapshot.name=frozen%u -O raw %s %s", i,
                        image, raw),
            0);
        /* qemu-img gives the snapshot the size of the disk now. */
        assert_int_equal(run_command("cmp -n %llu %s %s",
                                     (unsigned long long)PL_MIN(r->frozen_size[i], r->size), raw,
                                     model),
                         0);
        free(r->frozen[i]);
    }
}

static void compare_with_qemu(struct run *r)
{
    char *image = test_tmp("image"), *data = test_tmp("data"), *parent = test_tmp("parent");
    char *raw = test_tmp("raw"), *model = test_tmp("model");
    struct pl_err e;

    must(rig_dump(r->rig.st, image, &e), &e);
    write_file(model, r->model, r->size);
    if (r->rig.data)
        must(rig_dump(r->rig.data, data, &e), &e);
    if (r->parent)
        write_file(parent, r->parent, r->rig.parent_len);
    assert_int_equal(run_command("qemu-img check -q -f qcow2 %s", image), 0);
    assert_int_equal(run_command("qemu-img convert -f qcow2 -O raw %s %s", image, raw), 0);
    assert_int_equal(run_command("cmp %s %s", raw, model), 0);
    if (strstr(r->shape->options, "data_file_raw"))
        assert_int_equal(run_command("cmp %s %s", data, model), 0);
    compare_snapshots(r, image, raw, model);
    free(image);
    free(data);
    free(parent);
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
    struct pl_err e;

    r->size = r->shape->size;
    r->room = 2 * r->size;
    r->model = calloc(1, r->room);
    r->buf = calloc(1, r->room);
    must(pl_memory_storage(NULL, 0, SIZE_MAX / 2, &r->rig.st, &e), &e);
    if (r->shape->data_file)
        must(pl_memory_storage(NULL, 0, SIZE_MAX / 2, &r->rig.data, &e), &e);
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
    must(rig_create(&r->rig, r->shape->options, r->size, &e), &e);
    must(rig_open(&r->rig, &e), &e);
}

static void end(struct run *r)
{
    compare(r);
    check_sound(r);
    rig_close(&r->rig);
    if (rig_has_program("qemu-img"))
        compare_with_qemu(r);
    else
        print_message("# skip: no qemu-img to compare with\n");
    pl_storage_close(r->rig.st, NULL);
    pl_storage_close(r->rig.data, NULL);
    free(r->model);
    free(r->buf);
    free(r->parent);
}

static void run_shape(void **state)
{
    struct run r = { .shape = *state };
    uint64_t seed = number_from("RANDOM_SEED", 1),
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
    char *folder = test_tmp(".");

    /* qemu-img looks for a data file in the current folder. */
    if (chdir(folder) < 0)
        return 1;
    free(folder);

    for (size_t i = 0; i < PL_COUNT(shapes); i++)
        tests[i] = (struct CMUnitTest){ .name = shapes[i].name,
                                        .test_func = run_shape,
                                        .initial_state = (void *)&shapes[i] };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
