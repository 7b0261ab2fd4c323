/* Random changes to qcow2 images of many shapes: see tests/support/random.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/scope.h"
#include "core/base/checked.h"
#include "tests/support/env.h"
#include "tests/support/random.h"

static const struct image_shape shapes[] = {
    { "clusters of 512 bytes", "cluster_size=512", 3 * PL_MIB, 3000, .packed = true },
    { "clusters of 512 bytes, counts of 64 bits, a cache of 16 slices",
      "cluster_size=512,refcount_bits=64", 3 * PL_MIB, 3000, .packed = true, .cache_bytes = 1 },
    { "clusters of 512 bytes, counts of 1 bit", "cluster_size=512,refcount_bits=1", 3 * PL_MIB,
      3000, .packed = true },
    { "clusters of 4 KiB, counts of 2 bits, over a parent", "cluster_size=4k,refcount_bits=2",
      6 * PL_MIB, 3000, .parent = true, .packed = true },
    { "clusters of 4 KiB, counts of 4 bits, zstd",
      "cluster_size=4k,refcount_bits=4,compression_type=zstd", 6 * PL_MIB, 3000, .packed = true },
    { "version 2", "compat=0.10,cluster_size=4k", 6 * PL_MIB, 3000, .packed = true },
    { "version 2 over a parent, a cache of 16 slices", "compat=0.10,cluster_size=2k", 6 * PL_MIB,
      3000, .parent = true, .packed = true, .cache_bytes = 1 },
    { "the defaults", "", 24 * PL_MIB, 1500, .packed = true },
    { "the defaults over a parent", "", 24 * PL_MIB, 1500, .parent = true, .packed = true },
    { "clusters of 2 MiB, counts of 32 bits", "cluster_size=2M,refcount_bits=32", 40 * PL_MIB, 400,
      .packed = true },
    { "extended L2 entries", "cluster_size=16k,extended_l2=on", 8 * PL_MIB, 3000, .packed = true },
    { "extended L2 entries over a parent, counts of 8 bits, a cache of 16 slices",
      "cluster_size=16k,extended_l2=on,refcount_bits=8", 8 * PL_MIB, 3000, .parent = true,
      .packed = true, .cache_bytes = 1 },
    { "snapshots", "cluster_size=4k", 6 * PL_MIB, 2000, .packed = true, .snapshots = true },
    { "snapshots and extended L2 entries, a cache of 16 slices", "cluster_size=16k,extended_l2=on",
      6 * PL_MIB, 2000, .packed = true, .snapshots = true, .cache_bytes = 1 },
    { "an external data file", "cluster_size=4k,data_file=data", 6 * PL_MIB, 2000,
      .data_file = true },
    { "a raw external data file", "cluster_size=4k,data_file=data,data_file_raw=on", 6 * PL_MIB,
      2000, .data_file = true },
    { "an external data file and extended L2 entries",
      "cluster_size=16k,extended_l2=on,data_file=data", 6 * PL_MIB, 2000, .data_file = true },
};

#define SNAPSHOTS_MAX 4

/* What the disk held when snapshots were taken, and how long it was. */
struct frozen {
    uint8_t *disk[SNAPSHOTS_MAX];
    uint64_t size[SNAPSHOTS_MAX];
    unsigned count;
};

static void begin_snapshots(struct random_run *r)
{
    r->own = r->base.shape->snapshots ? calloc(1, sizeof(struct frozen)) : NULL;
}

static void take_snapshot(struct random_run *r)
{
    struct rig *rig = &r->base.rig;
    struct frozen *frozen = r->own;
    const uint64_t size = rig->layer.size;
    char name[20];
    struct pl_err e;

    if (!frozen || frozen->count == SNAPSHOTS_MAX || !has_program("qemu-img"))
        return;
    random_check_sound(r, true);
    rig_close(rig);
    snprintf(name, sizeof name, "frozen%u", frozen->count);
    must(rig_take_snapshot(&rig->st, name, SIZE_MAX / 2, &e), &e);
    must(rig_open(rig, &e), &e);
    frozen->size[frozen->count] = size;
    frozen->disk[frozen->count] = malloc(size);
    memcpy(frozen->disk[frozen->count++], r->model, size);
}

/* qemu-img gives a snapshot the size of the disk now. */
static void compare_snapshots(struct frozen *frozen, const char *folder, uint64_t size)
{
    for (unsigned i = 0; i < frozen->count; i++) {
        const uint64_t len = PL_MIN(frozen->size[i], size);

        random_write_file("model", frozen->disk[i], frozen->size[i]);
        assert_int_equal(run_quietly("cd '%s' && qemu-img convert -f qcow2"
                                     " -l snapshot.name=frozen%u -O raw image raw &&"
                                     " cmp -n %llu raw model",
                                     folder, i, (unsigned long long)len),
                         0);
        free(frozen->disk[i]);
    }
    free(frozen);
}

static void compare_more(struct random_run *r)
{
    PL_FREE char *folder = test_tmp(".");

    if (strstr(r->base.shape->options, "data_file_raw"))
        assert_int_equal(run_quietly("cd '%s' && cmp data model", folder), 0);
    if (r->own)
        compare_snapshots(r->own, folder, r->size);
}

static const struct random_format format = {
    .image = { .group = "random_qcow2",
               .driver = &pl_qcow2,
               .parent_format = "raw",
               .resize_how = PL_PREALLOC_METADATA },
    .short_parent = true,
    .leaks_nothing = true,
    .resizes = true,
    .qemu = "qcow2",
    .qemu_check = true,
    .prepare = begin_snapshots,
    .own_step = take_snapshot,
    .finish = compare_more,
};

int main(void)
{
    return random_tests(&format, shapes, PL_COUNT(shapes));
}
